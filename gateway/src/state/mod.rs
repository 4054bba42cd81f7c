//! The state database: locks, catalog, journal, uploads, intents, tombstones, audit.
//!
//! Invariants every implementation keeps, proved by one conformance suite (`conformance`):
//! each method that changes something is one transaction, durable when it returns; every change that
//! takes a [`Permit`] checks the lock row inside that transaction; the journal of a repository has no
//! gaps; an intent ends exactly once; an unknown outcome is looked up, never guessed.
//! The catalog decides what is visible: listings are range scans of it and never touch a store.
//!
//! Here is the trait. What it speaks of lies beside it (`object`, `change`, `repositories`, `tombstone`, `upload`, `audit`), why it
//! says no in `error`.

use std::fmt;

use async_trait::async_trait;
use policies::key::ObjectKey;
use policies::lock::Permit;
use policies::lock::history::{Totals, Violation};

use crate::stores::{Identity, UploadId};

mod audit;
mod chain;
mod change;
pub mod digests;
mod duties;
mod error;
mod facts;
mod leave;
mod lineage;
pub mod mirrors;
mod nodes;
mod object;
mod paging;
pub mod part_contents;
pub mod positions;
pub mod postgres;
mod repositories;
mod restore_points;
pub mod sqlite;
mod stored;
mod takeover;
mod tombstone;
mod upload;
mod walk;
pub mod warnings;

pub use audit::{AuditEntry, AuditRecord};
pub use change::{Answer, AnswerKey, Intent, IntentId, Kept, NewIntent, Put, Recorded, Removal};
pub use duties::Duty;
pub use error::{Error, Result, WriteError};
pub use lineage::{Claim, Lineage, Sequences};
pub use nodes::Nodes;
pub use object::{
    Change, Checksum, Details, Entry, JournalEntry, ListQuery, Listing, Lookup, Object, PartDetail,
    Usage,
};
pub use repositories::{
    BucketId, LockRow, NewLock, RepositoryId, RepositoryIdentity, RepositoryRow,
};
pub use restore_points::{
    CommittedRoot, Hidden, PastObject, PastQuery, Pin, RestorePoint, RestorePoints, SnapshotName,
};
pub use takeover::{Basis, Finish, Imported, ImportedObject, Promotion, PromotionStep, Takeover};
pub use tombstone::{Due, Tombstone};
pub use upload::{MultipartUpload, NewUpload, PartRow, UploadListing, UploadQuery};
pub use walk::Walk;

#[cfg(test)]
mod conformance;

/// Milliseconds since 1970. For people and protocols, never for safety decisions.
pub type Millis = i64;

/// Recorded answers are kept for a day of gateway uptime.
const ANSWERS_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Sequences of what is not journalled begin here: rows can be told apart, the journal has no gaps.
pub const UNJOURNALLED: u64 = 1 << 62;

#[async_trait]
pub trait State:
    digests::Digests
    + Lineage
    + mirrors::Mirrors
    + Nodes
    + part_contents::PartContents
    + positions::Positions
    + RestorePoints
    + Takeover
    + warnings::Warnings
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Finds or makes the rows of a configured repository. Moving a repository to another bucket, base
    /// path or store under the same name is refused ([`Error::Mismatch`]). One that was promoted is where the
    /// promotion put it, whatever store the configuration names.
    async fn open_repository(&self, identity: &RepositoryIdentity) -> Result<RepositoryRow>;

    // --- lock and audit

    async fn lock(&self, repository: RepositoryId) -> Result<LockRow>;
    /// Replaces the lock row if its version still is `from`, and appends the audit record, with the lock before and
    /// after, in one transaction.
    /// An epoch never goes back; `Fenced` while an intent of the repository is open is [`WriteError::KeyBusy`],
    /// except for a recovery.
    async fn move_lock(
        &self,
        repository: RepositoryId,
        from: u64,
        to: NewLock,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError>;
    /// Appends a record to the hash-chained audit table.
    async fn append_audit(&self, audit: AuditEntry) -> Result<()>;
    /// The newest records first, older than `before`, at most `limit`.
    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRecord>>;

    /// The first record of the audit table that is not as it was appended; None = the chain is whole.
    async fn verify_audit(&self) -> Result<Option<u64>>;
    /// Replays the history of all writers from the audit table: every move of a lock and every committed root, up to
    /// the lock rows that are there.
    async fn replay_audit(&self) -> Result<Result<Totals, Violation>>;

    // --- catalog, read

    /// A visible object; `busy` tells whether an intent on the key is open.
    async fn object(&self, bucket: BucketId, key: &ObjectKey) -> Result<Lookup>;
    /// Bytes of visible objects, in the order of the keys. A root asks for thousands at once.
    async fn sizes(&self, bucket: BucketId, keys: &[ObjectKey]) -> Result<Vec<Option<u64>>> {
        let mut sizes = Vec::with_capacity(keys.len());
        for key in keys {
            sizes.push(self.object(bucket, key).await?.object.map(|o| o.size));
        }
        Ok(sizes)
    }
    /// Objects in a listing come without their details.
    async fn list(&self, query: &ListQuery) -> Result<Listing>;
    async fn usage(&self, repository: RepositoryId) -> Result<Usage>;
    /// Journal entries after `after` in order, at most `limit`.
    async fn journal(
        &self,
        repository: RepositoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>>;

    // --- catalog, write

    /// Records an object that nobody can have removed since it was published: the catalog is being read from the
    /// store. [`WriteError::Exists`] if the key is taken and `put.replaces` does not name the row that is there;
    /// [`WriteError::KeyBusy`] if an intent on it is open.
    async fn record(&self, permit: &Permit, put: Put) -> Result<Recorded, WriteError> {
        self.record_published(permit, put, u64::MAX).await
    }
    /// As [`Self::record`], for an object that a client's write published after the journal had come to `since`.
    /// [`WriteError::KeyBusy`] also if the key was removed after that, or if the journal does not reach back so
    /// far: what was published may have been recorded by another writer, deleted and reaped since.
    async fn record_published(
        &self,
        permit: &Permit,
        put: Put,
        since: u64,
    ) -> Result<Recorded, WriteError>;
    /// Announces a write whose bytes may take effect before its commit. One open intent per key; until it ends
    /// nothing else changes the key. [`WriteError::Exists`] if `put.replaces` does not name what is there.
    async fn open_intent(&self, permit: &Permit, intent: NewIntent)
    -> Result<IntentId, WriteError>;
    /// Ends the intent and records its `put`, with the store's identity of what was published, in one
    /// transaction. [`WriteError::IntentGone`] if it ended before.
    async fn commit_intent(
        &self,
        intent: IntentId,
        identity: Identity,
    ) -> Result<Recorded, WriteError>;
    /// Ends the intent without effect. Idempotent.
    async fn abort_intent(&self, intent: IntentId) -> Result<()>;
    async fn intents(&self, repository: RepositoryId) -> Result<Vec<Intent>>;
    /// Hides objects, in one transaction for the whole batch; the answers are in the order of the keys.
    async fn remove(
        &self,
        permit: &Permit,
        removals: Vec<Removal>,
    ) -> Result<Vec<Option<Object>>, WriteError>;
    /// Hides one object if its row is still the one with this sequence; [`WriteError::Exists`] says what is there
    /// instead. `judged` as in [`Nodes::remove_judged`]; None = nobody else writes.
    async fn remove_unchanged(
        &self,
        permit: &Permit,
        removal: Removal,
        sequence: u64,
        judged: Option<u64>,
    ) -> Result<Object, WriteError>;

    // --- tombstones

    /// Hidden objects whose retention has passed at `uptime_ms` and whose removal every mirror has passed,
    /// oldest first; those after `after`, which is where an earlier answer ended.
    async fn reapable(
        &self,
        repository: RepositoryId,
        uptime_ms: u64,
        after: Option<Due>,
        limit: usize,
    ) -> Result<Vec<Tombstone>>;
    /// All hidden objects, by id, those above `after`; at most `limit`.
    async fn tombstones(
        &self,
        repository: RepositoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Tombstone>>;
    async fn tombstone(&self, repository: RepositoryId, key: &ObjectKey) -> Result<Vec<Tombstone>>;
    /// The bytes of a hidden object now lie under another name.
    async fn move_tombstone(&self, permit: &Permit, id: u64, location: &ObjectKey) -> Result<()>;
    /// Forgets tombstones whose bytes are gone. Restore points that were committed at or after the journal sequence
    /// `spares` did not need them; the others are not complete any more if they were visible at their commit.
    async fn reaped(&self, permit: &Permit, ids: Vec<u64>, spares: u64) -> Result<()>;
    /// The gateway's own uptime, kept across restarts; `add_ms` is what passed since the last call.
    async fn uptime(&self, add_ms: u64) -> Result<u64>;

    // --- clients' multipart uploads

    async fn create_upload(&self, permit: &Permit, upload: NewUpload) -> Result<(), WriteError>;
    async fn upload(&self, bucket: BucketId, upload: &str) -> Result<Option<MultipartUpload>>;
    async fn uploads(&self, query: &UploadQuery) -> Result<UploadListing>;
    /// Uploads that were begun before the gateway had run for so long, oldest first.
    async fn uploads_begun_before(
        &self,
        repository: RepositoryId,
        uptime_ms: u64,
        limit: usize,
    ) -> Result<Vec<MultipartUpload>>;
    /// Records a part, replacing an earlier one of the same number; returns the replaced one.
    async fn put_part(
        &self,
        permit: &Permit,
        upload: &str,
        part: PartRow,
    ) -> Result<Option<PartRow>, WriteError>;
    /// Parts with numbers above `after`, in order.
    async fn parts(&self, upload: &str, after: u16, limit: usize) -> Result<Vec<PartRow>>;
    /// Forgets an upload and its parts. False if it was not there.
    async fn drop_upload(&self, permit: &Permit, upload: &str) -> Result<bool, WriteError>;
    /// Remembers how an upload was completed, so that a repeated Complete gets the same answer.
    async fn completed_upload(&self, bucket: BucketId, upload: &str) -> Result<Option<Object>>;

    /// The stores' own ids of a repository's multipart uploads and open intents.
    async fn store_uploads(&self, repository: RepositoryId) -> Result<Vec<UploadId>>;

    // --- recorded answers

    async fn answer(&self, key: &AnswerKey) -> Result<Option<Answer>>;
}
