//! Recorded answers: how a request that is sent again is recognised.

use deadpool_postgres::ClientWrapper;

use super::rows::{column, count, execute, first, int};
use super::writer::{Fault, Tx};
use crate::state::{ANSWERS_KEPT_MS, Answer, AnswerKey, Result, stored};

/// Most answers forgotten at a time, so that no transaction is long.
pub(super) const PRUNED: i64 = 2000;

pub(super) async fn keep(
    tx: &Tx,
    answer: &AnswerKey,
    etag: &str,
    sequence: u64,
) -> Result<(), Fault> {
    execute(
        tx.db(),
        "INSERT INTO answers (request, etag, sequence, at_uptime_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (request) DO UPDATE SET etag = excluded.etag, sequence = excluded.sequence,
         at_uptime_ms = excluded.at_uptime_ms",
        &[
            &stored::request(answer).as_slice(),
            &etag,
            &int(sequence),
            &int(tx.uptime_ms),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn find(db: &ClientWrapper, answer: &AnswerKey) -> Result<Option<Answer>> {
    let row = first(
        db,
        "SELECT etag, sequence FROM answers WHERE request = $1",
        &[&stored::request(answer).as_slice()],
    )
    .await?;
    row.map(|row| {
        Ok(Answer {
            etag: column::<&str>(&row, 0)?.into(),
            sequence: count(&row, 1)?,
        })
    })
    .transpose()
}

/// Rows that another transaction works on are left for the next time: no waiting, so no deadlock.
pub(super) async fn prune(tx: &Tx, uptime_ms: u64) -> Result<(), Fault> {
    let before = int(uptime_ms.saturating_sub(ANSWERS_KEPT_MS));
    for sql in [
        "DELETE FROM answers WHERE request IN
         (SELECT request FROM answers WHERE at_uptime_ms < $1 ORDER BY at_uptime_ms LIMIT $2 FOR UPDATE SKIP LOCKED)",
        "DELETE FROM completed WHERE (bucket, upload) IN
         (SELECT bucket, upload FROM completed WHERE at_uptime_ms < $1 ORDER BY at_uptime_ms LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ] {
        execute(tx.db(), sql, &[&before, &PRUNED]).await?;
    }
    Ok(())
}
