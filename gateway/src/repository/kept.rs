//! Digests of metadata, kept in memory until the next root and in the state database for good, so that neither a
//! commit nor a restart reads from the store what the gateway saw.
//!
//! Beside each stands the hash of the bytes that it was read from: of adopted objects the catalog has none, and intact
//! metadata in another's place is told by nothing else.
//!
//! Written beside the objects' own transactions, in batches, and never waited for: one that a crash or a full
//! disk loses is read from its object again, and kept then. What waits to be written is bounded.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use policies::format::closure::Observed;
use policies::format::digest::{self, Digest, kept};
use policies::format::shard::File;
use policies::key::{Class, ObjectKey};
use tokio::sync::Semaphore;

#[cfg(test)]
mod tests;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::{Door, Error};
use crate::state::digests::{KeptDigest, content_of};
use crate::state::{BucketId, Object, State};

/// Bytes in memory of digests that passed and no root named yet; what does not fit is asked of the state database.
const MOST_RECENT: usize = 64 << 20;
/// Bytes in one batch.
const BATCH: usize = 1 << 20;
/// Bytes of one digest: a larger one (300,000 files) is read from its object when it is asked for.
const LARGEST: usize = 8 << 20;
/// Bytes that may wait while a batch is written; beyond that they are not kept.
const WAITING: usize = 16 << 20;
/// Keys asked for at once.
const PAGE: usize = 1000;
/// The first byte of what is kept. Anything else is of an older program, and the object is read again.
const HASHED: u8 = 2;

/// Digests that passed since the last root, and what they take.
#[derive(Default)]
pub(super) struct Recent {
    digests: HashMap<ObjectKey, digest::Read>,
    bytes: usize,
}

impl Recent {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<digest::Read> {
        self.digests.get(key).cloned()
    }

    pub(super) fn add(&mut self, key: &ObjectKey, digest: digest::Read) {
        let bytes = weight(&digest);
        if self.bytes + bytes > MOST_RECENT {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.digests.insert(key.clone(), digest);
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        if let Some(digest) = self.digests.remove(key) {
            self.bytes -= weight(&digest);
        }
    }
}

/// Bytes that a digest takes in memory, about.
fn weight(digest: &digest::Read) -> usize {
    const ENTRY: usize = 256;
    let files = match digest.as_deref() {
        Ok(Digest::ShardSnapshot(body)) => body.files.len(),
        Ok(Digest::ShardIndex(body)) => body.files.len(),
        Ok(
            Digest::SnapshotInfo(_)
            | Digest::GlobalMetadata
            | Digest::IndexMetadata(_)
            | Digest::ShallowShardSnapshot,
        )
        | Err(_) => 0,
    };
    ENTRY + files * size_of::<File>()
}

/// Digests on their way to the state database.
#[derive(Debug)]
pub(super) struct Keeping {
    waiting: Mutex<(Vec<KeptDigest>, usize)>,
    /// One batch at a time.
    writing: Arc<Semaphore>,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            writing: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Keeping {
    /// True = a batch is full.
    fn push(&self, digest: KeptDigest) -> bool {
        let mut waiting = self.waiting.lock();
        let size = digest.body.len() + digest.key.as_str().len();
        if waiting.1 + size > WAITING {
            return true;
        }
        waiting.1 += size;
        waiting.0.push(digest);
        waiting.1 >= BATCH
    }

    async fn write(&self, state: &dyn State, bucket: BucketId) {
        loop {
            let (batch, _) = std::mem::take(&mut *self.waiting.lock());
            if batch.is_empty() {
                return;
            }
            if let Err(e) = state.keep_digests(bucket, batch).await {
                tracing::warn!(cause = %e, "digests of metadata could not be kept; the next start reads them from the store");
                return;
            }
        }
    }
}

impl Door {
    /// Keeps the digest of an object that was just made visible with this content.
    pub(super) fn keep_digest(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        content: Vec<u8>,
        hash: [u8; 32],
        digest: Option<&digest::Read>,
    ) {
        let Some(Ok(digest)) = digest else {
            return;
        };
        let body = hashed(hash, &kept::encode(digest));
        if body.len() > LARGEST {
            return;
        }
        let digest = KeptDigest {
            key: key.clone(),
            content,
            body,
        };
        if open.guarding.keeping.push(digest) {
            self.write_digests(open);
        }
    }

    /// Keeps how an adopted root was when it was read first: it has no digest, and no checksum of its own.
    pub(super) async fn keep_root_hash(
        &self,
        open: &OpenRepository,
        root: &Object,
        body: &[u8],
    ) -> Result<(), Error> {
        if root.hash.is_some() || self.hash_kept(open, &root.key).await?.is_some() {
            return Ok(());
        }
        let digest = KeptDigest {
            key: root.key.clone(),
            content: content_of(root),
            body: hashed(*blake3::hash(body).as_bytes(), &[]),
        };
        if open.guarding.keeping.push(digest) {
            self.write_digests(open);
        }
        Ok(())
    }

    /// The hash of an object as it was when its digest was made, if that is kept.
    pub(super) async fn hash_kept(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Option<[u8; 32]>, Error> {
        self.write_digests_now(open).await;
        let keys = std::slice::from_ref(key);
        let found = self.state.digests(open.bucket_id, keys).await;
        let found = found.map_err(|e| state_failed("read what it keeps of metadata", &e))?;
        let hash = |(_, body): &(ObjectKey, Vec<u8>)| split(body).map(|(hash, _)| hash);
        Ok(found.first().and_then(hash))
    }

    /// Writes what waits, unless a batch is being written: that one's end takes the rest with it.
    pub(super) fn write_digests(&self, open: &OpenRepository) {
        let keeping = Arc::clone(&open.guarding.keeping);
        let Ok(turn) = Arc::clone(&keeping.writing).try_acquire_owned() else {
            return;
        };
        let (state, bucket) = (Arc::clone(&self.state), open.bucket_id);
        tokio::spawn(async move {
            let _turn = turn;
            keeping.write(state.as_ref(), bucket).await;
        });
    }

    /// As [`Self::write_digests`], and waits: what is read from a store by thousands must not pile up.
    pub(super) async fn write_digests_now(&self, open: &OpenRepository) {
        let keeping = &open.guarding.keeping;
        let _turn = keeping.writing.acquire().await;
        keeping.write(self.state.as_ref(), open.bucket_id).await;
    }

    /// Adds what is kept of `wanted` to the facts; the rest must be read.
    pub(super) async fn kept_digests(
        &self,
        open: &OpenRepository,
        wanted: Vec<(ObjectKey, Class)>,
        facts: &mut Observed,
    ) -> Result<Vec<(ObjectKey, Class)>, Error> {
        if !wanted.is_empty() {
            self.write_digests_now(open).await;
        }
        for page in wanted.chunks(PAGE) {
            let keys: Vec<ObjectKey> = page.iter().map(|(key, _)| key.clone()).collect();
            let found = self
                .state
                .digests(open.bucket_id, &keys)
                .await
                .map_err(|e| state_failed("read what it keeps of metadata", &e))?;
            for (key, body) in found {
                let digest = split(&body).and_then(|(_, digest)| kept::decode(digest));
                if let Some(digest) = digest {
                    facts.digests.insert(key, Ok(Arc::new(digest)));
                }
            }
        }
        let read = |(key, _): &(ObjectKey, Class)| !facts.digests.contains_key(key);
        Ok(wanted.into_iter().filter(read).collect())
    }
}

fn hashed(hash: [u8; 32], digest: &[u8]) -> Vec<u8> {
    [&[HASHED], &hash[..], digest].concat()
}

/// The hash, and the digest as `policies` encodes it (none of a root).
fn split(body: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (hash, digest) = body.strip_prefix(&[HASHED])?.split_first_chunk()?;
    Some((*hash, digest))
}
