//! Repositories and their lock rows, and the check that every write makes inside its transaction.

use policies::identity::{Epoch, Repository, StoreName};
use policies::lock::Lock;
use rusqlite::{Connection, OptionalExtension};

use super::rows::{count, int};
#[cfg(test)]
use super::simulated::mutant;
use super::writer::{Fault, Tx};
use super::{audit, intents};
use crate::state::facts;
use crate::state::leave::{Leave, moved, needs_quiet, renamed, unknown};
use crate::state::{
    AuditEntry, BucketId, Error, LockRow, NewLock, RepositoryId, RepositoryIdentity, RepositoryRow,
    Result, WriteError, stored,
};

/// The lock row still allows what the permit was given for; the epoch of the row.
pub(super) fn check(
    tx: &Tx<'_>,
    leave: &Leave,
    repository: RepositoryId,
) -> Result<Epoch, WriteError> {
    let known = tx.memory.repository(repository).ok_or_else(unknown)?;
    #[cfg(test)]
    if mutant::leaves_out(mutant::LeftOut::LockCheck) {
        return Ok(known.lock.lock.epoch());
    }
    leave.check(&known.identity.name, &known.lock)
}

pub(super) fn open_repository(
    tx: &mut Tx<'_>,
    identity: RepositoryIdentity,
) -> Result<RepositoryRow, Fault> {
    if let Some((id, known)) = tx.memory.find(|known| known.name == identity.name) {
        let there = RepositoryIdentity {
            store: match known.promoted_from {
                Some(_) => identity.store.clone(),
                None => known.identity.store.clone(),
            },
            ..known.identity.clone()
        };
        if there != identity {
            return Err(moved(&known.identity, &identity).into());
        }
        return Ok(RepositoryRow {
            id,
            bucket: known.bucket,
            lock: known.lock.clone(),
            new: false,
            store: known.identity.store.clone(),
            promoted_from: known.promoted_from.clone(),
        });
    }
    let same_place = |known: &RepositoryIdentity| {
        known.bucket == identity.bucket && known.base_path == identity.base_path
    };
    if let Some((_, known)) = tx.memory.find(same_place) {
        return Err(renamed(&known.identity, &identity).into());
    }
    let bucket = bucket(tx.db, identity.bucket.as_str())?;
    tx.db.execute(
        "INSERT INTO repositories (name, bucket, base_path, store, sequence, unjournalled, objects, bytes)
         VALUES (?1, ?2, ?3, ?4, 0, 0, 0, 0)",
        (identity.name.as_str(), bucket.0, &identity.base_path, identity.store.as_str()),
    )?;
    let id = RepositoryId(tx.db.last_insert_rowid());
    let lock = LockRow {
        version: 1,
        lock: Lock::Vacant { epoch: Epoch(0) },
        store: identity.store.clone(),
        since_ms: 0,
        reason: None,
    };
    write(tx.db, id, &lock)?;
    let store = identity.store.clone();
    tx.memory.add_repository(id, identity, bucket, lock.clone());
    Ok(RepositoryRow {
        id,
        bucket,
        lock,
        new: true,
        store,
        promoted_from: None,
    })
}

fn bucket(db: &Connection, name: &str) -> rusqlite::Result<BucketId> {
    let known = db
        .query_row("SELECT id FROM buckets WHERE name = ?1", [name], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(id) = known {
        return Ok(BucketId(id));
    }
    db.execute("INSERT INTO buckets (name) VALUES (?1)", [name])?;
    Ok(BucketId(db.last_insert_rowid()))
}

pub(super) fn move_lock(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    from: u64,
    to: NewLock,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    let known = tx.memory.repository(repository).ok_or_else(unknown)?;
    if known.lock.version != from {
        return Err(WriteError::LockMoved(Box::new(known.lock.clone())).into());
    }
    if to.lock.epoch() < known.lock.lock.epoch() {
        return Err(Error::Failed("an epoch never goes back".into()).into());
    }
    if needs_quiet(&to.lock) && intents::any(tx.db, repository)? {
        return Err(WriteError::KeyBusy.into());
    }
    let row = LockRow {
        version: from + 1,
        lock: to.lock,
        store: known.identity.store.clone(),
        since_ms: to.now_ms,
        reason: to.reason,
    };
    let entry = facts::moved(entry, row.version, &known.lock.lock, &row.lock);
    write(tx.db, repository, &row)?;
    tx.memory.set_lock(repository, row.clone());
    audit::append(tx, &entry)?;
    Ok(row)
}

fn write(db: &Connection, repository: RepositoryId, row: &LockRow) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO locks (repository, version, epoch, lock, since_ms, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        repository.0,
        int(row.version),
        int(row.lock.epoch().0),
        stored::lock_text(&row.lock),
        row.since_ms,
        &row.reason,
    ))
    .map(|_| ())
}

pub(super) fn read(db: &Connection, repository: RepositoryId) -> Result<LockRow> {
    let mut statement = db.prepare_cached(
        "SELECT l.version, l.lock, l.since_ms, l.reason, r.store
         FROM locks l JOIN repositories r ON r.id = l.repository WHERE l.repository = ?1",
    )?;
    let mut rows = statement.query([repository.0])?;
    let row = rows.next()?.ok_or_else(unknown)?;
    Ok(LockRow {
        version: count(row, 0)?,
        lock: stored::lock_from(super::rows::text(row.get_ref(1)?)?)?,
        store: StoreName::new(row.get::<_, String>(4)?),
        since_ms: row.get(2)?,
        reason: row.get(3)?,
    })
}

/// All lock rows, with their versions.
pub(super) fn all(db: &Connection) -> Result<Vec<(Repository, u64, Lock)>> {
    let mut statement = db.prepare_cached(
        "SELECT r.name, l.version, l.lock FROM locks l JOIN repositories r ON r.id = l.repository",
    )?;
    let mut rows = statement.query([])?;
    let mut locks = Vec::new();
    while let Some(row) = rows.next()? {
        let lock = stored::lock_from(super::rows::text(row.get_ref(2)?)?)?;
        let name = Repository::new(super::rows::text(row.get_ref(0)?)?);
        locks.push((name, count(row, 1)?, lock));
    }
    Ok(locks)
}
