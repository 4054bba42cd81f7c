//! A mirror becomes the primary.
//!
//! The order of the steps, and why:
//! 1. Plan: look at the target, decide where its catalog comes from and what it lacks. Changes nothing.
//! 2. Freeze the repository and note the promotion, in one transaction: from here on nobody writes, and a crash
//!    leaves a row that says how far it came.
//! 3. Bring open writes to an end; where the old store does not answer they are given up. Their clients were told
//!    nothing yet.
//! 4. The anchor on the target, create-only: it mints the epoch and fences the applier, every other gateway and the
//!    old primary. Until here all of it can be taken back; from here on it is carried through.
//! 5. The catalog is made what the target has: from this database as of what the mirror applied, or from the
//!    target's checkpoint, each compared with one listing of the target; no object's bytes are read but the pointer's.
//! 6. One transaction moves the repository to the target and hands the lock to its writer. Then it is opened anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use policies::identity::{Handover, Repository, StoreName};
use policies::lock::anchor::Anchor;
use policies::lock::{Freeze, Lock, promotion};
use tokio::time::Instant;

mod elsewhere;
mod failback;
mod fit;
mod look;
mod newest;
pub mod plan;
#[cfg(test)]
mod tests;

pub use elsewhere::writers_in;
pub use failback::{Aside, RETURNING};
pub(super) use look::{newest_root, read_whole};
pub use plan::{Ask, Planned};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::handover::Error;
use super::incarnation::Incarnation;
use super::ingest::store_failed;
use super::sequences::Moment;
use super::{Door, incarnation};
use crate::state::{
    AuditEntry, Basis, Finish, LockRow, NewLock, Promotion, PromotionStep, WriteError,
};
use crate::stores::Store;
use crate::telemetry::clock;

/// Open writes on the old store are given up after this long: it is likely to be gone.
const SETTLING: Duration = Duration::from_secs(5);
/// An applier that is nearly there is waited for this long.
const CATCHING_UP: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(20);
/// Rows that one transaction changes at most.
const BATCH: usize = 1000;
/// A journal whose end is not known goes on at this power of two times its epoch: above all that was counted before.
const STRETCH: u32 = 32;

/// Those who write the mirrors.
#[async_trait]
pub trait Appliers: Send + Sync {
    /// Returns when none of the repository's acts any more.
    async fn stop(&self, repository: &Repository);
    /// Sets those to work that the repository should have where it is now.
    async fn start(&self, open: &OpenRepository);
}

/// What a promotion did.
#[derive(Debug)]
pub struct Promoted {
    pub planned: Planned,
    pub row: LockRow,
    pub took: Duration,
}

impl Door {
    /// Makes a mirror the primary; returns when its writer may write.
    pub async fn promote(
        &self,
        open: &Arc<OpenRepository>,
        ask: Ask,
        appliers: &dyn Appliers,
    ) -> Result<Promoted, Error> {
        let promoted = self.promote_with(open, ask, appliers).await;
        if let Some(now) = self.repository(&open.name) {
            appliers.start(&now).await;
        }
        promoted
    }

    async fn promote_with(
        &self,
        open: &Arc<OpenRepository>,
        ask: Ask,
        appliers: &dyn Appliers,
    ) -> Result<Promoted, Error> {
        let began = Instant::now();
        let _moving = open.gate.moving.lock().await;
        if let Some(pending) = self.pending(open).await? {
            return self.carry_on(open, pending, &ask, appliers, began).await;
        }
        let mut planned = self.look(open, &ask).await?;
        if let Some(refusal) = planned.refusal() {
            return Err(Error::Refused(refusal));
        }
        let target = self.target(&ask.store)?;
        let mut promotion = self.begin(open, &ask, &planned).await?;
        match self
            .until_anchored(
                open,
                target.as_ref(),
                &ask,
                appliers,
                &mut planned,
                &mut promotion,
            )
            .await
        {
            Ok(()) => {}
            Err(e) => {
                self.take_back(open, target.as_ref(), &promotion).await;
                return Err(e);
            }
        }
        let row = self.move_over(open, target, &promotion).await?;
        Ok(Promoted {
            planned,
            row,
            took: began.elapsed(),
        })
    }

    /// What a promotion would do, without doing it.
    pub async fn plan_promotion(
        &self,
        open: &Arc<OpenRepository>,
        ask: &Ask,
    ) -> Result<Planned, Error> {
        self.look(open, ask).await
    }

    /// Before anything listens: a promotion that a crash cut short is carried through, or taken back.
    /// False = there was none.
    pub(super) async fn resume_promotion(&self, open: &Arc<OpenRepository>) -> Result<bool, Error> {
        let _moving = open.gate.moving.lock().await;
        let Some(promotion) = self.pending(open).await? else {
            return Ok(false);
        };
        let target = self.target(&promotion.to)?;
        let highest = self.anchor_on(open, target.as_ref()).await?;
        let anchored = promotion.step == PromotionStep::Anchored;
        match promotion::resume(
            promotion.epoch,
            &promotion.handover,
            anchored,
            highest.as_ref(),
        ) {
            promotion::Continuation::Complete => {
                tracing::warn!(repository = %open.name, store = %promotion.to, "a promotion that was cut short is carried through");
                self.move_over(open, target, &promotion).await?;
            }
            promotion::Continuation::TakeBack => {
                tracing::warn!(repository = %open.name, store = %promotion.to, "a promotion that was cut short is taken back");
                self.abandon(open, &promotion).await?;
            }
            promotion::Continuation::Doubt => {
                return Err(Error::Refused(format!(
                    "store '{}' holds another epoch than this promotion's: somebody else promoted it",
                    promotion.to
                )));
            }
        }
        Ok(true)
    }

    async fn carry_on(
        &self,
        open: &Arc<OpenRepository>,
        promotion: Promotion,
        ask: &Ask,
        appliers: &dyn Appliers,
        began: Instant,
    ) -> Result<Promoted, Error> {
        if promotion.to != ask.store || promotion.writer != ask.writer {
            return Err(Error::Refused(format!(
                "repository '{}' is being promoted to store '{}' for writer '{}'; carry that through first: snapgate promote {} --store {} --writer {}",
                open.name,
                promotion.to,
                promotion.writer,
                open.name,
                promotion.to,
                promotion.writer
            )));
        }
        let target = self.target(&promotion.to)?;
        let mut planned = self.look(open, ask).await?;
        planned.epoch = promotion.epoch;
        planned.basis = promotion.basis;
        let mut promotion = promotion;
        if promotion.step == PromotionStep::Planned {
            self.until_anchored(
                open,
                target.as_ref(),
                ask,
                appliers,
                &mut planned,
                &mut promotion,
            )
            .await?;
        }
        let row = self.move_over(open, target, &promotion).await?;
        Ok(Promoted {
            planned,
            row,
            took: began.elapsed(),
        })
    }

    async fn pending(&self, open: &OpenRepository) -> Result<Option<Promotion>, Error> {
        Ok(self
            .state
            .promotion(open.id)
            .await
            .map_err(|e| state_failed("look for a promotion", &e))?)
    }

    pub(super) fn target(&self, name: &StoreName) -> Result<Arc<dyn Store>, Error> {
        self.store(name).ok_or_else(|| {
            Error::Refused(format!(
                "store '{name}' is not configured here; add [stores.{name}]"
            ))
        })
    }

    /// Step 2.
    async fn begin(
        &self,
        open: &OpenRepository,
        ask: &Ask,
        planned: &Planned,
    ) -> Result<Promotion, Error> {
        let row = self
            .state
            .lock(open.id)
            .await
            .map_err(|e| state_failed("read the lock", &e))?;
        let promotion = Promotion {
            handover: Handover::new(crate::random::text(22)),
            from: open.plan.store.clone(),
            to: ask.store.clone(),
            writer: ask.writer.clone(),
            epoch: planned.epoch,
            before: row.lock.clone(),
            basis: planned.basis,
            step: PromotionStep::Planned,
            reason: ask.reason.clone(),
        };
        let to = NewLock {
            lock: promotion::begin(&row.lock, ask.store.as_str()),
            now_ms: clock::now_ms(),
            reason: ask.reason.clone(),
        };
        let audit = entry(open, &promotion, "promote", &planned.audit());
        let begun = self
            .state
            .begin_promotion(open.id, row.version, to, promotion.clone(), audit)
            .await;
        open.gate.saw(begun.map_err(|e| refused(&e))?);
        tracing::warn!(repository = %open.name, store = %ask.store, writer = %ask.writer, epoch = planned.epoch.0, "a promotion begins");
        Ok(promotion)
    }

    /// Steps 3 and 4.
    async fn until_anchored(
        &self,
        open: &Arc<OpenRepository>,
        target: &dyn Store,
        ask: &Ask,
        appliers: &dyn Appliers,
        planned: &mut Planned,
        promotion: &mut Promotion,
    ) -> Result<(), Error> {
        self.settle_writes(open).await?;
        if let Basis::Catalog { .. } = promotion.basis {
            let applied = self.position(open, ask).await?;
            promotion.basis = Basis::Catalog { sequence: applied };
            planned.basis = promotion.basis;
            self.count_missing(open, planned).await?;
        }
        // One that hangs on a dead store is fenced by the anchor.
        if tokio::time::timeout(SETTLING, appliers.stop(&open.name))
            .await
            .is_err()
        {
            tracing::warn!(repository = %open.name, "a mirror's applier did not stop in time; the anchor fences it");
        }
        let anchor = Anchor {
            repository: open.name.clone(),
            epoch: promotion.epoch,
            holder: Some(promotion.writer.clone()),
            handover: promotion.handover.clone(),
            previous: None,
        };
        let highest = self.create_anchor_on(open, target, anchor).await?;
        let anchored =
            highest.is_some_and(|a| a.epoch == promotion.epoch && a.handover == promotion.handover);
        if !anchored {
            return Err(Error::Refused(format!(
                "store '{}' was given another epoch meanwhile; look at it and try again",
                ask.store
            )));
        }
        promotion.step = PromotionStep::Anchored;
        self.state
            .note_promotion(open.id, promotion.clone())
            .await
            .map_err(|e| state_failed("note the promotion", &e))?;
        Ok(())
    }

    /// Brings open writes to an end. No new ones begin: the repository is frozen.
    async fn settle_writes(&self, open: &OpenRepository) -> Result<(), Error> {
        let settled = tokio::time::timeout(SETTLING, self.resolve_all(open)).await;
        match settled {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => {
                tracing::warn!(repository = %open.name, cause = %e, "open writes are given up: the old store does not answer");
            }
            Err(_) => {
                tracing::warn!(repository = %open.name, "open writes are given up: the old store does not answer");
            }
        }
        let intents = self
            .state
            .intents(open.id)
            .await
            .map_err(|e| state_failed("list open intents", &e))?;
        for intent in intents {
            self.state
                .abort_intent(intent.id)
                .await
                .map_err(|e| state_failed("end an intent", &e))?;
        }
        Ok(())
    }

    /// Waits until the mirror has all that was committed: Ok = its position then, Err = how many operations are missing.
    pub(super) async fn catch_up(
        &self,
        open: &OpenRepository,
        store: &StoreName,
        patience: Duration,
    ) -> Result<Result<u64, u64>, Error> {
        let deadline = Instant::now() + patience;
        loop {
            let (applied, newest) = self.mirror_position(open, store).await?;
            if applied >= newest {
                return Ok(Ok(applied));
            }
            if Instant::now() >= deadline || !self.gets_on(open, store).await? {
                return Ok(Err(newest - applied));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The position of the mirror that is to be promoted. With `nothing_behind` one that is behind is a refusal.
    async fn position(&self, open: &OpenRepository, ask: &Ask) -> Result<u64, Error> {
        let patience = ask.nothing_behind.unwrap_or(CATCHING_UP);
        let began = Instant::now();
        match (
            self.catch_up(open, &ask.store, patience).await?,
            ask.nothing_behind,
        ) {
            (Ok(applied), _) => Ok(applied),
            (Err(_), None) => Ok(self.mirror_position(open, &ask.store).await?.0),
            (Err(behind), Some(_)) => Err(Error::Refused(format!(
                "mirror '{}' of repository '{}' {}; nothing was changed",
                ask.store,
                open.name,
                self.why_behind(open, &ask.store, behind, began).await?
            ))),
        }
    }

    /// Steps 5 and 6. May be repeated.
    async fn move_over(
        &self,
        open: &Arc<OpenRepository>,
        target: Arc<dyn Store>,
        promotion: &Promotion,
    ) -> Result<LockRow, Error> {
        // Nothing that began on the old store may use what follows.
        open.gate
            .retire(Freeze::Promoting(promotion.to.as_str().into()));
        let ours = incarnation::begin(self.state.as_ref(), &promotion.to, target.as_ref())
            .await
            .map_err(|e| store_failed("take a new number in the store", &e))?;
        if promotion.to == open.plan.store {
            self.leave_behind(open).await?;
        }
        let kept = self.make_catalog(open, target.as_ref(), promotion).await?;
        let usage = self
            .state
            .usage(open.id)
            .await
            .map_err(|e| state_failed("count its catalog", &e))?;
        let root = self.newest_root(open).await?;
        let finish = Finish {
            handover: promotion.handover.clone(),
            kept,
            root: root.map(|(generation, _)| generation),
            sequence: match promotion.basis {
                Basis::Catalog { .. } => usage.sequence,
                Basis::Checkpoint { .. } | Basis::Listing => promotion.epoch.0 << STRETCH,
            },
        };
        let to = NewLock {
            lock: Lock::Held {
                epoch: promotion.epoch,
                holder: promotion.writer.clone(),
            },
            now_ms: clock::now_ms(),
            reason: promotion.reason.clone(),
        };
        let audit = entry(
            open,
            promotion,
            "promoted",
            &serde_json::json!({ "objects": usage.objects, "bytes": usage.bytes, "sequence": kept }),
        );
        let finished = self
            .state
            .finish_promotion(open.id, to, finish, audit)
            .await;
        let row = finished.map_err(|e| refused(&e))?;
        self.swap(open, target, row.clone(), ours).await;
        tracing::warn!(repository = %open.name, store = %promotion.to, writer = %promotion.writer, epoch = promotion.epoch.0, "promoted");
        Ok(row)
    }

    /// From now on the repository is where its row says. `ours`: this process's number in that store.
    async fn swap(
        &self,
        open: &OpenRepository,
        target: Arc<dyn Store>,
        row: LockRow,
        ours: Incarnation,
    ) {
        let store = row.store.clone();
        let fresh = Arc::new(open.moved_to(&store, target, row));
        fresh.stand_as(ours);
        for other in self.repositories().values() {
            if other.plan.store == store {
                other.stand_as(ours);
            }
        }
        if let Err(e) = self.reserve_numbers(&fresh, Moment::Moved).await {
            tracing::error!(repository = %open.name, cause = %e, "promoted; its journal waits for numbers that the store could not reserve yet");
        }
        if let Err(e) = self.load_guard(&fresh).await {
            tracing::error!(repository = %open.name, cause = %e, "promoted; its newest root could not be read yet, so no delete is allowed until it is");
        }
        self.replace(fresh);
        open.reap.notify_one();
    }

    /// Another node promoted the repository, or is about to say that it did: this one goes where it is now.
    pub(super) async fn follow_promotion(&self, open: &Arc<OpenRepository>) -> Result<(), Error> {
        let Ok(_moving) = open.gate.moving.try_lock() else {
            // This node's own promotion.
            return Ok(());
        };
        let row = self
            .state
            .lock(open.id)
            .await
            .map_err(|e| state_failed("read the lock", &e))?;
        if row.store == open.plan.store {
            return Ok(());
        }
        let target = self.target(&row.store)?;
        let ours = incarnation::begin(self.state.as_ref(), &row.store, target.as_ref())
            .await
            .map_err(|e| store_failed("take a new number in the store", &e))?;
        tracing::warn!(repository = %open.name, store = %row.store, "another node promoted it; followed");
        self.swap(open, target, row, ours).await;
        Ok(())
    }

    /// After a step before the anchor failed. If the anchor may be there after all, the promotion stays noted and
    /// the next start, or the next try, finds out.
    async fn take_back(&self, open: &OpenRepository, target: &dyn Store, promotion: &Promotion) {
        let there = match self.anchor_on(open, target).await {
            Ok(highest) => promotion::resume(
                promotion.epoch,
                &promotion.handover,
                promotion.step == PromotionStep::Anchored,
                highest.as_ref(),
            ),
            Err(_) => promotion::Continuation::Doubt,
        };
        match there {
            promotion::Continuation::TakeBack => {
                if let Err(e) = self.abandon(open, promotion).await {
                    tracing::error!(repository = %open.name, cause = %e, "the promotion could not be taken back; the next start does it");
                }
            }
            promotion::Continuation::Complete | promotion::Continuation::Doubt => {
                tracing::error!(repository = %open.name, store = %promotion.to, "the promotion stopped on its way; run it again to carry it through");
            }
        }
    }

    async fn abandon(&self, open: &OpenRepository, promotion: &Promotion) -> Result<(), Error> {
        let audit = entry(
            open,
            promotion,
            "promote_taken_back",
            &serde_json::Value::Null,
        );
        let row = self
            .state
            .abandon_promotion(open.id, &promotion.handover, clock::now_ms(), audit)
            .await
            .map_err(|e| refused(&e))?;
        open.gate.saw(row);
        Ok(())
    }
}

fn entry(
    open: &OpenRepository,
    promotion: &Promotion,
    action: &str,
    what: &serde_json::Value,
) -> AuditEntry {
    AuditEntry {
        at_ms: clock::now_ms(),
        principal: "operator".into(),
        action: action.into(),
        repository: Some(open.name.clone()),
        epoch: Some(promotion.epoch),
        detail: serde_json::json!({
            "from": promotion.from.as_str(),
            "to": promotion.to.as_str(),
            "writer": promotion.writer.as_str(),
            "reason": promotion.reason,
            "what": what,
        }),
    }
}

fn refused(e: &WriteError) -> Error {
    match e {
        WriteError::Failed(e) => Error::Failed(state_failed("record the promotion", e)),
        other => Error::Failed(super::Error::SlowDown(format!(
            "The lock was moved by another gateway ({other}); try again."
        ))),
    }
}
