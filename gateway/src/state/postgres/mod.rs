//! The state database in PostgreSQL, shared by several gateways.
//!
//! Changes go in groups, one at a time for each repository ([`writer`]); reads go to any connection and see every
//! answered change of every node. Only a primary is used, and each connection is checked when it is made
//! ([`open`]). Nothing that decides is kept in memory: what another node committed is always seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use deadpool_postgres::Pool;
use policies::identity::Repository;
use policies::key::ObjectKey;
use policies::lock::Permit;
use policies::lock::history::{Totals, Violation};

mod answers;
mod audit;
mod catalog;
mod digests;
mod duties;
mod intents;
mod lineage;
mod listing;
mod lock;
mod mirrors;
mod nodes;
mod open;
mod part_contents;
mod plain;
mod positions;
mod removals;
mod restore_points;
mod rows;
mod schema;
mod takeover;
mod tls;
mod tombstones;
mod uploads;
mod warnings;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use open::{OpenError, Settings, SettingsError, without_password};

use super::leave::{Leave, unknown};
use super::{
    Answer, AnswerKey, AuditEntry, AuditRecord, BucketId, Due, Error, Intent, IntentId,
    JournalEntry, ListQuery, Listing, LockRow, Lookup, MultipartUpload, NewIntent, NewLock,
    NewUpload, Object, PartRow, Put, Recorded, Removal, RepositoryId, RepositoryIdentity,
    RepositoryRow, Result, State, Tombstone, UploadListing, UploadQuery, Usage, WriteError,
};
use crate::stores::{Identity, UploadId};
use duties::Duties;
use nodes::Uptime;
use writer::{WHOLE, Writers};

/// A read that takes longer is given up: the server hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for one that goes through all there is.
const LEISURE: Duration = Duration::from_secs(3600);

/// Reads over any connection; once more if that turns out to be cut. (A closure cannot borrow both the connection
/// and what the caller borrowed.)
macro_rules! read {
    ($state:expr, $db:ident => $work:expr) => {
        $crate::state::postgres::read!($crate::state::postgres::PATIENCE, $state, $db => $work)
    };
    ($patience:expr, $state:expr, $db:ident => $work:expr) => {{
        let mut again = true;
        loop {
            let session = $crate::state::postgres::writer::Session::begin(&$state.pool).await?;
            let $db = session.db();
            let result = match tokio::time::timeout($patience, $work).await {
                Ok(result) => result,
                Err(_) => Err($crate::state::postgres::no_answer()),
            };
            if result.is_ok() {
                session.ended_in_order();
                break result;
            }
            if !(again && $db.is_closed()) {
                break result;
            }
            again = false;
        }
    }};
}
use read;

fn no_answer() -> Error {
    Error::Failed("PostgreSQL does not answer".into())
}

/// An open state database, as one of its nodes.
pub struct Database {
    pool: Pool,
    node: i64,
    name: String,
    duties: Duties,
    uptime: Arc<Uptime>,
    writers: Writers,
    /// Repositories that this node opened: a permit names one, its turn is known by number.
    names: DashMap<Repository, RepositoryId>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Connects, makes or migrates the tables, and enters as a new node called `name`.
    pub async fn open(settings: &Settings, name: &str) -> Result<Self, OpenError> {
        let pool = open::open(settings).await?;
        let client = pool
            .get()
            .await
            .map_err(|e| OpenError::Connect(e.to_string()))?;
        let entered = open::in_time(async {
            let node = nodes::enter(&client, name).await?;
            Ok((node, nodes::written_uptime(&client).await?))
        });
        let (node, uptime_ms) = entered.await?;
        let uptime = Arc::new(Uptime::from(uptime_ms));
        drop(client);
        tracing::info!(
            node,
            "one of the nodes that share this PostgreSQL state database"
        );
        Ok(Self {
            writers: Writers::new(pool.clone(), node, Arc::clone(&uptime)),
            pool,
            node,
            name: name.to_owned(),
            duties: Duties::new(settings.clone()),
            uptime,
            names: DashMap::new(),
        })
    }

    fn turn_of(&self, leave: &Leave) -> Result<i64> {
        let known = self.names.get(&leave.repository);
        known.map(|id| id.0).ok_or_else(unknown)
    }
}

#[async_trait]
impl State for Database {
    async fn open_repository(&self, identity: &RepositoryIdentity) -> Result<RepositoryRow> {
        let (name, identity) = (identity.name.clone(), identity.clone());
        let row = self
            .writers
            .write(WHOLE, move |tx| {
                Box::pin(async move { lock::open_repository(tx, &identity).await })
            })
            .await
            .map_err(unrefusable)?;
        self.names.insert(name, row.id);
        Ok(row)
    }

    async fn lock(&self, repository: RepositoryId) -> Result<LockRow> {
        read!(self, db => lock::read(db, repository))
    }

    async fn move_lock(
        &self,
        repository: RepositoryId,
        from: u64,
        to: NewLock,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { lock::move_lock(tx, from, to, &audit).await })
            })
            .await
    }

    async fn append_audit(&self, audit: AuditEntry) -> Result<()> {
        self.writers
            .write(WHOLE, move |tx| {
                Box::pin(async move { audit::append(tx.db(), &audit).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditRecord>> {
        read!(self, db => audit::newest(db, before, limit))
    }

    async fn verify_audit(&self) -> Result<Option<u64>> {
        read!(LEISURE, self, db => audit::verify(db))
    }

    async fn replay_audit(&self) -> Result<Result<Totals, Violation>> {
        read!(LEISURE, self, db => audit::replay(db))
    }

    async fn object(&self, bucket: BucketId, key: &ObjectKey) -> Result<Lookup> {
        read!(self, db => catalog::lookup(db, bucket, key))
    }

    async fn list(&self, query: &ListQuery) -> Result<Listing> {
        read!(self, db => listing::list(db, query))
    }

    async fn usage(&self, repository: RepositoryId) -> Result<Usage> {
        read!(self, db => lock::usage(db, repository))
    }

    async fn journal(
        &self,
        repository: RepositoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        read!(self, db => catalog::journal(db, repository, after, limit))
    }

    async fn record_published(
        &self,
        permit: &Permit,
        put: Put,
        since: u64,
    ) -> Result<Recorded, WriteError> {
        self.writers.record(Leave::from(permit), put, since).await
    }

    async fn open_intent(
        &self,
        permit: &Permit,
        intent: NewIntent,
    ) -> Result<IntentId, WriteError> {
        let leave = Leave::from(permit);
        self.writers
            .write(intent.put.repository.0, move |tx| {
                Box::pin(async move { intents::open(tx, &leave, &intent, None).await })
            })
            .await
    }

    async fn commit_intent(
        &self,
        intent: IntentId,
        identity: Identity,
    ) -> Result<Recorded, WriteError> {
        let repository =
            read!(self, db => intents::repository(db, intent))?.ok_or(WriteError::IntentGone)?;
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { intents::commit(tx, intent, identity).await })
            })
            .await
    }

    async fn abort_intent(&self, intent: IntentId) -> Result<()> {
        let repository = read!(self, db => intents::repository(db, intent))?;
        let Some(repository) = repository else {
            return Ok(());
        };
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { intents::abort(tx, intent).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn intents(&self, repository: RepositoryId) -> Result<Vec<Intent>> {
        read!(self, db => intents::all(db, repository))
    }

    async fn remove(
        &self,
        permit: &Permit,
        removals: Vec<Removal>,
    ) -> Result<Vec<Option<Object>>, WriteError> {
        let leave = Leave::from(permit);
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { removals::remove(tx, &leave, &removals, None).await })
            })
            .await
    }

    async fn remove_unchanged(
        &self,
        permit: &Permit,
        removal: Removal,
        sequence: u64,
        judged: Option<u64>,
    ) -> Result<Object, WriteError> {
        let leave = Leave::from(permit);
        self.writers
            .write(removal.repository.0, move |tx| {
                Box::pin(async move {
                    removals::remove_unchanged(tx, &leave, &removal, sequence, judged).await
                })
            })
            .await
    }

    async fn reapable(
        &self,
        repository: RepositoryId,
        uptime_ms: u64,
        after: Option<Due>,
        limit: usize,
    ) -> Result<Vec<Tombstone>> {
        read!(self, db => tombstones::reapable(db, repository, uptime_ms, after, limit))
    }

    async fn tombstones(
        &self,
        repository: RepositoryId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Tombstone>> {
        read!(self, db => tombstones::after(db, repository, after, limit))
    }

    async fn tombstone(&self, repository: RepositoryId, key: &ObjectKey) -> Result<Vec<Tombstone>> {
        read!(self, db => tombstones::of_key(db, repository, key))
    }

    async fn move_tombstone(&self, permit: &Permit, id: u64, location: &ObjectKey) -> Result<()> {
        let (leave, location) = (Leave::from(permit), location.clone());
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { tombstones::relocate(tx, &leave, id, &location).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn reaped(&self, permit: &Permit, ids: Vec<u64>, spares: u64) -> Result<()> {
        let leave = Leave::from(permit);
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { tombstones::forget(tx, &leave, &ids, spares).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn uptime(&self, add_ms: u64) -> Result<u64> {
        let own_ms = self.add_uptime(add_ms);
        self.writers
            .write(WHOLE, move |tx| {
                Box::pin(async move { nodes::uptime(tx, own_ms, add_ms > 0).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn create_upload(&self, permit: &Permit, upload: NewUpload) -> Result<(), WriteError> {
        let leave = Leave::from(permit);
        self.writers
            .write(upload.repository.0, move |tx| {
                Box::pin(async move { uploads::create(tx, &leave, &upload).await })
            })
            .await
    }

    async fn upload(&self, bucket: BucketId, upload: &str) -> Result<Option<MultipartUpload>> {
        read!(self, db => uploads::find(db, bucket, upload))
    }

    async fn uploads(&self, query: &UploadQuery) -> Result<UploadListing> {
        read!(self, db => uploads::list(db, query))
    }

    async fn uploads_begun_before(
        &self,
        repository: RepositoryId,
        uptime_ms: u64,
        limit: usize,
    ) -> Result<Vec<MultipartUpload>> {
        read!(self, db => uploads::begun_before(db, repository, uptime_ms, limit))
    }

    async fn put_part(
        &self,
        permit: &Permit,
        upload: &str,
        part: PartRow,
    ) -> Result<Option<PartRow>, WriteError> {
        let (leave, upload) = (Leave::from(permit), upload.to_owned());
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { uploads::put_part(tx, &leave, &upload, &part).await })
            })
            .await
    }

    async fn parts(&self, upload: &str, after: u16, limit: usize) -> Result<Vec<PartRow>> {
        read!(self, db => uploads::parts(db, upload, after, limit))
    }

    async fn drop_upload(&self, permit: &Permit, upload: &str) -> Result<bool, WriteError> {
        let (leave, upload) = (Leave::from(permit), upload.to_owned());
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { uploads::drop_upload(tx, &leave, &upload).await })
            })
            .await
    }

    async fn completed_upload(&self, bucket: BucketId, upload: &str) -> Result<Option<Object>> {
        read!(self, db => uploads::completed(db, bucket, upload))
    }

    async fn store_uploads(&self, repository: RepositoryId) -> Result<Vec<UploadId>> {
        read!(self, db => uploads::store_uploads(db, repository))
    }

    async fn answer(&self, key: &AnswerKey) -> Result<Option<Answer>> {
        read!(self, db => answers::find(db, key))
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
