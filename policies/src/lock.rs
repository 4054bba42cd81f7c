//! The writer lock: who may write a repository, decided without a clock.
//!
//! Decides: lock state and caller -> [`Verdict`]; lock state and event -> next state and effects.
//! Invariants: at most one holder; an epoch is minted once; no commit of an old epoch after a newer
//! one is held; doubt freezes. A lock is handed over, never timed out: a cluster that snapshots once
//! a day must not lose its repository at night.

use crate::identity::{Cluster, Epoch, Repository};
use crate::key::Writing;

/// The state of one repository's lock, as the state database holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lock {
    /// Nobody writes. `epoch` is the highest that was ever held.
    Vacant { epoch: Epoch },
    /// `holder` alone writes.
    Held { epoch: Epoch, holder: Cluster },
    /// No new intents; open ones finish or are resolved.
    Draining {
        epoch: Epoch,
        holder: Cluster,
        next: Next,
    },
    /// No intent of an epoch up to `epoch` is open; `next` follows once its anchor exists.
    Fenced { epoch: Epoch, next: Next },
    /// Nothing is written; reads are served unless the store is unknown.
    Frozen { epoch: Epoch, reason: Freeze },
}

/// What a drained lock becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    Hold(Cluster),
    Release,
    Freeze(String),
}

/// Why a repository is frozen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Freeze {
    /// An operator asked for it; the text is theirs.
    Operator(String),
    /// The store holds objects that the catalog does not know: `adopt` first. Reads are refused too,
    /// for an empty list would make a cluster believe that the repository is empty.
    Unadopted,
    /// The store's anchors are ahead of the state database.
    AnchorAhead { anchor: Epoch },
    /// Another gateway with its own state database works on the same store.
    OtherGateway,
    /// The store could not be reached at start.
    StoreUnreachable,
}

/// Who takes a vacant lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The first authorised writer.
    Auto,
    /// Only an operator hands it out.
    Manual,
}

/// Leave to change one repository, for one operation. Only this module makes it, every store and
/// state write demands it; it is neither cloned nor kept.
#[derive(Debug)]
pub struct Permit {
    repository: Repository,
    cluster: Cluster,
    term: Term,
}

/// What the permit was given for; the state database checks it again in the transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Term {
    /// The cluster holds the lock at this epoch.
    Held(Epoch),
    /// The lock is vacant and the key is free of it (registration, analysis).
    Free,
    /// The gateway itself finishes or undoes what an earlier permit began (epochs up to this one).
    Settle(Epoch),
}

impl Permit {
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }
}

/// What is known when a cluster asks to write.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub repository: &'a Repository,
    pub caller: &'a Cluster,
    /// The configuration lists the caller among the repository's writers.
    pub may_write: bool,
    pub writing: Writing,
    pub mode: Mode,
}

#[derive(Debug)]
pub enum Verdict {
    Admit(Permit),
    /// The lock is vacant and the caller may take it: hold it, then ask again.
    Take,
    /// A hand-over is under way: ask again when the lock has moved, at most 25 s.
    Wait,
    Refuse(Refusal),
}

/// Why a write is refused, with what a person needs to act on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    NotAWriter {
        repository: Repository,
        caller: Cluster,
        writers_hint: Option<Cluster>,
    },
    HeldByOther {
        repository: Repository,
        caller: Cluster,
        holder: Cluster,
        epoch: Epoch,
    },
    VacantManual {
        repository: Repository,
        caller: Cluster,
    },
    Frozen {
        repository: Repository,
        reason: Freeze,
    },
}

/// May this caller write now?
#[must_use]
pub fn admit(lock: &Lock, request: Request<'_>) -> Verdict {
    let Request {
        repository,
        caller,
        may_write,
        writing,
        mode,
    } = request;
    let permit = |term| {
        Verdict::Admit(Permit {
            repository: repository.clone(),
            cluster: caller.clone(),
            term,
        })
    };
    if !may_write {
        let holder = match lock {
            Lock::Held { holder, .. } | Lock::Draining { holder, .. } => Some(holder.clone()),
            Lock::Vacant { .. } | Lock::Fenced { .. } | Lock::Frozen { .. } => None,
        };
        return Verdict::Refuse(Refusal::NotAWriter {
            repository: repository.clone(),
            caller: caller.clone(),
            writers_hint: holder,
        });
    }
    match lock {
        Lock::Held { epoch, holder } if holder == caller => permit(Term::Held(*epoch)),
        Lock::Held { epoch, holder } => Verdict::Refuse(Refusal::HeldByOther {
            repository: repository.clone(),
            caller: caller.clone(),
            holder: holder.clone(),
            epoch: *epoch,
        }),
        Lock::Vacant { .. } if writing == Writing::Free => permit(Term::Free),
        Lock::Vacant { .. } => match mode {
            Mode::Auto => Verdict::Take,
            Mode::Manual => Verdict::Refuse(Refusal::VacantManual {
                repository: repository.clone(),
                caller: caller.clone(),
            }),
        },
        Lock::Draining {
            epoch,
            holder,
            next,
        } => {
            let concerned = holder == caller || matches!(next, Next::Hold(c) if c == caller);
            if concerned {
                Verdict::Wait
            } else {
                Verdict::Refuse(Refusal::HeldByOther {
                    repository: repository.clone(),
                    caller: caller.clone(),
                    holder: holder.clone(),
                    epoch: *epoch,
                })
            }
        }
        Lock::Fenced { .. } => Verdict::Wait,
        Lock::Frozen { reason, .. } => Verdict::Refuse(Refusal::Frozen {
            repository: repository.clone(),
            reason: reason.clone(),
        }),
    }
}

/// Leave for the gateway to settle what was begun under epochs up to `epoch`: recovery, resolving of
/// intents, removal of hidden uploads, reaping. `on_behalf` is the cluster whose operation it was.
#[must_use]
pub fn settle(repository: &Repository, on_behalf: &Cluster, epoch: Epoch) -> Permit {
    Permit {
        repository: repository.clone(),
        cluster: on_behalf.clone(),
        term: Term::Settle(epoch),
    }
}
