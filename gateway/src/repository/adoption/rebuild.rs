//! The catalog made anew from the store, for a recovery.
//!
//! Decides: what the newest root is, what it needs of what the state database took for deleted, and which restore points are
//! still held. The state database may be lost, or older than the store, or the store older than it. Invariants, when it is done:
//! the newest root of the store is visible; what it needs and the store holds is visible; a roll-back that was half
//! done is done; a restore point that is told as complete has all its content in the store as it was. No object is
//! changed but by what a roll-back had left to do. A recovery that is cut short begins anew.

use std::sync::Arc;

use futures::stream::{StreamExt, TryStreamExt};
use policies::format::closure::ProblemKind;
use policies::format::root::Root;

use super::super::door::OpenRepository;
use super::super::gate::state_failed;
use super::super::guarding::{LARGEST_ROOT, committed_root};
use super::super::ingest::store_failed;
use super::super::{Door, Error};
use crate::state::{CommittedRoot, RestorePoint, Tombstone};

/// Tombstones read at once, and of these looked at in the store at once.
const PAGE: usize = 1000;
const PARALLEL: usize = 16;

impl Door {
    pub(in crate::repository) async fn rebuild(&self, open: &OpenRepository) -> Result<(), Error> {
        self.sweep_store_uploads(open).await?;
        self.scan(open).await?;
        self.forget_void(open).await?;
        while let Some(root) = self.root_behind_us(open).await? {
            // A root that was deleted is newer than none, unless the store is an older one.
            if self
                .revive(open, &open.upkeep(), std::slice::from_ref(&root))
                .await?
                == 0
            {
                return Err(Error::SlowDown(format!(
                    "'{root}' was written to the store of repository '{}' while it was read; stop that writer, then try again.",
                    open.name
                )));
            }
        }
        self.finish_rest(open).await?;
        self.show_needed(open).await?;
        self.load_guard(open).await?;
        self.settle_points(open).await
    }

    /// Forgets deleted content whose bytes are not in the store any more; restore points that needed it are told as incomplete.
    async fn forget_void(&self, open: &OpenRepository) -> Result<(), Error> {
        let permit = open.upkeep();
        let mut after = 0;
        loop {
            let page = self.state.tombstones(open.id, after, PAGE).await;
            let page = page.map_err(|e| state_failed("list deleted objects", &e))?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.id;
            let looks = page
                .into_iter()
                .map(|tombstone| self.is_void(open, tombstone));
            let looks = futures::stream::iter(looks).buffer_unordered(PARALLEL);
            let void: Vec<Option<u64>> = looks.try_collect().await?;
            let void: Vec<u64> = void.into_iter().flatten().collect();
            if !void.is_empty() {
                self.state
                    .reaped(&permit, void, u64::MAX)
                    .await
                    .map_err(|e| state_failed("forget deleted objects", &e))?;
            }
        }
    }

    /// Its id, if its bytes are not where it says. Under a second name the store calls them otherwise.
    async fn is_void(
        &self,
        open: &OpenRepository,
        tombstone: Tombstone,
    ) -> Result<Option<u64>, Error> {
        let there = open.store.stat(&tombstone.location).await;
        let there = there.map_err(|e| store_failed("look at a deleted object", &e))?;
        let in_place = tombstone.location == tombstone.object.key;
        let is_held = there.is_some_and(|there| {
            there.size == tombstone.object.size
                && (!in_place || there.identity == tombstone.object.identity)
        });
        if !is_held {
            tracing::warn!(repository = %open.name, key = %tombstone.object.key, "the store does not hold deleted content that is kept for the retention");
        }
        Ok((!is_held).then_some(tombstone.id))
    }

    /// A root that was committed after this state database was copied may need what was deleted before.
    async fn show_needed(&self, open: &OpenRepository) -> Result<(), Error> {
        loop {
            let Some((generation, object)) = self.newest_root(open).await? else {
                return Ok(());
            };
            let body = self.body(open, &object.key, LARGEST_ROOT).await?;
            let Ok(root) = Root::parse(generation, &body) else {
                return Ok(());
            };
            let layout = open
                .guarding
                .with(|guard| guard.knowledge().layout().clone());
            let closure = self.closure(open, layout, &Arc::new(root)).await?;
            let missing: Vec<_> = closure
                .problems()
                .filter(|problem| problem.kind == ProblemKind::Missing)
                .map(|problem| problem.key.clone())
                .collect();
            if self.revive(open, &open.upkeep(), &missing).await? == 0 {
                return Ok(());
            }
        }
    }

    /// The newest root's restore point is what is there now. Those of roots that the store has no more are none.
    async fn settle_points(&self, open: &OpenRepository) -> Result<(), Error> {
        let known = open.guarding.with(|guard| {
            let knowledge = guard.knowledge();
            let complete = knowledge.problems().next().is_none();
            let newest = knowledge.newest().filter(|newest| !newest.root.of_list);
            newest.map(|newest| CommittedRoot {
                complete,
                ..committed_root(&newest.root, knowledge.newest_snapshot())
            })
        });
        let Some(newest) = known else {
            return Ok(());
        };
        let mut gone = Vec::new();
        let mut before = None;
        loop {
            let points = self.restore_points(open, before, PAGE).await?;
            before = points.last().map(|point| point.root.generation);
            for point in points {
                if point.root.generation > newest.generation {
                    gone.push(point.root.generation);
                } else if point.root.generation == newest.generation {
                    self.settle_newest(open, point, newest.clone()).await?;
                }
            }
            if before.is_none_or(|before| before <= newest.generation) {
                break;
            }
        }
        self.state
            .forget_restore_points(&open.upkeep(), open.id, gone)
            .await
            .map_err(|e| state_failed("forget restore points", &e))
    }

    /// One that nothing was lost of is left as it is.
    async fn settle_newest(
        &self,
        open: &OpenRepository,
        point: RestorePoint,
        newest: CommittedRoot,
    ) -> Result<(), Error> {
        let now = CommittedRoot {
            cluster: point.root.cluster.clone(),
            epoch: point.root.epoch,
            ..newest
        };
        if now.complete && point.root == now {
            return Ok(());
        }
        self.restate(open, now, point.committed_ms).await
    }
}
