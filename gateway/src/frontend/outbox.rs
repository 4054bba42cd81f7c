//! A file's bytes go from the kernel's memory to the socket without passing through this program.
//!
//! hyper wants a body's bytes. Where the kernel has them in memory and the connection is a plain socket, hyper is
//! given bytes that only **stand in** for them: a slice of one static block of zeros, as long as the piece of the
//! file. hyper counts them and hands them to the connection, which knows them by their address and sends the piece
//! itself with sendfile(2). Nothing else may see them, so only the connection's own outbox makes them.
//!
//! Invariant: zeros are never sent in a file's place. A stand-in lies in the block where the piece lies in the
//! file's grid of [`GRID`] bytes; one that does not fit the piece whose turn it is ends the connection, and so does
//! a file that is shorter than it was.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::stores::{ByteStream, FileRange, Piece};

/// The largest piece, and where pieces of a file begin and end.
const GRID: usize = 1 << 20;
static STAND_IN: [u8; GRID] = [0; GRID];

/// The pieces of files that a connection owes, in the order in which hyper was given their stand-ins.
#[derive(Clone, Default, Debug)]
pub struct Outbox {
    /// None: this connection cannot send files.
    owed: Option<Arc<Mutex<VecDeque<Owed>>>>,
}

#[derive(Debug)]
struct Owed {
    file: Arc<OwnedFd>,
    at: u64,
    left: usize,
}

/// What a connection has to write first.
#[derive(Debug)]
pub enum Next {
    /// As many of the slices, as they are.
    Bytes(usize),
    File(Part),
}

/// Some of a piece, and whom to tell what of it was sent.
#[derive(Debug)]
pub struct Part {
    file: Arc<OwnedFd>,
    at: u64,
    len: usize,
    owed: Arc<Mutex<VecDeque<Owed>>>,
}

impl Outbox {
    #[must_use]
    pub fn of(stream: &impl SendFile) -> Self {
        Self {
            owed: stream.sends_files().then(Arc::default),
        }
    }

    /// The body to give to hyper.
    pub fn body(&self, bytes: ByteStream, file: Option<FileRange>) -> ByteStream {
        let (Some(owed), Some(file)) = (&self.owed, file) else {
            return bytes;
        };
        let state = Some((file, Arc::clone(owed)));
        futures::stream::unfold(state, |state| async {
            let (mut file, owed) = state?;
            match file.next(GRID as u64).await.transpose()? {
                Ok(Piece::Bytes(bytes)) => Some((Ok(bytes), Some((file, owed)))),
                Ok(Piece::Cached { file: of, at, len }) => {
                    owed.lock().push_back(Owed {
                        file: of,
                        at,
                        left: len,
                    });
                    let place = place(at);
                    let stand_in = Bytes::from_static(&STAND_IN[place..place + len]);
                    Some((Ok(stand_in), Some((file, owed))))
                }
                Err(e) => Some((Err(e), None)),
            }
        })
        .boxed()
    }

    /// What the first of these slices stand for.
    pub fn next(&self, slices: &[IoSlice<'_>]) -> io::Result<Next> {
        let Some(owed) = &self.owed else {
            return Ok(Next::Bytes(slices.len()));
        };
        let plain = slices.iter().take_while(|s| stands_in(s).is_none()).count();
        if slices[..plain].iter().any(|s| !s.is_empty()) || plain == slices.len() {
            return Ok(Next::Bytes(plain));
        }
        let slice = &slices[plain];
        let pieces = owed.lock();
        match pieces.front() {
            Some(piece)
                if stands_in(slice) == Some(place(piece.at)) && slice.len() <= piece.left =>
            {
                Ok(Next::File(Part {
                    file: Arc::clone(&piece.file),
                    at: piece.at,
                    len: slice.len(),
                    owed: Arc::clone(owed),
                }))
            }
            Some(_) | None => Err(io::Error::other(
                "the bytes to send are not those of the file whose turn it is",
            )),
        }
    }
}

/// Where a file's byte lies in the block.
fn place(at: u64) -> usize {
    // Below the grid, which is a length in memory.
    (at % GRID as u64) as usize
}

/// Where in the block this slice lies; an empty one lies nowhere.
fn stands_in(slice: &[u8]) -> Option<usize> {
    let place = slice
        .as_ptr()
        .addr()
        .checked_sub(STAND_IN.as_ptr().addr())?;
    (place < GRID && !slice.is_empty()).then_some(place)
}

impl Part {
    pub fn poll_send(
        self,
        cx: &mut Context<'_>,
        stream: &impl SendFile,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(stream.poll_send_file(cx, &self.file, self.at, self.len))?;
        if sent == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the object's file is shorter than it was when it was opened",
            )));
        }
        let mut owed = self.owed.lock();
        if let Some(piece) = owed.front_mut() {
            piece.at += sent as u64;
            piece.left -= sent;
            if piece.left == 0 {
                owed.pop_front();
            }
        }
        Poll::Ready(Ok(sent))
    }
}

/// A stream that may be a socket.
pub trait SendFile {
    fn sends_files(&self) -> bool;

    /// As many bytes as the socket takes now; 0 = the file ends here.
    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &OwnedFd,
        at: u64,
        len: usize,
    ) -> Poll<io::Result<usize>>;
}

impl SendFile for TcpStream {
    fn sends_files(&self) -> bool {
        true
    }

    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &OwnedFd,
        at: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            let sent = self.try_io(Interest::WRITABLE, || {
                let mut at = at;
                Ok(rustix::fs::sendfile(self, file, Some(&mut at), len)?)
            });
            match sent {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// What is encrypted has to pass through this program.
impl SendFile for tokio_rustls::server::TlsStream<TcpStream> {
    fn sends_files(&self) -> bool {
        false
    }

    fn poll_send_file(
        &self,
        _: &mut Context<'_>,
        _: &OwnedFd,
        _: u64,
        _: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Socket;

    impl SendFile for Socket {
        fn sends_files(&self) -> bool {
            true
        }

        fn poll_send_file(
            &self,
            _: &mut Context<'_>,
            _: &OwnedFd,
            _: u64,
            len: usize,
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(len))
        }
    }

    fn owes(outbox: &Outbox, at: u64, left: usize) {
        let file = Arc::new(tempfile::tempfile().unwrap().into());
        let owed = outbox.owed.as_ref().unwrap();
        owed.lock().push_back(Owed { file, at, left });
    }

    fn slice(range: std::ops::Range<usize>) -> IoSlice<'static> {
        IoSlice::new(&STAND_IN[range])
    }

    #[test]
    fn bytes_before_a_stand_in_are_written_first() {
        let outbox = Outbox::of(&Socket);
        owes(&outbox, 7, 3);
        let head = IoSlice::new(b"head");
        let next = outbox.next(&[head, slice(7..10)]).unwrap();
        assert!(matches!(next, Next::Bytes(1)), "{next:?}");
        let next = outbox.next(&[IoSlice::new(b""), slice(7..10)]).unwrap();
        assert!(
            matches!(next, Next::File(Part { at: 7, len: 3, .. })),
            "{next:?}"
        );
    }

    #[test]
    fn a_stand_in_whose_turn_it_is_not_is_never_sent() {
        let outbox = Outbox::of(&Socket);
        assert!(outbox.next(&[slice(0..3)]).is_err());
        owes(&outbox, GRID as u64 + 7, 3);
        assert!(outbox.next(&[slice(0..3)]).is_err());
        assert!(outbox.next(&[slice(7..11)]).is_err());
        assert!(outbox.next(&[slice(7..10)]).is_ok());
    }

    #[test]
    fn a_piece_sent_in_part_goes_on_where_it_stopped() {
        let outbox = Outbox::of(&Socket);
        owes(&outbox, 0, 10);
        owes(&outbox, 10, 5);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for (range, at) in [(0..4, 0), (4..10, 4), (10..15, 10)] {
            match outbox.next(&[slice(range.clone())]).unwrap() {
                Next::File(part) => {
                    assert_eq!(part.at, at);
                    assert!(part.poll_send(&mut cx, &Socket).is_ready());
                }
                Next::Bytes(_) => panic!("a stand-in was taken for bytes"),
            }
        }
        assert!(outbox.next(&[slice(15..16)]).is_err());
    }
}
