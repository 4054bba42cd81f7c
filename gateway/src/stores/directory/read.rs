//! Reading: the file is opened once, and its descriptor pins the content to the last byte.
//!
//! Decides on which thread bytes are read. What the kernel has in memory is read where we are (`openat2` with
//! `RESOLVE_CACHED`, `preadv2` with `RWF_NOWAIT`: neither waits for a disk); all else on a blocking thread.
//! Large objects pass through buffers that are used again: fresh memory costs more than the copy.

use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use policies::key::ObjectKey;
use rustix::io::{Errno, ReadWriteFlags};

use super::hop;
use super::tree::{self, Tree, failed};
use crate::stores::{ByteStream, Content, Error, Identity, Result};

/// What one step of a large read brings: small enough to stay in the processor's cache until it is sent.
const CHUNK: usize = 128 << 10;
/// Buffers kept for use again.
const KEPT: usize = 32;

static BUFFERS: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer on loan to one chunk of a body.
struct Lent {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Lent {
    fn new() -> Self {
        let kept = BUFFERS.lock().pop();
        let buffer = kept.unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        Self { buffer, filled: 0 }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = BUFFERS.lock();
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// One open file and what is left of the range.
#[derive(Clone, Debug)]
pub struct FileRange {
    file: Arc<OwnedFd>,
    at: u64,
    end: u64,
    in_memory: bool,
}

/// What a file's next bytes are to a sender.
#[derive(Debug)]
pub enum Piece {
    /// This many, from here, and the kernel has them in memory.
    Cached {
        file: Arc<OwnedFd>,
        at: u64,
        len: usize,
    },
    /// They had to be read.
    Bytes(Bytes),
}

impl FileRange {
    /// The next piece, which ends before the file's next multiple of `grid`; `None` = the range was sent.
    ///
    /// A piece is taken for cached if its first and its last byte are: should the kernel have dropped a page between
    /// them, the sender waits for the disk once.
    pub async fn next(&mut self, grid: u64) -> Result<Option<Piece>> {
        let len = (grid - self.at % grid).min(self.end - self.at);
        if len == 0 {
            return Ok(None);
        }
        let cached = self.in_memory || (self.has(self.at)? && self.has(self.at + len - 1)?);
        if cached {
            let (file, at) = (Arc::clone(&self.file), self.at);
            self.at += len;
            // No piece is larger than the grid, which is a length in memory.
            let len = len as usize;
            return Ok(Some(Piece::Cached { file, at, len }));
        }
        let bytes = self.chunk().await?;
        self.at += bytes.len() as u64;
        Ok(Some(Piece::Bytes(bytes)))
    }

    /// The kernel has this byte in memory.
    fn has(&self, at: u64) -> Result<bool> {
        let probe = Self {
            at,
            end: at + 1,
            ..self.clone()
        };
        Ok(probe.fill_now(&mut [0])? == 1)
    }

    fn left(&self) -> usize {
        usize::try_from(self.end - self.at).unwrap_or(usize::MAX)
    }

    /// Fills what it can without waiting for a disk.
    fn fill_now(&self, buffer: &mut [u8]) -> Result<usize> {
        let flags = if self.in_memory {
            ReadWriteFlags::empty()
        } else {
            ReadWriteFlags::NOWAIT
        };
        let mut done = 0;
        while done < buffer.len() {
            let mut slices = [IoSliceMut::new(&mut buffer[done..])];
            match rustix::io::preadv2(&*self.file, &mut slices, self.at + done as u64, flags) {
                Ok(0) => return Err(short()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(e) => return Err(failed("read", "the object", e)),
            }
        }
        Ok(done)
    }

    /// Fills the rest of the buffer. Blocks.
    fn fill(&self, buffer: &mut [u8], mut done: usize) -> Result<()> {
        while done < buffer.len() {
            match rustix::io::pread(&*self.file, &mut buffer[done..], self.at + done as u64) {
                Ok(0) => return Err(short()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed("read", "the object", e)),
            }
        }
        Ok(())
    }

    /// The next chunk of a large read.
    async fn chunk(&self) -> Result<Bytes> {
        let wanted = self.left().min(CHUNK);
        let mut lent = Lent::new();
        lent.filled = wanted;
        let done = self.fill_now(&mut lent.buffer[..wanted])?;
        if done < wanted {
            let reading = self.clone();
            lent = hop(move || {
                reading.fill(&mut lent.buffer[..wanted], done)?;
                Ok(lent)
            })
            .await?;
        }
        Ok(Bytes::from_owner(lent))
    }

    /// All of a read that fits one chunk.
    async fn whole(&self) -> Result<Bytes> {
        let mut buffer = vec![0; self.left()];
        let done = self.fill_now(&mut buffer)?;
        if done < buffer.len() {
            let reading = self.clone();
            buffer = hop(move || {
                reading.fill(&mut buffer, done)?;
                Ok(buffer)
            })
            .await?;
        }
        Ok(buffer.into())
    }

    /// The stream ends after an error.
    fn stream(self) -> ByteStream {
        futures::stream::unfold(Some(self), |reading| async {
            let mut reading = reading.filter(|r| r.at < r.end)?;
            let chunk = reading.chunk().await;
            let rest = chunk.as_ref().ok().map(|bytes| {
                reading.at += bytes.len() as u64;
                reading
            });
            Some((chunk, rest))
        })
        .boxed()
    }
}

fn short() -> Error {
    Error::Failed("the object's file is shorter than it was when it was opened".into())
}

/// Opens the key's file and compares its identity; `None` = surely absent.
pub(super) async fn read(
    tree: &Arc<Tree>,
    key: &ObjectKey,
    range: Option<Range<u64>>,
    expect: Option<&Identity>,
) -> Result<Option<Content>> {
    let Some((file, stat)) = open(tree, key).await? else {
        return Ok(None);
    };
    let (size, identity) = (tree::size(&stat), tree::identity(&stat));
    if expect.is_some_and(|expected| *expected != identity) {
        return Err(Error::Changed);
    }
    let Range { start: at, end } = range.unwrap_or(0..size);
    if at > end || end > size {
        return Err(Error::Failed("a range beyond the object's end".into()));
    }
    let reading = FileRange {
        file: Arc::new(file),
        at,
        end,
        in_memory: tree.in_memory,
    };
    if reading.left() <= CHUNK / 2 {
        let bytes = reading.whole().await?;
        return Ok(Some(Content {
            size,
            identity,
            bytes: futures::stream::iter([Ok(bytes)]).boxed(),
            file: None,
        }));
    }
    Ok(Some(Content {
        size,
        identity,
        file: Some(reading.clone()),
        bytes: reading.stream(),
    }))
}

pub(super) async fn open(
    tree: &Arc<Tree>,
    key: &ObjectKey,
) -> Result<Option<(OwnedFd, rustix::fs::Stat)>> {
    if tree.opens_cached {
        match tree.open_file(key, true) {
            Err(Errno::AGAIN) => {}
            outcome => return outcome.map_err(|e| failed("open", key.as_str(), e)),
        }
    }
    let (tree, key) = (Arc::clone(tree), key.clone());
    hop(move || {
        tree.open_file(&key, false)
            .map_err(|e| failed("open", key.as_str(), e))
    })
    .await
}
