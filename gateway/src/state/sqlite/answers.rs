//! Recorded answers: how a request that is sent again is recognised.

use rusqlite::Connection;

use super::rows::{Etag, count, etag, int};
use super::writer::Tx;
use crate::state::ANSWERS_KEPT_MS;
use crate::state::{Answer, AnswerKey, Result, stored};

/// Most answers forgotten at a time, so that no transaction is long.
pub(super) const PRUNED: i64 = 2000;

pub(super) fn keep(
    tx: &mut Tx<'_>,
    answer: &AnswerKey,
    etag: &str,
    sequence: u64,
) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached(
            "INSERT OR REPLACE INTO answers (request, etag, sequence, at_uptime_ms) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((stored::request(answer), Etag(etag), int(sequence), int(tx.memory.uptime())))
        .map(|_| ())
}

pub(super) fn find(db: &Connection, answer: &AnswerKey) -> Result<Option<Answer>> {
    let mut statement =
        db.prepare_cached("SELECT etag, sequence FROM answers WHERE request = ?1")?;
    let mut rows = statement.query([stored::request(answer)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(Answer {
        etag: etag(row, 0)?,
        sequence: count(row, 1)?,
    }))
}

pub(super) fn prune(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached(
            "DELETE FROM answers WHERE request IN
             (SELECT request FROM answers WHERE at_uptime_ms < ?1 ORDER BY at_uptime_ms LIMIT ?2)",
        )?
        .execute([
            int(tx.memory.uptime().saturating_sub(ANSWERS_KEPT_MS)),
            PRUNED,
        ])
        .map(|_| ())
}
