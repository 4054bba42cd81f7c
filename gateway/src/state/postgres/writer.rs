//! Changes: in groups, one group at a time for each repository and node.
//!
//! A group is one transaction. It locks the repository's turn first, then its lock row (`FOR SHARE`), so what it
//! reads afterwards is the last committed truth of all nodes, and no hand-over gets in between. Group commit:
//! whatever is queued goes into it, each request in a savepoint of its own, plain records in one statement, and
//! all are answered after the COMMIT. A group of plain records alone is one call of a function ([`plain`]).
//!
//! A COMMIT whose answer is lost is looked up: the group's number is written in the same transaction, and
//! whoever gets the turn afterwards knows that the transaction has ended, one way or the other. What cannot be
//! looked up is answered "we failed", which callers never read as "did not happen".

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use deadpool_postgres::tokio_postgres::error::SqlState;
use deadpool_postgres::{ClientWrapper, Object, Pool, PoolError};
use futures::future::{BoxFuture, join, join3};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::catalog;
use super::lock::{self, Known};
use super::nodes::Uptime;
use super::plain;
use super::rows::{Sql, execute, first, int, prepare};
use crate::state::leave::Leave;
use crate::state::{Error, Put, Recorded, Result, WriteError};

/// The turn of what belongs to no repository: the audit table, the uptime, new repositories.
pub(super) const WHOLE: i64 = 0;

/// Requests that may wait for a turn; beyond that callers wait to be queued.
const QUEUE: usize = 4096;
/// Most requests in one transaction.
const GROUP: usize = 512;
/// A group that takes longer is given up: the server hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the outcome of an interrupted COMMIT is asked for, and how often.
const LOOK_UP: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const TURN: &str = "SELECT 1 FROM turns WHERE id = $1 FOR UPDATE";
const NUMBER: &str = "INSERT INTO groups (turn, node, number) VALUES ($1, $2, $3)
     ON CONFLICT (turn, node) DO UPDATE SET number = excluded.number";

/// Why a request fails: the world is not as its caller thought, or PostgreSQL failed.
#[derive(Debug)]
pub(super) enum Fault {
    Refused(WriteError),
    Sql(Sql),
}

impl From<WriteError> for Fault {
    fn from(e: WriteError) -> Self {
        Self::Refused(e)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Self::Refused(WriteError::Failed(e))
    }
}

impl From<Sql> for Fault {
    fn from(e: Sql) -> Self {
        Self::Sql(e)
    }
}

impl From<Sql> for Error {
    fn from(e: Sql) -> Self {
        failed(&e)
    }
}

/// PostgreSQL's error as the trait's.
pub(super) fn failed(e: &Sql) -> Error {
    match e.code() {
        Some(code) if *code == SqlState::DISK_FULL => Error::Full,
        Some(_) | None => Error::Failed(super::open::describe(e).into()),
    }
}

pub(super) fn no_connection(e: &PoolError) -> Error {
    Error::Failed(format!("no connection: {e}").into())
}

/// A connection that goes back to its pool only when its transaction ended in order.
pub(super) struct Session {
    client: Option<Object>,
    in_order: std::sync::atomic::AtomicBool,
}

impl Session {
    pub async fn begin(pool: &Pool) -> Result<Self> {
        let client = pool.get().await.map_err(|e| no_connection(&e))?;
        Ok(Self {
            client: Some(client),
            in_order: false.into(),
        })
    }

    pub fn db(&self) -> &ClientWrapper {
        self.client
            .as_ref()
            .expect("the connection leaves only when the session is dropped")
    }

    pub fn ended_in_order(&self) {
        self.in_order
            .store(true, std::sync::atomic::Ordering::Release);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !*self.in_order.get_mut()
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}

/// What a request works on.
pub(super) struct Tx {
    session: Arc<Session>,
    /// The repository whose turn this is; none at the turn of the whole database.
    known: Option<Known>,
    /// Who makes the changes.
    pub node: i64,
    /// Uptime as it is written down.
    pub uptime_ms: u64,
    /// Uptime now, for retentions.
    pub now_ms: u64,
}

impl Tx {
    pub fn db(&self) -> &ClientWrapper {
        self.session.db()
    }

    pub fn known(&self) -> Result<&Known, WriteError> {
        self.known
            .as_ref()
            .ok_or_else(|| crate::state::leave::unknown().into())
    }

    pub fn known_mut(&mut self) -> Result<&mut Known, WriteError> {
        self.known
            .as_mut()
            .ok_or_else(|| crate::state::leave::unknown().into())
    }
}

pub(super) enum Job {
    /// A new object and nothing else: many of them are one statement.
    Record(Box<Record>),
    Other(Box<dyn Work>),
}

pub(super) struct Record {
    pub leave: Leave,
    pub put: Put,
    /// Where the journal stood before the object was published.
    pub since: u64,
    pub result: Option<Result<Recorded, WriteError>>,
    reply: oneshot::Sender<Result<Recorded, WriteError>>,
}

pub(super) trait Work: Send {
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, Ran>;
    fn answer(self: Box<Self>, committed: Result<()>);
}

pub(super) enum Ran {
    Kept,
    /// The request's changes are to be taken back.
    Undone,
}

struct Task<T, F> {
    work: Option<F>,
    result: Option<Result<T, WriteError>>,
    reply: oneshot::Sender<Result<T, WriteError>>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: for<'a> FnOnce(&'a mut Tx) -> BoxFuture<'a, Result<T, Fault>> + Send,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> BoxFuture<'a, Ran> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return Ran::Kept;
            };
            let (result, ran) = match work(tx).await {
                Ok(value) => (Ok(value), Ran::Kept),
                Err(Fault::Refused(e)) => (Err(e), Ran::Undone),
                Err(Fault::Sql(e)) => (Err(failed(&e).into()), Ran::Undone),
            };
            self.result = Some(result);
            ran
        })
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        answer(self.reply, self.result, committed);
    }
}

fn answer<T>(
    reply: oneshot::Sender<Result<T, WriteError>>,
    result: Option<Result<T, WriteError>>,
    committed: Result<()>,
) {
    let result = match (committed, result) {
        (Ok(()), Some(result)) => result,
        (Err(e), _) => Err(e.into()),
        (Ok(()), None) => Err(Error::Closed.into()),
    };
    // The caller may have gone away; the change is made all the same.
    drop(reply.send(result));
}

impl Job {
    fn answer(self, committed: Result<()>) {
        match self {
            Self::Record(record) => answer(record.reply, record.result, committed),
            Self::Other(work) => work.answer(committed),
        }
    }
}

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
        let (reply, answer) = oneshot::channel();
        let task = Task {
            work: Some(work),
            result: None,
            reply,
        };
        self.send(turn, Job::Other(Box::new(task))).await?;
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
        let (reply, answer) = oneshot::channel();
        let record = Record {
            leave,
            put,
            since,
            result: None,
            reply,
        };
        self.send(turn, Job::Record(Box::new(record))).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn send(&self, turn: i64, job: Job) -> Result<()> {
        let queue = self
            .queues
            .entry(turn)
            .or_insert_with(|| {
                let (queue, jobs) = mpsc::channel(QUEUE);
                let worker = Worker {
                    pool: self.pool.clone(),
                    node: self.node,
                    turn,
                    uptime: Arc::clone(&self.uptime),
                    number: 0,
                    seen: None,
                };
                tokio::spawn(worker.run(jobs));
                queue
            })
            .clone();
        queue.send(job).await.map_err(|_| Error::Closed)
    }
}

struct Worker {
    pool: Pool,
    node: i64,
    turn: i64,
    uptime: Arc<Uptime>,
    /// Of the last group.
    number: i64,
    /// The repository as the last group found it that asked for it.
    seen: Option<Known>,
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
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
            Err(_) => Error::Failed("PostgreSQL does not answer".into()),
        };
        if !commit_sent {
            return Err(failure);
        }
        tracing::warn!(cause = %failure, "a COMMIT was interrupted; its outcome is looked up");
        self.look_up(failure).await?;
        self.find_recorded(group).await
    }

    /// The numbers that new objects were given by a group whose answer was lost.
    async fn find_recorded(&self, group: &mut [Job]) -> Result<()> {
        let session = Session::begin(&self.pool).await?;
        for job in group {
            let Job::Record(record) = job else { continue };
            if record.result.is_some() {
                continue;
            }
            let put = &record.put;
            let there = catalog::lookup(session.db(), put.bucket, &put.key).await?;
            let ours = there.object.filter(|there| there.identity == put.identity);
            record.result = Some(match ours {
                Some(object) => Ok(Recorded {
                    sequence: object.sequence,
                }),
                None => Err(Error::Failed("it was recorded, and removed since".into()).into()),
            });
        }
        session.ended_in_order();
        Ok(())
    }

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
        let mut savepoint = "SAVEPOINT request";
        for job in group.iter_mut() {
            let Job::Other(work) = job else { continue };
            let mark = tx.known.clone();
            let marked = async {
                if alone {
                    Ok(())
                } else {
                    session.db().batch_execute(savepoint).await
                }
            };
            let (marked, ran) = join(marked, work.run(&mut tx)).await;
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
                let uptime = row.as_ref().map(|row| super::rows::count(row, 0));
                (None, uptime.transpose()?.unwrap_or(0))
            }
            (None, _) => return Err(crate::state::leave::unknown()),
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

    async fn look_up(&self, failure: Error) -> Result<()> {
        let deadline = Instant::now() + LOOK_UP;
        loop {
            match self.committed().await {
                Ok(true) => {
                    tracing::info!("the interrupted COMMIT took effect");
                    return Ok(());
                }
                Ok(false) => {
                    tracing::info!("the interrupted COMMIT did not take effect");
                    return Err(failure);
                }
                Err(e) if Instant::now() >= deadline => {
                    tracing::error!(cause = %e, "the outcome of an interrupted COMMIT cannot be looked up: unknown");
                    return Err(failure);
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Who gets the turn knows that the transaction before it has ended.
    async fn committed(&self) -> Result<bool> {
        let session = Session::begin(&self.pool).await?;
        let db = session.db();
        db.batch_execute("BEGIN").await?;
        execute(db, TURN, &[&self.turn]).await?;
        let row = first(
            db,
            "SELECT number FROM groups WHERE turn = $1 AND node = $2",
            &[&self.turn, &self.node],
        )
        .await?;
        db.batch_execute("ROLLBACK").await?;
        session.ended_in_order();
        Ok(row.is_some_and(|row| row.get::<_, i64>(0) == self.number))
    }
}

/// A statement of many records failed: the transaction is lost, and all its requests are told so.
fn undo_all(fault: Fault) -> Error {
    match fault {
        Fault::Sql(e) => failed(&e),
        Fault::Refused(e) => Error::Failed(e.to_string().into()),
    }
}

/// The uptime at which a retention that begins now has passed.
pub(super) fn due(tx: &Tx, retain_ms: u64) -> i64 {
    int(tx.now_ms.saturating_add(retain_ms))
}
