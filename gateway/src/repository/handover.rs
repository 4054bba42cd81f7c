//! Carries out what the lock's state machine says: `policies::lock::step` decides, this acts and reports back.
//!
//! Invariants: the row moves by compare-and-set with its audit record in one transaction, and only then are
//! the effects done; every effect may be repeated, so a crash anywhere is carried on at the next start
//! ([`Door::resume_lock`]). One hand-over at a time per repository and process.

mod anchors;
mod drain;
mod moves;

use policies::identity::{Cluster, StoreName};
use policies::lock::handover::{Change, Product};
use policies::lock::{self, Denied, Event, Findings, Freeze, Lock, Next, Outcome, Patience};

use super::adoption::Scan;
use super::door::OpenRepository;
use super::ingest::store_failed;
use super::sequences::Moment;
use super::verify::Progress;
use super::{Caller, Door, incarnation};
use crate::state::LockRow;
use moves::{Hand, fresh, refused};

#[cfg(test)]
mod tests;

/// What an operator asks for.
#[derive(Debug)]
pub enum Ask {
    Lock {
        writer: Cluster,
        force: bool,
        /// Hand it over only when this mirror has all that was written before.
        wait_mirror: Option<StoreName>,
    },
    Unlock,
    Freeze,
    Thaw {
        recover: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Failed(#[from] super::Error),
}

impl Door {
    /// Does what an operator asks; returns when the lock is where it was wanted.
    pub async fn hand_over(
        &self,
        open: &OpenRepository,
        ask: Ask,
        reason: Option<String>,
    ) -> Result<LockRow, Error> {
        if let Some(row) = self.settle_doubt(open, &ask).await? {
            return Ok(row);
        }
        let _moving = open.gate.moving.lock().await;
        let wait_mirror = match &ask {
            Ask::Lock { wait_mirror, .. } => wait_mirror.clone(),
            Ask::Unlock | Ask::Freeze | Ask::Thaw { .. } => None,
        };
        let event = self.event(open, ask, reason.as_deref()).await?;
        self.note_wait(open, wait_mirror.is_some()).await?;
        let before = open.gate.row().lock.holder().cloned();
        let hand = Hand {
            principal: "operator",
            reason: reason.as_deref(),
            wait_mirror: wait_mirror.as_ref(),
        };
        let moved = self.drive(open, event, &hand).await;
        let drains = matches!(open.gate.row().lock, Lock::Draining { .. });
        if let (Err(_), true, Some(holder), true) = (&moved, wait_mirror.is_some(), before, drains)
        {
            self.give_back(open, holder).await?;
        }
        moved
    }

    /// What this process alone doubts only a thaw settles; Some = and with that nothing is left to do.
    async fn settle_doubt(
        &self,
        open: &OpenRepository,
        ask: &Ask,
    ) -> Result<Option<LockRow>, Error> {
        let Some(reason) = open.gate.doubted() else {
            return Ok(None);
        };
        match ask {
            Ask::Thaw { .. } => self.start_again(open).await?,
            Ask::Lock { .. } | Ask::Unlock | Ask::Freeze => {
                return Err(refused(&Denied::Frozen(reason), &open.name));
            }
        }
        let row = open.gate.row();
        Ok((!matches!(row.lock, Lock::Frozen { .. })).then_some(row))
    }

    /// What the state machine is told, once everything that it takes for granted is so.
    async fn event(
        &self,
        open: &OpenRepository,
        ask: Ask,
        reason: Option<&str>,
    ) -> Result<Event, Error> {
        Ok(match ask {
            Ask::Lock {
                writer,
                force,
                wait_mirror,
            } => {
                if let (Some(mirror), Lock::Vacant { .. }) = (&wait_mirror, open.gate.row().lock) {
                    self.wait_for_mirror(open, mirror).await?;
                }
                let patience = if force {
                    Patience::None
                } else {
                    Patience::Owners
                };
                Event::OperatorLock {
                    writer,
                    patience,
                    handover: fresh(),
                }
            }
            Ask::Unlock => Event::Unlock,
            Ask::Freeze => Event::Freeze {
                reason: reason.unwrap_or_default().to_owned(),
            },
            Ask::Thaw { recover } => {
                self.may_be_thawed(open).await?;
                let anchor = if recover {
                    self.ready_to_recover(open).await?;
                    self.last_epoch(open).await?
                } else {
                    self.ready_to_thaw(open).await?;
                    self.highest_epoch(open).await?
                };
                Event::Thaw {
                    recover,
                    anchor,
                    drained: self.drained(open).await?,
                    handover: fresh(),
                }
            }
        })
    }

    /// A number that is taken in vain would make an overtaken gateway the newest.
    async fn ready_to_recover(&self, open: &OpenRepository) -> Result<(), Error> {
        let lock = self.read_row(open).await?.lock;
        let recovers = matches!(
            lock,
            Lock::Frozen { .. }
                | Lock::Fenced {
                    next: Next::Recover,
                    ..
                }
        );
        if !recovers {
            return Err(refused(&Denied::NotFrozen, &open.name));
        }
        self.stand_anew(open).await
    }

    /// Reads a store that was there before into the catalog, then guards it. Cut short, it is carried on by the next
    /// call; until it is done the repository stays frozen.
    pub async fn adopt(
        &self,
        open: &OpenRepository,
        progress: &Progress<'_>,
    ) -> Result<(LockRow, Scan), Error> {
        let _moving = open.gate.moving.lock().await;
        let row = self.read_row(open).await?;
        let unadopted = matches!(
            row.lock,
            Lock::Frozen {
                reason: Freeze::Unadopted | Freeze::UnadoptedMirror(_),
                ..
            }
        );
        if !unadopted {
            return Err(Error::Refused(format!(
                "Repository '{}' does not wait to be adopted: its catalog knows what its store holds.",
                open.name
            )));
        }
        let anchor = self.highest_epoch(open).await?;
        if let Outcome::Deny(denied) = lock::step(&row.lock, Event::Adopted { anchor }) {
            return Err(refused(&denied, &open.name));
        }
        self.reserve_numbers(open, Moment::Rebuild).await?;
        let scan = self.scan_on(open, progress).await?;
        if let Some(root) = self.root_behind_us(open).await? {
            self.forget_scan(open).await?;
            return Err(Error::Refused(format!(
                "'{root}' was written to the store of repository '{}' while it was read; stop that writer, then adopt again.",
                open.name
            )));
        }
        self.load_guard(open).await?;
        self.note_older_roots(open).await?;
        let anchor = self.highest_epoch(open).await?;
        let hand = Hand {
            principal: "operator",
            reason: None,
            wait_mirror: None,
        };
        let row = self.drive(open, Event::Adopted { anchor }, &hand).await?;
        self.forget_scan(open).await?;
        if let Lock::Frozen { reason, .. } = row.lock {
            return Err(refused(&Denied::NeedsRecover(reason), &open.name));
        }
        Ok((row, scan))
    }

    /// What the gateway knows is current, or was and could not be read for a while.
    async fn ready_to_thaw(&self, open: &OpenRepository) -> Result<(), Error> {
        match open.gate.row().lock {
            Lock::Frozen {
                reason: Freeze::Operator(_) | Freeze::StoreUnreachable,
                ..
            } => {
                self.end_intents(open, Patience::None).await?;
                self.finish_rest(open).await?;
                self.load_guard(open).await?;
            }
            Lock::Frozen { .. }
            | Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => {}
        }
        Ok(())
    }

    /// A recovery takes a new number in the store first, so that any other gateway there freezes.
    async fn stand_anew(&self, open: &OpenRepository) -> Result<(), Error> {
        let ours = incarnation::begin(self.state.as_ref(), &open.plan.store, open.store.as_ref())
            .await
            .map_err(|e| store_failed("take a new number in the store", &e))?;
        for other in self.in_store(&open.plan.store) {
            other.stand_as(ours);
        }
        Ok(())
    }

    /// Makes `caller` the holder of a vacant lock, if it still is vacant.
    pub(super) async fn take(
        &self,
        open: &OpenRepository,
        caller: &Caller,
    ) -> Result<(), super::Error> {
        let _moving = open.gate.moving.lock().await;
        if !matches!(open.gate.row().lock, Lock::Vacant { .. }) {
            return Ok(());
        }
        let event = Event::Take {
            writer: caller.cluster.clone(),
            handover: fresh(),
        };
        match self
            .drive(
                open,
                event,
                &Hand {
                    principal: caller.cluster.as_str(),
                    reason: None,
                    wait_mirror: None,
                },
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Refused(why)) => Err(super::Error::SlowDown(why)),
            Err(Error::Failed(e)) => Err(e),
        }
    }

    /// At start, before anything listens: the row and the store's anchors agree, or the repository is frozen,
    /// and a hand-over that a crash cut short is brought to its end.
    pub async fn resume_lock(&self, open: &OpenRepository) -> Result<(), Error> {
        let _moving = open.gate.moving.lock().await;
        let hand = Hand {
            principal: "snapgate",
            reason: Some("start"),
            wait_mirror: None,
        };
        // The row first: a move of another node in between makes the compare-and-set fail, not freeze.
        let row = self.read_row(open).await?;
        let findings = Findings {
            anchors: self.anchors(open, open.store.as_ref()).await?,
            intents_open: !self.drained(open).await? && !self.others_alive().await?,
            handover: fresh(),
        };
        let outcome = lock::resume(&row.lock, findings);
        if let Lock::Draining { epoch, holder, .. } = &row.lock
            && goes_on(&outcome)
            && self.waited(open, *epoch).await?
        {
            return self.give_back(open, holder.clone()).await;
        }
        self.settle_outcome(open, row, outcome, &hand)
            .await
            .map(|_| ())
    }
}

/// Nothing is in the way of the hand-over that was found.
fn goes_on(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Move(step) => matches!(step.lock, Lock::Fenced { .. }),
        Outcome::Stay(_) => true,
        Outcome::Deny(_) => false,
    }
}

/// What the clusters' operators should do around this change, as text.
#[must_use]
pub fn steps(open: &OpenRepository, ask: &Ask) -> Vec<String> {
    let Ask::Lock { writer, .. } = ask else {
        return Vec::new();
    };
    let change = Change {
        repository: open.name.clone(),
        bucket: open.plan.bucket.clone(),
        base_path: open.plan.base_path.clone(),
        from: open.gate.row().lock.holder().cloned(),
        to: writer.clone(),
    };
    [Product::Elasticsearch, Product::OpenSearch]
        .into_iter()
        .map(|product| lock::handover::text(&change, product))
        .collect()
}
