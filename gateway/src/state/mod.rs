//! The state database: locks, catalog, journal, uploads, intents, tombstones, audit.
//!
//! Invariants every implementation keeps, proved by one conformance suite (`conformance`):
//! each method that changes something is one transaction, durable when it returns; every change that
//! takes a [`Permit`] checks the lock row inside that transaction; the journal of a repository has no
//! gaps; an intent ends exactly once; an unknown outcome is looked up, never guessed.
//! The catalog decides what is visible: listings are range scans of it and never touch a store.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use policies::identity::{Bucket, Cluster, Epoch, Repository, StoreName};
use policies::key::ObjectKey;
use policies::lock::history::{Totals, Violation};
use policies::lock::{Lock, Permit};

use crate::stores::{Identity, StoredPart, UploadId};

mod chain;
pub mod digests;
mod duties;
mod facts;
mod leave;
mod lineage;
pub mod mirrors;
mod nodes;
mod paging;
pub mod part_contents;
pub mod positions;
pub mod postgres;
mod restore_points;
pub mod sqlite;
mod stored;
mod takeover;
pub mod warnings;

pub use duties::Duty;
pub use lineage::{Claim, Lineage, Sequences};
pub use nodes::Nodes;
pub use restore_points::{
    CommittedRoot, Hidden, PastObject, PastQuery, Pin, RestorePoint, RestorePoints, SnapshotName,
};
pub use takeover::{Basis, Finish, Imported, ImportedObject, Promotion, PromotionStep, Takeover};

#[cfg(test)]
mod conformance;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Milliseconds since 1970. For people and protocols, never for safety decisions.
pub type Millis = i64;

/// Recorded answers are kept for a day of gateway uptime.
const ANSWERS_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Sequences of what is not journalled begin here: rows can be told apart, the journal has no gaps.
const UNJOURNALLED: u64 = 1 << 62;

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

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RepositoryId(pub i64);
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BucketId(pub i64);
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IntentId(pub i64);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepositoryIdentity {
    pub name: Repository,
    pub bucket: Bucket,
    pub base_path: String,
    pub store: StoreName,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepositoryRow {
    pub id: RepositoryId,
    pub bucket: BucketId,
    pub lock: LockRow,
    /// Made by this call: nothing was known of it before.
    pub new: bool,
    /// Where it is.
    pub store: StoreName,
    /// Where it was before its last promotion.
    pub promoted_from: Option<StoreName>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRow {
    /// 1 = as it was made; every move adds one.
    pub version: u64,
    pub lock: Lock,
    /// The store that whoever holds it writes: a promotion moves both at once.
    pub store: StoreName,
    pub since_ms: Millis,
    pub reason: Option<String>,
}

impl LockRow {
    /// When the lock came into its state, RFC 3339; None = it never moved.
    #[must_use]
    pub fn since(&self) -> Option<String> {
        (self.version > 1).then(|| crate::telemetry::clock::rfc3339(self.since_ms))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewLock {
    pub lock: Lock,
    pub now_ms: Millis,
    pub reason: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    pub at_ms: Millis,
    /// Who: an operator's name or a cluster.
    pub principal: String,
    /// What: `lock`, `unlock`, `freeze`, …
    pub action: String,
    pub repository: Option<Repository>,
    pub epoch: Option<Epoch>,
    /// Why, and what followed, as JSON.
    pub detail: serde_json::Value,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRecord {
    pub sequence: u64,
    pub entry: AuditEntry,
    /// SHA-256 over the previous record's hash and this record, hex.
    pub hash: String,
    pub previous: String,
}

/// A visible object of the catalog.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    pub key: ObjectKey,
    pub repository: RepositoryId,
    /// Bytes.
    pub size: u64,
    /// As told to clients, without quotes.
    pub etag: Arc<str>,
    /// BLAKE3 of the content; unknown for adopted objects.
    pub hash: Option<[u8; 32]>,
    /// The store's identity of the content.
    pub identity: Identity,
    pub modified_ms: Millis,
    /// Journal sequence of the write. What is not journalled has a number too, from 2^62 on: a row can be
    /// told from the one before it, and the journal has no gaps.
    pub sequence: u64,
    pub details: Option<Arc<Details>>,
}

/// What only some objects carry.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// Content headers and `x-amz-meta-*` as the client sent them, lower-case names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    /// Of an object made by a multipart upload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartDetail>,
}

#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Checksum {
    /// `crc32`, `crc32c`, `crc64nvme`, `sha1`, `sha256`.
    pub algorithm: String,
    /// Base64, with `-N` for a composite one.
    pub value: String,
}

#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct PartDetail {
    pub number: u16,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Lookup {
    pub object: Option<Object>,
    pub busy: bool,
}

/// One page of a bucket.
#[derive(Clone, Debug)]
pub struct ListQuery {
    pub bucket: BucketId,
    /// Only these repositories' objects are seen; empty = nothing.
    pub repositories: Arc<[RepositoryId]>,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Keys (or common prefixes) up to and including this one are passed over.
    pub after: Option<String>,
    pub limit: usize,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// There is more after the last entry.
    pub truncated: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    Object(Object),
    Prefix(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub objects: u64,
    pub bytes: u64,
    /// Highest journal sequence.
    pub sequence: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct JournalEntry {
    pub sequence: u64,
    pub key: ObjectKey,
    pub change: Change,
    pub at_ms: Millis,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    Put {
        size: u64,
        etag: Arc<str>,
        hash: Option<[u8; 32]>,
    },
    Delete,
}

/// A published object to be recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct Put {
    pub repository: RepositoryId,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub size: u64,
    pub etag: Arc<str>,
    pub hash: Option<[u8; 32]>,
    pub identity: Identity,
    pub now_ms: Millis,
    pub details: Option<Arc<Details>>,
    /// The row that the caller saw and replaces: its sequence. None = the key must be free.
    pub replaces: Option<u64>,
    /// Keep the replaced content under this name for `retain_ms` of uptime (a tombstone is written).
    pub kept: Option<Kept>,
    /// Of registration and analysis: neither journal nor retention.
    pub journalled: bool,
    /// The client's upload that this completes; it is forgotten in the same transaction.
    pub completes: Option<String>,
    /// Of a root: the restore point that its commit makes.
    pub root: Option<CommittedRoot>,
    /// How to recognise a replay of this request.
    pub answer: Option<AnswerKey>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub name: ObjectKey,
    pub retain_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    pub sequence: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct NewIntent {
    /// The hidden upload that a resolver aborts.
    pub upload: UploadId,
    /// Of a root that names a cluster: the commit binds it to the epoch of the permit.
    pub binds: Option<Arc<str>>,
    /// What the commit will record (its `identity` is not known yet): everything a resolver on another
    /// node needs to finish it. Stored whole with the intent.
    pub put: Put,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Intent {
    pub id: IntentId,
    pub upload: UploadId,
    pub put: Put,
    pub epoch: Epoch,
    pub cluster: Cluster,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Removal {
    pub bucket: BucketId,
    pub repository: RepositoryId,
    pub key: ObjectKey,
    /// Keep the bytes this long (gateway uptime); None = no tombstone, the caller deletes them.
    pub retain_ms: Option<u64>,
    pub journalled: bool,
    pub now_ms: Millis,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Tombstone {
    pub id: u64,
    pub object: Object,
    /// Where the bytes are now: the object's own name, or one below the reserved prefix.
    pub location: ObjectKey,
    /// Journal sequence of the removal.
    pub removed: u64,
    /// Gateway uptime at which the retention ends.
    pub due_ms: u64,
}

impl Tombstone {
    #[must_use]
    pub fn due(&self) -> Due {
        Due {
            due_ms: self.due_ms,
            id: self.id,
        }
    }
}

/// A tombstone's place among those that are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    pub due_ms: u64,
    pub id: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct NewUpload {
    pub id: String,
    pub repository: RepositoryId,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub store_upload: UploadId,
    pub details: Option<Arc<Details>>,
    /// Checksum algorithm the client chose at Create, and whether it covers the full object.
    pub checksum: Option<(String, bool)>,
    pub now_ms: Millis,
}

#[derive(Clone, PartialEq, Debug)]
pub struct MultipartUpload {
    pub id: String,
    pub repository: RepositoryId,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub store_upload: UploadId,
    pub epoch: Option<Epoch>,
    pub cluster: Cluster,
    pub details: Option<Arc<Details>>,
    pub checksum: Option<(String, bool)>,
    pub initiated_ms: Millis,
}

#[derive(Clone, Debug)]
pub struct UploadQuery {
    pub bucket: BucketId,
    pub repositories: Arc<[RepositoryId]>,
    pub prefix: String,
    /// Uploads after this key, and for the same key after this upload id; without an id (empty) none of that key.
    pub after: Option<(String, String)>,
    pub limit: usize,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct UploadListing {
    pub uploads: Vec<MultipartUpload>,
    pub truncated: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct PartRow {
    pub stored: StoredPart,
    /// Hex MD5.
    pub etag: Arc<str>,
    pub checksums: Vec<Checksum>,
    pub hash: Option<[u8; 32]>,
    pub modified_ms: Millis,
}

/// What makes two requests the same: a client's retry carries the same invocation id and body.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AnswerKey {
    pub cluster: Cluster,
    pub operation: Cow<'static, str>,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub invocation: String,
    pub hash: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub etag: Arc<str>,
    pub sequence: u64,
}

/// We failed. Never to be read as "absent" or "refused".
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the state database failed: {0}")]
    Failed(Arc<str>),
    #[error("the state database is full")]
    Full,
    #[error("the journal's reserved numbers are used up")]
    NumbersUsedUp,
    #[error("the state database is shutting down")]
    Closed,
    #[error("{0}")]
    Mismatch(String),
}

/// The transaction found that the world is not as the caller thought. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    #[error("the writer lock has moved")]
    LockMoved(Box<LockRow>),
    #[error("the key is taken by another object")]
    Exists(Option<Box<Object>>),
    #[error("another write to this key is under way")]
    KeyBusy,
    #[error("the intent has ended")]
    IntentGone,
    #[error("the upload is unknown")]
    UploadGone,
    /// A root without a pinned snapshot; or a pin of a snapshot that the newest root does not hold.
    #[error("the newest root and the pin of snapshot '{0}' contradict each other")]
    Pinned(Arc<str>),
    #[error(transparent)]
    Failed(#[from] Error),
}
