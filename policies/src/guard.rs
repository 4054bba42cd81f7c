//! The guard: knows what a repository needs and refuses what would break it.
//!
//! Decides, for the holder of the writer lock: which root may be committed ([`Guard::admit`]), which bytes may replace
//! others ([`Guard::overwrite`], [`Guard::pointer`]), which key may be deleted ([`Guard::delete`]). Where there are no roots (2.x),
//! the description of a snapshot commits it ([`Guard::announced`]).
//! Invariants: after every admitted root its closure is present, except what was missing before; nothing that the newest
//! committed root needs is replaced or deleted; nothing is refused that a correct cluster does.
//! A permission ([`Admitted`]) is a value that only the guard makes; a refusal ([`Refusal`]) is typed, and its
//! sentence is what the user of a cluster reads.

mod admission;
mod delete;
mod explain;
mod list;
mod overwrite;
mod refusal;
mod restore;
mod sentence;

pub use admission::{Admitted, Candidate, Change, Report, Rules};
pub use delete::Deletion;
pub use explain::{Difference, Explanation, Holder, difference};
pub use overwrite::{Incoming, Overwrite};
pub use refusal::{Names, Reason, Refusal};
pub use restore::{Point, holding};

use crate::format::closure::{Knowledge, Problem};
use crate::format::digest;
use crate::format::paths::Layout;
use crate::identity::Repository;
use crate::key::{Class, ObjectKey};

/// How much of the repository is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// An adopted repository whose metadata is still being read: roots are reported on, not refused; what was there
    /// before is neither replaced nor deleted.
    Observing,
    /// All of it.
    Complete,
}

/// The guard of one repository.
#[derive(Debug)]
pub struct Guard {
    repository: Repository,
    knowledge: Knowledge,
    scope: Scope,
}

impl Guard {
    /// For a repository that is empty ([`Scope::Complete`]) or about to be read ([`Scope::Observing`]).
    #[must_use]
    pub fn new(repository: Repository, layout: Layout, scope: Scope) -> Self {
        Self {
            repository,
            knowledge: Knowledge::new(layout),
            scope,
        }
    }

    /// For a repository whose newest root was compared and committed to `knowledge`.
    #[must_use]
    pub fn adopted(repository: Repository, mut knowledge: Knowledge) -> Self {
        knowledge.adopted();
        Self {
            repository,
            knowledge,
            scope: Scope::Complete,
        }
    }

    #[must_use]
    pub fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The admitted root is durable and visible. Root commits of one repository are serialised by the caller.
    pub fn committed(&mut self, admitted: Admitted) {
        self.knowledge.commit(admitted.into_proposal());
    }

    /// An allowed delete took effect.
    pub fn deleted(&mut self, key: &ObjectKey, class: &Class) {
        self.knowledge.deleted(key, class);
    }

    /// An object other than a root was written; `digest` is what [`digest::read`] gave.
    pub fn written(&mut self, key: &ObjectKey, class: &Class, digest: Option<&digest::Read>) {
        self.knowledge.written(key, class, digest);
    }

    /// Damage was found behind the gateway.
    pub fn damaged(&mut self, problem: Problem) {
        self.knowledge.found(problem);
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        Refusal {
            repository: self.repository.clone(),
            reason,
        }
    }
}
