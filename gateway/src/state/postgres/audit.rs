//! The audit table: append-only. Triggers of the schema refuse changes, [`verify`] finds those that were made
//! behind their back.

use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use policies::identity::{Epoch, Repository};
use policies::lock::history::{History, Totals, Violation};

use super::lock;
use super::rows::{column, count, execute, first, hash, int, query};
use super::writer::Fault;
use crate::state::chain::{End, START, Stored};
use crate::state::{AuditEntry, AuditRecord, Result, facts, stored};

/// Records read at a time.
const PAGE: i64 = 5000;

/// Locks the chain's end for whoever appends.
pub(super) const END: &str = "SELECT sequence, hash FROM audit_end FOR UPDATE";

/// Appends a record and moves the end in one statement.
pub(super) const APPEND: &str = "
WITH record AS (
    INSERT INTO audit (sequence, at_ms, principal, action, repository, epoch, detail, previous, hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING sequence, hash
) UPDATE audit_end SET sequence = record.sequence, hash = record.hash FROM record";

pub(super) fn end_from(row: &Row) -> Result<End> {
    Ok(End {
        sequence: count(row, 0)?,
        hash: hash(row, 1)?.unwrap_or(START.hash),
    })
}

pub(super) async fn append(db: &ClientWrapper, entry: &AuditEntry) -> Result<(), Fault> {
    let end = first(db, END, &[])
        .await?
        .ok_or_else(|| stored::unreadable("the audit chain has no end"))?;
    let row = end_from(&end)?.append(entry);
    let epoch = entry.epoch.map(|e| int(e.0));
    let repository = entry.repository.as_ref().map(Repository::as_str);
    execute(
        db,
        APPEND,
        &[
            &int(row.sequence),
            &entry.at_ms,
            &entry.principal,
            &entry.action,
            &repository,
            &epoch,
            &row.detail,
            &row.previous.as_slice(),
            &row.hash.as_slice(),
        ],
    )
    .await?;
    Ok(())
}

fn record(row: &Row) -> Result<Stored> {
    let detail: String = column(row, 6)?;
    let epoch: Option<i64> = column(row, 5)?;
    let whole =
        |at| hash(row, at)?.ok_or_else(|| stored::unreadable("an audit record has no hash"));
    Ok(Stored {
        sequence: count(row, 0)?,
        entry: AuditEntry {
            at_ms: column(row, 1)?,
            principal: column(row, 2)?,
            action: column(row, 3)?,
            repository: column::<Option<String>>(row, 4)?.map(Repository::new),
            epoch: epoch.map(|_| count(row, 5).map(Epoch)).transpose()?,
            detail: serde_json::from_str(&detail)
                .map_err(|e| stored::unreadable(&e.to_string()))?,
        },
        detail,
        previous: whole(7)?,
        hash: whole(8)?,
    })
}

/// The newest records first, older than `before`.
pub(super) async fn newest(
    db: &ClientWrapper,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<AuditRecord>> {
    let rows = query(
        db,
        "SELECT sequence, at_ms, principal, action, repository, epoch, detail, previous, hash FROM audit
         WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2",
        &[&before.map_or(i64::MAX, int), &int(limit as u64)],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let row = record(row)?;
            Ok(AuditRecord {
                sequence: row.sequence,
                entry: row.entry,
                hash: hex::encode(row.hash),
                previous: hex::encode(row.previous),
            })
        })
        .collect()
}

/// The first record that is not the one that was appended; None = the chain is whole, up to its end.
pub(super) async fn verify(db: &ClientWrapper) -> Result<Option<u64>> {
    // Read first: records that come meanwhile lie behind it.
    let told = first(db, "SELECT sequence, hash FROM audit_end", &[])
        .await?
        .map(|row| end_from(&row))
        .transpose()?
        .unwrap_or(START);
    let mut end = START;
    loop {
        let rows = after(db, end.sequence).await?;
        for row in &rows {
            let expected = end.sequence + 1;
            let Some(next) = record(row).ok().and_then(|row| end.follow(&row)) else {
                return Ok(Some(expected));
            };
            end = next;
        }
        if rows.is_empty() {
            let cut_short = end.sequence < told.sequence;
            return Ok(cut_short.then_some(end.sequence + 1));
        }
    }
}

/// The next records, oldest first.
async fn after(db: &ClientWrapper, sequence: u64) -> Result<Vec<Row>> {
    let rows = query(
        db,
        "SELECT sequence, at_ms, principal, action, repository, epoch, detail, previous, hash FROM audit
         WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        &[&int(sequence), &PAGE],
    )
    .await?;
    Ok(rows)
}

/// The history of all writers.
pub(super) async fn replay(db: &ClientWrapper) -> Result<Result<Totals, Violation>> {
    let mut history = History::new(lock::all(db).await?);
    let mut last = 0;
    loop {
        let rows = after(db, last).await?;
        for row in &rows {
            let row = record(row)?;
            last = row.sequence;
            let Some((repository, told)) = facts::record(&row.entry) else {
                continue;
            };
            if let Err(violation) = history.follow(row.sequence, repository, told) {
                return Ok(Err(violation));
            }
        }
        if rows.is_empty() {
            return Ok(history.end());
        }
    }
}
