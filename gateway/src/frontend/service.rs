//! The life of one S3 request: pre-check, share of memory, verification and operation, answer.
//!
//! Invariant: whatever happens, the client gets an S3 answer with a request id, and the access log one
//! event. The order matters: the pre-check is free of side effects and comes before any memory is set
//! aside; the verifier (in `s3s`) sees the head before anything polls the body, so a refusal precedes
//! `100 Continue`; the door is asked by the operations alone.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{HeaderName, Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use s3s::service::S3Service;
use s3s::{HttpError, HttpRequest, HttpResponse, StdError};
use tokio::sync::Semaphore;

use super::access_log::Entry;
use super::answers::Answer;
use super::connection::Phase;
use super::document;
use super::intake::{Intake, Share};
use super::limits::Limits;
use super::precheck::{self, Checked, Framing, Payload, Rules, Target};
use super::request::Context;
use crate::repository::Door;
use crate::telemetry::clock;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
const HOST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");

/// What all connections share.
pub struct Service {
    pub rules: Rules,
    pub limits: Limits,
    pub s3: S3Service,
    pub door: Arc<Door>,
    /// In KiB, for a semaphore counts to 2^32.
    pub memory: Arc<Semaphore>,
}

impl Service {
    /// Answers one request of the connection whose phase this is.
    pub async fn call(
        &self,
        phase: Arc<Phase>,
        request: Request<Incoming>,
    ) -> Result<http::Response<Reply>, Infallible> {
        phase.begin();
        let id = request_id();
        let method = request.method().clone();
        let resource = request.uri().path().to_owned();
        let agent = request.headers().get("user-agent");
        let mut entry = Entry {
            id: Arc::clone(&id),
            method: method.clone(),
            agent: agent.map(|a| String::from_utf8_lossy(a.as_bytes()).into()),
            started: Instant::now(),
            context: None,
            repository: None,
            status: StatusCode::OK,
            code: None,
        };
        let had_body = !request.body().is_end_stream();
        let outcome = self.perform(&id, &phase, request, &mut entry).await;
        let mut response = match outcome {
            Ok(response) => response,
            Err(answer) => {
                entry.code = Some(answer.code.as_ref().into());
                answer.into_response(&method, &resource, &id)
            }
        };
        let drained = entry
            .context
            .as_ref()
            .is_some_and(|c| c.drained.load(Ordering::Relaxed));
        let unread = had_body && !drained;
        if let Some(status) = response.extensions_mut().remove::<StatusCode>() {
            *response.status_mut() = status;
        }
        entry.status = response.status();
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&id) {
            headers.insert(HOST_ID, value.clone());
            headers.insert(REQUEST_ID, value);
        }
        if unread {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Reply {
            body,
            entry,
            phase,
            unread,
            bytes: 0,
            whole: false,
        }))
    }

    async fn perform(
        &self,
        id: &Arc<str>,
        phase: &Phase,
        request: Request<Incoming>,
        entry: &mut Entry,
    ) -> Result<HttpResponse, Answer> {
        let (head, incoming) = request.into_parts();
        let checked = precheck::check(
            &self.rules,
            &head.method,
            &head.uri,
            &head.headers,
            clock::now_ms() / 1000,
        )
        .map_err(|rejection| Answer::from(&rejection))?;
        if let Target::Object(address) = &checked.target {
            entry.repository = self.door.repository_of(address);
        }
        let share = self.share(&checked, &incoming)?;
        let invocation = head.headers.get("amz-sdk-invocation-id");
        let invocation = invocation.and_then(|v| v.to_str().ok()).map(Arc::from);
        let context = Arc::new(Context::new(
            Arc::clone(id),
            checked,
            invocation,
            phase.outbox.clone(),
        ));
        entry.context = Some(Arc::clone(&context));
        let method = head.method.clone();
        let body = self.body(incoming, &context, share);
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(Arc::clone(&context));
        let outcome = self.carry_through(request).await;
        if let Some(answer) = context.take_answer() {
            return Err(answer);
        }
        match outcome {
            Ok(response) if response.status().as_u16() < 300 => Ok(response),
            Ok(response) => Err(read_answer(&method, response).await),
            Err(error) => {
                tracing::error!(request_id = %id, %error, "an answer could not be written");
                Err(Answer::told(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    String::new(),
                    String::new(),
                ))
            }
        }
    }

    /// A client that goes away ends its reads, but a change that has begun is carried through: a write cut off
    /// between its steps would wait for the next start to be resolved.
    async fn carry_through(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return self.s3.call(request).await;
        }
        let s3 = self.s3.clone();
        let done = tokio::spawn(async move { s3.call(request).await }).await;
        done.unwrap_or_else(|e| Err(HttpError::from_std_error(e.into())))
    }

    /// Room for what the body may hold in memory, or "slow down".
    fn share(&self, checked: &Checked, incoming: &Incoming) -> Result<Option<Share>, Answer> {
        match &checked.payload {
            Payload::None => return Ok(None),
            Payload::Upload(_) | Payload::Document(_) => {}
        }
        if incoming.is_end_stream() {
            return Ok(None);
        }
        let most = self.limits.inflight_bytes_per_request as u64;
        let bytes = incoming.size_hint().upper().unwrap_or(most).min(most);
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        match Arc::clone(&self.memory).try_acquire_many_owned(kib) {
            Ok(permit) => Ok(Some(Share::new(permit, kib.saturating_mul(1024)))),
            Err(_) => Err(Answer::busy()),
        }
    }

    fn body(&self, incoming: Incoming, context: &Arc<Context>, share: Option<Share>) -> s3s::Body {
        let signed_chunks = context
            .upload()
            .is_some_and(|upload| upload.framing == Framing::SignedChunks);
        let idle = std::time::Duration::from_secs(self.limits.body_idle_seconds);
        let intake = Intake::new(incoming, Arc::clone(context), idle, signed_chunks, share);
        match &context.checked.payload {
            Payload::Document(document) => {
                document::body(intake, Arc::clone(context), document.clone())
            }
            Payload::None | Payload::Upload(_) => s3s::Body::http_body(intake),
        }
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("rules", &self.rules)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Code and message of an error that the protocol library answered itself.
async fn read_answer(method: &Method, response: HttpResponse) -> Answer {
    let status = response.status();
    let known = StatusCode::canonical_reason(&status).unwrap_or("Error");
    if *method == Method::HEAD {
        return Answer::told(status, known.replace(' ', ""), String::new());
    }
    let bytes = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let text = String::from_utf8_lossy(&bytes);
    let between = |open: &str, close: &str| {
        let (_, rest) = text.split_once(open)?;
        let (inner, _) = rest.split_once(close)?;
        Some(unescape(inner))
    };
    let code = between("<Code>", "</Code>").unwrap_or_else(|| known.replace(' ', ""));
    let message = between("<Message>", "</Message>").unwrap_or_default();
    Answer::told(status, code, message)
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// The whole answer to a head that is no HTTP; `status` as hyper would have answered.
#[must_use]
pub fn unparsed(status: &[u8]) -> Vec<u8> {
    let status = StatusCode::from_bytes(status).unwrap_or(StatusCode::BAD_REQUEST);
    let (code, message) = if status == StatusCode::BAD_REQUEST {
        (
            "BadRequest",
            "An error occurred when parsing the HTTP request.",
        )
    } else {
        (
            "RequestHeaderSectionTooLarge",
            "Your request's head is too large.",
        )
    };
    let id = request_id();
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><Resource>/</Resource><RequestId>{id}</RequestId><HostId>snapgate</HostId></Error>"
    );
    tracing::info!(target: "access", request_id = %id, operation = "-", status = status.as_u16(), code);
    format!(
        "HTTP/1.1 {status}\r\nx-amz-request-id: {id}\r\nx-amz-id-2: {id}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{xml}",
        xml.len()
    )
    .into_bytes()
}

fn request_id() -> Arc<str> {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut random: u128 = rand::random();
    let mut id = [0u8; 16];
    for digit in &mut id {
        *digit = DIGITS[(random & 31) as usize];
        random >>= 5;
    }
    String::from_utf8_lossy(&id).into()
}

/// The body of an answer; it closes the request's entry in the log when it ends.
pub struct Reply {
    body: s3s::Body,
    entry: Entry,
    phase: Arc<Phase>,
    unread: bool,
    bytes: u64,
    whole: bool,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(task);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            Poll::Ready(None) => this.whole = true,
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(request_id = %this.entry.id, %error, "an answer was cut off");
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let whole = self.whole || self.body.is_end_stream() || self.entry.method == Method::HEAD;
        self.entry.write(self.bytes, whole);
        self.phase.end(self.unread);
    }
}
