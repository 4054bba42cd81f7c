//! Objects: looking one up, recording a put.
//!
//! Invariant: an object's row, its journal entry, its repository's counters and the tombstone of what it
//! replaces are one transaction, made at the repository's turn.

use std::collections::HashMap;

use deadpool_postgres::ClientWrapper;
use policies::key::ObjectKey;

use super::lock;
use super::rows::{
    column, count, execute, first, hash, int, key, maybe_count, object, object_columns, query,
};
use super::writer::{Fault, Record, Tx};
use super::{answers, intents, restore_points, tombstones, uploads};
use crate::state::leave::Leave;
use crate::state::{
    BucketId, Change, Error, JournalEntry, Lookup, Object, Put, Recorded, RepositoryId, Result,
    WriteError, stored,
};

/// The object and whether an intent on its key is open, both at one instant.
pub(super) async fn lookup(
    db: &ClientWrapper,
    bucket: BucketId,
    wanted: &ObjectKey,
) -> Result<Lookup> {
    let row = first(
        db,
        "SELECT EXISTS (SELECT 1 FROM intents WHERE bucket = $1 AND key = $2), o.key, o.repository, o.size, o.etag,
                o.hash, o.identity, o.modified_ms, o.sequence, o.details
         FROM (SELECT 1) one LEFT JOIN objects o ON o.bucket = $1 AND o.key = $2",
        &[&bucket.0, &wanted.as_str().as_bytes()],
    )
    .await?
    .ok_or_else(|| stored::unreadable("a lookup has no answer"))?;
    let absent = column::<Option<&[u8]>>(&row, 1)?.is_none();
    Ok(Lookup {
        busy: column(&row, 0)?,
        object: if absent { None } else { Some(object(&row, 1)?) },
    })
}

async fn find(
    db: &ClientWrapper,
    bucket: BucketId,
    wanted: &ObjectKey,
) -> Result<Option<Object>, Fault> {
    let row = first(
        db,
        concat!(
            "SELECT ",
            object_columns!(),
            " FROM objects WHERE bucket = $1 AND key = $2"
        ),
        &[&bucket.0, &wanted.as_str().as_bytes()],
    )
    .await?;
    Ok(row.map(|row| object(&row, 0)).transpose()?)
}

pub(super) async fn record(
    tx: &mut Tx,
    leave: &Leave,
    put: &Put,
    since: u64,
) -> Result<Recorded, Fault> {
    lock::check(tx, leave, put.repository)?;
    if intents::is_open(tx.db(), put.bucket, &put.key).await? {
        return Err(WriteError::KeyBusy.into());
    }
    if removed_after(tx, &[put.key.as_str().as_bytes()], since)
        .await?
        .reaches_to(&put.key, since)
    {
        return Err(WriteError::KeyBusy.into());
    }
    uploads::require_completed_one(tx.db(), put).await?;
    apply(tx, put).await
}

/// What was removed of some keys, as far as anybody may have to know.
enum Removals {
    /// Nothing at all after what was asked for.
    None,
    /// The journal's oldest entry, and the newest removal of each key.
    Some(Option<u64>, HashMap<Vec<u8>, u64>),
}

impl Removals {
    /// The key was removed after `since`, or that cannot be told any more.
    fn reaches_to(&self, key: &ObjectKey, since: u64) -> bool {
        match self {
            Self::None => false,
            Self::Some(oldest, newest) => {
                oldest.is_none_or(|oldest| oldest > since.saturating_add(1))
                    || newest
                        .get(key.as_str().as_bytes())
                        .is_some_and(|removed| *removed > since)
            }
        }
    }
}

/// Asks the journal only if anything was removed or replaced after `since`, which is rare.
async fn removed_after(tx: &Tx, keys: &[&[u8]], since: u64) -> Result<Removals, Fault> {
    let known = tx.known()?;
    if known.counters.last_change <= since {
        return Ok(Removals::None);
    }
    let oldest = first(
        tx.db(),
        "SELECT min(sequence) FROM journal WHERE repository = $1",
        &[&known.id.0],
    )
    .await?;
    let oldest = oldest.map_or(Ok(None), |row| maybe_count(&row, 0))?;
    let rows = query(
        tx.db(),
        "SELECT key, max(sequence) FROM journal
         WHERE repository = $1 AND key = ANY ($2) AND size IS NULL GROUP BY key",
        &[&known.id.0, &keys],
    )
    .await?;
    let mut newest = HashMap::with_capacity(rows.len());
    for row in &rows {
        newest.insert(column::<&[u8]>(row, 0)?.to_vec(), count(row, 1)?);
    }
    Ok(Removals::Some(oldest, newest))
}

/// Records new objects of different keys, each with its own verdict.
pub(super) async fn record_all(tx: &mut Tx, batch: &mut [&mut Record]) -> Result<(), Fault> {
    let mut asked = Vec::with_capacity(batch.len());
    for (at, record) in batch.iter_mut().enumerate() {
        match lock::check(tx, &record.leave, record.put.repository) {
            Ok(_) => asked.push(at),
            Err(e) => record.result = Some(Err(e)),
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let bucket = tx.known()?.bucket;
    let keys: Vec<&[u8]> = asked
        .iter()
        .map(|at| batch[*at].put.key.as_str().as_bytes())
        .collect();
    let taken = query(
        tx.db(),
        "SELECT i.key, true FROM intents i WHERE i.bucket = $1 AND i.key = ANY ($2)
         UNION ALL SELECT o.key, false FROM objects o WHERE o.bucket = $1 AND o.key = ANY ($2)",
        &[&bucket.0, &keys],
    )
    .await?;
    let since = asked.iter().map(|at| batch[*at].since).min();
    let removals = removed_after(tx, &keys, since.unwrap_or(u64::MAX)).await?;
    for row in &taken {
        let (there, busy): (&[u8], bool) = (column(row, 0)?, column(row, 1)?);
        for at in &asked {
            let record = &mut *batch[*at];
            if record.put.key.as_str().as_bytes() != there {
                continue;
            }
            let refusal = if busy {
                WriteError::KeyBusy
            } else {
                let object = find(tx.db(), bucket, &record.put.key).await?;
                WriteError::Exists(object.map(Box::new))
            };
            // "Another write is under way" comes first, whatever lies there.
            if busy || record.result.is_none() {
                record.result = Some(Err(refusal));
            }
        }
    }
    for at in &asked {
        let record = &mut *batch[*at];
        if record.result.is_none() && removals.reaches_to(&record.put.key, record.since) {
            record.result = Some(Err(WriteError::KeyBusy));
        }
    }
    let mut left = tx.known()?.numbers_left();
    asked.retain(|at| {
        let record = &mut *batch[*at];
        let needs = u64::from(record.put.journalled);
        if record.result.is_none() && needs > left {
            record.result = Some(Err(Error::NumbersUsedUp.into()));
        }
        let free = record.result.is_none();
        left -= if free { needs } else { 0 };
        free
    });
    insert_all(tx, batch, &asked).await
}

async fn insert_all(tx: &mut Tx, batch: &mut [&mut Record], free: &[usize]) -> Result<(), Fault> {
    if free.is_empty() {
        return Ok(());
    }
    let known = tx.known_mut()?;
    let mut sequences = Vec::with_capacity(free.len());
    for at in free {
        let put = &batch[*at].put;
        let sequence = known.next_sequence(put.journalled)?;
        known.gained(put.size);
        if put.journalled && known.is_root(&put.key) {
            known.counters.last_root = sequence;
        }
        sequences.push(int(sequence));
    }
    let (bucket, repository) = (known.bucket, known.id);
    let puts = || free.iter().map(|at| &batch[*at].put);
    let keys: Vec<&[u8]> = puts().map(|p| p.key.as_str().as_bytes()).collect();
    let sizes: Vec<i64> = puts().map(|p| int(p.size)).collect();
    let etags: Vec<&str> = puts().map(|p| &*p.etag).collect();
    let hashes: Vec<Option<&[u8]>> = puts()
        .map(|p| p.hash.as_ref().map(<[u8; 32]>::as_slice))
        .collect();
    let identities: Vec<&str> = puts().map(|p| &*p.identity.0).collect();
    let times: Vec<i64> = puts().map(|p| p.now_ms).collect();
    let details: Vec<Option<String>> = puts()
        .map(|p| stored::details_text(p.details.as_deref()))
        .collect();
    let journalled: Vec<bool> = puts().map(|p| p.journalled).collect();
    execute(
        tx.db(),
        "WITH put AS MATERIALIZED (
             SELECT * FROM unnest($3::bytea[], $4::bigint[], $5::text[], $6::bytea[], $7::text[], $8::bigint[],
                                  $9::bigint[], $10::text[], $11::boolean[])
                 AS p (key, size, etag, hash, identity, at_ms, sequence, details, journalled)
         ), journal_entries AS (
             INSERT INTO journal (repository, sequence, key, size, etag, hash, at_ms)
             SELECT $2, sequence, key, size, etag, hash, at_ms FROM put WHERE journalled
         )
         INSERT INTO objects (bucket, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
         SELECT $1, key, $2, size, etag, hash, identity, at_ms, sequence, details FROM put",
        &[
            &bucket.0,
            &repository.0,
            &keys,
            &sizes,
            &etags,
            &hashes,
            &identities,
            &times,
            &sequences,
            &details,
            &journalled,
        ],
    )
    .await?;
    for (at, sequence) in free.iter().zip(sequences) {
        let sequence = u64::try_from(sequence).unwrap_or_default();
        batch[*at].result = Some(Ok(Recorded { sequence }));
    }
    Ok(())
}

/// Is the row that the put replaces (or its absence) there?
pub(super) async fn require_replaced(
    db: &ClientWrapper,
    put: &Put,
) -> Result<Option<Object>, Fault> {
    let there = find(db, put.bucket, &put.key).await?;
    if there.as_ref().map(|row| row.sequence) == put.replaces {
        Ok(there)
    } else {
        Err(WriteError::Exists(there.map(Box::new)).into())
    }
}

/// Makes a put visible. Its lock or intent was checked.
pub(super) async fn apply(tx: &mut Tx, put: &Put) -> Result<Recorded, Fault> {
    let old = require_replaced(tx.db(), put).await?;
    let known = tx.known_mut()?;
    let sequence = known.next_sequence(put.journalled)?;
    if put.journalled && known.is_root(&put.key) {
        known.counters.last_root = sequence;
    }
    if let Some(old) = old {
        known.lost(old.size);
        if put.journalled {
            known.counters.last_change = sequence;
        }
        hide(tx.db(), put.bucket, &put.key).await?;
        if let Some(kept) = &put.kept {
            tombstones::write(tx, &old, &kept.name, sequence, kept.retain_ms).await?;
        }
    }
    tx.known_mut()?.gained(put.size);
    insert(tx.db(), put, sequence).await?;
    if put.journalled {
        journal_put(tx.db(), put, sequence).await?;
    }
    if let Some(upload) = &put.completes {
        uploads::complete(tx, put, upload, sequence).await?;
    }
    if let Some(root) = &put.root {
        restore_points::committed(tx, put.repository, root, sequence, put.now_ms).await?;
    }
    if let Some(answer) = &put.answer {
        answers::keep(tx, answer, &put.etag, sequence).await?;
    }
    Ok(Recorded { sequence })
}

async fn hide(db: &ClientWrapper, bucket: BucketId, key: &ObjectKey) -> Result<(), Fault> {
    execute(
        db,
        "DELETE FROM objects WHERE bucket = $1 AND key = $2",
        &[&bucket.0, &key.as_str().as_bytes()],
    )
    .await?;
    Ok(())
}

async fn insert(db: &ClientWrapper, put: &Put, sequence: u64) -> Result<(), Fault> {
    execute(
        db,
        "INSERT INTO objects (bucket, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &put.bucket.0,
            &put.key.as_str().as_bytes(),
            &put.repository.0,
            &int(put.size),
            &&*put.etag,
            &put.hash.as_ref().map(<[u8; 32]>::as_slice),
            &&*put.identity.0,
            &put.now_ms,
            &int(sequence),
            &stored::details_text(put.details.as_deref()),
        ],
    )
    .await?;
    Ok(())
}

async fn journal_put(db: &ClientWrapper, put: &Put, sequence: u64) -> Result<(), Fault> {
    execute(
        db,
        "INSERT INTO journal (repository, sequence, key, size, etag, hash, at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            &put.repository.0,
            &int(sequence),
            &put.key.as_str().as_bytes(),
            &int(put.size),
            &&*put.etag,
            &put.hash.as_ref().map(<[u8; 32]>::as_slice),
            &put.now_ms,
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn journal(
    db: &ClientWrapper,
    repository: RepositoryId,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalEntry>> {
    let rows = query(
        db,
        "SELECT sequence, key, size, etag, hash, at_ms FROM journal
         WHERE repository = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        &[&repository.0, &int(after), &int(limit as u64)],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let deleted = column::<Option<i64>>(row, 2)?.is_none();
            let change = if deleted {
                Change::Delete
            } else {
                Change::Put {
                    size: count(row, 2)?,
                    etag: column::<&str>(row, 3)?.into(),
                    hash: hash(row, 4)?,
                }
            };
            Ok(JournalEntry {
                sequence: count(row, 0)?,
                key: key(row, 1)?,
                change,
                at_ms: column(row, 5)?,
            })
        })
        .collect()
}
