//! A database without threads and without fsync, for the simulation: every change runs where it is asked for.
//!
//! The same jobs, transactions and memory as the writer's thread has; only who runs them differs. A watcher sees the
//! database after each transaction by SQL of its own, and may let a caller wait before and after (a paused
//! process), or for ever (a killed one).

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};

use super::memory::Memory;
use super::writer::{Job, Thread, Writer};
use super::{Database, open, schema};

pub type Step<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Who watches a simulated database.
pub trait Watcher: Send + Sync {
    /// Before anything else: what is there is not news.
    fn opened(&self, db: &Connection);
    fn before(&self) -> Step<'_>;
    fn committed(&self, db: &Connection);
    fn after(&self) -> Step<'_>;
}

pub struct Inline {
    thread: Mutex<Thread>,
    watcher: Arc<dyn Watcher>,
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").finish_non_exhaustive()
    }
}

impl Inline {
    pub(super) async fn run(&self, job: Box<dyn Job>) {
        self.watcher.before().await;
        {
            let mut thread = self.thread.lock();
            let mut group = [job];
            let committed = thread.transaction(&mut group);
            if committed.is_err() {
                thread.start_over();
            } else {
                self.watcher.committed(&thread.db);
            }
            let [job] = group;
            job.answer(committed);
        }
        self.watcher.after().await;
    }
}

/// Makes the file of an empty database.
pub fn template(path: &Path) {
    let mut db = plain(path);
    schema::migrate(&mut db).unwrap();
}

fn plain(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags_and_vfs(path, flags, open::OWNED).unwrap();
    db.set_prepared_statement_cache_capacity(128);
    db.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))
        .unwrap();
    db.pragma_update(None, "synchronous", "OFF").unwrap();
    db
}

impl Database {
    /// Opens a file made by [`template`], or a copy of one that was used.
    pub fn simulated(path: &Path, watcher: Arc<dyn Watcher>) -> Self {
        let db = plain(path);
        let memory = Memory::load(&db).unwrap();
        watcher.opened(&db);
        let lock = std::fs::File::open(path).unwrap();
        let thread = Mutex::new(Thread::new(db, memory, lock));
        let reader = open::reader(path).unwrap();
        let inline = Inline { thread, watcher };
        Self::over(Box::new([Mutex::new(reader)]), Writer::inline(inline))
    }
}

/// Steps that are left out on purpose, on this thread.
pub mod mutant {
    use std::cell::Cell;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum LeftOut {
        /// A write's transaction looks at the lock.
        LockCheck,
        /// A start looks whose the newest one in the store was.
        StrangerCheck,
    }

    thread_local! {
        static LEFT_OUT: Cell<Option<LeftOut>> = const { Cell::new(None) };
    }

    pub fn leave_out(step: Option<LeftOut>) {
        LEFT_OUT.set(step);
    }

    pub fn leaves_out(step: LeftOut) -> bool {
        LEFT_OUT.get() == Some(step)
    }
}
