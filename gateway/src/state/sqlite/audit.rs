//! The audit table: append-only, each record hashed over the one before it.
//!
//! The hash covers a canonical encoding of all fields, each with its length, so that no two records share one.
//! It is written down once, in [`digest`]; triggers of the schema refuse changes, [`verify`] finds those that
//! were made behind SQLite's back.

use policies::identity::{Epoch, Repository};
use rusqlite::{Connection, Row};
use sha2::{Digest, Sha256};

use super::rows::{count, int};
use super::writer::{Fault, Tx};
use crate::state::{AuditEntry, AuditRecord, Result, stored};

/// The last record's number and hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct End {
    sequence: u64,
    hash: [u8; 32],
}

/// Nothing was recorded yet.
const START: End = End {
    sequence: 0,
    hash: [0; 32],
};

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
    let previous = tx.memory.audit_end().clone();
    let sequence = previous.sequence + 1;
    let detail = entry.detail.to_string();
    let hash = digest(&previous.hash, sequence, entry, &detail);
    tx.db
        .prepare_cached(
            "INSERT INTO audit (sequence, at_ms, principal, action, repository, epoch, detail, previous, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            int(sequence),
            entry.at_ms,
            &entry.principal,
            &entry.action,
            entry.repository.as_ref().map(Repository::as_str),
            entry.epoch.map(|e| int(e.0)),
            detail,
            previous.hash,
            hash,
        ))?;
    tx.memory.set_audit_end(End { sequence, hash });
    Ok(())
}

fn digest(previous: &[u8; 32], sequence: u64, entry: &AuditEntry, detail: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"snapgate audit 1\n");
    hasher.update(previous);
    hasher.update(sequence.to_be_bytes());
    hasher.update(entry.at_ms.to_be_bytes());
    let repository = entry.repository.as_ref().map(Repository::as_str);
    let epoch = entry.epoch.map(|e| e.0.to_string());
    let texts = [
        Some(entry.principal.as_str()),
        Some(&entry.action),
        repository,
        epoch.as_deref(),
        Some(detail),
    ];
    for text in texts {
        // An absent field is not an empty one.
        hasher.update([u8::from(text.is_some())]);
        let text = text.unwrap_or_default();
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}

struct Stored {
    sequence: u64,
    entry: AuditEntry,
    detail: String,
    previous: [u8; 32],
    hash: [u8; 32],
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
        let whole = record(row).ok().filter(|row| {
            row.sequence == expected
                && row.previous == end.hash
                && row.hash == digest(&end.hash, expected, &row.entry, &row.detail)
        });
        let Some(row) = whole else {
            return Ok(Some(expected));
        };
        end = End {
            sequence: expected,
            hash: row.hash,
        };
    }
    Ok(None)
}
