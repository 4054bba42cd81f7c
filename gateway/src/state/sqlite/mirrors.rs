//! Mirrors' rows, and the journal's bound.

use policies::identity::{Epoch, Handover, StoreName};
use policies::key::ObjectKey;
use policies::mirror_order::Mode;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::lock;
use super::rows::{count, int};
use super::writer::{Fault, Tx};
use crate::state::leave::Leave;
use crate::state::mirrors::{Backlog, MirrorChange, MirrorRow, NewMirror, Resync, Stalled};
use crate::state::{BucketId, Millis, RepositoryId, Result, stored};
use crate::stores::Identity;

/// Journal rows that one transaction removes at most.
const CUT: u64 = 4000;

pub(super) const NODES: &str = "
ALTER TABLE mirrors ADD COLUMN rooted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mirrors ADD COLUMN orders INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mirrors ADD COLUMN applier TEXT;
";

const SELECT: &str = "SELECT repository, store, mode, epoch, handover, applied, paused, resync, stalled, failed, transferred, bytes, rooted, orders, applier
     FROM mirrors WHERE repository = ?1";

fn row(row: &Row<'_>) -> Result<MirrorRow> {
    let text: Option<String> = row.get(7)?;
    let resync = text.as_deref().map(json::<Resync>).transpose()?;
    let text: Option<String> = row.get(8)?;
    let stalled = text.as_deref().map(json::<Stalled>).transpose()?;
    let mode: String = row.get(2)?;
    Ok(MirrorRow {
        repository: RepositoryId(row.get(0)?),
        store: StoreName::new(row.get::<_, String>(1)?),
        mode: Mode::parse(&mode).ok_or_else(|| stored::unreadable("a mirror's mode"))?,
        epoch: Epoch(count(row, 3)?),
        handover: Handover::new(row.get::<_, String>(4)?),
        applied: count(row, 5)?,
        rooted: count(row, 12)?,
        paused: row.get(6)?,
        orders: count(row, 13)?,
        applier: row.get(14)?,
        resync,
        stalled,
        failed: count(row, 9)?,
        transferred: count(row, 10)?,
        bytes: count(row, 11)?,
    })
}

fn json<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| stored::unreadable(&e.to_string()))
}

fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain structs of text and numbers are JSON")
}

pub(super) fn all(db: &Connection, repository: RepositoryId) -> Result<Vec<MirrorRow>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} ORDER BY store"))?;
    let mut rows = statement.query([repository.0])?;
    let mut found = Vec::new();
    while let Some(next) = rows.next()? {
        found.push(row(next)?);
    }
    Ok(found)
}

pub(super) fn one(
    db: &Connection,
    repository: RepositoryId,
    store: &StoreName,
) -> Result<Option<MirrorRow>> {
    let mut statement = db.prepare_cached(&format!("{SELECT} AND store = ?2"))?;
    let mut rows = statement.query((repository.0, store.as_str()))?;
    rows.next()?.map(row).transpose()
}

pub(super) fn open(tx: &mut Tx<'_>, new: &NewMirror) -> Result<MirrorRow, Fault> {
    if let Some(there) = one(tx.db, new.repository, &new.store)? {
        return Ok(there);
    }
    let row = MirrorRow::new(new, sequence(tx.db, new.repository)?);
    write(tx.db, &row)?;
    Ok(row)
}

pub(super) fn keep(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    stores: &[StoreName],
) -> Result<(), Fault> {
    for gone in all(tx.db, repository)?
        .iter()
        .filter(|row| !stores.contains(&row.store))
    {
        tx.db
            .prepare_cached("DELETE FROM mirrors WHERE repository = ?1 AND store = ?2")?
            .execute((repository.0, gone.store.as_str()))?;
    }
    Ok(())
}

pub(super) fn change(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    store: &StoreName,
    by: Option<Epoch>,
    changes: Vec<MirrorChange>,
) -> Result<Option<MirrorRow>, Fault> {
    let known = one(tx.db, repository, store)?;
    let Some(mut row) = known.filter(|row| by.is_none_or(|epoch| epoch == row.epoch)) else {
        return Ok(None);
    };
    for change in changes {
        row.apply(sequence(tx.db, repository)?, change);
    }
    write(tx.db, &row)?;
    Ok(Some(row))
}

fn write(db: &Connection, row: &MirrorRow) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO mirrors (repository, store, mode, epoch, handover, applied, paused, resync, stalled, failed, transferred, bytes, rooted, orders, applier)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        row.repository.0,
        row.store.as_str(),
        row.mode.as_str(),
        int(row.epoch.0),
        row.handover.as_str(),
        int(row.applied),
        row.paused,
        row.resync.as_ref().map(text),
        row.stalled.as_ref().map(text),
        int(row.failed),
        int(row.transferred),
        int(row.bytes),
        int(row.rooted),
        int(row.orders),
        row.applier,
    ])
    .map(|_| ())
}

/// The repository moved onto one of its mirrors. Where the history was broken by that, the others are compared anew;
/// `broken` is the sequence from which the journal goes on.
pub(super) fn moved(
    tx: &Tx<'_>,
    repository: RepositoryId,
    onto: &StoreName,
    broken: Option<u64>,
    now_ms: Millis,
) -> Result<(), Fault> {
    tx.db
        .prepare_cached("DELETE FROM mirrors WHERE repository = ?1 AND store = ?2")?
        .execute((repository.0, onto.as_str()))?;
    let Some(sequence) = broken else {
        return Ok(());
    };
    for mut row in all(tx.db, repository)? {
        let mut resync = Resync::begin("the repository was promoted onto another mirror", now_ms);
        resync.aside = true;
        row.resync = Some(resync);
        row.applied = sequence;
        write(tx.db, &row)?;
    }
    Ok(())
}

/// As committed requests of this transaction left it: counters are written at its end.
fn sequence(db: &Connection, repository: RepositoryId) -> Result<u64> {
    let in_journal: Option<i64> = db
        .prepare_cached("SELECT max(sequence) FROM journal WHERE repository = ?1")?
        .query_row([repository.0], |row| row.get(0))?;
    let counted: Option<i64> = db
        .prepare_cached("SELECT sequence FROM repositories WHERE id = ?1")?
        .query_row([repository.0], |row| row.get(0))
        .optional()?;
    let newest = in_journal.unwrap_or(0).max(counted.unwrap_or(0));
    Ok(u64::try_from(newest).unwrap_or(0))
}

pub(super) fn backlog(db: &Connection, repository: RepositoryId, after: u64) -> Result<Backlog> {
    let snapshot = db.unchecked_transaction()?;
    let source = sequence(&snapshot, repository)?;
    let bytes = snapshot
        .prepare_cached(
            "SELECT coalesce(sum(size), 0) FROM journal WHERE repository = ?1 AND sequence > ?2",
        )?
        .query_row([repository.0, int(after)], |row| count(row, 0))?;
    let oldest_ms: Option<Millis> = snapshot
        .prepare_cached(
            "SELECT at_ms FROM journal WHERE repository = ?1 AND sequence > ?2 ORDER BY sequence LIMIT 1",
        )?
        .query_row([repository.0, int(after)], |row| row.get(0))
        .optional()?;
    snapshot.finish()?;
    Ok(Backlog {
        source,
        operations: source.saturating_sub(after),
        bytes,
        oldest_ms,
    })
}

pub(super) fn bound_journal(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    keep: u64,
    now_ms: Millis,
) -> Result<bool, Fault> {
    let newest = sequence(tx.db, repository)?;
    let Some(cut) = newest.checked_sub(keep).filter(|cut| *cut > 0) else {
        return Ok(false);
    };
    for mut row in all(tx.db, repository)? {
        if row.applied < cut {
            row.lost_its_place(newest, now_ms);
            write(tx.db, &row)?;
        }
    }
    let oldest: Option<i64> = tx
        .db
        .prepare_cached("SELECT min(sequence) FROM journal WHERE repository = ?1")?
        .query_row([repository.0], |row| row.get(0))?;
    let Some(oldest) = oldest.and_then(|oldest| u64::try_from(oldest).ok()) else {
        return Ok(false);
    };
    let upto = cut.min(oldest.saturating_add(CUT));
    tx.db
        .prepare_cached("DELETE FROM journal WHERE repository = ?1 AND sequence <= ?2")?
        .execute([repository.0, int(upto)])?;
    Ok(upto < cut)
}

pub(super) fn healed(
    tx: &mut Tx<'_>,
    leave: &Leave,
    bucket: BucketId,
    key: &ObjectKey,
    sequence: u64,
    identity: &Identity,
) -> Result<bool, Fault> {
    let repository: Option<i64> = tx
        .db
        .prepare_cached(
            "SELECT repository FROM objects WHERE bucket = ?1 AND key = ?2 AND sequence = ?3",
        )?
        .query_row((bucket.0, key.as_str().as_bytes(), int(sequence)), |row| {
            row.get(0)
        })
        .optional()?;
    let Some(repository) = repository else {
        return Ok(false);
    };
    lock::check(tx, leave, RepositoryId(repository))?;
    tx.db
        .prepare_cached("UPDATE objects SET identity = ?3 WHERE bucket = ?1 AND key = ?2")?
        .execute((bucket.0, key.as_str().as_bytes(), &*identity.0))?;
    Ok(true)
}
