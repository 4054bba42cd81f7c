//! Open warnings: few rows, changed seldom.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;

use super::rows::{column, count, execute, first, int, query};
use super::writer::{Fault, Tx};
use super::{Database, read, unrefusable};
use crate::state::warnings::{MOST, NewWarning, OVERFLOW, Raised, WarningRow, Warnings};
use crate::state::{Millis, RepositoryId, Result};

pub(super) const TABLE: &str = "
CREATE TABLE warnings (
    repository BIGINT NOT NULL REFERENCES repositories,
    kind TEXT COLLATE \"C\" NOT NULL,
    subject TEXT COLLATE \"C\" NOT NULL,
    sentence TEXT NOT NULL,
    raised_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    times BIGINT NOT NULL,
    acknowledged_ms BIGINT,
    PRIMARY KEY (repository, kind, subject)
);
";

#[async_trait]
impl Warnings for Database {
    async fn raise_warning(&self, repository: RepositoryId, warning: NewWarning) -> Result<Raised> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { raise(tx, repository, &warning).await })
            })
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
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { clear(tx, repository, &kind, subject).await })
            })
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
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { acknowledge(tx, repository, &kind, subject, at_ms).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn warnings(&self, repository: RepositoryId) -> Result<Vec<WarningRow>> {
        read!(self, db => all(db, repository))
    }
}

async fn raise(tx: &Tx, repository: RepositoryId, warning: &NewWarning) -> Result<Raised, Fault> {
    let again = execute(
        tx.db(),
        "UPDATE warnings SET times = times + 1, last_ms = $4, sentence = $5
         WHERE repository = $1 AND kind = $2 AND subject = $3",
        &[
            &repository.0,
            &warning.kind,
            &warning.subject,
            &warning.at_ms,
            &warning.sentence,
        ],
    )
    .await?;
    if again > 0 {
        return Ok(Raised::Again);
    }
    let named = first(
        tx.db(),
        "SELECT count(*) FROM warnings WHERE repository = $1 AND kind = $2 AND subject <> $3",
        &[&repository.0, &warning.kind, &OVERFLOW],
    )
    .await?;
    let named: i64 = named.map_or(Ok(0), |row| column(&row, 0))?;
    let (subject, raised) = if named < int(MOST) {
        (warning.subject.as_str(), Raised::New)
    } else {
        (OVERFLOW, Raised::Counted)
    };
    execute(
        tx.db(),
        "INSERT INTO warnings (repository, kind, subject, sentence, raised_ms, last_ms, times)
         VALUES ($1, $2, $3, $4, $5, $5, 1)
         ON CONFLICT (repository, kind, subject) DO UPDATE SET times = warnings.times + 1,
             last_ms = excluded.last_ms, sentence = excluded.sentence, acknowledged_ms = NULL",
        &[
            &repository.0,
            &warning.kind,
            &subject,
            &warning.sentence,
            &warning.at_ms,
        ],
    )
    .await?;
    Ok(raised)
}

async fn clear(
    tx: &Tx,
    repository: RepositoryId,
    kind: &str,
    subject: Option<String>,
) -> Result<Vec<WarningRow>, Fault> {
    let rows = query(
        tx.db(),
        "DELETE FROM warnings WHERE repository = $1 AND kind = $2 AND ($3::text IS NULL OR subject = $3)
         RETURNING kind, subject, sentence, raised_ms, last_ms, times, acknowledged_ms",
        &[&repository.0, &kind, &subject],
    )
    .await?;
    Ok(rows.iter().map(row).collect::<Result<_>>()?)
}

async fn acknowledge(
    tx: &Tx,
    repository: RepositoryId,
    kind: &str,
    subject: Option<String>,
    at_ms: Millis,
) -> Result<u64, Fault> {
    Ok(execute(
        tx.db(),
        "UPDATE warnings SET acknowledged_ms = $4
         WHERE repository = $1 AND kind = $2 AND ($3::text IS NULL OR subject = $3)",
        &[&repository.0, &kind, &subject, &at_ms],
    )
    .await?)
}

async fn all(db: &ClientWrapper, repository: RepositoryId) -> Result<Vec<WarningRow>> {
    let rows = query(
        db,
        "SELECT kind, subject, sentence, raised_ms, last_ms, times, acknowledged_ms FROM warnings
         WHERE repository = $1 ORDER BY kind, subject",
        &[&repository.0],
    )
    .await?;
    rows.iter().map(row).collect()
}

fn row(row: &Row) -> Result<WarningRow> {
    Ok(WarningRow {
        kind: column(row, 0)?,
        subject: column(row, 1)?,
        sentence: column(row, 2)?,
        raised_ms: column(row, 3)?,
        last_ms: column(row, 4)?,
        times: count(row, 5)?,
        acknowledged_ms: column(row, 6)?,
    })
}
