//! The writer: one thread, one connection, and every change goes through it.
//!
//! Group commit: whatever is queued goes into one transaction, each request in a savepoint of its own, and all
//! are answered after the COMMIT, refused ones included: they may have been refused because of a row that the
//! COMMIT makes true. One fsync pays for all of them. Before it begins, the writer lets other threads run for as
//! long as each time brings it more requests, a few times: on a busy core they come one by one, and each alone
//! would cost a transaction. It never sleeps: with nobody else at work a request does not wait.
//!
//! After a failed fsync nobody knows what is on disk, and asking again hides the loss (the kernel drops the
//! dirty pages), so any I/O error ends the process; the next start reads what is there. A full disk is no such
//! error: the transaction is rolled back, its requests are told, the next one tries again.

use std::fs::File;
use std::path::Path;
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::{mpsc, oneshot};

use super::memory::Memory;
use super::open::{self, OpenError};
use crate::state::{Error, Result, WriteError};

/// Requests that may wait for the writer; beyond that callers wait to be queued.
const QUEUE: usize = 4096;
/// Most requests in one transaction.
const GROUP: usize = 1024;
/// How often the writer lets others run before it begins.
const YIELDS: usize = 4;
/// Changed rows after which the WAL is carried into the database: some 16 MiB of it.
const CHECKPOINT_ROWS: u64 = 8192;

/// Why a request fails: the world is not as its caller thought, or SQLite failed.
pub(super) enum Fault {
    Refused(WriteError),
    Sqlite(rusqlite::Error),
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

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

/// What a request works on.
pub(super) struct Tx<'a> {
    pub db: &'a Connection,
    pub memory: &'a mut Memory,
}

/// The queue to the writer; dropping it lets the writer finish what is queued and close the database.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    #[cfg(test)]
    inline: Option<super::simulated::Inline>,
}

impl Writer {
    pub fn start(path: &Path) -> Result<Self, OpenError> {
        let opened = open::open(path)?;
        let memory = Memory::load(&opened.writer)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = Thread::new(opened.writer, memory, opened.lock);
        let thread = std::thread::Builder::new()
            .name("state-writer".into())
            .spawn(move || thread.run(jobs))
            .map_err(|cause| OpenError::Io {
                path: path.to_owned(),
                cause,
            })?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            #[cfg(test)]
            inline: None,
        })
    }

    #[cfg(test)]
    pub fn inline(inline: super::simulated::Inline) -> Self {
        Self {
            queue: None,
            thread: None,
            inline: Some(inline),
        }
    }

    /// Runs `work` in a transaction; what it returns is durable.
    pub async fn write<T, F>(&self, work: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Task {
            work: Some(work),
            result: None,
            reply,
        };
        #[cfg(test)]
        if let Some(inline) = &self.inline {
            inline.run(Box::new(job)).await;
            return answer.await.map_err(|_| Error::Closed)?;
        }
        let queue = self.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(Box::new(job)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the state database panicked");
        }
    }
}

pub(super) trait Job: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran;
    fn answer(self: Box<Self>, committed: Result<()>);
}

pub(super) enum Ran {
    Kept,
    /// The request's changes are to be taken back; the I/O error, if it was one.
    Undone(Option<rusqlite::Error>),
}

struct Task<T, F> {
    work: Option<F>,
    result: Option<Result<T, WriteError>>,
    reply: oneshot::Sender<Result<T, WriteError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        let Some(work) = self.work.take() else {
            return Ran::Kept;
        };
        let (result, ran) = match work(tx) {
            Ok(value) => (Ok(value), Ran::Kept),
            Err(Fault::Refused(e)) => (Err(e), Ran::Undone(None)),
            Err(Fault::Sqlite(e)) => (Err(failed(&e).into()), Ran::Undone(Some(e))),
        };
        self.result = Some(result);
        ran
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let result = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(e), _) => Err(e.into()),
            (Ok(()), None) => Err(Error::Closed.into()),
        };
        // The caller may have gone away; the change is made all the same.
        drop(self.reply.send(result));
    }
}

pub(super) struct Thread {
    pub(super) db: Connection,
    memory: Memory,
    /// Rows changed at the last checkpoint.
    checkpointed: u64,
    lock: File,
}

impl Thread {
    pub(super) fn new(db: Connection, memory: Memory, lock: File) -> Self {
        Self {
            db,
            memory,
            checkpointed: 0,
            lock,
        }
    }

    fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut group = Vec::with_capacity(GROUP);
        while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
            gather(&mut jobs, &mut group);
            let committed = self.transaction(&mut group);
            if committed.is_err() {
                self.start_over();
            }
            for job in group.drain(..) {
                job.answer(committed.clone());
            }
            self.checkpoint_if_due();
        }
        if let Err(e) = open::close_in_order(&self.db) {
            end_on_io_error(&e);
            tracing::warn!(cause = %e, "the state database was not closed in order; the next start checks it");
        }
        drop(self.db);
        drop(self.lock);
    }

    pub(super) fn transaction(&mut self, group: &mut [Box<dyn Job>]) -> Result<()> {
        self.all(group).map_err(|e| {
            end_on_io_error(&e);
            failed(&e)
        })
    }

    fn all(&mut self, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        self.execute("BEGIN IMMEDIATE")?;
        for job in group {
            self.execute("SAVEPOINT request")?;
            self.memory.mark();
            let mut tx = Tx {
                db: &self.db,
                memory: &mut self.memory,
            };
            if let Ran::Undone(cause) = job.run(&mut tx) {
                if let Some(cause) = cause {
                    end_on_io_error(&cause);
                    // SQLite may have rolled the whole transaction back (a full disk).
                    if self.db.is_autocommit() {
                        return Err(cause);
                    }
                }
                self.memory.undo();
                self.execute("ROLLBACK TO request")?;
            }
            self.execute("RELEASE request")?;
        }
        self.memory.write_counters(&self.db)?;
        self.execute("COMMIT")
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// After a transaction failed: what is in memory is what is on disk again.
    pub(super) fn start_over(&mut self) {
        let rolled_back = if self.db.is_autocommit() {
            Ok(())
        } else {
            self.execute("ROLLBACK")
        };
        let loaded = rolled_back
            .map_err(|e| failed(&e))
            .and_then(|()| Memory::load(&self.db));
        match loaded {
            Ok(mut memory) => {
                memory.keep_time_of(&self.memory);
                self.memory = memory;
            }
            Err(e) => {
                tracing::error!(cause = %e, "the state database cannot be read after a failed transaction; the process ends");
                std::process::abort();
            }
        }
    }

    fn checkpoint_if_due(&mut self) {
        let changed = self.db.total_changes();
        if changed - self.checkpointed < CHECKPOINT_ROWS {
            return;
        }
        let done = self
            .db
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        match done {
            Ok(()) => self.checkpointed = changed,
            Err(e) => {
                end_on_io_error(&e);
                self.checkpointed = changed;
                tracing::warn!(cause = %e, "the write-ahead log of the state database cannot be shortened now");
            }
        }
    }
}

/// Takes the requests that come while others run.
fn gather(jobs: &mut mpsc::Receiver<Box<dyn Job>>, group: &mut Vec<Box<dyn Job>>) {
    for _ in 0..YIELDS {
        std::thread::yield_now();
        let before = group.len();
        while group.len() < GROUP
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        if group.len() == before {
            return;
        }
    }
}

/// SQLite's error as the trait's.
pub(super) fn failed(e: &rusqlite::Error) -> Error {
    if is_full(e) {
        Error::Full
    } else {
        Error::Failed(e.to_string().into())
    }
}

/// Growing the shared index of the WAL on a full disk is reported as an I/O error of its own kind.
fn is_full(e: &rusqlite::Error) -> bool {
    e.sqlite_error().is_some_and(|e| {
        e.code == ErrorCode::DiskFull || e.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    })
}

fn end_on_io_error(e: &rusqlite::Error) {
    if !is_full(e) && e.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
        tracing::error!(cause = %e, "the state database's disk failed; what it holds is unknown, so the process ends");
        std::process::abort();
    }
}
