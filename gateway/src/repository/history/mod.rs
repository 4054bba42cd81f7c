//! What was: restore points, what came and went between two of them, and bringing back what was deleted.
//!
//! Decides nothing itself: `policies` says whether an older root, or the newest with a deleted snapshot put back, may be
//! the next one. Invariants: only on a repository that an operator froze; a root is published, by the same intent as a
//! cluster's, only when all that it needs is visible; a crash at any step leaves the old root or the new one, and
//! what was not done after the new one is done before anybody may write (`rest`). Nothing that exists is removed: what a roll-back leaves behind lies there
//! unreferenced, as after any commit.

use std::sync::Arc;

use bytes::Bytes;
use policies::format::closure::{Knowledge, Member};
use policies::format::root::Root;
use policies::guard::{Difference, difference};
use policies::lock::{Freeze, Lock};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::{Door, Error};
use crate::state::RestorePoint;

mod act;
mod past;
mod plan;
mod rest;
#[cfg(test)]
mod tests;

pub use act::Done;
pub use plan::Plan;

use past::Then;

/// Restore points looked through at once.
const PAGE: usize = 1000;

/// What to bring back.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The whole restore point of this generation.
    Rollback(u64),
    /// One snapshot, by name or uuid.
    Undelete(String),
}

impl Ask {
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Rollback(_) => "rollback",
            Self::Undelete(_) => "undelete",
        }
    }
}

impl Door {
    pub async fn restore_points(
        &self,
        open: &OpenRepository,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<RestorePoint>, Error> {
        self.state
            .restore_points(open.id, before, limit)
            .await
            .map_err(|e| state_failed("list restore points", &e))
    }

    /// A restore point all of which is still held.
    pub(super) async fn held_point(
        &self,
        open: &OpenRepository,
        generation: u64,
    ) -> Result<RestorePoint, Error> {
        let point = self
            .state
            .restore_point(open.id, generation)
            .await
            .map_err(|e| state_failed("look up a restore point", &e))?;
        match point {
            Some(point) if point.root.complete => Ok(point),
            Some(_) => Err(Error::InvalidArgument(format!(
                "Restore point {generation} of repository '{}' is not complete any more; see: snapgate restore-points {}",
                open.name, open.name
            ))),
            None => Err(Error::InvalidArgument(format!(
                "Repository '{}' has no restore point {generation}; see: snapgate restore-points {}",
                open.name, open.name
            ))),
        }
    }

    /// What came and went from one restore point to another.
    pub async fn what_changed(
        &self,
        open: &OpenRepository,
        from: u64,
        to: u64,
    ) -> Result<Difference, Error> {
        open.gate.check_store_known(&open.name)?;
        let (before, then) = self.knowledge_at(open, from).await?;
        let (after, now) = self.knowledge_at(open, to).await?;
        let mut changed = difference(&before, &after);
        self.weigh(open, &mut changed.objects_went, then).await?;
        self.weigh(open, &mut changed.objects_came, now).await?;
        Ok(changed)
    }

    /// Sizes of what the format does not tell them of, as of a journal sequence.
    async fn weigh(
        &self,
        open: &OpenRepository,
        members: &mut [Member],
        sequence: u64,
    ) -> Result<(), Error> {
        for member in members.iter_mut().filter(|member| member.size.is_none()) {
            let past = self.object_then(open, &member.key, sequence).await?;
            member.size = past.map(|past| past.object.size);
        }
        Ok(())
    }

    /// All that a restore point needs, read as it was then, and its journal sequence.
    async fn knowledge_at(
        &self,
        open: &OpenRepository,
        generation: u64,
    ) -> Result<(Knowledge, u64), Error> {
        let point = self.held_point(open, generation).await?;
        let body = self.root_then(open, &point).await?;
        let root = Arc::new(parse(generation, &body)?);
        let mut knowledge = open
            .guarding
            .with(|guard| Knowledge::new(guard.knowledge().layout().clone()));
        let mut then = Then::of(point.sequence);
        let proposal = loop {
            match knowledge.propose(Arc::clone(&root), &then.facts) {
                Ok(proposal) => break proposal,
                Err(needs) => self.fetch_then(open, needs, &mut then).await?,
            }
        };
        knowledge.commit(proposal);
        Ok((knowledge, point.sequence))
    }

    /// The bytes of a restore point's root.
    pub(super) async fn root_then(
        &self,
        open: &OpenRepository,
        point: &RestorePoint,
    ) -> Result<Bytes, Error> {
        let generation = point.root.generation;
        let key = open
            .guarding
            .with(|guard| guard.knowledge().layout().root(generation));
        match self.object_then(open, &key, point.sequence).await? {
            Some(past) => self.body(open, past.location(), past::LARGEST).await,
            None => Err(Error::InvalidArgument(format!(
                "The root of restore point {generation} of repository '{}' is gone.",
                open.name
            ))),
        }
    }
}

fn parse(generation: u64, body: &[u8]) -> Result<Root, Error> {
    Root::parse(generation, body)
        .map_err(|e| Error::InvalidArgument(format!("'index-{generation}' cannot be read: {e}.")))
}

/// Nobody writes, and nobody but an operator ends that.
fn require_frozen(open: &OpenRepository) -> Result<(), Error> {
    match open.gate.row().lock {
        Lock::Frozen {
            reason: Freeze::Operator(_),
            ..
        } => Ok(()),
        Lock::Frozen { .. }
        | Lock::Vacant { .. }
        | Lock::Held { .. }
        | Lock::Draining { .. }
        | Lock::Fenced { .. } => Err(Error::InvalidArgument(format!(
            "Repository '{}' must be frozen first, so that no cluster writes meanwhile: snapgate freeze {} --reason TEXT",
            open.name, open.name
        ))),
    }
}
