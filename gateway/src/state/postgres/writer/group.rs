//! A group: what was queued for one turn, in one transaction.

use std::collections::HashSet;
use std::sync::Arc;

use deadpool_postgres::Pool;
use futures::future::{join, join3};
use tokio::sync::mpsc;

use super::WHOLE;
use super::fault::undo_all;
use super::job::{Job, Ran, Record};
use super::session::{Session, Tx};
use crate::state::postgres::lock::{self, Known};
use crate::state::postgres::nodes::Uptime;
use crate::state::postgres::rows::{count, execute, first, prepare};
use crate::state::postgres::{PATIENCE, catalog, no_answer, plain};
use crate::state::{Result, leave};

/// Most requests in one transaction.
const GROUP: usize = 512;
pub(super) const TURN: &str = "SELECT 1 FROM turns WHERE id = $1 FOR UPDATE";
const NUMBER: &str = "INSERT INTO groups (turn, node, number) VALUES ($1, $2, $3)
     ON CONFLICT (turn, node) DO UPDATE SET number = excluded.number";

/// Works on the queue of one turn.
pub(super) struct Worker {
    pub(super) pool: Pool,
    pub(super) node: i64,
    pub(super) turn: i64,
    uptime: Arc<Uptime>,
    /// Of the last group.
    pub(super) number: i64,
    /// The repository as the last group found it that asked for it.
    seen: Option<Known>,
}

impl Worker {
    pub(super) fn new(pool: Pool, node: i64, turn: i64, uptime: Arc<Uptime>) -> Self {
        Self {
            pool,
            node,
            turn,
            uptime,
            number: 0,
            seen: None,
        }
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::with_capacity(GROUP);
        while jobs.recv_many(&mut group, GROUP).await > 0 {
            let committed = self.transaction(&mut group, &mut jobs).await;
            for job in group.drain(..) {
                job.answer(committed.clone());
            }
        }
    }

    async fn transaction(
        &mut self,
        group: &mut Vec<Job>,
        more: &mut mpsc::Receiver<Job>,
    ) -> Result<()> {
        self.number += 1;
        let mut commit_sent = false;
        let done = tokio::time::timeout(PATIENCE, self.all(group, more, &mut commit_sent)).await;
        let failure = match done {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => e,
            Err(_) => no_answer(),
        };
        if !commit_sent {
            return Err(failure);
        }
        tracing::warn!(cause = %failure, "a COMMIT was interrupted; its outcome is looked up");
        self.look_up(failure).await?;
        tokio::time::timeout(PATIENCE, self.find_recorded(group))
            .await
            .unwrap_or_else(|_| Err(no_answer()))
    }

    /// The group's transaction, from the turn to the COMMIT.
    async fn all(
        &mut self,
        group: &mut Vec<Job>,
        more: &mut mpsc::Receiver<Job>,
        commit_sent: &mut bool,
    ) -> Result<()> {
        let session = Arc::new(Session::begin(&self.pool).await?);
        if self.all_new(&session, group, commit_sent).await? {
            return Ok(());
        }
        let mut tx = self.begin(&session).await?;
        self.seen.clone_from(&tx.known);
        // Whatever came while the turn was another's goes with this group.
        while group.len() < GROUP
            && let Ok(job) = more.try_recv()
        {
            group.push(job);
        }
        let before = tx.known.as_ref().map(|known| known.counters);
        let alone = group.len() == 1;
        let mut changed = self.record_plain(&mut tx, group).await?;
        changed |= run_others(&session, &mut tx, group, alone).await?;
        if !changed {
            session.db().batch_execute("ROLLBACK").await?;
            session.ended_in_order();
            return Ok(());
        }
        *commit_sent = true;
        let counted = tx.known.as_ref().map(|known| known.counters);
        self.commit(&session, counted.filter(|_| counted != before))
            .await?;
        session.ended_in_order();
        Ok(())
    }

    /// The whole group by one call, if it is of new objects only and nothing stands in their way.
    async fn all_new(
        &self,
        session: &Session,
        group: &mut [Job],
        commit_sent: &mut bool,
    ) -> Result<bool> {
        let Some(known) = &self.seen else {
            return Ok(false);
        };
        let Some(batch) = plain::all_new(known, group) else {
            return Ok(false);
        };
        let db = session.db();
        prepare(db, &[plain::RECORD]).await?;
        *commit_sent = true;
        let done = plain::record(db, known, (self.node, self.number), batch).await?;
        *commit_sent = done;
        if done {
            session.ended_in_order();
        }
        Ok(done)
    }

    /// One trip to the server: the turn, and then what is true now.
    async fn begin(&self, session: &Arc<Session>) -> Result<Tx> {
        let db = session.db();
        let turn = self.turn;
        prepare(db, &[TURN, lock::KNOWN]).await?;
        let (begun, at_turn, known) = join3(
            db.batch_execute("BEGIN"),
            execute(db, TURN, &[&turn]),
            first(db, lock::KNOWN, &[&turn]),
        )
        .await;
        begun?;
        at_turn?;
        let row = known?;
        let (known, uptime_ms) = match (&row, turn) {
            (Some(row), _) => {
                let (known, uptime) = lock::known(row)?;
                (Some(known), uptime)
            }
            (None, WHOLE) => {
                let row = first(db, "SELECT uptime_ms FROM database", &[]).await?;
                let uptime = row.as_ref().map(|row| count(row, 0));
                (None, uptime.transpose()?.unwrap_or(0))
            }
            (None, _) => return Err(leave::unknown()),
        };
        Ok(Tx {
            session: Arc::clone(session),
            known,
            node: self.node,
            uptime_ms,
            now_ms: self.uptime.now().max(uptime_ms),
        })
    }

    /// True = at least one was recorded.
    async fn record_plain(&self, tx: &mut Tx, group: &mut [Job]) -> Result<bool> {
        let mut batch: Vec<&mut Record> = group
            .iter_mut()
            .filter_map(|job| match job {
                Job::Record(record) => Some(&mut **record),
                Job::Other(_) => None,
            })
            .collect();
        if batch.is_empty() {
            return Ok(false);
        }
        // Of two records of one key the second is told what the first did.
        let mut seen = HashSet::new();
        batch.retain(|record| seen.insert(record.put.key.clone()));
        catalog::record_all(tx, &mut batch)
            .await
            .map_err(undo_all)?;
        let mut changed = batch.iter().any(|r| matches!(r.result, Some(Ok(_))));
        let repeated = group.iter_mut().filter_map(|job| match job {
            Job::Record(record) if record.result.is_none() => Some(&mut **record),
            Job::Record(_) | Job::Other(_) => None,
        });
        for record in repeated {
            let mut one = [record];
            catalog::record_all(tx, &mut one).await.map_err(undo_all)?;
            changed |= matches!(one[0].result, Some(Ok(_)));
        }
        Ok(changed)
    }

    /// One trip to the server. What is sent together runs in that order only if nothing of it has to be prepared
    /// first: a COMMIT must not overtake what it commits.
    async fn commit(&self, session: &Session, counted: Option<lock::Counters>) -> Result<()> {
        let db = session.db();
        prepare(db, &[lock::WRITE_COUNTERS, NUMBER]).await?;
        let counters = async {
            match counted {
                Some(counters) => lock::write_counters(db, self.turn, counters).await,
                None => Ok(()),
            }
        };
        let (counted, numbered, committed) = join3(
            counters,
            execute(db, NUMBER, &[&self.turn, &self.node, &self.number]),
            db.batch_execute("COMMIT"),
        )
        .await;
        // A COMMIT after a failed statement is a rollback that reports no error.
        counted?;
        numbered?;
        committed?;
        Ok(())
    }
}

/// Runs what is more than a new object, each request in a savepoint of its own unless it is alone; true = at least one is kept.
async fn run_others(
    session: &Session,
    tx: &mut Tx,
    group: &mut [Job],
    alone: bool,
) -> Result<bool> {
    let mut changed = false;
    let mut savepoint = "SAVEPOINT request";
    for job in group {
        let Job::Other(work) = job else { continue };
        let mark = tx.known.clone();
        let marked = async {
            if alone {
                Ok(())
            } else {
                session.db().batch_execute(savepoint).await
            }
        };
        let (marked, ran) = join(marked, work.run(tx)).await;
        marked?;
        savepoint = "RELEASE SAVEPOINT request; SAVEPOINT request";
        match ran {
            Ran::Kept => changed = true,
            Ran::Undone => {
                tx.known = mark;
                if !alone {
                    session
                        .db()
                        .batch_execute("ROLLBACK TO SAVEPOINT request")
                        .await?;
                }
            }
        }
    }
    Ok(changed)
}
