//! Restore points, pins, and the catalog as it was when a root was committed.
//!
//! A restore point is a committed root: its row is written by the transaction that commits the root. The catalog
//! "as of" a journal sequence S is what was visible then: objects written at or before S that are still visible,
//! and hidden ones that were written at or before S and hidden after it, as long as their tombstones are kept.
//! Invariants: a root that lacks a pinned snapshot is not committed; showing a hidden object again keeps its
//! tombstone, so that the catalog as of an earlier sequence stays true.

use std::sync::Arc;

use async_trait::async_trait;
use policies::format::closure::NewestSnapshot;
use policies::identity::{Cluster, Epoch};
use policies::key::ObjectKey;
use policies::lock::Permit;

use super::{
    AuditEntry, BucketId, Listing, Millis, Object, Put, Recorded, RepositoryId, Result, WriteError,
};

#[async_trait]
pub trait RestorePoints {
    /// The highest generations first, below `before`, at most `limit`.
    async fn restore_points(
        &self,
        repository: RepositoryId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<RestorePoint>>;
    async fn restore_point(
        &self,
        repository: RepositoryId,
        generation: u64,
    ) -> Result<Option<RestorePoint>>;
    /// The newest one that was committed at or before a journal sequence.
    async fn restore_point_at(
        &self,
        repository: RepositoryId,
        sequence: u64,
    ) -> Result<Option<RestorePoint>>;
    /// Writes down a root that was there before restore points were; one that is known is left as it is. Its
    /// sequence is the journal's newest: all that it needs was recorded before.
    async fn note_restore_point(
        &self,
        permit: &Permit,
        repository: RepositoryId,
        root: CommittedRoot,
        committed_ms: Millis,
    ) -> Result<()>;
    /// For restore points whose root is gone for good.
    async fn forget_restore_points(
        &self,
        permit: &Permit,
        repository: RepositoryId,
        generations: Vec<u64>,
    ) -> Result<()>;

    /// An object as it was visible at a journal sequence. None = there was none, or what was there is gone.
    async fn object_at(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        key: &ObjectKey,
        sequence: u64,
    ) -> Result<Option<PastObject>>;
    /// One page of a repository as it was. Objects come without their details.
    async fn list_at(&self, query: &PastQuery) -> Result<Listing>;
    /// Shows hidden objects again whose bytes lie at their own names, in one transaction; their tombstones stay.
    /// [`WriteError::Exists`] if a name is taken, [`WriteError::KeyBusy`] if an intent on it is open.
    async fn revive(
        &self,
        permit: &Permit,
        bucket: BucketId,
        tombstones: Vec<u64>,
    ) -> Result<Vec<Recorded>, WriteError>;

    /// In the order in which they were pinned.
    async fn pins(&self, repository: RepositoryId) -> Result<Vec<Pin>>;
    /// Pins a snapshot of the newest restore point. False = it was pinned before; nothing is changed then.
    /// [`WriteError::Pinned`] if the newest restore point does not hold it, [`WriteError::KeyBusy`] while a root
    /// is being committed.
    async fn pin(
        &self,
        repository: RepositoryId,
        pin: Pin,
        audit: AuditEntry,
    ) -> Result<bool, WriteError>;
    /// False = it was not pinned.
    async fn unpin(
        &self,
        repository: RepositoryId,
        uuid: &str,
        audit: AuditEntry,
    ) -> Result<bool, WriteError>;
}

/// What is written down of a root beside its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedRoot {
    pub generation: u64,
    /// Who committed it; unknown for adopted ones.
    pub cluster: Option<Cluster>,
    pub epoch: Epoch,
    pub snapshots: Arc<[SnapshotName]>,
    /// Which of them ended last. None = that is not known, or there is none.
    pub newest: Option<NewestSnapshot>,
    /// All that it needs was there at its commit, and is still held.
    pub complete: bool,
}

impl CommittedRoot {
    fn holds(&self, snapshot: &SnapshotName) -> bool {
        self.snapshots.iter().any(|s| s.uuid == snapshot.uuid)
    }

    /// May it be committed? It must hold every pinned snapshot.
    pub(super) fn keeps(&self, pins: Vec<Pin>) -> Result<(), WriteError> {
        match pins.into_iter().find(|pin| !self.holds(&pin.snapshot)) {
            Some(pin) => Err(WriteError::Pinned(pin.snapshot.name)),
            None => Ok(()),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotName {
    pub name: Arc<str>,
    pub uuid: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestorePoint {
    pub root: CommittedRoot,
    /// Journal sequence of the commit: the catalog as of it holds all that the root needs.
    pub sequence: u64,
    /// For people.
    pub committed_ms: Millis,
    /// Gateway uptime at the commit: retentions count from it.
    pub uptime_ms: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct PastObject {
    pub object: Object,
    /// Set if it is not visible any more under its row.
    pub hidden: Option<Hidden>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hidden {
    pub tombstone: u64,
    /// Where its bytes are now.
    pub location: ObjectKey,
}

impl PastObject {
    /// Where its bytes are now.
    #[must_use]
    pub fn location(&self) -> &ObjectKey {
        match &self.hidden {
            Some(hidden) => &hidden.location,
            None => &self.object.key,
        }
    }
}

/// One page of a repository as of a journal sequence.
#[derive(Clone, Debug)]
pub struct PastQuery {
    pub bucket: BucketId,
    pub repository: RepositoryId,
    pub sequence: u64,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Keys (or common prefixes) up to and including this one are passed over.
    pub after: Option<String>,
    pub limit: usize,
}

/// A snapshot that no commit may drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    pub snapshot: SnapshotName,
    pub pinned_ms: Millis,
    pub by: String,
    pub reason: Option<String>,
}

impl Pin {
    /// May it be pinned? The newest root must hold the snapshot.
    pub(super) fn fits(&self, newest: Option<&RestorePoint>) -> Result<(), WriteError> {
        if newest.is_some_and(|point| point.root.holds(&self.snapshot)) {
            return Ok(());
        }
        Err(WriteError::Pinned(Arc::clone(&self.snapshot.name)))
    }
}

impl Put {
    /// A hidden object that is visible again, as a change of its own in the journal.
    pub(super) fn shown_again(hidden: Object, bucket: BucketId) -> Self {
        Self {
            repository: hidden.repository,
            bucket,
            key: hidden.key,
            size: hidden.size,
            etag: hidden.etag,
            hash: hidden.hash,
            identity: hidden.identity,
            now_ms: hidden.modified_ms,
            details: hidden.details,
            replaces: None,
            kept: None,
            journalled: true,
            completes: None,
            root: None,
            answer: None,
        }
    }
}
