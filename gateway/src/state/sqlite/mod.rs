//! The state database in one SQLite file, of one gateway process.
//!
//! Changes go through the one writer ([`writer`]), reads through a few connections that cannot write and see
//! every answered change. A read takes microseconds and is done where it is asked for; only a queue's answer
//! is waited for.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use policies::identity::{Epoch, StoreName};
use policies::key::ObjectKey;
use policies::lock::Permit;
use policies::lock::history::{Totals, Violation};
use rusqlite::Connection;

mod answers;
mod audit;
mod catalog;
mod digests;
mod intents;
mod lineage;
mod listing;
mod lock;
mod memory;
mod mirrors;
mod nodes;
mod open;
mod part_contents;
mod positions;
mod restore_points;
mod rows;
mod schema;
mod takeover;
mod tombstones;
mod uploads;
mod warnings;
mod writer;

#[cfg(test)]
pub mod simulated;
#[cfg(test)]
mod tests;

pub use open::OpenError;

use super::duties::InProcess;
use super::leave::Leave;
use super::mirrors::{Backlog, MirrorChange, MirrorRow, Mirrors, NewMirror};
use super::{
    Answer, AnswerKey, AuditEntry, AuditRecord, BucketId, Due, Error, Intent, IntentId,
    JournalEntry, ListQuery, Listing, LockRow, Lookup, Millis, MultipartUpload, NewIntent, NewLock,
    NewUpload, Object, PartRow, Put, Recorded, Removal, RepositoryId, RepositoryIdentity,
    RepositoryRow, Result, State, Tombstone, UploadListing, UploadQuery, Usage, WriteError,
};
use crate::stores::{Identity, UploadId};
use writer::Writer;

/// Connections for reading: more than there are threads that read at the same instant.
const READERS: usize = 8;

/// An open state database. Dropping it finishes what is queued and closes it in order.
pub struct Database {
    readers: Box<[Mutex<Connection>]>,
    /// Whose turn it is to be waited for when all are busy.
    turn: AtomicUsize,
    writer: Writer,
    duties: InProcess,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database, or makes it; checks it if it was not closed in order.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let writer = Writer::start(path)?;
        let readers = (0..READERS)
            .map(|_| open::reader(path).map(Mutex::new))
            .collect::<Result<_, _>>()?;
        Ok(Self::over(readers, writer))
    }

    fn over(readers: Box<[Mutex<Connection>]>, writer: Writer) -> Self {
        Self {
            readers,
            turn: AtomicUsize::new(0),
            writer,
            duties: InProcess::default(),
        }
    }

    /// The first connection that is free: the one used last, whose cache is warm.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        let free = self.readers.iter().find_map(Mutex::try_lock);
        work(&free.unwrap_or_else(|| self.readers[turn].lock()))
    }
}

#[async_trait]
impl State for Database {
    async fn open_repository(&self, identity: &RepositoryIdentity) -> Result<RepositoryRow> {
        let identity = identity.clone();
        self.writer
            .write(move |tx| lock::open_repository(tx, identity))
            .await
            .map_err(unrefusable)
    }

    async fn lock(&self, repository: RepositoryId) -> Result<LockRow> {
        self.read(|db| lock::read(db, repository))
    }

    async fn move_lock(
        &self,
        repository: RepositoryId,
        from: u64,
        to: NewLock,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError> {
        self.writer
            .write(move |tx| lock::move_lock(tx, repository, from, to, &audit))
            .await
    }

    async fn append_audit(&self, audit: AuditEntry) -> Result<()> {
        self.writer
            .write(move |tx| audit::append(tx, &audit))
            .await
            .map_err(unrefusable)
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRecord>> {
        self.read(|db| audit::newest(db, before, limit))
    }

    async fn verify_audit(&self) -> Result<Option<u64>> {
        self.read(audit::verify)
    }

    async fn replay_audit(&self) -> Result<Result<Totals, Violation>> {
        self.read(audit::replay)
    }

    async fn object(&self, bucket: BucketId, key: &ObjectKey) -> Result<Lookup> {
        self.read(|db| catalog::lookup(db, bucket, key))
    }

    async fn sizes(&self, bucket: BucketId, keys: &[ObjectKey]) -> Result<Vec<Option<u64>>> {
        self.read(|db| catalog::sizes(db, bucket, keys))
    }

    async fn list(&self, query: &ListQuery) -> Result<Listing> {
        self.read(|db| listing::list(db, query))
    }

    async fn usage(&self, repository: RepositoryId) -> Result<Usage> {
        self.read(|db| catalog::usage(db, repository))
    }

    async fn journal(
        &self,
        repository: RepositoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        self.read(|db| catalog::journal(db, repository, after, limit))
    }

    async fn record_published(
        &self,
        permit: &Permit,
        put: Put,
        since: u64,
    ) -> Result<Recorded, WriteError> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| catalog::record(tx, &leave, &put, since))
            .await
    }

    async fn open_intent(
        &self,
        permit: &Permit,
        intent: NewIntent,
    ) -> Result<IntentId, WriteError> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| intents::open(tx, &leave, &intent))
            .await
    }

    async fn commit_intent(
        &self,
        intent: IntentId,
        identity: Identity,
    ) -> Result<Recorded, WriteError> {
        self.writer
            .write(move |tx| intents::commit(tx, intent, identity))
            .await
    }

    async fn abort_intent(&self, intent: IntentId) -> Result<()> {
        self.writer
            .write(move |tx| intents::abort(tx, intent))
            .await
            .map_err(unrefusable)
    }

    async fn intents(&self, repository: RepositoryId) -> Result<Vec<Intent>> {
        self.read(|db| intents::all(db, repository))
    }

    async fn remove(
        &self,
        permit: &Permit,
        removals: Vec<Removal>,
    ) -> Result<Vec<Option<Object>>, WriteError> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| catalog::remove(tx, &leave, &removals))
            .await
    }

    async fn remove_unchanged(
        &self,
        permit: &Permit,
        removal: Removal,
        sequence: u64,
        _judged: Option<u64>,
    ) -> Result<Object, WriteError> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| catalog::remove_unchanged(tx, &leave, &removal, sequence))
            .await
    }

    async fn reapable(
        &self,
        repository: RepositoryId,
        uptime_ms: u64,
        after: Option<Due>,
        limit: usize,
    ) -> Result<Vec<Tombstone>> {
        self.read(|db| tombstones::reapable(db, repository, uptime_ms, after, limit))
    }

    async fn tombstones(
        &self,
        repository: RepositoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Tombstone>> {
        self.read(|db| tombstones::after(db, repository, after, limit))
    }

    async fn tombstone(&self, repository: RepositoryId, key: &ObjectKey) -> Result<Vec<Tombstone>> {
        self.read(|db| tombstones::of_key(db, repository, key))
    }

    async fn move_tombstone(&self, permit: &Permit, id: u64, location: &ObjectKey) -> Result<()> {
        let (leave, location) = (Leave::from(permit), location.clone());
        self.writer
            .write(move |tx| tombstones::relocate(tx, &leave, id, &location))
            .await
            .map_err(unrefusable)
    }

    async fn reaped(&self, permit: &Permit, ids: Vec<u64>, spares: u64) -> Result<()> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| tombstones::forget(tx, &leave, &ids, spares))
            .await
            .map_err(unrefusable)
    }

    async fn uptime(&self, add_ms: u64) -> Result<u64> {
        self.writer
            .write(move |tx| tombstones::uptime(tx, add_ms))
            .await
            .map_err(unrefusable)
    }

    async fn create_upload(&self, permit: &Permit, upload: NewUpload) -> Result<(), WriteError> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| uploads::create(tx, &leave, &upload))
            .await
    }

    async fn upload(&self, bucket: BucketId, upload: &str) -> Result<Option<MultipartUpload>> {
        self.read(|db| uploads::find(db, bucket, upload))
    }

    async fn uploads(&self, query: &UploadQuery) -> Result<UploadListing> {
        self.read(|db| uploads::list(db, query))
    }

    async fn uploads_begun_before(
        &self,
        repository: RepositoryId,
        uptime_ms: u64,
        limit: usize,
    ) -> Result<Vec<MultipartUpload>> {
        self.read(|db| uploads::begun_before(db, repository, uptime_ms, limit))
    }

    async fn put_part(
        &self,
        permit: &Permit,
        upload: &str,
        part: PartRow,
    ) -> Result<Option<PartRow>, WriteError> {
        let (leave, upload) = (Leave::from(permit), upload.to_owned());
        self.writer
            .write(move |tx| uploads::put_part(tx, &leave, &upload, &part))
            .await
    }

    async fn parts(&self, upload: &str, after: u16, limit: usize) -> Result<Vec<PartRow>> {
        self.read(|db| uploads::parts(db, upload, after, limit))
    }

    async fn drop_upload(&self, permit: &Permit, upload: &str) -> Result<bool, WriteError> {
        let (leave, upload) = (Leave::from(permit), upload.to_owned());
        self.writer
            .write(move |tx| uploads::drop_upload(tx, &leave, &upload))
            .await
    }

    async fn completed_upload(&self, bucket: BucketId, upload: &str) -> Result<Option<Object>> {
        self.read(|db| uploads::completed(db, bucket, upload))
    }

    async fn store_uploads(&self, repository: RepositoryId) -> Result<Vec<UploadId>> {
        self.read(|db| uploads::store_uploads(db, repository))
    }

    async fn answer(&self, key: &AnswerKey) -> Result<Option<Answer>> {
        self.read(|db| answers::find(db, key))
    }
}

#[async_trait]
impl Mirrors for Database {
    async fn open_mirror(&self, mirror: NewMirror) -> Result<MirrorRow> {
        self.writer
            .write(move |tx| mirrors::open(tx, &mirror))
            .await
            .map_err(unrefusable)
    }

    async fn keep_mirrors(&self, repository: RepositoryId, stores: &[StoreName]) -> Result<()> {
        let stores = stores.to_vec();
        self.writer
            .write(move |tx| mirrors::keep(tx, repository, &stores))
            .await
            .map_err(unrefusable)
    }

    async fn mirrors(&self, repository: RepositoryId) -> Result<Vec<MirrorRow>> {
        self.read(|db| mirrors::all(db, repository))
    }

    async fn mirror(
        &self,
        repository: RepositoryId,
        store: &StoreName,
    ) -> Result<Option<MirrorRow>> {
        self.read(|db| mirrors::one(db, repository, store))
    }

    async fn change_mirror(
        &self,
        repository: RepositoryId,
        store: &StoreName,
        by: Option<Epoch>,
        changes: Vec<MirrorChange>,
    ) -> Result<Option<MirrorRow>> {
        let store = store.clone();
        self.writer
            .write(move |tx| mirrors::change(tx, repository, &store, by, changes))
            .await
            .map_err(unrefusable)
    }

    async fn backlog(&self, repository: RepositoryId, after: u64) -> Result<Backlog> {
        self.read(|db| mirrors::backlog(db, repository, after))
    }

    async fn bound_journal(
        &self,
        repository: RepositoryId,
        keep: u64,
        now_ms: Millis,
    ) -> Result<bool> {
        self.writer
            .write(move |tx| mirrors::bound_journal(tx, repository, keep, now_ms))
            .await
            .map_err(unrefusable)
    }

    async fn healed(
        &self,
        permit: &Permit,
        bucket: BucketId,
        key: &ObjectKey,
        sequence: u64,
        identity: Identity,
    ) -> Result<bool, WriteError> {
        let (leave, key) = (Leave::from(permit), key.clone());
        self.writer
            .write(move |tx| mirrors::healed(tx, &leave, bucket, &key, sequence, &identity))
            .await
    }
}

/// For changes whose callers have no plan for a refusal: it is a failure to them.
fn unrefusable(e: WriteError) -> Error {
    match e {
        WriteError::Failed(e) => e,
        refused @ (WriteError::LockMoved(_)
        | WriteError::Exists(_)
        | WriteError::KeyBusy
        | WriteError::IntentGone
        | WriteError::UploadGone
        | WriteError::Pinned(_)) => Error::Failed(refused.to_string().into()),
    }
}
