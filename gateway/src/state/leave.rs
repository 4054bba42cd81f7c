//! What a permit is still good for: the check that every change makes inside its transaction.
//!
//! Pure, so that every state database asks the same question of the lock row it has locked or owns.

use policies::identity::{Cluster, Epoch, Repository};
use policies::lock::{Lock, Next, Permit, Term};

use super::{Error, LockRow, WriteError};

/// What a permit says, on its way to the transaction. Made where the permit is used, for one request.
#[derive(Clone, Debug)]
pub struct Leave {
    pub repository: Repository,
    pub cluster: Cluster,
    pub term: Term,
}

impl From<&Permit> for Leave {
    fn from(permit: &Permit) -> Self {
        Self {
            repository: permit.repository().clone(),
            cluster: permit.cluster().clone(),
            term: permit.term(),
        }
    }
}

impl Leave {
    /// The lock row of `repository` still allows what the permit was given for; the epoch of the row.
    pub fn check(&self, repository: &Repository, row: &LockRow) -> Result<Epoch, WriteError> {
        if *repository != self.repository {
            let what = format!(
                "a permit for repository '{}' was used on '{repository}'",
                self.repository
            );
            return Err(Error::Failed(what.into()).into());
        }
        let row_epoch = row.lock.epoch();
        let allowed = match self.term {
            Term::Held(epoch) => holds(&row.lock, epoch, &self.cluster),
            Term::Free => match &row.lock {
                Lock::Vacant { .. } => true,
                Lock::Held { holder, .. } => *holder == self.cluster,
                Lock::Draining { .. } | Lock::Fenced { .. } | Lock::Frozen { .. } => false,
            },
            Term::Settle(epoch) => epoch <= row_epoch,
        };
        if allowed {
            Ok(row_epoch)
        } else {
            Err(WriteError::LockMoved(Box::new(row.clone())))
        }
    }

    /// The epoch of an intent that is opened with this permit.
    pub fn intent_epoch(&self, row_epoch: Epoch) -> Epoch {
        match self.term {
            Term::Held(epoch) | Term::Settle(epoch) => epoch,
            Term::Free => row_epoch,
        }
    }

    /// The epoch of a client's upload; those of free keys have none.
    pub fn upload_epoch(&self) -> Option<Epoch> {
        match self.term {
            Term::Held(epoch) | Term::Settle(epoch) => Some(epoch),
            Term::Free => None,
        }
    }
}

fn holds(lock: &Lock, wanted: Epoch, cluster: &Cluster) -> bool {
    match lock {
        Lock::Held { epoch, holder } => *epoch == wanted && holder == cluster,
        Lock::Vacant { .. } | Lock::Draining { .. } | Lock::Fenced { .. } | Lock::Frozen { .. } => {
            false
        }
    }
}

/// Fencing says that no intent is open; a recovery fences first and resolves them afterwards.
pub fn needs_quiet(lock: &Lock) -> bool {
    match lock {
        Lock::Fenced { next, .. } => match next {
            Next::Hold(_) | Next::Release | Next::Freeze(_) => true,
            Next::Recover => false,
        },
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } | Lock::Frozen { .. } => {
            false
        }
    }
}

/// A repository's identity that is not the one it was opened with, as a sentence.
pub fn moved(known: &super::RepositoryIdentity, wanted: &super::RepositoryIdentity) -> Error {
    Error::Mismatch(format!(
        "Repository '{}' is at bucket '{}', base path '{}', store '{}'; it cannot move to bucket '{}', base path '{}', store '{}' under the same name.",
        known.name,
        known.bucket,
        known.base_path,
        known.store,
        wanted.bucket,
        wanted.base_path,
        wanted.store
    ))
}

/// Another repository's place, as a sentence.
pub fn renamed(known: &super::RepositoryIdentity, wanted: &super::RepositoryIdentity) -> Error {
    Error::Mismatch(format!(
        "Bucket '{}', base path '{}' is known as repository '{}'; it cannot be named '{}'.",
        known.bucket, known.base_path, known.name, wanted.name
    ))
}

/// A repository that was never opened in this database.
pub fn unknown() -> Error {
    Error::Failed("the repository is not in the state database".into())
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use policies::identity::StoreName;
    use policies::key::Writing;
    use policies::lock::{Mode, Request, Verdict, admit};

    use super::*;

    /// Run alone: `cargo test --release state::leave -- --ignored --nocapture`. What a PUT asks of the lock: its row as
    /// this process knows it, twice (before the body is read, and for the permit), and once more in the transaction.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn what_the_lock_costs_a_put() {
        const TIMES: u32 = 1_000_000;
        let (repository, caller) = (Repository::new("prod"), Cluster::new("prod-eu"));
        let row = LockRow {
            version: 3,
            lock: Lock::Held {
                epoch: Epoch(7),
                holder: caller.clone(),
            },
            store: StoreName::new("local"),
            since_ms: 0,
            reason: Some("nightly".into()),
        };
        let ask = |row: &LockRow| {
            let request = Request {
                repository: &repository,
                caller: &caller,
                may_write: true,
                writing: Writing::Commit,
                mode: Mode::Auto,
            };
            match admit(&row.clone().lock, request) {
                Verdict::Admit(permit) => permit,
                refused @ (Verdict::Take | Verdict::Wait | Verdict::Refuse(_)) => {
                    panic!("{refused:?}")
                }
            }
        };
        let begun = std::time::Instant::now();
        for _ in 0..TIMES {
            drop(ask(black_box(&row)));
            let permit = ask(black_box(&row));
            let leave = Leave::from(&permit);
            black_box(leave.check(&repository, black_box(&row)).unwrap());
        }
        println!("{:?} for each PUT", begun.elapsed() / TIMES);
    }
}
