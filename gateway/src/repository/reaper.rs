//! Removes the bytes of deleted objects when their retention has passed.
//!
//! Invariant: nothing visible is removed. Each removal takes its turn at the key, looks the tombstone and the
//! catalog up again, and only then deletes. Leak rather than lose.
//!
//! What is due and still held is passed over, and the next look goes on behind it: however much is held, what is not is
//! reached, and no look reads more than [`MOST_HELD`] of it.

use std::sync::Arc;
use std::time::Duration;

use policies::guard::{Point, holding};
use policies::identity::Repository;
use policies::key::{Class, ObjectKey, RESERVED};
use policies::lock::{self, Lock, Permit};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::{Door, Error};
use crate::state::{State, Tombstone};

#[cfg(test)]
mod tests;

/// How often the reaper looks when nobody wakes it, and how often the uptime is written down.
const INTERVAL: Duration = Duration::from_secs(30);
const BATCH: usize = 500;
/// Held tombstones that one look passes over, before it leaves the rest to the next one.
const MOST_HELD: usize = 10 * BATCH;

/// Runs until the process ends: one task per repository, whichever store it is in.
pub async fn run(door: Arc<Door>, name: Repository) {
    let mut last = tokio::time::Instant::now();
    let mut first = true;
    while let Some(open) = door.repository(&name) {
        if !std::mem::take(&mut first) {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = open.reap.notified() => {}
            }
        }
        let passed = last.elapsed();
        last = tokio::time::Instant::now();
        if let Err(e) = door
            .reap(&open, u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
            .await
        {
            tracing::warn!(repository = %open.name, cause = %e, "the reaper will try again");
        }
        // An intent whose end could not be recorded waits for its key's turn, and for a database that answers.
        if open.gate.row().lock.catalog_is_current()
            && let Err(e) = door.resolve_abandoned(&open).await
        {
            tracing::warn!(repository = %open.name, cause = %e, "an open intent could not be resolved yet");
        }
    }
}

impl Door {
    pub(super) async fn reap(&self, open: &OpenRepository, passed_ms: u64) -> Result<(), Error> {
        let uptime = open.uptime_share(&self.state, passed_ms).await?;
        if !self.leads().await? {
            return Ok(());
        }
        self.end_old_uploads(open, uptime).await?;
        let mut held = 0;
        while held < MOST_HELD {
            let after = *open.reaped_to.lock();
            let due = self
                .state
                .reapable(open.id, uptime, after, BATCH)
                .await
                .map_err(|e| state_failed("list deleted objects", &e))?;
            let Some(permit) = settle_permit(open).filter(|_| !due.is_empty()) else {
                *open.reaped_to.lock() = None;
                return Ok(());
            };
            let full = due.len() == BATCH;
            let end = due.last().map(Tombstone::due).filter(|_| full);
            held += self.reap_batch(open, &permit, uptime, due).await?;
            *open.reaped_to.lock() = end;
            if !full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many of them are still there.
    async fn reap_batch(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        uptime: u64,
        due: Vec<Tombstone>,
    ) -> Result<usize, Error> {
        let points = self.points(open).await?;
        let spares = spared(open, &points);
        let all = due.len();
        let mut gone = Vec::with_capacity(all);
        let mut roots = Vec::new();
        for tombstone in due {
            if self.is_held(open, &points, uptime, &tombstone) {
                continue;
            }
            if self.reap_one(open, permit, &tombstone, spares).await? {
                gone.push(tombstone.id);
                roots.extend(self.root_gone(open, &tombstone).await?);
            }
        }
        let held = all - gone.len();
        if !gone.is_empty() {
            self.state
                .reaped(permit, gone, spares)
                .await
                .map_err(|e| state_failed("forget deleted objects", &e))?;
            self.state
                .forget_restore_points(permit, open.id, roots)
                .await
                .map_err(|e| state_failed("forget restore points", &e))?;
        }
        Ok(held)
    }

    /// The restore points, ascending.
    async fn points(&self, open: &OpenRepository) -> Result<Vec<Point>, Error> {
        let mut points = Vec::new();
        let mut before = None;
        loop {
            let page = self.restore_points(open, before, BATCH).await?;
            let more = page.len() == BATCH;
            before = page.last().map(|point| point.root.generation);
            points.extend(page.iter().map(|point| Point {
                generation: point.root.generation,
                sequence: point.sequence,
                uptime_ms: point.uptime_ms,
            }));
            if !more {
                points.reverse();
                return Ok(points);
            }
        }
    }

    /// A restore point that the retention holds may need it, or the newest root does.
    fn is_held(
        &self,
        open: &OpenRepository,
        points: &[Point],
        uptime_ms: u64,
        tombstone: &Tombstone,
    ) -> bool {
        let visible = tombstone.object.sequence..tombstone.removed;
        if holding(points, &visible, uptime_ms, open.retain_ms()).is_some() {
            return true;
        }
        let newest = points.last().map(|point| point.sequence);
        if newest.is_some_and(|newest| visible.contains(&newest))
            && self.counted_then(open, &tombstone.object.key)
        {
            return true;
        }
        // What lies under another name is not what the newest root reads.
        if tombstone.location != tombstone.object.key {
            return false;
        }
        let key = &tombstone.object.key;
        let class = self.class_of(open, key);
        open.guarding.delete(key, &class).is_err()
    }

    /// Before 7.6 a cluster writes shard indexes anew after its root, so that what counted when the newest root was
    /// committed is not what counts now; and the root is a restore point that its successor will leave behind.
    fn counted_then(&self, open: &OpenRepository, key: &ObjectKey) -> bool {
        let of_a_shard = matches!(
            self.class_of(open, key),
            Class::ShardIndex { .. } | Class::ShardSnapshot { .. } | Class::Data { .. }
        );
        is_legacy(open) && open.retain_ms() > 0 && of_a_shard
    }

    /// The generation of a root of which nothing is left.
    async fn root_gone(
        &self,
        open: &OpenRepository,
        tombstone: &Tombstone,
    ) -> Result<Option<u64>, Error> {
        let Class::Root(generation) = self.class_of(open, &tombstone.object.key) else {
            return Ok(None);
        };
        let visible = self.lookup(open, &tombstone.object.key).await?.object;
        Ok(visible.is_none().then_some(generation))
    }

    /// True = the bytes are surely gone, or the name is in use again and the tombstone says nothing any more.
    async fn reap_one(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        tombstone: &Tombstone,
        spares: u64,
    ) -> Result<bool, Error> {
        // A commit has its key's turn when it waits for the others.
        let _turn = open.turn(&tombstone.object.key).await;
        let _no_root_now = open.guarding.commits.read().await;
        if !tombstone.location.as_str().starts_with(RESERVED) {
            let lookup = self.lookup(open, &tombstone.object.key).await?;
            if lookup.busy {
                return Ok(false);
            }
            if lookup.object.is_some() {
                return Ok(true);
            }
            match open
                .store
                .stat(&tombstone.location)
                .await
                .map_err(|e| store_failed("look at a deleted object", &e))?
            {
                Some(stat) if stat.identity != tombstone.object.identity => {
                    tracing::warn!(repository = %open.name, key = %tombstone.location, "not what was deleted lies here; it is left alone");
                    return Ok(true);
                }
                Some(_) => {}
                None => return Ok(true),
            }
        }
        if self.kept_for_another(open, tombstone).await? {
            return Ok(true);
        }
        if self.state.shared() {
            // First nobody can show it again, then the bytes go: a node that stops in between leaks them.
            self.state
                .reaped(permit, vec![tombstone.id], spares)
                .await
                .map_err(|e| state_failed("forget deleted objects", &e))?;
        }
        let removed = open
            .store
            .delete(permit, std::slice::from_ref(&tombstone.location))
            .await;
        for result in removed {
            result.map_err(|e| store_failed("remove a deleted object", &e))?;
        }
        Ok(true)
    }

    /// The same bytes were shown again and hidden again: a younger tombstone keeps them.
    async fn kept_for_another(
        &self,
        open: &OpenRepository,
        tombstone: &Tombstone,
    ) -> Result<bool, Error> {
        let all = self
            .state
            .tombstone(open.id, &tombstone.object.key)
            .await
            .map_err(|e| state_failed("look up deleted objects", &e))?;
        Ok(all
            .iter()
            .any(|other| other.id != tombstone.id && other.location == tombstone.location))
    }
}

/// The journal sequence of the newest root: nothing that is removed was needed by it.
fn spared(open: &OpenRepository, points: &[Point]) -> u64 {
    match points.last() {
        Some(newest) if open.retain_ms() > 0 || !is_legacy(open) => newest.sequence,
        Some(_) | None => u64::MAX,
    }
}

fn is_legacy(open: &OpenRepository) -> bool {
    open.guarding.with(|guard| {
        let newest = guard.knowledge().newest();
        newest.is_some_and(|newest| newest.root.is_legacy_form())
    })
}

impl OpenRepository {
    /// The gateway's uptime; each repository's reaper reports only its share, so that the sum is the truth.
    async fn uptime_share(&self, state: &Arc<dyn State>, passed_ms: u64) -> Result<u64, Error> {
        let add = if self.keeps_time { passed_ms } else { 0 };
        state
            .uptime(add)
            .await
            .map_err(|e| state_failed("note its uptime", &e))
    }
}

/// Leave to tidy up, while nobody doubts who owns the repository.
pub(super) fn settle_permit(open: &OpenRepository) -> Option<Permit> {
    match open.gate.row().lock {
        Lock::Vacant { epoch }
        | Lock::Held { epoch, .. }
        | Lock::Draining { epoch, .. }
        | Lock::Fenced { epoch, .. } => Some(lock::upkeep(&open.name, epoch)),
        Lock::Frozen { .. } => None,
    }
}
