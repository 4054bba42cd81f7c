//! The guard made anew: at a start, after an adoption, and where another node committed or a commit's outcome was not known.
//!
//! Decides: which root is the newest and what it needs. Invariant: what comes from here is what the catalog shows now; a newest root that
//! cannot be read lets no delete through.

use std::sync::Arc;

use policies::format::closure::{Knowledge, Observed};
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::guard::{Guard, Scope};

use super::super::door::OpenRepository;
use super::super::gate::state_failed;
use super::super::{Door, Error};
use super::{LARGEST_ROOT, committed_root, layout};
use crate::state::CommittedRoot;

/// Indices that are looked at before what was read of them is forgotten.
const STEP: usize = 16;

impl Door {
    /// Makes the guard anew from what the catalog and the store hold.
    pub async fn load_guard(&self, open: &OpenRepository) -> Result<(), Error> {
        let _alone = open.guarding.commits.write().await;
        self.read_guard(open).await
    }

    /// As [`Self::load_guard`], by who holds `commits` for writing.
    pub(in crate::repository) async fn read_guard(
        &self,
        open: &OpenRepository,
    ) -> Result<(), Error> {
        // What is committed while this reads is followed afterwards.
        let newest = self
            .state
            .usage(open.id)
            .await
            .map_err(|e| state_failed("read its journal's end", &e))?
            .sequence;
        self.read_newest_root(open).await?;
        *open.guarding.followed.lock() = newest;
        Ok(())
    }

    async fn read_newest_root(&self, open: &OpenRepository) -> Result<(), Error> {
        let layout = layout(&open.plan.base_path)?;
        let Some((generation, object)) = self.newest_root(open).await? else {
            return self.read_listed(open, layout).await;
        };
        let body = self.body(open, &object.key, LARGEST_ROOT).await?;
        let root = match Root::parse(generation, &body) {
            Ok(root) => Arc::new(root),
            Err(e) => {
                tracing::error!(repository = %open.name, key = %object.key, cause = %e, "the newest root cannot be read: no delete is allowed until it is");
                open.guarding
                    .starts_as(Guard::new(open.name.clone(), layout, Scope::Observing));
                self.unreadable_root(open, &object.key, &e).await;
                return Ok(());
            }
        };
        self.keep_root_hash(open, &object, &body).await?;
        let knowledge = self.know(open, layout, &root).await?;
        self.note_restore_point(open, &root, &knowledge, object.modified_ms)
            .await?;
        open.guarding
            .starts_as(Guard::adopted(open.name.clone(), knowledge));
        Ok(())
    }

    /// All that the newest root needs; what is wrong with it is told.
    pub(in crate::repository) async fn know(
        &self,
        open: &OpenRepository,
        layout: Layout,
        root: &Arc<Root>,
    ) -> Result<Knowledge, Error> {
        let knowledge = self.closure(open, layout, root).await?;
        let problems: Vec<_> = knowledge.problems().cloned().collect();
        for problem in &problems {
            tracing::warn!(repository = %open.name, key = %problem.key, problem = %problem.kind, snapshots = ?problem.snapshots, "damage that was there before");
        }
        self.damage_found(open, &problems).await;
        Ok(knowledge)
    }

    /// All that a visible root needs, read from what is kept and, where that lacks something, from the store.
    pub(in crate::repository) async fn closure(
        &self,
        open: &OpenRepository,
        layout: Layout,
        root: &Arc<Root>,
    ) -> Result<Knowledge, Error> {
        let mut knowledge = Knowledge::new(layout);
        let mut facts = Observed::default();
        for part in root.in_steps(STEP) {
            let proposal = loop {
                match knowledge.propose(Arc::clone(&part), &facts) {
                    Ok(proposal) => break proposal,
                    Err(needs) => self.fetch(open, needs, &mut facts).await?,
                }
            };
            knowledge.grow(proposal);
            facts.keep_descriptions();
        }
        Ok(knowledge)
    }

    /// A root that was committed before restore points were written down, or adopted; `knowledge` is its closure.
    pub(in crate::repository) async fn note_restore_point(
        &self,
        open: &OpenRepository,
        root: &Root,
        knowledge: &Knowledge,
        committed_ms: i64,
    ) -> Result<(), Error> {
        let permit = open.upkeep();
        let root = CommittedRoot {
            complete: knowledge.problems().next().is_none(),
            ..committed_root(root, knowledge.newest_snapshot())
        };
        self.state
            .note_restore_point(&permit, open.id, root, committed_ms)
            .await
            .map_err(|e| state_failed("note a restore point", &e))
    }
}
