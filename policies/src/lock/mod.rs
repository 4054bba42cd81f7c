//! The writer lock: who may write a repository, decided without a clock.
//!
//! Decides: lock state and caller -> [`Verdict`]; lock state and event -> next state and effects.
//! Invariants: at most one holder; an epoch is minted once; no commit of an old epoch after a newer
//! one is held; doubt freezes. A lock is handed over, never timed out: a cluster that snapshots once
//! a day must not lose its repository at night.

use crate::identity::{Cluster, Epoch, Handover, Repository};
use crate::key::Writing;

pub mod anchor;
mod binding;
mod event;
pub mod handover;
pub mod history;
mod machine;
pub mod promotion;
mod refusal;
mod resolve;
mod resume;

pub use binding::{Binding, OtherCluster, identity_binding};
pub use event::{Action, Denied, Effect, Event, Outcome, Patience, Step};
pub use machine::step;
pub use refusal::Refusal;
pub use resolve::{Found, IntentFacts, Resolution, UploadFact, resolve};
pub use resume::{Findings, resume};

/// The state of one repository's lock, as the state database holds it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
    /// `next` follows once the anchor of `epoch + 1` exists with this hand-over in it. Unless it is a
    /// recovery, no intent of an epoch up to `epoch` is open.
    Fenced {
        epoch: Epoch,
        next: Next,
        handover: Handover,
    },
    /// Nothing is written; reads are served unless the store is unknown.
    Frozen { epoch: Epoch, reason: Freeze },
}

/// What a drained lock becomes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Next {
    Hold(Cluster),
    Release,
    Freeze(String),
    /// Rebuild the catalog from the store, under an epoch that fences every other gateway.
    Recover,
}

/// Why a repository is frozen.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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
    /// The state database was failed over to another timeline, or is served by another server: it may lack what
    /// was acknowledged last.
    DatabaseMoved,
    /// The store could not be reached at start.
    StoreUnreachable,
    /// The state database knows an epoch whose anchor the store lacks: the store is older than the
    /// database, or another one.
    AnchorBehind { anchor: Epoch },
    /// The store's anchors do not form one chain; the text says where.
    AnchorBroken(String),
    /// The store holds a root that came there past the gateway.
    RootAppeared(String),
    /// The catalog is being rebuilt from the store.
    Recovering,
    /// As `Unadopted`; but the objects came there from a mirror, which left a checkpoint of its catalog: named is
    /// the store.
    UnadoptedMirror(String),
    /// The repository is on its way to this store.
    Promoting(String),
    /// A mirror of this repository was promoted: `store` is the primary, under this epoch.
    Promoted { store: String, epoch: Epoch },
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

impl Lock {
    /// The highest epoch that the lock knows to have been held.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Vacant { epoch }
            | Self::Held { epoch, .. }
            | Self::Draining { epoch, .. }
            | Self::Fenced { epoch, .. }
            | Self::Frozen { epoch, .. } => *epoch,
        }
    }

    /// The catalog tells what the store holds, so reads may be answered from it. Where the store may hold
    /// more, or is being read anew, an empty or short list would make a cluster believe that snapshots
    /// are gone: reads are refused like writes, until they can be answered truly.
    #[must_use]
    pub fn catalog_is_current(&self) -> bool {
        match self {
            Self::Vacant { .. } | Self::Held { .. } | Self::Draining { .. } => true,
            Self::Fenced { next, .. } => match next {
                Next::Hold(_) | Next::Release | Next::Freeze(_) => true,
                Next::Recover => false,
            },
            Self::Frozen { reason, .. } => match reason {
                Freeze::Operator(_) => true,
                Freeze::Unadopted
                | Freeze::StoreUnreachable
                | Freeze::AnchorAhead { .. }
                | Freeze::AnchorBehind { .. }
                | Freeze::AnchorBroken(_)
                | Freeze::OtherGateway
                | Freeze::DatabaseMoved
                | Freeze::RootAppeared(_)
                | Freeze::Recovering
                | Freeze::UnadoptedMirror(_)
                | Freeze::Promoting(_)
                | Freeze::Promoted { .. } => false,
            },
        }
    }

    /// Who may still finish or begin a write.
    #[must_use]
    pub fn holder(&self) -> Option<&Cluster> {
        match self {
            Self::Held { holder, .. } | Self::Draining { holder, .. } => Some(holder),
            Self::Vacant { .. } | Self::Fenced { .. } | Self::Frozen { .. } => None,
        }
    }
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
        return Verdict::Refuse(Refusal::NotAWriter {
            repository: repository.clone(),
            caller: caller.clone(),
            writers_hint: lock.holder().cloned(),
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

/// Leave for the gateway's own work, on nobody's behalf: anchors and incarnations, removal of hidden uploads,
/// reading a store into the catalog, reaping, mirroring.
#[must_use]
pub fn upkeep(repository: &Repository, epoch: Epoch) -> Permit {
    settle(repository, &Cluster::gateway(), epoch)
}

/// Leave for the gateway to settle what was begun under epochs up to `epoch`: resolving of intents,
/// aborting of clients' uploads. `on_behalf` is the cluster whose operation it was.
#[must_use]
pub fn settle(repository: &Repository, on_behalf: &Cluster, epoch: Epoch) -> Permit {
    Permit {
        repository: repository.clone(),
        cluster: on_behalf.clone(),
        term: Term::Settle(epoch),
    }
}
