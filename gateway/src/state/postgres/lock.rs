//! Repositories, their lock rows and counters.

use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use policies::identity::{Bucket, Epoch, Repository, StoreName};
use policies::key::{Class, ObjectKey};
use policies::lock::Lock;

use super::rows::{Sql, column, count, execute, first, int, maybe_count, query};
use super::writer::{Fault, Tx};
use super::{audit, intents};
use crate::state::facts;
use crate::state::leave::{Leave, moved, needs_quiet, renamed, unknown};
use crate::state::{
    AuditEntry, BucketId, Error, LockRow, NewLock, RepositoryId, RepositoryIdentity, RepositoryRow,
    Result, UNJOURNALLED, WriteError, stored,
};

/// A repository at its turn.
#[derive(Clone)]
pub(super) struct Known {
    pub id: RepositoryId,
    pub identity: Arc<RepositoryIdentity>,
    pub bucket: BucketId,
    pub lock: LockRow,
    pub counters: Counters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    pub sequence: u64,
    unjournalled: u64,
    objects: u64,
    bytes: u64,
    pub last_root: u64,
    pub last_change: u64,
    /// The highest journal number that may be used.
    reserved: Option<u64>,
}

/// The lock row is locked against a hand-over until the transaction ends.
pub(super) const KNOWN: &str = "
SELECT r.id, r.name, b.name, r.base_path, r.store, r.bucket, l.version, l.lock, l.since_ms, l.reason,
       t.sequence, t.unjournalled, t.objects, t.bytes, t.last_root, t.last_change, d.uptime_ms, t.reserved
FROM repositories r JOIN buckets b ON b.id = r.bucket JOIN locks l ON l.repository = r.id
     JOIN turns t ON t.id = r.id, database d
WHERE r.id = $1 FOR SHARE OF l";

/// A row of [`KNOWN`]: the repository, and the uptime.
pub(super) fn known(row: &Row) -> Result<(Known, u64)> {
    let identity = identity(row, 1)?;
    let known = Known {
        id: RepositoryId(column(row, 0)?),
        bucket: BucketId(column(row, 5)?),
        lock: lock_row(row, 6, identity.store.clone())?,
        identity: Arc::new(identity),
        counters: Counters {
            sequence: count(row, 10)?,
            unjournalled: count(row, 11)?,
            objects: count(row, 12)?,
            bytes: count(row, 13)?,
            last_root: count(row, 14)?,
            last_change: count(row, 15)?,
            reserved: maybe_count(row, 17)?,
        },
    };
    Ok((known, count(row, 16)?))
}

fn identity(row: &Row, first: usize) -> Result<RepositoryIdentity> {
    Ok(RepositoryIdentity {
        name: Repository::new(column::<&str>(row, first)?),
        bucket: Bucket::new(column::<&str>(row, first + 1)?),
        base_path: column(row, first + 2)?,
        store: StoreName::new(column::<&str>(row, first + 3)?),
    })
}

fn lock_row(row: &Row, first: usize, store: StoreName) -> Result<LockRow> {
    Ok(LockRow {
        version: count(row, first)?,
        lock: stored::lock_from(column(row, first + 1)?)?,
        store,
        since_ms: column(row, first + 2)?,
        reason: column(row, first + 3)?,
    })
}

impl Known {
    /// The next sequence: of the journal, or of what is not journalled.
    pub fn next_sequence(&mut self, journalled: bool) -> Result<u64> {
        if journalled && self.numbers_left() == 0 {
            return Err(Error::NumbersUsedUp);
        }
        let counters = &mut self.counters;
        Ok(if journalled {
            counters.sequence += 1;
            counters.sequence
        } else {
            counters.unjournalled += 1;
            UNJOURNALLED + counters.unjournalled
        })
    }

    /// Journal numbers that may be used.
    pub fn numbers_left(&self) -> u64 {
        let counters = &self.counters;
        counters.reserved.map_or(u64::MAX, |reserved| {
            reserved.saturating_sub(counters.sequence)
        })
    }

    /// Numbers up to `limit` may be used now; the next one is above `skip`.
    pub fn reserve(&mut self, limit: u64, skip: u64) {
        let reserved = &mut self.counters.reserved;
        *reserved = Some(reserved.unwrap_or(0).max(limit));
        self.raise_sequence(skip);
    }

    /// The journal goes on above this sequence; never below what is known.
    pub fn raise_sequence(&mut self, sequence: u64) {
        self.counters.sequence = self.counters.sequence.max(sequence);
    }

    pub fn gained(&mut self, size: u64) {
        self.counters.objects += 1;
        self.counters.bytes += size;
    }

    pub fn lost(&mut self, size: u64) {
        self.counters.objects = self.counters.objects.saturating_sub(1);
        self.counters.bytes = self.counters.bytes.saturating_sub(size);
    }

    pub fn is_root(&self, key: &ObjectKey) -> bool {
        let base = &self.identity.base_path;
        let below = match base.as_str() {
            "" => Some(key.as_str()),
            base => key
                .as_str()
                .strip_prefix(base)
                .and_then(|k| k.strip_prefix('/')),
        };
        below.is_some_and(|below| matches!(Class::parse(below), Class::Root(_)))
    }
}

pub(super) const WRITE_COUNTERS: &str =
    "UPDATE turns SET sequence = $2, unjournalled = $3, objects = $4, bytes = $5,
     last_root = $6, last_change = $7 WHERE id = $1";

pub(super) async fn write_counters(
    db: &ClientWrapper,
    turn: i64,
    counters: Counters,
) -> Result<(), Sql> {
    execute(
        db,
        WRITE_COUNTERS,
        &[
            &turn,
            &int(counters.sequence),
            &int(counters.unjournalled),
            &int(counters.objects),
            &int(counters.bytes),
            &int(counters.last_root),
            &int(counters.last_change),
        ],
    )
    .await
    .map(|_| ())
}

/// The lock row still allows what the permit was given for; the epoch of the row.
pub(super) fn check(tx: &Tx, leave: &Leave, repository: RepositoryId) -> Result<Epoch, WriteError> {
    let known = tx.known()?;
    if known.id != repository {
        let what = format!(
            "a permit for repository '{}' was used on another one",
            leave.repository
        );
        return Err(Error::Failed(what.into()).into());
    }
    leave.check(&known.identity.name, &known.lock)
}

const REPOSITORIES: &str = "
SELECT r.id, r.name, b.name, r.base_path, r.store, r.bucket, l.version, l.lock, l.since_ms, l.reason, r.promoted_from
FROM repositories r JOIN buckets b ON b.id = r.bucket JOIN locks l ON l.repository = r.id";

/// At the turn of the whole database.
pub(super) async fn open_repository(
    tx: &Tx,
    identity_wanted: &RepositoryIdentity,
) -> Result<RepositoryRow, Fault> {
    for row in query(tx.db(), REPOSITORIES, &[]).await? {
        let known = identity(&row, 1)?;
        if known.name == identity_wanted.name {
            let promoted_from: Option<&str> = column(&row, 10)?;
            let there = RepositoryIdentity {
                store: match promoted_from {
                    Some(_) => identity_wanted.store.clone(),
                    None => known.store.clone(),
                },
                ..known.clone()
            };
            if there != *identity_wanted {
                return Err(moved(&known, identity_wanted).into());
            }
            return Ok(RepositoryRow {
                id: RepositoryId(column(&row, 0)?),
                bucket: BucketId(column(&row, 5)?),
                lock: lock_row(&row, 6, known.store.clone())?,
                new: false,
                promoted_from: promoted_from.map(StoreName::new),
                store: known.store,
            });
        }
        if known.bucket == identity_wanted.bucket && known.base_path == identity_wanted.base_path {
            return Err(renamed(&known, identity_wanted).into());
        }
    }
    new_repository(tx.db(), identity_wanted).await
}

async fn new_repository(
    db: &ClientWrapper,
    identity: &RepositoryIdentity,
) -> Result<RepositoryRow, Fault> {
    execute(
        db,
        "INSERT INTO buckets (name) VALUES ($1) ON CONFLICT DO NOTHING",
        &[&identity.bucket.as_str()],
    )
    .await?;
    let row = first(
        db,
        "INSERT INTO repositories (name, bucket, base_path, store)
         SELECT $1, id, $3, $4 FROM buckets WHERE name = $2 RETURNING id, bucket",
        &[
            &identity.name.as_str(),
            &identity.bucket.as_str(),
            &identity.base_path,
            &identity.store.as_str(),
        ],
    )
    .await?
    .ok_or_else(unknown)?;
    let (id, bucket): (i64, i64) = (column(&row, 0)?, column(&row, 1)?);
    execute(db, "INSERT INTO turns (id) VALUES ($1)", &[&id]).await?;
    let lock = Lock::Vacant { epoch: Epoch(0) };
    execute(
        db,
        "INSERT INTO locks (repository, version, epoch, lock, since_ms) VALUES ($1, 1, 0, $2, 0)",
        &[&id, &stored::lock_text(&lock)],
    )
    .await?;
    Ok(RepositoryRow {
        id: RepositoryId(id),
        bucket: BucketId(bucket),
        lock: LockRow {
            version: 1,
            lock,
            store: identity.store.clone(),
            since_ms: 0,
            reason: None,
        },
        new: true,
        store: identity.store.clone(),
        promoted_from: None,
    })
}

pub(super) async fn move_lock(
    tx: &mut Tx,
    from: u64,
    to: NewLock,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    let known = tx.known()?;
    let id = known.id;
    if known.lock.version != from {
        return Err(WriteError::LockMoved(Box::new(known.lock.clone())).into());
    }
    if to.lock.epoch() < known.lock.lock.epoch() {
        return Err(Error::Failed("an epoch never goes back".into()).into());
    }
    // Against everybody who opens an intent or records an object, on any node.
    execute(
        tx.db(),
        "SELECT 1 FROM locks WHERE repository = $1 FOR UPDATE",
        &[&id.0],
    )
    .await?;
    if needs_quiet(&to.lock) && intents::any(tx.db(), id).await? {
        return Err(WriteError::KeyBusy.into());
    }
    let row = LockRow {
        version: from + 1,
        lock: to.lock,
        store: known.identity.store.clone(),
        since_ms: to.now_ms,
        reason: to.reason,
    };
    execute(
        tx.db(),
        "UPDATE locks SET version = $2, epoch = $3, lock = $4, since_ms = $5, reason = $6 WHERE repository = $1",
        &[
            &id.0,
            &int(row.version),
            &int(row.lock.epoch().0),
            &stored::lock_text(&row.lock),
            &row.since_ms,
            &row.reason,
        ],
    )
    .await?;
    let before = std::mem::replace(&mut tx.known_mut()?.lock, row.clone());
    let entry = facts::moved(entry, row.version, &before.lock, &row.lock);
    audit::append(tx.db(), &entry).await?;
    Ok(row)
}

pub(super) async fn read(db: &ClientWrapper, repository: RepositoryId) -> Result<LockRow> {
    let row = first(
        db,
        "SELECT l.version, l.lock, l.since_ms, l.reason, r.store
         FROM locks l JOIN repositories r ON r.id = l.repository WHERE l.repository = $1",
        &[&repository.0],
    )
    .await?
    .ok_or_else(unknown)?;
    lock_row(&row, 0, StoreName::new(column::<&str>(&row, 4)?))
}

/// All lock rows, with their versions.
pub(super) async fn all(db: &ClientWrapper) -> Result<Vec<(Repository, u64, Lock)>> {
    let rows = query(
        db,
        "SELECT r.name, l.version, l.lock FROM locks l JOIN repositories r ON r.id = l.repository",
        &[],
    )
    .await?;
    let lock = |row: &Row| {
        let lock = stored::lock_from(column(row, 2)?)?;
        Ok((
            Repository::new(column::<&str>(row, 0)?),
            count(row, 1)?,
            lock,
        ))
    };
    rows.iter().map(lock).collect()
}

pub(super) async fn usage(
    db: &ClientWrapper,
    repository: RepositoryId,
) -> Result<crate::state::Usage> {
    let row = first(
        db,
        "SELECT objects, bytes, sequence FROM turns WHERE id = $1",
        &[&repository.0],
    )
    .await?
    .ok_or_else(unknown)?;
    Ok(crate::state::Usage {
        objects: count(&row, 0)?,
        bytes: count(&row, 1)?,
        sequence: count(&row, 2)?,
    })
}
