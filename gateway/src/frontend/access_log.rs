//! One event (target `access`) and one set of metrics for every request, when its answer is complete.
//!
//! Neither secrets nor signatures are in it: the query is left out, the key is written escaped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{Method, StatusCode};

use super::precheck::Target;
use super::request::Context;
use crate::telemetry::names;

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
        tracing::info!(
            target: "access",
            request_id = %self.id,
            operation,
            method = %self.method,
            access_key = %context.map_or("", |c| &*c.checked.access_key).escape_debug(),
            cluster = cluster.as_ref().map_or("", |c| c.as_str()),
            repository = self.repository.as_ref().map_or("", |r| r.as_str()),
            bucket = %bucket.escape_debug(),
            key = %key.unwrap_or_default().escape_debug(),
            status = self.status.as_u16(),
            code = self.code.as_deref().unwrap_or_default(),
            bytes_in,
            bytes_out,
            whole,
            milliseconds = seconds * 1000.0,
            agent = %self.agent.as_deref().unwrap_or_default().escape_debug(),
        );
    }

    fn count(&self, operation: &'static str, bytes_in: u64, bytes_out: u64, seconds: f64) {
        metrics::counter!(names::REQUESTS, "operation" => operation, "status" => status(self.status))
            .increment(1);
        metrics::histogram!(names::REQUEST_SECONDS, "operation" => operation).record(seconds);
        if bytes_in > 0 {
            metrics::counter!(names::BYTES, "direction" => "in").increment(bytes_in);
        }
        if bytes_out > 0 {
            metrics::counter!(names::BYTES, "direction" => "out").increment(bytes_out);
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
