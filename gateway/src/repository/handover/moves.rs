//! One move of the lock after the other, until nothing follows: the row by compare-and-set with its audit record in one
//! transaction, and only then the effects, each of which may be repeated.

use policies::identity::{Cluster, Handover, Repository, StoreName};
use policies::lock::anchor::Anchor;
use policies::lock::{self, Denied, Effect, Event, Freeze, Lock, Outcome, Step};

use super::Error;
use crate::repository::door::OpenRepository;
use crate::repository::gate::state_failed;
use crate::repository::recovery::is_recovering;
use crate::repository::sequences::Moment;
use crate::repository::{self, Door};
use crate::state::{AuditEntry, LockRow, NewLock, WriteError};
use crate::telemetry::clock;
use crate::watch;

/// Moves of one hand-over; more means that two gateways fight over the row.
const MOST_MOVES: usize = 64;

/// Who moves the lock, and why, for the audit log.
pub(super) struct Hand<'a> {
    pub principal: &'a str,
    pub reason: Option<&'a str>,
    /// When it is drained: wait until this mirror has everything.
    pub wait_mirror: Option<&'a StoreName>,
}

impl Door {
    /// Stops all writes at once, here and in the state database.
    pub(in crate::repository) async fn doubt(&self, open: &OpenRepository, reason: Freeze) {
        tracing::error!(repository = %open.name, %reason, "frozen");
        open.gate.doubt(reason.clone());
        if let Err(e) = self.freeze_for(open, reason).await {
            tracing::error!(repository = %open.name, cause = %e, "frozen in this process only");
        }
    }

    /// Stops all writes in the state database, whatever hand-over is under way: that one finds the row moved.
    pub(in crate::repository) async fn freeze_for(
        &self,
        open: &OpenRepository,
        reason: Freeze,
    ) -> Result<(), Error> {
        let hand = Hand {
            principal: "snapgate",
            reason: None,
            wait_mirror: None,
        };
        let mut tries = 0;
        loop {
            let row = self.read_row(open).await?;
            // A doubt has no effects to act on: it only stops.
            let step = match lock::step(&row.lock, Event::Doubt(reason.clone())) {
                Outcome::Move(step) => step,
                Outcome::Stay(_) => return Ok(()),
                Outcome::Deny(denied) => return Err(refused(&denied, &open.name)),
            };
            match self.move_row(open, &row, step, &hand).await {
                Ok(_) => return Ok(()),
                Err(Error::Failed(repository::Error::SlowDown(_))) if tries < MOST_MOVES => {
                    tries += 1;
                }
                Err(e) => return Err(e),
            }
        }
    }

    pub(super) async fn drive(
        &self,
        open: &OpenRepository,
        event: Event,
        hand: &Hand<'_>,
    ) -> Result<LockRow, Error> {
        let row = self.read_row(open).await?;
        let outcome = lock::step(&row.lock, event);
        self.settle_outcome(open, row, outcome, hand).await
    }

    /// Moves the row, does the effects, asks what follows from them, until nothing is left to do.
    pub(super) async fn settle_outcome(
        &self,
        open: &OpenRepository,
        row: LockRow,
        outcome: Outcome,
        hand: &Hand<'_>,
    ) -> Result<LockRow, Error> {
        let (mut row, mut outcome) = (row, outcome);
        let mut waiting: Vec<Event> = Vec::new();
        for _ in 0..MOST_MOVES {
            let effects = match outcome {
                Outcome::Move(step) => {
                    let effects = step.effects.clone();
                    row = self.move_row(open, &row, step, hand).await?;
                    effects
                }
                Outcome::Stay(effects) => effects,
                Outcome::Deny(denied) => return Err(refused(&denied, &open.name)),
            };
            for effect in effects {
                waiting.extend(self.act(open, &row, effect, hand).await?);
            }
            if waiting.is_empty() {
                return Ok(row);
            }
            outcome = lock::step(&row.lock, waiting.remove(0));
        }
        Err(Error::Failed(repository::Error::SlowDown(
            "The lock is being moved by another gateway; try again.".into(),
        )))
    }

    async fn move_row(
        &self,
        open: &OpenRepository,
        row: &LockRow,
        step: Step,
        hand: &Hand<'_>,
    ) -> Result<LockRow, Error> {
        let now_ms = clock::now_ms();
        let audit = AuditEntry {
            at_ms: now_ms,
            principal: hand.principal.to_owned(),
            action: step.action.as_str().to_owned(),
            repository: Some(open.name.clone()),
            epoch: Some(step.lock.epoch()),
            detail: serde_json::json!({
                "reason": hand.reason,
                "from": label(&row.lock),
                "to": label(&step.lock),
                "holder": step.lock.holder().map(Cluster::as_str),
            }),
        };
        let to = NewLock {
            lock: step.lock,
            now_ms,
            reason: hand.reason.map(str::to_owned),
        };
        let moved = self.state.move_lock(open.id, row.version, to, audit).await;
        let row = moved.map_err(|e| match e {
            WriteError::Failed(e) => Error::Failed(state_failed("move the lock", &e)),
            WriteError::LockMoved(_)
            | WriteError::Exists(_)
            | WriteError::KeyBusy
            | WriteError::IntentGone
            | WriteError::UploadGone
            | WriteError::Pinned(_) => Error::Failed(repository::Error::SlowDown(
                "The lock was moved by another gateway; try again.".into(),
            )),
        })?;
        tracing::info!(repository = %open.name, lock = label(&row.lock), epoch = row.lock.epoch().0, principal = hand.principal, "the writer lock moved");
        open.gate.saw(row.clone());
        self.watch.tell(watch::Event::LockMoved {
            repository: open.name.clone(),
            state: label(&row.lock),
            holder: row.lock.holder().map(ToString::to_string),
            epoch: row.lock.epoch().0,
            principal: hand.principal.to_owned(),
        });
        Ok(row)
    }

    async fn act(
        &self,
        open: &OpenRepository,
        row: &LockRow,
        effect: Effect,
        hand: &Hand<'_>,
    ) -> Result<Option<Event>, Error> {
        match effect {
            Effect::EndIntents { patience } => {
                if is_recovering(&row.lock) {
                    // Whatever is recorded from now on is above all numbers that were ever used.
                    self.reserve_numbers(open, Moment::Rebuild).await?;
                }
                self.end_intents(open, patience).await?;
                if let (Some(mirror), Lock::Draining { .. }) = (hand.wait_mirror, &row.lock) {
                    self.wait_for_mirror(open, mirror).await?;
                }
                Ok(match row.lock {
                    Lock::Draining { .. } => Some(Event::Drained { handover: fresh() }),
                    Lock::Vacant { .. }
                    | Lock::Held { .. }
                    | Lock::Fenced { .. }
                    | Lock::Frozen { .. } => None,
                })
            }
            Effect::AbortUploads { up_to } => {
                self.abort_uploads(open, up_to).await?;
                Ok(None)
            }
            Effect::CreateAnchor {
                epoch,
                holder,
                handover,
            } => {
                let anchor = Anchor {
                    repository: open.name.clone(),
                    epoch,
                    holder,
                    handover,
                    previous: None,
                };
                let highest = self.create_anchor(open, anchor).await?;
                Ok(Some(Event::Anchors { highest }))
            }
            Effect::RebuildCatalog => {
                self.rebuild(open).await?;
                Ok(Some(Event::Rebuilt {
                    drained: self.drained(open).await?,
                }))
            }
        }
    }

    pub(in crate::repository) async fn read_row(
        &self,
        open: &OpenRepository,
    ) -> Result<LockRow, Error> {
        let row = self
            .state
            .lock(open.id)
            .await
            .map_err(|e| state_failed("read the lock", &e))?;
        open.gate.saw(row.clone());
        Ok(row)
    }
}

pub(super) fn refused(denied: &Denied, repository: &Repository) -> Error {
    Error::Refused(denied.sentence(repository))
}

pub(super) fn fresh() -> Handover {
    Handover::new(crate::random::text(22))
}

fn label(lock: &Lock) -> &'static str {
    match lock {
        Lock::Vacant { .. } => "vacant",
        Lock::Held { .. } => "held",
        Lock::Draining { .. } => "draining",
        Lock::Fenced { .. } => "fenced",
        Lock::Frozen { .. } => "frozen",
    }
}
