//! Bodies of requests: nothing, bytes at hand, or a stream of known length whose end is held back.
//!
//! Invariant: a stream that is dropped before its last byte breaks the connection, so the service
//! never sees a whole request. That is what makes a PUT abortable.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

#[derive(Debug)]
pub(super) enum Body {
    Whole(Bytes),
    Streamed {
        chunks: mpsc::Receiver<Bytes>,
        /// Bytes still to come.
        left: u64,
    },
}

/// The stream ended early or brought too much; hyper closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("the upload was given up")]
pub(super) struct GivenUp;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed { left: 0, .. } => Poll::Ready(None),
            Self::Streamed { chunks, left } => match chunks.poll_recv(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => Poll::Ready(Some(Err(GivenUp))),
                Poll::Ready(Some(bytes)) => match left.checked_sub(bytes.len() as u64) {
                    Some(rest) => {
                        *left = rest;
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    None => Poll::Ready(Some(Err(GivenUp))),
                },
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Streamed { left, .. } => *left,
        })
    }
}
