//! The body of a request as it comes off the wire.
//!
//! Decides three things the verifier leaves open: that a body may not fall silent, that a signed
//! chunk stream must end with its final chunk (without it, bytes could be cut off unnoticed), and how
//! much memory bodies may hold together.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use s3s::StdError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::request::Context;
use crate::repository::BodyError;
use crate::telemetry::names;

/// `0;chunk-signature=<64 hexadecimal digits>\r\n\r\n`
const FINAL_CHUNK: &[u8] = b"0;chunk-signature=";
/// And the byte before it, which ends the chunk before it.
const TAIL_LEN: usize = FINAL_CHUNK.len() + 64 + 4 + 1;

#[derive(Debug)]
pub struct Intake {
    incoming: Incoming,
    context: Arc<Context>,
    idle: Duration,
    /// Armed while the client owes us bytes.
    silence: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// The last bytes, where they must be a final chunk.
    tail: Option<Tail>,
    share: Option<Share>,
}

/// Looked up once.
static INFLIGHT: LazyLock<metrics::Gauge> =
    LazyLock::new(|| metrics::gauge!(names::INFLIGHT_BYTES));

/// Memory that a body may hold, given back when the body is done with.
#[derive(Debug)]
pub struct Share {
    _permit: OwnedSemaphorePermit,
    bytes: f64,
}

impl Share {
    #[must_use]
    pub fn new(permit: OwnedSemaphorePermit, bytes: u32) -> Self {
        let bytes = f64::from(bytes);
        INFLIGHT.increment(bytes);
        Self {
            _permit: permit,
            bytes,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        INFLIGHT.decrement(self.bytes);
    }
}

impl Intake {
    #[must_use]
    pub fn new(
        incoming: Incoming,
        context: Arc<Context>,
        idle: Duration,
        signed_chunks: bool,
        share: Option<Share>,
    ) -> Self {
        if incoming.is_end_stream() {
            context.drained.store(true, Ordering::Relaxed);
        }
        Self {
            incoming,
            context,
            idle,
            silence: None,
            waiting: false,
            tail: signed_chunks.then(Tail::default),
            share,
        }
    }

    fn silent(&mut self, task: &mut Task<'_>) -> bool {
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.idle;
            match &mut self.silence {
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.silence = Some(Box::pin(sleep_until(deadline))),
            }
        }
        match &mut self.silence {
            Some(sleep) => sleep.as_mut().poll(task).is_ready(),
            None => false,
        }
    }
}

impl Body for Intake {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(task) {
            Poll::Pending => {
                if this.silent(task) {
                    return Poll::Ready(Some(Err(BodyError::TooSlow.into())));
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                this.context.drained.store(true, Ordering::Relaxed);
                this.share = None;
                if this.tail.take().is_some_and(|tail| !tail.is_final()) {
                    return Poll::Ready(Some(Err(BodyError::Incomplete.into())));
                }
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(BodyError::Gone.into()))),
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = false;
                if let Some(data) = frame.data_ref() {
                    this.context.received(data.len());
                    if let Some(tail) = &mut this.tail {
                        tail.push(data);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The last bytes of a stream.
#[derive(Debug)]
struct Tail {
    bytes: [u8; TAIL_LEN],
    filled: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            bytes: [0; TAIL_LEN],
            filled: 0,
        }
    }
}

impl Tail {
    fn push(&mut self, data: &[u8]) {
        let data = &data[data.len().saturating_sub(TAIL_LEN)..];
        let kept = self.filled.min(TAIL_LEN - data.len());
        self.bytes.copy_within(self.filled - kept..self.filled, 0);
        self.bytes[kept..kept + data.len()].copy_from_slice(data);
        self.filled = kept + data.len();
    }

    fn is_final(&self) -> bool {
        let bytes = &self.bytes[..self.filled];
        let Some(bytes) = bytes.strip_suffix(b"\r\n") else {
            return false;
        };
        // Some clients leave the empty line out.
        let bytes = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
        let Some(start) = bytes.len().checked_sub(FINAL_CHUNK.len() + 64) else {
            return false;
        };
        let whole = start == 0 || bytes[start - 1] == b'\n';
        whole && bytes[start..].starts_with(FINAL_CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(chunks: &[&[u8]]) -> bool {
        let mut tail = Tail::default();
        for chunk in chunks {
            tail.push(chunk);
        }
        tail.is_final()
    }

    #[test]
    fn a_signed_chunk_stream_ends_with_its_final_chunk() {
        let sum = "a".repeat(64);
        let last = format!("0;chunk-signature={sum}\r\n\r\n");
        let data = format!("5;chunk-signature={sum}\r\nhello\r\n");
        let whole = format!("{data}{last}");
        assert!(tail(&[whole.as_bytes()]));
        assert!(tail(&[last.as_bytes()]));
        for split in 1..whole.len() {
            assert!(tail(&[
                &whole.as_bytes()[..split],
                &whole.as_bytes()[split..]
            ]));
        }
        let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        assert!(tail(&bytes));
        assert!(!tail(&[data.as_bytes()]));
        assert!(!tail(&[]));
        let ten = format!("10;chunk-signature={sum}\r\n0123456789abcdef\r\n");
        assert!(!tail(&[ten.as_bytes()]));
        assert!(!tail(&[whole.replace("\n0;", "\n50;").as_bytes()]));
    }
}
