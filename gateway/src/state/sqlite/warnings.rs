//! Open warnings: few rows, changed seldom.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::rows::{count, int};
use super::writer::{Fault, Tx};
use super::{Database, unrefusable};
use crate::state::warnings::{MOST, NewWarning, OVERFLOW, Raised, WarningRow, Warnings};
use crate::state::{Millis, RepositoryId, Result};

pub(super) const TABLE: &str = "
CREATE TABLE warnings (
    repository INTEGER NOT NULL REFERENCES repositories,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    sentence TEXT NOT NULL,
    raised_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    times INTEGER NOT NULL,
    acknowledged_ms INTEGER,
    PRIMARY KEY (repository, kind, subject)
) STRICT, WITHOUT ROWID;
";

#[async_trait]
impl Warnings for Database {
    async fn raise_warning(&self, repository: RepositoryId, warning: NewWarning) -> Result<Raised> {
        self.writer
            .write(move |tx| raise(tx, repository, &warning))
            .await
            .map_err(unrefusable)
    }

    async fn clear_warnings(
        &self,
        repository: RepositoryId,
        kind: &str,
        subject: Option<&str>,
    ) -> Result<Vec<WarningRow>> {
        let (kind, subject) = (kind.to_owned(), subject.map(str::to_owned));
        self.writer
            .write(move |tx| clear(tx, repository, &kind, subject.as_deref()))
            .await
            .map_err(unrefusable)
    }

    async fn acknowledge_warnings(
        &self,
        repository: RepositoryId,
        kind: &str,
        subject: Option<&str>,
        at_ms: Millis,
    ) -> Result<u64> {
        let (kind, subject) = (kind.to_owned(), subject.map(str::to_owned));
        self.writer
            .write(move |tx| acknowledge(tx, repository, &kind, subject.as_deref(), at_ms))
            .await
            .map_err(unrefusable)
    }

    async fn warnings(&self, repository: RepositoryId) -> Result<Vec<WarningRow>> {
        self.read(|db| all(db, repository))
    }
}

fn raise(tx: &mut Tx<'_>, repository: RepositoryId, warning: &NewWarning) -> Result<Raised, Fault> {
    let again = tx
        .db
        .prepare_cached(
            "UPDATE warnings SET times = times + 1, last_ms = ?4, sentence = ?5
             WHERE repository = ?1 AND kind = ?2 AND subject = ?3",
        )?
        .execute(params![
            repository.0,
            warning.kind,
            warning.subject,
            warning.at_ms,
            warning.sentence
        ])?;
    if again > 0 {
        return Ok(Raised::Again);
    }
    let named: i64 = tx
        .db
        .prepare_cached(
            "SELECT count(*) FROM warnings WHERE repository = ?1 AND kind = ?2 AND subject <> ?3",
        )?
        .query_row(params![repository.0, warning.kind, OVERFLOW], |row| {
            row.get(0)
        })?;
    let (subject, raised) = if named < int(MOST) {
        (warning.subject.as_str(), Raised::New)
    } else {
        (OVERFLOW, Raised::Counted)
    };
    tx.db
        .prepare_cached(
            "INSERT INTO warnings (repository, kind, subject, sentence, raised_ms, last_ms, times)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1)
             ON CONFLICT DO UPDATE SET times = times + 1, last_ms = excluded.last_ms,
                 sentence = excluded.sentence, acknowledged_ms = NULL",
        )?
        .execute(params![
            repository.0,
            warning.kind,
            subject,
            warning.sentence,
            warning.at_ms
        ])?;
    Ok(raised)
}

fn clear(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    kind: &str,
    subject: Option<&str>,
) -> Result<Vec<WarningRow>, Fault> {
    let mut statement = tx.db.prepare_cached(
        "DELETE FROM warnings WHERE repository = ?1 AND kind = ?2 AND (?3 IS NULL OR subject = ?3)
         RETURNING kind, subject, sentence, raised_ms, last_ms, times, acknowledged_ms",
    )?;
    let rows = statement
        .query_map(params![repository.0, kind, subject], row)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

fn acknowledge(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    kind: &str,
    subject: Option<&str>,
    at_ms: Millis,
) -> Result<u64, Fault> {
    let changed = tx
        .db
        .prepare_cached(
            "UPDATE warnings SET acknowledged_ms = ?4
             WHERE repository = ?1 AND kind = ?2 AND (?3 IS NULL OR subject = ?3)",
        )?
        .execute(params![repository.0, kind, subject, at_ms])?;
    Ok(changed as u64)
}

fn all(db: &Connection, repository: RepositoryId) -> Result<Vec<WarningRow>> {
    let mut statement = db.prepare_cached(
        "SELECT kind, subject, sentence, raised_ms, last_ms, times, acknowledged_ms FROM warnings
         WHERE repository = ?1 ORDER BY kind, subject",
    )?;
    let rows = statement
        .query_map([repository.0], row)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

fn row(row: &Row<'_>) -> rusqlite::Result<WarningRow> {
    Ok(WarningRow {
        kind: row.get(0)?,
        subject: row.get(1)?,
        sentence: row.get(2)?,
        raised_ms: row.get(3)?,
        last_ms: row.get(4)?,
        times: count(row, 5)?,
        acknowledged_ms: row.get(6)?,
    })
}
