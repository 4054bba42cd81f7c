//! The audit table: append-only, each record hashed over the one before it.
//!
//! Triggers of the schema refuse changes, [`verify`] finds those that were made behind SQLite's back.

use policies::identity::{Epoch, Repository};
use policies::lock::history::{History, Totals, Violation};
use rusqlite::{Connection, Row};

use super::lock;
use super::rows::{count, int};
use super::writer::{Fault, Tx};
use crate::state::chain::{End, START, Stored};
use crate::state::{AuditEntry, AuditRecord, Result, facts, stored};

pub(super) fn end(db: &Connection) -> Result<End> {
    let mut statement =
        db.prepare_cached("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?;
    let mut rows = statement.query([])?;
    match rows.next()? {
        Some(row) => Ok(End {
            sequence: count(row, 0)?,
            hash: row.get(1)?,
        }),
        None => Ok(START),
    }
}

pub(super) fn append(tx: &mut Tx<'_>, entry: &AuditEntry) -> Result<(), Fault> {
    let row = tx.memory.audit_end().append(entry);
    tx.db
        .prepare_cached(
            "INSERT INTO audit (sequence, at_ms, principal, action, repository, epoch, detail, previous, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            int(row.sequence),
            entry.at_ms,
            &entry.principal,
            &entry.action,
            entry.repository.as_ref().map(Repository::as_str),
            entry.epoch.map(|e| int(e.0)),
            row.detail,
            row.previous,
            row.hash,
        ))?;
    tx.memory.set_audit_end(End {
        sequence: row.sequence,
        hash: row.hash,
    });
    Ok(())
}

fn record(row: &Row<'_>) -> Result<Stored> {
    let detail: String = row.get(6)?;
    let epoch: Option<i64> = row.get(5)?;
    Ok(Stored {
        sequence: count(row, 0)?,
        entry: AuditEntry {
            at_ms: row.get(1)?,
            principal: row.get(2)?,
            action: row.get(3)?,
            repository: row.get::<_, Option<String>>(4)?.map(Repository::new),
            epoch: epoch.map(|_| count(row, 5).map(Epoch)).transpose()?,
            detail: serde_json::from_str(&detail)
                .map_err(|e| stored::unreadable(&e.to_string()))?,
        },
        detail,
        previous: row.get(7)?,
        hash: row.get(8)?,
    })
}

/// The newest records first, older than `before`.
pub(super) fn newest(
    db: &Connection,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<AuditRecord>> {
    let mut statement = db.prepare_cached(
        "SELECT sequence, at_ms, principal, action, repository, epoch, detail, previous, hash FROM audit
         WHERE sequence < ?1 ORDER BY sequence DESC LIMIT ?2",
    )?;
    let mut rows = statement.query([before.map_or(i64::MAX, int), int(limit as u64)])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let row = record(row)?;
        records.push(AuditRecord {
            sequence: row.sequence,
            entry: row.entry,
            hash: hex::encode(row.hash),
            previous: hex::encode(row.previous),
        });
    }
    Ok(records)
}

/// The first record that is not the one that was appended; None = the chain is whole.
pub(super) fn verify(db: &Connection) -> Result<Option<u64>> {
    let mut statement = db.prepare_cached(
        "SELECT sequence, at_ms, principal, action, repository, epoch, detail, previous, hash FROM audit
         ORDER BY sequence",
    )?;
    let mut rows = statement.query([])?;
    let mut end = START;
    while let Some(row) = rows.next()? {
        let expected = end.sequence + 1;
        let Some(next) = record(row).ok().and_then(|row| end.follow(&row)) else {
            return Ok(Some(expected));
        };
        end = next;
    }
    Ok(None)
}

/// The history of all writers.
pub(super) fn replay(db: &Connection) -> Result<Result<Totals, Violation>> {
    let mut history = History::new(lock::all(db)?);
    let mut statement = db.prepare_cached(
        "SELECT sequence, at_ms, principal, action, repository, epoch, detail, previous, hash FROM audit
         ORDER BY sequence",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let row = record(row)?;
        let Some((repository, told)) = facts::record(&row.entry) else {
            continue;
        };
        if let Err(violation) = history.follow(row.sequence, repository, told) {
            return Ok(Err(violation));
        }
    }
    Ok(history.end())
}
