//! Objects: looking one up, recording a put, hiding removed ones.
//!
//! Invariant: an object's row, its journal entry, its repository's counters and the tombstone of what it
//! replaces are one transaction.

use policies::key::ObjectKey;
use rusqlite::types::Value;
use rusqlite::{Connection, params};

use super::lock;
use super::rows::{self, Etag, count, etag, int, key, object, object_columns};
use super::tombstones::Hidden;
use super::writer::{Fault, Tx};
use super::{answers, intents, restore_points, tombstones, uploads};
use crate::state::leave::{self, Leave};
use crate::state::{
    BucketId, Change, Error, JournalEntry, Lookup, Object, Put, Recorded, Removal, RepositoryId,
    Result, Usage, WriteError, stored,
};

/// The object and whether an intent on its key is open, both at one instant.
pub(super) fn lookup(db: &Connection, bucket: BucketId, wanted: &ObjectKey) -> Result<Lookup> {
    let mut statement = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM intents WHERE bucket = ?1 AND key = ?2), o.key, o.repository, o.size, o.etag,
                o.hash, o.identity, o.modified_ms, o.sequence, o.details
         FROM (SELECT 1) LEFT JOIN objects o ON o.bucket = ?1 AND o.key = ?2",
    )?;
    let mut rows = statement.query((bucket.0, wanted.as_str().as_bytes()))?;
    let row = rows
        .next()?
        .ok_or_else(|| stored::unreadable("a lookup has no answer"))?;
    let absent = matches!(row.get_ref(1)?, rusqlite::types::ValueRef::Null);
    Ok(Lookup {
        busy: row.get(0)?,
        object: if absent { None } else { Some(object(row, 1)?) },
    })
}

/// Sizes of visible objects, in the order of the keys: one statement for all of them, a quarter of the time of one each.
pub(super) fn sizes(
    db: &Connection,
    bucket: BucketId,
    keys: &[ObjectKey],
) -> Result<Vec<Option<u64>>> {
    let names: Vec<&str> = keys.iter().map(ObjectKey::as_str).collect();
    let names = serde_json::to_string(&names).map_err(|e| stored::unreadable(&e.to_string()))?;
    let mut statement = db.prepare_cached(
        "SELECT asked.key, o.size FROM json_each(?2) asked
         CROSS JOIN objects o ON o.bucket = ?1 AND o.key = CAST(asked.value AS BLOB)",
    )?;
    let mut rows = statement.query((bucket.0, names))?;
    let mut sizes = vec![None; keys.len()];
    while let Some(row) = rows.next()? {
        let at = usize::try_from(count(row, 0)?).unwrap_or(usize::MAX);
        if let Some(size) = sizes.get_mut(at) {
            *size = Some(count(row, 1)?);
        }
    }
    Ok(sizes)
}

fn find(db: &Connection, bucket: BucketId, wanted: &ObjectKey) -> Result<Option<Object>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        object_columns!(),
        " FROM objects WHERE bucket = ?1 AND key = ?2"
    ))?;
    let mut rows = statement.query((bucket.0, wanted.as_str().as_bytes()))?;
    rows.next()?.map(|row| object(row, 0)).transpose()
}

pub(super) fn record(
    tx: &mut Tx<'_>,
    leave: &Leave,
    put: &Put,
    since: u64,
) -> Result<Recorded, Fault> {
    lock::check(tx, leave, put.repository)?;
    if intents::is_open(tx.db, put.bucket, &put.key)? {
        return Err(WriteError::KeyBusy.into());
    }
    require_not_removed(tx, put, since)?;
    uploads::require_completed_one(tx.db, put)?;
    apply(tx, put)
}

/// Was the key not removed after the journal had come to `since`? Most often nothing was.
fn require_not_removed(tx: &Tx<'_>, put: &Put, since: u64) -> Result<(), Fault> {
    if tx.memory.last_removal(put.repository) <= since {
        return Ok(());
    }
    let removed = tx
        .db
        .prepare_cached(
            "SELECT 1 FROM journal WHERE repository = ?1 AND key = ?2 AND size IS NULL AND sequence > ?3",
        )?
        .exists((put.repository.0, put.key.as_str().as_bytes(), int(since)))?;
    let oldest: Option<i64> = tx
        .db
        .prepare_cached("SELECT min(sequence) FROM journal WHERE repository = ?1")?
        .query_row([put.repository.0], |row| row.get(0))?;
    let reaches_back = oldest.is_some_and(|oldest| oldest <= int(since.saturating_add(1)));
    if removed || !reaches_back {
        return Err(WriteError::KeyBusy.into());
    }
    Ok(())
}

/// Is the row that the put replaces (or its absence) there?
pub(super) fn require_replaced(db: &Connection, put: &Put) -> Result<Option<Object>, Fault> {
    let there = find(db, put.bucket, &put.key)?;
    if there.as_ref().map(|row| row.sequence) == put.replaces {
        Ok(there)
    } else {
        Err(WriteError::Exists(there.map(Box::new)).into())
    }
}

/// Makes a put visible. Its lock or intent was checked.
pub(super) fn apply(tx: &mut Tx<'_>, put: &Put) -> Result<Recorded, Fault> {
    let sequence = tx.memory.next_sequence(put.repository, put.journalled)?;
    if put.replaces.is_some() {
        replace(tx, put, sequence)?;
    } else if !insert(tx.db, put, sequence)? {
        let there = find(tx.db, put.bucket, &put.key)?;
        return Err(WriteError::Exists(there.map(Box::new)).into());
    }
    tx.memory.gained(put.repository, put.size);
    if put.journalled {
        journal_put(tx.db, put, sequence)?;
    }
    if let Some(upload) = &put.completes {
        uploads::complete(tx, put, upload, sequence)?;
    }
    if let Some(root) = &put.root {
        restore_points::committed(tx, put.repository, root, sequence, put.now_ms)?;
    }
    if let Some(answer) = &put.answer {
        answers::keep(tx, answer, &put.etag, sequence)?;
    }
    Ok(Recorded { sequence })
}

fn replace(tx: &mut Tx<'_>, put: &Put, sequence: u64) -> Result<(), Fault> {
    let Some(old) = require_replaced(tx.db, put)? else {
        return Err(WriteError::Exists(None).into());
    };
    tx.memory.lost(old.repository, old.size);
    tx.db
        .prepare_cached("DELETE FROM objects WHERE bucket = ?1 AND key = ?2")?
        .execute((put.bucket.0, put.key.as_str().as_bytes()))?;
    insert(tx.db, put, sequence)?;
    if let Some(kept) = &put.kept {
        let hidden = Hidden {
            object: old,
            location: &kept.name,
            removed: sequence,
            retain_ms: kept.retain_ms,
        };
        tombstones::write_all(tx, &[hidden])?;
    }
    Ok(())
}

/// False = the key is taken.
fn insert(db: &Connection, put: &Put, sequence: u64) -> rusqlite::Result<bool> {
    let mut statement = db.prepare_cached(
        "INSERT INTO objects (bucket, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
    )?;
    let inserted = statement.execute(params![
        put.bucket.0,
        put.key.as_str().as_bytes(),
        put.repository.0,
        int(put.size),
        Etag(&put.etag),
        put.hash,
        &*put.identity.0,
        put.now_ms,
        int(sequence),
        stored::details_text(put.details.as_deref()),
    ])?;
    Ok(inserted == 1)
}

/// Hides objects. None for a key that had none. What a batch writes besides is written in rows of many.
pub(super) fn remove(
    tx: &mut Tx<'_>,
    leave: &Leave,
    removals: &[Removal],
) -> Result<Vec<Option<Object>>, Fault> {
    let quiet = !intents::any_at_all(tx.db)?;
    let (mut removed, mut deletes, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
    for removal in removals {
        lock::check(tx, leave, removal.repository)?;
        if !quiet && intents::is_open(tx.db, removal.bucket, &removal.key)? {
            return Err(WriteError::KeyBusy.into());
        }
        let old = take(tx, removal)?;
        if let Some(old) = &old {
            let sequence = tx
                .memory
                .next_sequence(removal.repository, removal.journalled)?;
            if removal.journalled {
                tx.memory.removed(removal.repository, sequence);
                deletes.push((removal, sequence));
            }
            if let Some(retain_ms) = removal.retain_ms {
                hidden.push(Hidden {
                    object: old.clone(),
                    location: &removal.key,
                    removed: sequence,
                    retain_ms,
                });
            } else {
                restore_points::broken(
                    tx.db,
                    removal.repository,
                    old.sequence,
                    sequence,
                    u64::MAX,
                )?;
            }
        }
        removed.push(old);
    }
    journal_deletes(tx.db, &deletes)?;
    tombstones::write_all(tx, &hidden)?;
    Ok(removed)
}

/// A refused request is taken back, so the row may be looked at after it was hidden.
pub(super) fn remove_unchanged(
    tx: &mut Tx<'_>,
    leave: &Leave,
    removal: &Removal,
    sequence: u64,
) -> Result<Object, Fault> {
    match remove(tx, leave, std::slice::from_ref(removal))?
        .pop()
        .flatten()
    {
        Some(old) if old.sequence == sequence => Ok(old),
        other => Err(WriteError::Exists(other.map(Box::new)).into()),
    }
}

/// Takes an object's row away.
fn take(tx: &mut Tx<'_>, removal: &Removal) -> Result<Option<Object>, Fault> {
    let Some(old) = find(tx.db, removal.bucket, &removal.key)? else {
        return Ok(None);
    };
    if old.repository != removal.repository {
        return Err(Error::Failed("the object belongs to another repository".into()).into());
    }
    tx.db
        .prepare_cached("DELETE FROM objects WHERE bucket = ?1 AND key = ?2")?
        .execute((removal.bucket.0, removal.key.as_str().as_bytes()))?;
    tx.memory.lost(old.repository, old.size);
    Ok(Some(old))
}

pub(super) fn usage(db: &Connection, repository: RepositoryId) -> Result<Usage> {
    let mut statement =
        db.prepare_cached("SELECT objects, bytes, sequence FROM repositories WHERE id = ?1")?;
    let mut rows = statement.query([repository.0])?;
    let row = rows.next()?.ok_or_else(leave::unknown)?;
    Ok(Usage {
        objects: count(row, 0)?,
        bytes: count(row, 1)?,
        sequence: count(row, 2)?,
    })
}

fn journal_put(db: &Connection, put: &Put, sequence: u64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO journal (repository, sequence, key, size, etag, hash, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        put.repository.0,
        int(sequence),
        put.key.as_str().as_bytes(),
        int(put.size),
        Etag(&put.etag),
        put.hash,
        put.now_ms
    ])
    .map(|_| ())
}

fn journal_deletes(db: &Connection, deletes: &[(&Removal, u64)]) -> rusqlite::Result<()> {
    const INTO: &str = "INSERT INTO journal (repository, sequence, key, at_ms) VALUES ";
    rows::insert_many(db, INTO, deletes, |(removal, sequence)| {
        [
            Value::Integer(removal.repository.0),
            Value::Integer(int(*sequence)),
            Value::Blob(removal.key.as_str().as_bytes().to_vec()),
            Value::Integer(removal.now_ms),
        ]
    })
}

pub(super) fn journal(
    db: &Connection,
    repository: RepositoryId,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalEntry>> {
    let mut statement = db.prepare_cached(
        "SELECT sequence, key, size, etag, hash, at_ms FROM journal
         WHERE repository = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let mut rows = statement.query([repository.0, int(after), int(limit as u64)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let deleted = matches!(row.get_ref(2)?, rusqlite::types::ValueRef::Null);
        let change = if deleted {
            Change::Delete
        } else {
            Change::Put {
                size: count(row, 2)?,
                etag: etag(row, 3)?,
                hash: row.get(4)?,
            }
        };
        entries.push(JournalEntry {
            sequence: count(row, 0)?,
            key: key(row, 1)?,
            change,
            at_ms: row.get(5)?,
        });
    }
    Ok(entries)
}
