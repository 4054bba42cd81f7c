//! Changes: in groups, one group at a time for each repository and node.
//!
//! A group is one transaction. It locks the repository's turn first, then its lock row (`FOR SHARE`), so what it
//! reads afterwards is the last committed truth of all nodes, and no hand-over gets in between. Group commit:
//! whatever is queued goes into it, each request in a savepoint of its own, plain records in one statement, and
//! all are answered after the COMMIT. A group of plain records alone is one call of a function ([`super::plain`]).
//!
//! A COMMIT whose answer is lost is looked up: the group's number is written in the same transaction, and
//! whoever gets the turn afterwards knows that the transaction has ended, one way or the other. What cannot be
//! looked up is answered "we failed", which callers never read as "did not happen".

mod fault;
mod group;
mod job;
mod outcome;
mod session;

use std::sync::Arc;

use dashmap::DashMap;
use deadpool_postgres::Pool;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::catalog;
use super::nodes::Uptime;
use crate::state::leave::Leave;
use crate::state::{Error, Put, Recorded, Result, WriteError};
use group::Worker;

pub(super) use fault::Fault;
pub(super) use job::{Job, Record};
pub(super) use session::{Session, Tx, due};

/// The turn of what belongs to no repository: the audit table, the uptime, new repositories.
pub(super) const WHOLE: i64 = 0;

/// Requests that may wait for a turn; beyond that callers wait to be queued.
const QUEUE: usize = 4096;

/// The queues, one per turn, each with a task that works on it.
pub(super) struct Writers {
    pool: Pool,
    node: i64,
    uptime: Arc<Uptime>,
    queues: DashMap<i64, mpsc::Sender<Job>>,
}

impl Writers {
    pub fn new(pool: Pool, node: i64, uptime: Arc<Uptime>) -> Self {
        Self {
            pool,
            node,
            uptime,
            queues: DashMap::new(),
        }
    }

    /// Runs `work` in a transaction at this turn; what it returns is durable.
    pub async fn write<T, F>(&self, turn: i64, work: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Tx) -> BoxFuture<'a, Result<T, Fault>> + Send + 'static,
    {
        let (job, answer) = Job::of(work);
        self.send(turn, job).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    pub async fn record(&self, leave: Leave, put: Put, since: u64) -> Result<Recorded, WriteError> {
        let plain = put.replaces.is_none() && put.completes.is_none() && put.answer.is_none();
        let turn = put.repository.0;
        if !plain {
            return self
                .write(turn, move |tx| {
                    Box::pin(async move { catalog::record(tx, &leave, &put, since).await })
                })
                .await;
        }
        let (job, answer) = Job::record(leave, put, since);
        self.send(turn, job).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn send(&self, turn: i64, job: Job) -> Result<()> {
        let queue = self
            .queues
            .entry(turn)
            .or_insert_with(|| {
                let (queue, jobs) = mpsc::channel(QUEUE);
                let uptime = Arc::clone(&self.uptime);
                let worker = Worker::new(self.pool.clone(), self.node, turn, uptime);
                tokio::spawn(worker.run(jobs));
                queue
            })
            .clone();
        queue.send(job).await.map_err(|_| Error::Closed)
    }
}
