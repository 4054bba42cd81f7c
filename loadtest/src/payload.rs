//! What is uploaded: slices of one block of random bytes, hashed once, and the bodies made of them.
//!
//! Invariant: a body costs its sender no more than the copy into the socket. Hashes of whole payloads and
//! of their chunks are known before the clock starts; only chunk signatures, which chain, are made on the way.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rand::Rng as _;

use crate::sign::{EMPTY_SHA256, Scope, sha256_hex};

/// What an SDK signs as one chunk.
const CHUNK: usize = 128 * 1024;
/// What is handed to the connection at once.
const SLICE: usize = 256 * 1024;
/// `;chunk-signature=`, the signature and two line ends.
const CHUNK_FRAMING: usize = 17 + 64 + 4;

#[derive(Debug)]
pub struct Payload {
    pub bytes: Bytes,
    pub sha256: String,
    chunks: Vec<String>,
}

impl Payload {
    pub fn new(bytes: Bytes) -> Self {
        Self {
            sha256: sha256_hex(&bytes),
            chunks: bytes.chunks(CHUNK).map(sha256_hex).collect(),
            bytes,
        }
    }

    /// Length on the wire when every chunk is signed.
    pub fn chunked_length(&self) -> usize {
        let framing = |size: usize| format!("{size:x}").len() + CHUNK_FRAMING;
        let chunks: usize = self
            .bytes
            .chunks(CHUNK)
            .map(|chunk| framing(chunk.len()) + chunk.len())
            .sum();
        chunks + framing(0)
    }
}

/// Payloads by size, all from one block.
#[derive(Debug)]
pub struct Payloads {
    block: Bytes,
    known: Vec<Arc<Payload>>,
}

impl Payloads {
    /// Payloads of exactly these sizes.
    pub fn of(sizes: &[usize]) -> Self {
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let mut block = vec![0; largest];
        rand::rng().fill_bytes(&mut block);
        let mut payloads = Self {
            block: block.into(),
            known: Vec::new(),
        };
        for size in sizes {
            let payload = Payload::new(payloads.block.slice(..*size));
            payloads.known.push(Arc::new(payload));
        }
        payloads
    }

    pub fn get(&self, size: usize) -> &Arc<Payload> {
        self.known
            .iter()
            .find(|payload| payload.bytes.len() == size)
            .expect("a row names every size it sends")
    }
}

/// A request's body.
#[derive(Debug)]
pub struct Body {
    frames: Frames,
    left: u64,
}

#[derive(Debug)]
enum Frames {
    Plain(Bytes),
    Chunked(Chunks),
}

#[derive(Debug)]
struct Chunks {
    payload: Arc<Payload>,
    scope: Arc<Scope>,
    previous: String,
    next: usize,
    ready: VecDeque<Bytes>,
}

impl Body {
    pub fn plain(bytes: Bytes) -> Self {
        Self {
            left: bytes.len() as u64,
            frames: Frames::Plain(bytes),
        }
    }

    /// `seed` is the signature of the request's headers.
    pub fn chunked(payload: Arc<Payload>, scope: Arc<Scope>, seed: String) -> Self {
        Self {
            left: payload.chunked_length() as u64,
            frames: Frames::Chunked(Chunks {
                payload,
                scope,
                previous: seed,
                next: 0,
                ready: VecDeque::new(),
            }),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let slice = match &mut self.frames {
            Frames::Plain(rest) if rest.is_empty() => None,
            Frames::Plain(rest) => Some(rest.split_to(rest.len().min(SLICE))),
            Frames::Chunked(chunks) => chunks.next(),
        };
        if let Some(slice) = &slice {
            self.left -= slice.len() as u64;
        }
        Poll::Ready(slice.map(|slice| Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        let count = self.payload.chunks.len();
        if self.next > count {
            return None;
        }
        let start = self.next * CHUNK;
        let end = self.payload.bytes.len().min(start + CHUNK);
        let data = self.payload.bytes.slice(start.min(end)..end);
        let sha256 = self
            .payload
            .chunks
            .get(self.next)
            .map_or(EMPTY_SHA256, |s| s);
        self.previous = self.scope.sign_chunk(&self.previous, sha256);
        // The line end of the chunk before rides with the head of this one.
        let before = if self.next == 0 { "" } else { "\r\n" };
        let after = if self.next == count { "\r\n" } else { "" };
        let head = format!(
            "{before}{:x};chunk-signature={}\r\n{after}",
            data.len(),
            self.previous
        );
        if !data.is_empty() {
            self.ready.push_back(data);
        }
        self.next += 1;
        Some(head.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::Signer;
    use time::macros::datetime;

    fn framed(size: usize) -> (Arc<Payload>, Vec<u8>) {
        let payload = Arc::new(Payload::new(vec![b'a'; size].into()));
        let now = datetime!(2013-05-24 0:00 UTC);
        let mut signer = Signer::new("a".into(), "s".into(), now);
        let mut body = Body::chunked(
            Arc::clone(&payload),
            Arc::clone(signer.scope(now)),
            "seed".into(),
        );
        let mut wire = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) =
            http_body::Body::poll_frame(Pin::new(&mut body), &mut context)
        {
            wire.extend_from_slice(&frame.into_data().unwrap());
        }
        assert!(http_body::Body::is_end_stream(&body));
        (payload, wire)
    }

    #[test]
    fn a_chunked_body_is_as_long_as_it_announces() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let (payload, wire) = framed(size);
            assert_eq!(wire.len(), payload.chunked_length(), "{size} bytes");
        }
    }

    #[test]
    fn a_chunked_body_ends_with_a_signed_empty_chunk() {
        let (_, wire) = framed(CHUNK + 5);
        let text = String::from_utf8(wire).unwrap();
        let heads: Vec<&str> = text
            .split("\r\n")
            .filter_map(|line| line.split_once(";chunk-signature=").map(|(size, _)| size))
            .collect();
        assert_eq!(heads, ["20000", "5", "0"]);
        assert!(text.ends_with("\r\n\r\n"));
    }
}
