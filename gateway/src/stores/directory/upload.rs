//! A hidden upload: a file below `.snapgate/tmp/` until it is renamed to its key's name.
//!
//! Invariants: the hidden file has a recorded name, so an abort from anywhere unlinks it and a late publish
//! finds nothing to rename; its bytes are durable before it is renamed; bytes in memory are bounded.
//! An unfenced upload of up to [`SMALL`] bytes stays in memory and makes its file only at publish: one hop to
//! a blocking thread (none where the directory itself is in memory, for it never waits for a disk), and no file
//! at all for a client that gives up. A fenced one makes its file at begin,
//! for a file that does not exist yet cannot be taken away.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use policies::key::ObjectKey;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::multipart::Part;
use super::settle_in;
use super::syncs::Mark;
use super::tree::{self, Tree, failed};
use crate::stores::{Error, Publish, Published, Result, StoredPart, Upload, UploadId};

/// Up to this many bytes an upload stays in memory until it is published.
const SMALL: usize = 128 << 10;
/// Bytes that all streaming uploads together collect before they write.
const COLLECTED: usize = 8 << 20;
const CHUNKS: std::ops::RangeInclusive<usize> = (64 << 10)..=(512 << 10);
/// Slices of one `pwritev`; the kernel takes 1,024.
const SLICES: usize = 512;
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Uploads that stream at this moment.
static STREAMING: AtomicUsize = AtomicUsize::new(0);
/// The last time of change given to a file, in nanoseconds since 1970.
static STAMPED: AtomicI64 = AtomicI64::new(0);

/// The hidden name. Unlinked when dropped, unless it was published or must stay.
#[derive(Debug)]
pub(super) struct Temporary {
    tree: Arc<Tree>,
    /// The directory of a multipart upload; else the common one.
    multipart: Option<Arc<OwnedFd>>,
    pub name: String,
    stays: bool,
}

impl Temporary {
    pub fn new(tree: Arc<Tree>, multipart: Option<Arc<OwnedFd>>, name: String) -> Self {
        Self {
            tree,
            multipart,
            name,
            stays: false,
        }
    }

    pub fn staying(mut self) -> Self {
        self.stays = true;
        self
    }

    pub fn directory(&self) -> &OwnedFd {
        self.multipart.as_deref().unwrap_or(&self.tree.temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.stays
            && let Err(e) = rustix::fs::unlinkat(self.directory(), &self.name, AtFlags::empty())
            && e != Errno::NOENT
        {
            tracing::warn!(file = %self.name, cause = %e, "a hidden file could not be removed; it is removed at the next start");
        }
    }
}

/// An open hidden file and how far it is written.
#[derive(Debug)]
pub(super) struct Hidden {
    pub file: OwnedFd,
    pub temporary: Temporary,
    /// Where in the file this upload's bytes begin.
    pub base: u64,
    pub written: u64,
    /// Where the place in a shared file ends.
    pub room: Option<u64>,
    pub mark: Mark,
}

impl Hidden {
    /// Blocks.
    pub fn create(temporary: Temporary) -> Result<Self> {
        let mark = temporary.tree.syncs.mark();
        match rustix::fs::openat(temporary.directory(), &temporary.name, NEW_FILE, FILE_MODE) {
            Ok(file) => Ok(Self {
                file,
                temporary,
                base: 0,
                written: 0,
                room: None,
                mark,
            }),
            Err(e) => {
                let error = if e == Errno::NOENT {
                    Error::UploadGone
                } else {
                    failed("create", &temporary.name, e)
                };
                drop(temporary.staying());
                Err(error)
            }
        }
    }

    /// Blocks.
    fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        if self
            .room
            .is_some_and(|room| self.written + total as u64 > room)
        {
            return Err(Error::Failed(
                "the part is longer than was announced".into(),
            ));
        }
        for pieces in pieces.chunks(SLICES) {
            let mut slices: Vec<IoSlice<'_>> =
                pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let n = match rustix::io::pwritev(&self.file, rest, self.base + self.written) {
                    Ok(0) => return Err(Error::Full),
                    Ok(n) => n,
                    Err(Errno::INTR) => continue,
                    Err(e) => return Err(failed("write", &self.temporary.name, e)),
                };
                self.written += n as u64;
                IoSlice::advance_slices(&mut rest, n);
            }
        }
        Ok(())
    }

    /// Makes the bytes durable. Blocks. After an error the file is given up: a second sync could lie.
    fn sync(&self) -> Result<()> {
        self.temporary
            .tree
            .syncs
            .settle(self.mark, || rustix::fs::fsync(&self.file))
            .map_err(|e| failed("sync", &self.temporary.name, e))
    }

    /// Gives the file a time of change that no other has, for identity is size and time. Blocks.
    fn stamp(&self) -> Result<()> {
        let at = next_stamp();
        let time = Timespec {
            tv_sec: at.div_euclid(1_000_000_000),
            tv_nsec: at.rem_euclid(1_000_000_000),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(&self.file, &times)
            .map_err(|e| failed("stamp", &self.temporary.name, e))
    }

    /// Blocks.
    fn publish(mut self, key: &ObjectKey, mode: Publish) -> Result<Published> {
        self.stamp()?;
        self.sync()?;
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|e| failed("look at", &self.temporary.name, e))?;
        let tree = Arc::clone(&self.temporary.tree);
        tree.publish(&self.temporary, key, mode, self.mark)?;
        self.temporary.stays = true;
        Ok(Published {
            identity: tree::identity(&stat),
            md5: None,
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no decision hangs on it: it makes identities differ, and milliseconds are too coarse"
)]
fn next_stamp() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let now = i64::try_from(now).unwrap_or(i64::MAX / 2);
    let advance = |last: i64| Some(now.max(last + 1));
    let last = STAMPED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
    now.max(last.unwrap_or_else(|same| same) + 1)
}

/// Counts a streaming upload while it lives.
struct Streaming;

impl Streaming {
    fn begin() -> Self {
        STREAMING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        STREAMING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn chunk() -> usize {
    (COLLECTED / STREAMING.load(Ordering::Relaxed).max(1)).clamp(*CHUNKS.start(), *CHUNKS.end())
}

enum Stage {
    /// The file is made when the first bytes are written.
    Unmade(Temporary),
    Idle(Hidden),
    Writing(JoinHandle<Result<Hidden>>),
    Ended(Error),
}

/// What the upload is for.
pub(super) enum Purpose {
    Object,
    Part(Part),
    /// Parts put together; the directory of the multipart upload goes away with the publish.
    Assembled,
}

pub(super) struct FileUpload {
    tree: Arc<Tree>,
    id: UploadId,
    key: ObjectKey,
    purpose: Purpose,
    stage: Stage,
    held: Vec<Bytes>,
    held_bytes: usize,
    streaming: Option<Streaming>,
}

impl FileUpload {
    pub fn unmade(id: UploadId, key: ObjectKey, temporary: Temporary, purpose: Purpose) -> Self {
        let tree = Arc::clone(&temporary.tree);
        Self::new(tree, id, key, purpose, Stage::Unmade(temporary.staying()))
    }

    pub fn made(id: UploadId, key: ObjectKey, hidden: Hidden, purpose: Purpose) -> Self {
        let tree = Arc::clone(&hidden.temporary.tree);
        Self::new(tree, id, key, purpose, Stage::Idle(hidden))
    }

    fn new(tree: Arc<Tree>, id: UploadId, key: ObjectKey, purpose: Purpose, stage: Stage) -> Self {
        Self {
            tree,
            id,
            key,
            purpose,
            stage,
            held: Vec::new(),
            held_bytes: 0,
            streaming: None,
        }
    }

    /// The hidden file once earlier writes have ended, or the means to make it.
    async fn settled(&mut self) -> Result<Ready> {
        let gone = Stage::Ended(Error::Failed("the upload failed before".into()));
        match std::mem::replace(&mut self.stage, gone) {
            Stage::Unmade(temporary) => Ok(Ready::Unmade(temporary)),
            Stage::Idle(hidden) => Ok(Ready::Made(hidden)),
            Stage::Writing(job) => match job.await {
                Ok(outcome) => outcome.map(Ready::Made),
                Err(e) => Err(Error::Failed(
                    format!("the writing thread ended: {e}").into(),
                )),
            },
            Stage::Ended(e) => Err(e),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let ready = match self.settled().await {
            Ok(ready) => ready,
            Err(e) => {
                self.stage = Stage::Ended(e.clone());
                return Err(e);
            }
        };
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        self.streaming.get_or_insert_with(Streaming::begin);
        self.stage = Stage::Writing(tokio::task::spawn_blocking(move || {
            let mut hidden = ready.make()?;
            hidden.write(&held)?;
            Ok(hidden)
        }));
        Ok(())
    }
}

/// A hidden file, or the name for one. A name without a file leaves nothing to unlink.
enum Ready {
    Unmade(Temporary),
    Made(Hidden),
}

impl Ready {
    /// Blocks.
    fn make(self) -> Result<Hidden> {
        match self {
            Self::Unmade(mut temporary) => {
                temporary.stays = false;
                Hidden::create(temporary)
            }
            Self::Made(hidden) => Ok(hidden),
        }
    }
}

#[async_trait]
impl Upload for FileUpload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.held_bytes += bytes.len();
        self.held.push(bytes);
        let limit = if self.streaming.is_some() {
            chunk()
        } else {
            SMALL
        };
        if self.held_bytes > limit {
            self.flush().await?;
        }
        Ok(())
    }

    async fn publish(mut self: Box<Self>, mode: Publish) -> Result<Published> {
        let ready = self.settled().await?;
        let held = std::mem::take(&mut self.held);
        let (key, assembled) = (self.key.clone(), matches!(self.purpose, Purpose::Assembled));
        let (tree, id) = (Arc::clone(&self.tree), self.id.clone());
        let small = self.streaming.is_none() && !assembled;
        settle_in(&self.tree, small, move || {
            let mut hidden = ready.make()?;
            hidden.write(&held)?;
            let published = hidden.publish(&key, mode)?;
            if assembled {
                super::multipart::remove(&tree, &id.0).unwrap_or_else(|e| {
                    tracing::warn!(upload = %id.0, cause = %e, "parts left over; they are removed at the next start");
                });
            }
            Ok(published)
        })
        .await
    }

    async fn seal(mut self: Box<Self>) -> Result<StoredPart> {
        let ready = self.settled().await?;
        let held = std::mem::take(&mut self.held);
        let part = match std::mem::replace(&mut self.purpose, Purpose::Object) {
            Purpose::Part(part) => part,
            Purpose::Object | Purpose::Assembled => {
                return Err(Error::Failed(
                    "only a part of a multipart upload is sealed".into(),
                ));
            }
        };
        let small = self.streaming.is_none();
        settle_in(&self.tree, small, move || {
            let mut hidden = ready.make()?;
            hidden.write(&held)?;
            hidden.sync()?;
            part.seal(&hidden.temporary.tree, hidden.mark)?;
            hidden.temporary.stays = true;
            Ok(StoredPart {
                number: part.number,
                size: hidden.written,
                locator: part.locator(),
            })
        })
        .await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        let ready = self.settled().await;
        if let Ok(Ready::Made(hidden)) = ready {
            settle_in(&self.tree, false, move || {
                drop(hidden);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

impl Drop for FileUpload {
    /// Unlinking a large file takes a while: not on the caller's thread.
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended(Error::UploadGone));
        if let Stage::Idle(hidden) = stage
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(hidden));
        }
    }
}
