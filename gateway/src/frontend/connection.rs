//! One connection as hyper sees it, with the clocks that hyper does not have.
//!
//! Decides when a peer has been silent for too long: in the head of a request, between requests, or
//! while it should take an answer. (Silence inside a body is [`super::intake`]'s.) hyper's own header
//! time-out runs between requests too, so it cannot be short without ending keep-alive.
//! Two more things happen here because only bytes are left when they do: hyper's bare answer to a head
//! it cannot parse becomes an S3 error with a request id, and a connection with an unread body is
//! drained for a moment before it is closed, so that the client can read why. And bytes that stand in for a
//! file's are replaced by the file's ([`super::outbox`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::outbox::{Next, Outbox, SendFile};

/// Bytes and time spent on a body that nobody wants.
const LINGER_BYTES: usize = 4 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// What the service tells its connection.
#[derive(Debug, Default)]
pub struct Phase {
    busy: AtomicBool,
    requests: AtomicU64,
    unread: AtomicBool,
    pub outbox: Outbox,
}

impl Phase {
    #[must_use]
    pub fn new(outbox: Outbox) -> Self {
        Self {
            outbox,
            ..Self::default()
        }
    }

    /// A head has been read.
    pub fn begin(&self) {
        self.busy.store(true, Ordering::Release);
    }

    /// The answer is complete; `unread` = the request's body is not.
    pub fn end(&self, unread: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if unread {
            self.unread.store(true, Ordering::Relaxed);
        }
        self.busy.store(false, Ordering::Release);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub head: Duration,
    pub idle: Duration,
    pub write: Duration,
}

/// A stream that ends when its peer is silent for too long.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    phase: Arc<Phase>,
    clocks: Clocks,
    reading: Reading,
    writing: Option<Pin<Box<Sleep>>>,
    instead: Option<Instead>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

#[derive(Debug)]
struct Reading {
    /// Armed for the request of this number.
    request: Option<u64>,
    /// Bytes of a head have come.
    in_head: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Our own answer in the place of hyper's.
#[derive(Debug)]
struct Instead {
    bytes: Vec<u8>,
    written: usize,
}

impl<S> Watched<S> {
    pub fn new(stream: S, phase: Arc<Phase>, clocks: Clocks) -> Self {
        Self {
            stream,
            phase,
            clocks,
            reading: Reading {
                request: None,
                in_head: false,
                sleep: None,
            },
            writing: None,
            instead: None,
            lingering: None,
        }
    }

    /// True when a peer that owes us (the rest of) a head has been silent for too long.
    fn overdue(&mut self, cx: &mut Context<'_>, got: bool) -> bool {
        if self.phase.busy.load(Ordering::Acquire) {
            self.reading.request = None;
            return false;
        }
        let request = self.phase.requests.load(Ordering::Relaxed);
        let fresh = self.reading.request != Some(request);
        if fresh {
            self.reading.request = Some(request);
            self.reading.in_head = false;
        }
        let wait = if got && !self.reading.in_head {
            self.reading.in_head = true;
            Some(self.clocks.head)
        } else if fresh {
            Some(self.clocks.idle)
        } else {
            None
        };
        if let Some(wait) = wait {
            arm(&mut self.reading.sleep, wait);
        }
        match &mut self.reading.sleep {
            Some(sleep) => sleep.as_mut().poll(cx).is_ready(),
            None => false,
        }
    }

    /// hyper answers a head it cannot parse by itself, with a status and nothing else.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if self.phase.busy.load(Ordering::Acquire) || !bytes.starts_with(b"HTTP/1.1 4") {
            return false;
        }
        if memchr::memmem::find(bytes, b"x-amz-request-id").is_some() {
            return false;
        }
        self.instead = Some(Instead {
            bytes: super::service::unparsed(bytes.get(9..12).unwrap_or(b"400")),
            written: 0,
        });
        true
    }
}

fn arm(sleep: &mut Option<Pin<Box<Sleep>>>, wait: Duration) {
    let deadline = Instant::now() + wait;
    match sleep {
        Some(sleep) => sleep.as_mut().reset(deadline),
        None => *sleep = Some(Box::pin(sleep_until(deadline))),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let got = polled.is_ready() && buf.filled().len() > before;
        if this.overdue(cx, got) {
            // As if the peer had closed: hyper ends the connection.
            buf.set_filled(before);
            return Poll::Ready(Ok(()));
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + SendFile + Unpin> Watched<S> {
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing = None;
            return polled;
        }
        if self.writing.is_none() {
            arm(&mut self.writing, self.clocks.write);
        }
        if let Some(sleep) = &mut self.writing {
            ready!(sleep.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not take its answer",
        )))
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(instead) = &mut self.instead {
            let rest = &instead.bytes[instead.written..];
            if rest.is_empty() {
                self.instead = None;
                break;
            }
            let polled = Pin::new(&mut self.stream).poll_write(cx, rest);
            let written = ready!(self.watch_write(cx, polled))?;
            if let Some(instead) = &mut self.instead {
                instead.written += written;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + SendFile + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(this.poll_instead(cx))?;
        let polled = match this.phase.outbox.next(&[io::IoSlice::new(buf)])? {
            Next::Bytes(_) => Pin::new(&mut this.stream).poll_write(cx, buf),
            Next::File(part) => part.poll_send(cx, &this.stream),
        };
        this.watch_write(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.iter().find(|buf| !buf.is_empty());
        if first.is_some_and(|first| this.replaces(first)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(this.poll_instead(cx))?;
        let polled = match this.phase.outbox.next(bufs)? {
            Next::Bytes(count) => {
                Pin::new(&mut this.stream).poll_write_vectored(cx, &bufs[..count])
            }
            Next::File(part) => part.poll_send(cx, &this.stream),
        };
        this.watch_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_instead(cx))?;
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch_write(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(this.poll_instead(cx))?;
            let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.watch_write(cx, polled))?;
            if !this.phase.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            let sleep = Box::pin(sleep_until(Instant::now() + LINGER));
            this.lingering = Some((sleep, 0));
        }
        let Some((sleep, drained)) = &mut this.lingering else {
            return Poll::Ready(Ok(()));
        };
        let mut scratch = [0u8; 16 * 1024];
        loop {
            if *drained > LINGER_BYTES || sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            *drained += buf.filled().len();
        }
    }
}
