//! One event (target `access`) and one set of metrics for every request, when its answer is complete.
//!
//! Neither secrets nor signatures are in it: the query is left out, the key is written escaped.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use dashmap::DashMap;
use http::{Method, StatusCode};
use metrics::{Counter, Histogram};
use serde::Serialize;

use super::precheck::Target;
use super::request::Context;
use crate::telemetry::{access, clock, names};

/// The metrics of requests. Handles are looked up once: a look-up costs more than the counting.
struct Meters {
    requests: DashMap<(&'static str, &'static str), Counter>,
    seconds: DashMap<&'static str, Histogram>,
    bytes_in: Counter,
    bytes_out: Counter,
}

static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
    requests: DashMap::new(),
    seconds: DashMap::new(),
    bytes_in: metrics::counter!(names::BYTES, "direction" => "in"),
    bytes_out: metrics::counter!(names::BYTES, "direction" => "out"),
});

/// What is known of a request, whether or not it came past the pre-check.
#[derive(Debug)]
pub struct Entry {
    pub id: Arc<str>,
    pub method: Method,
    pub agent: Option<Box<str>>,
    pub started: Instant,
    pub context: Option<Arc<Context>>,
    pub repository: Option<policies::identity::Repository>,
    pub status: StatusCode,
    pub code: Option<Box<str>>,
}

impl Entry {
    /// Called once, when the answer is complete or the client is gone.
    pub fn write(&self, bytes_out: u64, whole: bool) {
        let context = self.context.as_deref();
        let operation = context.and_then(Context::operation).unwrap_or("-");
        let bytes_in = context.map_or(0, |c| c.bytes_in.load(Ordering::Relaxed));
        let seconds = self.started.elapsed().as_secs_f64();
        self.count(operation, bytes_in, bytes_out, seconds);
        let (bucket, key) = match context.map(|c| &c.checked.target) {
            None | Some(Target::Service) => ("", None),
            Some(Target::Bucket(bucket)) => (bucket.as_str(), None),
            Some(Target::Object(address)) => (address.bucket.as_str(), Some(address.key.as_str())),
        };
        let cluster = context.and_then(Context::cluster);
        let line = Line {
            timestamp: clock::rfc3339_micros(clock::now()),
            level: "INFO",
            request_id: &self.id,
            operation,
            method: self.method.as_str(),
            access_key: escaped(context.map_or("", |c| &*c.checked.access_key)),
            cluster: cluster.as_ref().map_or("", |c| c.as_str()),
            repository: self.repository.as_ref().map_or("", |r| r.as_str()),
            bucket: escaped(bucket),
            key: escaped(key.unwrap_or_default()),
            status: self.status.as_u16(),
            code: self.code.as_deref().unwrap_or_default(),
            bytes_in,
            bytes_out,
            whole,
            milliseconds: seconds * 1000.0,
            agent: escaped(self.agent.as_deref().unwrap_or_default()),
            target: access::TARGET,
        };
        if access::gathers() {
            access::push(&line);
        } else {
            line.trace();
        }
    }

    fn count(&self, operation: &'static str, bytes_in: u64, bytes_out: u64, seconds: f64) {
        let meters = &*METERS;
        let status = status(self.status);
        meters
            .requests
            .entry((operation, status))
            .or_insert_with(
                || metrics::counter!(names::REQUESTS, "operation" => operation, "status" => status),
            )
            .increment(1);
        meters
            .seconds
            .entry(operation)
            .or_insert_with(
                || metrics::histogram!(names::REQUEST_SECONDS, "operation" => operation),
            )
            .record(seconds);
        if bytes_in > 0 {
            meters.bytes_in.increment(bytes_in);
        }
        if bytes_out > 0 {
            meters.bytes_out.increment(bytes_out);
        }
        if let Some(reason) = self.context.as_deref().and_then(Context::refusal) {
            let repository = self
                .repository
                .as_ref()
                .map_or("", |r| r.as_str())
                .to_owned();
            metrics::counter!(names::DENIED, "repository" => repository, "reason" => reason)
                .increment(1);
        }
    }
}

/// What a request's line says.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    request_id: &'a str,
    operation: &'static str,
    method: &'a str,
    access_key: Cow<'a, str>,
    cluster: &'a str,
    repository: &'a str,
    bucket: Cow<'a, str>,
    key: Cow<'a, str>,
    status: u16,
    code: &'a str,
    bytes_in: u64,
    bytes_out: u64,
    /// The answer was sent to its end.
    whole: bool,
    milliseconds: f64,
    agent: Cow<'a, str>,
    target: &'static str,
}

impl Line<'_> {
    /// As an event, which has its own time, level and target.
    fn trace(&self) {
        tracing::info!(
            target: access::TARGET,
            request_id = self.request_id,
            operation = self.operation,
            method = self.method,
            access_key = &*self.access_key,
            cluster = self.cluster,
            repository = self.repository,
            bucket = &*self.bucket,
            key = &*self.key,
            status = self.status,
            code = self.code,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            whole = self.whole,
            milliseconds = self.milliseconds,
            agent = &*self.agent,
        );
    }
}

/// What a client sent, without anything that could disturb a terminal or pretend to be another line.
fn escaped(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| (b.is_ascii_graphic() || b == b' ') && !matches!(b, b'"' | b'\'' | b'\\');
    if text.bytes().all(plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.escape_debug().to_string())
    }
}

/// The statuses this room answers, without an allocation for each.
fn status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        204 => "204",
        206 => "206",
        304 => "304",
        400 => "400",
        403 => "403",
        404 => "404",
        405 => "405",
        409 => "409",
        411 => "411",
        412 => "412",
        416 => "416",
        500 => "500",
        501 => "501",
        503 => "503",
        _ => "other",
    }
}
