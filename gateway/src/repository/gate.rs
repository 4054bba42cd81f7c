//! The lock at work: asks `policies::lock` for each write, waits out hand-overs, takes a vacant lock.
//!
//! The row in the state database is the truth and every transaction checks it again; what is kept here
//! only spares a refused client its upload and a held one its retries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use policies::identity::Repository;
use policies::key::{Class, ObjectKey, Writing};
use policies::lock::{self, Freeze, Lock, Permit, Verdict};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::door::{Found, OpenRepository};
use super::{Caller, Door, Error, Refusal, unavailable};
use crate::state::{LockRow, WriteError};

/// A write waits this long for a hand-over before it is told to come back (below every client's read time-out).
const HOLD: Duration = Duration::from_secs(25);

/// One repository's lock as this process last saw it.
#[derive(Debug)]
pub struct Gate {
    /// What the state database said.
    row: parking_lot::RwLock<LockRow>,
    /// Wakes held writes in the order in which they came.
    moved: Notify,
    /// What this process alone doubts: its start could not be carried through, or the doubt not be written down.
    doubt: parking_lot::Mutex<Option<Freeze>>,
    /// Hand-overs and takes go one at a time.
    pub(super) moving: tokio::sync::Mutex<()>,
    /// The repository moved to another store: what still uses this one learns nothing of its lock any more.
    retired: AtomicBool,
}

impl Gate {
    #[must_use]
    pub fn new(row: LockRow) -> Self {
        Self {
            row: parking_lot::RwLock::new(row),
            moved: Notify::new(),
            doubt: parking_lot::Mutex::new(None),
            moving: tokio::sync::Mutex::new(()),
            retired: AtomicBool::new(false),
        }
    }

    /// What clients and operators meet: the row, or frozen while this process doubts.
    #[must_use]
    pub fn row(&self) -> LockRow {
        let mut row = self.told();
        if let Some(reason) = self.doubted() {
            let epoch = row.lock.epoch();
            row.lock = Lock::Frozen { epoch, reason };
        }
        row
    }

    /// The row as the state database said, whatever this process doubts: for who settles the doubt.
    pub(super) fn told(&self) -> LockRow {
        self.row.read().clone()
    }

    pub(super) fn doubted(&self) -> Option<Freeze> {
        self.doubt.lock().clone()
    }

    #[must_use]
    pub fn is_frozen(&self) -> bool {
        matches!(self.row().lock, Lock::Frozen { .. })
    }

    /// Takes over what the state database said; older rows are ignored. A row of another store ends this view:
    /// another node promoted the repository, and a permit by that row would write here what counts there.
    pub(super) fn saw(&self, row: LockRow) {
        {
            let mut known = self.row.write();
            if row.version > known.version && !self.is_retired() {
                if row.store == known.store {
                    *known = row;
                    self.moved.notify_waiters();
                } else {
                    self.retire_known(&mut known, Freeze::Promoting(row.store.as_str().into()));
                }
            }
        }
        // A doubt that is written down ends where that ends. That a start is to be made up for never is.
        let unfinished = self.doubted() == Some(Freeze::StoreUnreachable);
        if matches!(self.told().lock, Lock::Frozen { .. }) && !unfinished {
            self.trust();
        }
    }

    /// Freezes this process's view without asking the state database; for good: [`Door::doubt`].
    pub(super) fn doubt(&self, reason: Freeze) {
        self.doubt.lock().get_or_insert(reason);
        self.moved.notify_waiters();
    }

    /// This process doubts no more.
    pub(super) fn trust(&self) {
        *self.doubt.lock() = None;
        self.moved.notify_waiters();
    }

    /// Ends this view for good: whoever came in by it is told to ask again, and then meets the repository where it
    /// is now. Else a lock that is held on the new store would admit writes to the old one.
    pub(super) fn retire(&self, reason: Freeze) {
        self.retire_known(&mut self.row.write(), reason);
    }

    fn retire_known(&self, row: &mut LockRow, reason: Freeze) {
        self.retired.store(true, Ordering::SeqCst);
        let epoch = row.lock.epoch();
        row.lock = Lock::Frozen { epoch, reason };
        self.moved.notify_waiters();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// While it is not known what the store holds, even reads are refused: an empty list or a 404 would make
    /// a cluster believe that the repository is empty.
    pub(super) fn check_store_known(&self, name: &Repository) -> Result<(), Error> {
        let lock = self.row().lock;
        if lock.catalog_is_current() {
            return Ok(());
        }
        let why = match lock {
            Lock::Frozen { reason, .. } => lock::Refusal::Frozen {
                repository: name.clone(),
                reason,
            }
            .to_string(),
            Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => {
                format!("The catalog of repository '{name}' is being rebuilt from its store.")
            }
        };
        Err(Error::Unavailable(why))
    }
}

impl Door {
    /// Leave to write one key, now. A hand-over is waited for; a vacant lock is taken where the mode allows it.
    pub(super) async fn permit(
        &self,
        found: &Found,
        caller: &Caller,
        key: &ObjectKey,
    ) -> Result<Permit, Error> {
        let (open, writing) = (&found.open, found.class.writing());
        let replayable = writing == Writing::Commit && found.class != Class::Unknown;
        if caller.presigned && replayable {
            return Err(Refusal::PresignedCommit { key: key.clone() }.into());
        }
        let mut waited_since = None;
        // Other nodes move the lock too: before anybody is refused or waits, its row is read. Who is admitted is
        // checked again by each transaction.
        let mut looked = !self.state.shared();
        loop {
            match open.ask(caller, writing) {
                Verdict::Admit(permit) => return Ok(permit),
                Verdict::Refuse(_) | Verdict::Take | Verdict::Wait if !looked => {
                    self.look_at_lock(open).await?;
                    looked = true;
                }
                Verdict::Refuse(refusal) => return Err(open.refused(&refusal)),
                Verdict::Take => {
                    let before = open.gate.row().version;
                    if let Err(e) = self.take(open, caller).await {
                        self.look_at_lock(open).await?;
                        if open.gate.row().version == before {
                            return Err(e);
                        }
                    }
                }
                Verdict::Wait => {
                    let deadline = *waited_since.get_or_insert_with(Instant::now) + HOLD;
                    tokio::select! {
                        moved = open.wait_for_move(caller, writing, deadline) => moved?,
                        () = self.keep_looking(open), if self.state.shared() => {}
                    }
                }
            }
        }
    }
}

impl OpenRepository {
    fn ask(&self, caller: &Caller, writing: Writing) -> Verdict {
        let request = lock::Request {
            repository: &self.name,
            caller: &caller.cluster,
            may_write: self.plan.writers.contains(&caller.cluster),
            writing,
            mode: self.plan.mode,
        };
        lock::admit(&self.gate.row().lock, request)
    }

    async fn wait_for_move(
        &self,
        caller: &Caller,
        writing: Writing,
        deadline: Instant,
    ) -> Result<(), Error> {
        // Before the lock is asked: no move in between is missed.
        let moved = self.gate.moved.notified();
        if !matches!(self.ask(caller, writing), Verdict::Wait) {
            return Ok(());
        }
        match tokio::time::timeout_at(deadline, moved).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::SlowDown(format!(
                "The writer lock of repository '{}' is being handed over; try again.",
                self.name
            ))),
        }
    }

    /// The refusal as its client reads it.
    fn refused(&self, refusal: &lock::Refusal) -> Error {
        match refusal {
            lock::Refusal::Frozen { .. } => Error::SlowDown(refusal.to_string()),
            lock::Refusal::NotAWriter { .. }
            | lock::Refusal::HeldByOther { .. }
            | lock::Refusal::VacantManual { .. } => {
                let sentence = match self.gate.row().since() {
                    Some(since) => refusal.sentence(&since),
                    None => refusal.to_string(),
                };
                Refusal::Lock(sentence).into()
            }
        }
    }

    /// Of a write that may have taken effect: a repeat learns who holds the lock now.
    pub(super) fn lock_moved(&self) -> Error {
        Error::SlowDown(format!(
            "The writer lock of repository '{}' moved during this write; try again.",
            self.name
        ))
    }

    /// A failed transaction as its client reads it; a moved lock is looked at again.
    pub(super) fn write_failed(&self, caller: &Caller, e: WriteError) -> Error {
        match e {
            WriteError::LockMoved(row) => {
                self.gate.saw(*row);
                match self.ask(caller, Writing::Once) {
                    Verdict::Refuse(refusal) => self.refused(&refusal),
                    Verdict::Admit(_) | Verdict::Take | Verdict::Wait => self.lock_moved(),
                }
            }
            WriteError::Exists(_) | WriteError::KeyBusy => {
                Error::SlowDown("Another write to this key is under way; try again.".into())
            }
            WriteError::IntentGone => {
                Error::SlowDown("This write was ended by a hand-over; try again.".into())
            }
            WriteError::UploadGone => Error::NoSuchUpload,
            WriteError::Pinned(snapshot) => Refusal::Guard {
                label: "pinned",
                sentence: format!(
                    "Snapshot '{snapshot}' of repository '{}' was pinned by an operator while a root without it was on its way; ask for: snapgate unpin {} {snapshot}.",
                    self.name, self.name
                ),
            }
            .into(),
            WriteError::Failed(e) => state_failed("record the write", &e),
        }
    }
}

/// "The state database failed", with a full disk told apart: it heals without a restart.
pub(super) fn state_failed(doing: &str, e: &crate::state::Error) -> Error {
    match e {
        crate::state::Error::Full => {
            tracing::error!(
                "the state database's disk is full; writes are answered 503 until there is room"
            );
            Error::SlowDown("The gateway's disk is full; try again later.".into())
        }
        crate::state::Error::NumbersUsedUp => {
            tracing::error!("the journal waits for its next numbers to be reserved in the store");
            Error::SlowDown(
                "The gateway waits for its store to take a record of its own; try again.".into(),
            )
        }
        crate::state::Error::Failed(_)
        | crate::state::Error::Closed
        | crate::state::Error::Mismatch(_) => unavailable(doing, e),
    }
}
