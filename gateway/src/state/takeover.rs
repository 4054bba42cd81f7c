//! Moving a repository to another store: the promotion that is under way, and the catalog as the new store has it.
//!
//! A promotion is one row from its first transaction to its last; while it is there the repository is frozen, so
//! that a crash at any step leaves a row that says how far it came. Invariants: only the promotion that is under way
//! changes the catalog here, in batches that may be repeated; none of them is journalled; the repository's store,
//! its lock and the end of the promotion are one transaction.

use std::sync::Arc;

use async_trait::async_trait;
use policies::identity::{Cluster, Epoch, Handover, StoreName};
use policies::key::ObjectKey;
use policies::lock::Lock;

use super::{
    AuditEntry, BucketId, Details, LockRow, Millis, NewLock, Object, Pin, RepositoryId,
    RestorePoint, Result, WriteError,
};
use crate::stores::Identity;

#[async_trait]
pub trait Takeover {
    /// The promotion that is under way.
    async fn promotion(&self, repository: RepositoryId) -> Result<Option<Promotion>>;
    /// Freezes the repository for a promotion and notes it, if its lock's version still is `from`.
    async fn begin_promotion(
        &self,
        repository: RepositoryId,
        from: u64,
        to: NewLock,
        promotion: Promotion,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError>;
    /// Notes how far the promotion of the same hand-over came.
    async fn note_promotion(&self, repository: RepositoryId, promotion: Promotion) -> Result<()>;
    /// Forgets at most `limit` rows of what was known before: objects, tombstones, journal, restore points, pins,
    /// uploads and intents. True = nothing is left.
    async fn forget_catalog(
        &self,
        repository: RepositoryId,
        handover: &Handover,
        limit: usize,
    ) -> Result<bool>;
    /// Makes one bounded batch of the catalog what the new store has, in one transaction. May be repeated.
    async fn import(
        &self,
        repository: RepositoryId,
        handover: &Handover,
        rows: Vec<Imported>,
    ) -> Result<()>;
    /// Moves the repository to its new store and hands out its lock; the promotion is over.
    async fn finish_promotion(
        &self,
        repository: RepositoryId,
        to: NewLock,
        finish: Finish,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError>;
    /// Takes a promotion back that has not changed the catalog yet: the lock is what it was before.
    async fn abandon_promotion(
        &self,
        repository: RepositoryId,
        handover: &Handover,
        now_ms: Millis,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError>;
    /// Objects of a repository with all their details, in the order of their keys.
    async fn objects_after(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Object>>;
    /// Visible objects that were written after a sequence of the journal, and their bytes.
    async fn newer_than(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        sequence: u64,
    ) -> Result<(u64, u64)>;
}

/// A repository on its way to another store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promotion {
    /// Told apart from every other one by this, in the state database and in the target's anchor.
    pub handover: Handover,
    pub from: StoreName,
    pub to: StoreName,
    pub writer: Cluster,
    /// The epoch that is minted on the target.
    pub epoch: Epoch,
    /// The lock before, for taking the promotion back.
    pub before: Lock,
    pub basis: Basis,
    pub step: PromotionStep,
    pub reason: Option<String>,
}

/// Where the catalog of the new store comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// This database's catalog as of a journal sequence that the target has.
    Catalog { sequence: u64 },
    /// The target's checkpoint, up to this sequence.
    Checkpoint { sequence: u64 },
    /// The target's listing alone: its checkpoint is missing or damaged.
    Listing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionStep {
    /// Nothing was changed on the target: it may be taken back.
    Planned,
    /// The target's anchor is there: it is carried through.
    Anchored,
}

/// What a batch of an import says of one key, or of the repository.
#[derive(Clone, PartialEq, Debug)]
pub enum Imported {
    Object(ImportedObject),
    Gone(ObjectKey),
    Point(RestorePoint),
    /// All of them.
    Pins(Vec<Pin>),
}

#[derive(Clone, PartialEq, Debug)]
pub struct ImportedObject {
    pub key: ObjectKey,
    pub size: u64,
    pub etag: Arc<str>,
    pub hash: Option<[u8; 32]>,
    /// Empty as long as it is not known.
    pub identity: Identity,
    pub modified_ms: Millis,
    pub sequence: u64,
    pub details: Option<Arc<Details>>,
}

impl ImportedObject {
    /// The row says the same but for what its store calls the content.
    pub(super) fn describes(&self, row: &Object) -> bool {
        self.size == row.size
            && self.etag == row.etag
            && self.hash == row.hash
            && self.modified_ms == row.modified_ms
            && self.sequence == row.sequence
            && self.details == row.details
    }
}

/// What the last transaction of a promotion settles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finish {
    pub handover: Handover,
    /// The journal and the restore points after this sequence are of the old store alone, and are forgotten.
    pub kept: u64,
    /// The newest root that the new store has: restore points above it are forgotten too, for a checkpoint is written
    /// before the root that it describes. None = it has none, and none is forgotten.
    pub root: Option<u64>,
    /// The journal goes on above this sequence; never below the highest that is known.
    pub sequence: u64,
}
