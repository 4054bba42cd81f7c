//! One PUT of an object or a part: gathered when small, streamed with its end held back when not.
//!
//! Invariant: before [`Put::finish`] the service has not seen the last byte, so it has nothing that it
//! could make visible; dropping a `Put` breaks the connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use policies::key::ObjectKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::body::Body;
use super::client::{Call, Client, Tried};
use super::failure::Failure;
use super::sign::Headers;
use crate::stores::{Error, Result};

/// Up to this size bytes are gathered and sent at the end, in a request that can be repeated.
pub(super) const GATHERED: u64 = 128 * 1024;
/// Held back of a stream.
const TAIL: usize = 64 * 1024;

/// Where a PUT goes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub operation: &'static str,
    pub name: ObjectKey,
    pub query: String,
    pub headers: Headers,
}

impl Place {
    fn call(&self) -> Call<'_> {
        Call {
            operation: self.operation,
            method: Method::PUT,
            name: Some(self.name.as_str()),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: Bytes::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Put {
    client: Arc<Client>,
    place: Place,
    /// Announced length.
    size: u64,
    taken: u64,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Gathered(Vec<Bytes>),
    Streamed(Stream),
}

#[derive(Debug)]
struct Stream {
    chunks: mpsc::Sender<Bytes>,
    /// Until the answer was read.
    ended: Option<JoinHandle<Result<Response<Incoming>, legacy::Error>>>,
    held: VecDeque<Bytes>,
    held_bytes: usize,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(ended) = &self.ended {
            ended.abort();
        }
    }
}

impl Put {
    /// `size` is exact.
    pub(super) async fn begin(client: &Arc<Client>, place: Place, size: u64) -> Result<Self> {
        let way = if size <= GATHERED {
            Way::Gathered(Vec::new())
        } else {
            Way::Streamed(Stream::open(client, &place, size).await?)
        };
        Ok(Self {
            client: client.clone(),
            place,
            size,
            taken: 0,
            way,
        })
    }

    /// Bytes that are at hand already.
    pub(super) fn of(client: &Arc<Client>, place: Place, chunks: Vec<Bytes>) -> Self {
        let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            client: client.clone(),
            place,
            size,
            taken: size,
            way: Way::Gathered(chunks),
        }
    }

    pub(super) fn name(&self) -> &ObjectKey {
        &self.place.name
    }

    /// To be refused if the name is taken. For gathered bytes only: a stream's headers are sent.
    pub(super) fn only_create(&mut self) {
        self.place
            .headers
            .push((IF_NONE_MATCH, HeaderValue::from_static("*")));
    }

    pub(super) fn is_streamed(&self) -> bool {
        match self.way {
            Way::Gathered(_) => false,
            Way::Streamed(_) => true,
        }
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes it still takes.
    pub(super) fn room(&self) -> u64 {
        self.size - self.taken
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.len() as u64 > self.room() {
            return Err(Error::Failed("more bytes came than were announced".into()));
        }
        self.taken += bytes.len() as u64;
        match &mut self.way {
            Way::Gathered(chunks) => {
                chunks.push(bytes);
                Ok(())
            }
            Way::Streamed(stream) => {
                let sent = stream.push(bytes, TAIL, self.client.deadlines.idle).await;
                match sent {
                    Ok(()) => Ok(()),
                    Err(Blocked) => {
                        let failure = stream.why_blocked(&self.client).await;
                        Err(early(failure, self.place.operation))
                    }
                }
            }
        }
    }

    /// Sends the rest and waits for the answer. Gathered bytes are sent again where that helps; they
    /// are given back for comparing, should the outcome stay unknown.
    pub(super) async fn finish(self) -> Result<(Tried<HeaderMap>, Option<Bytes>)> {
        if self.room() > 0 {
            return Err(Error::Failed("fewer bytes came than were announced".into()));
        }
        match self.way {
            Way::Gathered(chunks) => {
                let body = joined(chunks);
                let call = self.place.call().body(body.clone());
                let patience = self.client.deadlines.answer;
                let check = |answer: super::client::Answer| Ok(answer.headers);
                let tried = self.client.answer_checked(&call, patience, check).await;
                Ok((tried, Some(body)))
            }
            Way::Streamed(stream) => {
                let result = stream.finish(&self.client).await;
                let doubt = false;
                Ok((Tried { result, doubt }, None))
            }
        }
    }
}

/// What it means that a stream ended before its last byte was sent: nothing can have taken effect.
fn early(failure: Failure, operation: &'static str) -> Error {
    match failure {
        Failure::Lost => Failure::NotSent("the connection broke").into_error(operation),
        refused if refused.is(412) => Error::Exists,
        other @ (Failure::NotSent(_)
        | Failure::Refused(_)
        | Failure::Nonsense
        | Failure::Ours(_)) => other.into_error(operation),
    }
}

/// The stream takes no more.
#[derive(Debug)]
struct Blocked;

impl Stream {
    async fn open(client: &Arc<Client>, place: &Place, size: u64) -> Result<Self> {
        let (sender, chunks) = mpsc::channel(1);
        let body = Body::Streamed { chunks, left: size };
        let answering = client
            .send_streamed(&place.call(), body)
            .await
            .map_err(|failure| failure.into_error(place.operation))?;
        Ok(Self {
            chunks: sender,
            ended: Some(tokio::spawn(answering)),
            held: VecDeque::new(),
            held_bytes: 0,
        })
    }

    /// Takes bytes and lets go of all but the last `keep`.
    async fn push(&mut self, bytes: Bytes, keep: usize, idle: Duration) -> Result<(), Blocked> {
        if !bytes.is_empty() {
            self.held_bytes += bytes.len();
            self.held.push_back(bytes);
        }
        while self.held_bytes > keep {
            let excess = self.held_bytes - keep;
            let Some(mut first) = self.held.pop_front() else {
                break;
            };
            if first.len() > excess {
                let rest = first.split_off(excess);
                self.held.push_front(rest);
            }
            self.held_bytes -= first.len();
            self.send(first, idle).await?;
        }
        Ok(())
    }

    async fn send(&self, bytes: Bytes, idle: Duration) -> Result<(), Blocked> {
        match self.chunks.try_send(bytes) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Blocked),
            Err(mpsc::error::TrySendError::Full(bytes)) => {
                match timeout(idle, self.chunks.send(bytes)).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) | Err(_) => Err(Blocked),
                }
            }
        }
    }

    /// Reads the early answer, if there is one.
    async fn why_blocked(&mut self, client: &Client) -> Failure {
        let under_way = self
            .ended
            .as_ref()
            .is_some_and(|ended| !ended.is_finished());
        if under_way && !self.chunks.is_closed() {
            return Failure::NotSent("the store took no bytes for too long");
        }
        match self.answer(client).await {
            Ok(_) => Failure::Nonsense,
            Err(failure) => failure,
        }
    }

    async fn finish(mut self, client: &Client) -> Result<HeaderMap, Failure> {
        match self.push(Bytes::new(), 0, client.deadlines.idle).await {
            Ok(()) => self.answer(client).await,
            Err(Blocked) => Err(self.why_blocked(client).await),
        }
    }

    async fn answer(&mut self, client: &Client) -> Result<HeaderMap, Failure> {
        let Some(mut ended) = self.ended.take() else {
            return Err(Failure::NotSent("the connection broke"));
        };
        let Ok(Ok(ended)) = timeout(client.deadlines.answer, &mut ended).await else {
            ended.abort();
            return Err(Failure::Lost);
        };
        let response = client.judge(ended).await?;
        Ok(client.read_whole(response).await?.headers)
    }
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.swap_remove(0);
    }
    let size = chunks.iter().map(Bytes::len).sum();
    let mut whole = BytesMut::with_capacity(size);
    for chunk in &chunks {
        whole.extend_from_slice(chunk);
    }
    whole.freeze()
}
