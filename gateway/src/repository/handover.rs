//! Carries out what the lock's state machine says: `policies::lock::step` decides, this acts and reports back.
//!
//! Invariants: the row moves by compare-and-set with its audit record in one transaction, and only then are
//! the effects done; every effect may be repeated, so a crash anywhere is carried on at the next start
//! ([`Door::resume_lock`]). One hand-over at a time per repository and process.

use std::time::Duration;

use policies::identity::{Cluster, Epoch, Handover, Repository, StoreName};
use policies::lock::anchor::{self, Anchor, BrokenChain, Stored};
use policies::lock::handover::{Change, Product};
use policies::lock::{
    self, Denied, Effect, Event, Findings, Freeze, Lock, Next, Outcome, Patience, Step,
};
use tokio::time::Instant;

use super::adoption::Scan;
use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::recovery::is_recovering;
use super::sequences::Moment;
use super::verify::Progress;
use super::{Caller, Door, incarnation, unavailable};
use crate::state::{AuditEntry, LockRow, NewLock, UploadQuery, WriteError};
use crate::stores::{self, Store, own};
use crate::telemetry::clock;
use crate::watch;

/// Owners of open intents get the time that held-up clients wait.
const PATIENCE: Duration = Duration::from_secs(25);
const GLANCE: Duration = Duration::from_millis(20);
/// Moves of one hand-over; more means that two gateways fight over the row.
const MOST_MOVES: usize = 64;
/// A mirror gets this long to come up to a drained repository.
const MIRROR_PATIENCE: Duration = Duration::from_secs(60);
const PAGE: usize = 1000;
/// The position that says which epoch's hand-over waits for a mirror.
const WAITING: &str = "hand-over that waits for a mirror";

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

#[cfg(test)]
mod tests;

/// Who moves the lock, and why, for the audit log.
struct Hand<'a> {
    principal: &'a str,
    reason: Option<&'a str>,
    /// When it is drained: wait until this mirror has everything.
    wait_mirror: Option<&'a StoreName>,
}

impl Door {
    /// Does what an operator asks; returns when the lock is where it was wanted.
    pub async fn hand_over(
        &self,
        open: &OpenRepository,
        ask: Ask,
        reason: Option<String>,
    ) -> Result<LockRow, Error> {
        if let Some(reason) = open.gate.doubted() {
            match ask {
                Ask::Thaw { .. } => {
                    self.start_again(open).await?;
                    let row = open.gate.row();
                    if !matches!(row.lock, Lock::Frozen { .. }) {
                        return Ok(row);
                    }
                }
                Ask::Lock { .. } | Ask::Unlock | Ask::Freeze => {
                    return Err(refused(&Denied::Frozen(reason), &open.name));
                }
            }
        }
        let _moving = open.gate.moving.lock().await;
        let mut wait_mirror = None;
        let event = match ask {
            Ask::Lock {
                writer,
                force,
                wait_mirror: mirror,
            } => {
                if let (Some(mirror), Lock::Vacant { .. }) = (&mirror, open.gate.row().lock) {
                    self.wait_for_mirror(open, mirror).await?;
                }
                wait_mirror = mirror;
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
                reason: reason.clone().unwrap_or_default(),
            },
            Ask::Thaw { recover } => {
                self.may_be_thawed(open).await?;
                if recover {
                    // A number that is taken in vain would make an overtaken gateway the newest.
                    let lock = self.read_row(open).await?.lock;
                    if !matches!(
                        lock,
                        Lock::Frozen { .. }
                            | Lock::Fenced {
                                next: Next::Recover,
                                ..
                            }
                    ) {
                        return Err(refused(&Denied::NotFrozen, &open.name));
                    }
                    self.stand_anew(open).await?;
                } else {
                    self.ready_to_thaw(open).await?;
                }
                let anchor = if recover {
                    self.last_epoch(open).await?
                } else {
                    let highest = self.highest_anchor(open).await?;
                    highest.map_or(Epoch(0), |a| a.epoch)
                };
                Event::Thaw {
                    recover,
                    anchor,
                    drained: self.drained(open).await?,
                    handover: fresh(),
                }
            }
        };
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
        let anchor = self
            .highest_anchor(open)
            .await?
            .map_or(Epoch(0), |a| a.epoch);
        let hand = Hand {
            principal: "operator",
            reason: None,
            wait_mirror: None,
        };
        let row = self.drive(open, Event::Adopted { anchor }, &hand).await?;
        self.forget_scan(open).await?;
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

    /// A hand-over that waits for a mirror must not be finished by a start that does not wait.
    async fn note_wait(&self, open: &OpenRepository, waits: bool) -> Result<(), Error> {
        let position = waits.then(|| open.gate.row().lock.epoch().to_string());
        self.state
            .keep_position(open.id, WAITING, position)
            .await
            .map_err(|e| state_failed("note what a hand-over waits for", &e))?;
        Ok(())
    }

    /// The hand-over of this epoch was to wait for a mirror.
    async fn waited(&self, open: &OpenRepository, epoch: Epoch) -> Result<bool, Error> {
        let noted = self.state.position(open.id, WAITING).await;
        let noted = noted.map_err(|e| state_failed("look up what a hand-over waits for", &e))?;
        Ok(noted.is_some_and(|noted| noted == epoch.to_string()))
    }

    /// Stops all writes in the state database, whatever hand-over is under way: that one finds the row moved.
    pub(super) async fn freeze_for(
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
                Err(Error::Failed(super::Error::SlowDown(_))) if tries < MOST_MOVES => tries += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Stops all writes at once, here and in the state database.
    pub(super) async fn doubt(&self, open: &OpenRepository, reason: Freeze) {
        tracing::error!(repository = %open.name, %reason, "frozen");
        open.gate.doubt(reason.clone());
        if let Err(e) = self.freeze_for(open, reason).await {
            tracing::error!(repository = %open.name, cause = %e, "frozen in this process only");
        }
    }

    async fn drive(
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
    async fn settle_outcome(
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
        Err(Error::Failed(super::Error::SlowDown(
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
            | WriteError::Pinned(_) => Error::Failed(super::Error::SlowDown(
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

    /// Waits for the owners of open intents as long as the patience goes, then resolves what is left.
    async fn end_intents(&self, open: &OpenRepository, patience: Patience) -> Result<(), Error> {
        let deadline = match patience {
            Patience::Owners => Instant::now() + PATIENCE,
            Patience::None => Instant::now(),
        };
        while !self.drained(open).await? {
            if Instant::now() >= deadline {
                self.resolve_all(open).await?;
                return Ok(());
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Nothing is written meanwhile, so the newest sequence stays what it is.
    async fn wait_for_mirror(
        &self,
        open: &OpenRepository,
        mirror: &StoreName,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let Err(behind) = self.catch_up(open, mirror, MIRROR_PATIENCE).await? else {
            return Ok(());
        };
        let name = &open.name;
        let why = self.why_behind(open, mirror, behind, began).await?;
        Err(Error::Refused(format!(
            "Mirror '{mirror}' of repository '{name}' {why}; the lock stays where it was. See: snapgate mirror status {name}"
        )))
    }

    /// A drained lock goes back to its holder, under a new epoch.
    async fn give_back(&self, open: &OpenRepository, holder: Cluster) -> Result<(), Error> {
        let event = Event::OperatorLock {
            writer: holder,
            patience: Patience::None,
            handover: fresh(),
        };
        let hand = Hand {
            principal: "snapgate",
            reason: Some("the mirror was behind"),
            wait_mirror: None,
        };
        self.drive(open, event, &hand).await.map(|_| ())
    }

    async fn drained(&self, open: &OpenRepository) -> Result<bool, Error> {
        let open = self
            .state
            .intents(open.id)
            .await
            .map_err(|e| state_failed("list open intents", &e))?;
        Ok(open.is_empty())
    }

    /// Clients' multipart uploads that were begun under older epochs can never be completed again.
    async fn abort_uploads(&self, open: &OpenRepository, up_to: Epoch) -> Result<(), Error> {
        let mut after = None;
        loop {
            let query = UploadQuery {
                bucket: open.bucket_id,
                repositories: [open.id].into(),
                prefix: String::new(),
                after,
                limit: PAGE,
            };
            let page = self
                .state
                .uploads(&query)
                .await
                .map_err(|e| state_failed("list the uploads", &e))?;
            after = page
                .uploads
                .last()
                .map(|u| (u.key.as_str().to_owned(), u.id.clone()));
            for upload in page
                .uploads
                .iter()
                .filter(|u| u.epoch.is_none_or(|epoch| epoch <= up_to))
            {
                let permit = lock::settle(&open.name, &upload.cluster, up_to);
                open.store
                    .abort(&permit, &upload.key, &upload.store_upload)
                    .await
                    .map_err(|e| store_failed("abort an upload", &e))?;
                match self.state.drop_upload(&permit, &upload.id).await {
                    Ok(_) => {}
                    Err(WriteError::Failed(e)) => {
                        return Err(state_failed("forget an upload", &e).into());
                    }
                    Err(e) => return Err(unavailable("forget an upload", &e).into()),
                }
            }
            if !page.truncated {
                return Ok(());
            }
        }
    }

    /// Creates the anchor after the last one; returns the highest there is then, whoever made it.
    async fn create_anchor(
        &self,
        open: &OpenRepository,
        anchor: Anchor,
    ) -> Result<Option<Anchor>, Error> {
        self.create_anchor_on(open, open.store.as_ref(), anchor)
            .await
    }

    /// The same in another store that holds this repository, or is to hold it.
    pub(super) async fn create_anchor_on(
        &self,
        open: &OpenRepository,
        store: &dyn Store,
        mut anchor: Anchor,
    ) -> Result<Option<Anchor>, Error> {
        let there = own::all(store, &anchor::prefix(&open.name))
            .await
            .map_err(|e| store_failed("read its anchors", &e))?;
        anchor.previous = there.last().map(|last| anchor::hash(&last.bytes));
        let permit = lock::upkeep(&open.name, anchor.epoch);
        let name = anchor::name(&open.name, anchor.epoch);
        match own::create(store, &permit, &name, anchor::encode(&anchor)).await {
            Ok(()) | Err(stores::Error::Exists | stores::Error::Unknown) => {
                self.anchor_on(open, store).await
            }
            Err(e) => Err(store_failed("write the epoch's anchor", &e).into()),
        }
    }

    /// The highest epoch that an anchor is named after, also where they are no chain: a recovery begins it anew.
    async fn last_epoch(&self, open: &OpenRepository) -> Result<Epoch, Error> {
        let names = own::names(open.store.as_ref(), &anchor::prefix(&open.name))
            .await
            .map_err(|e| store_failed("list its anchors", &e))?;
        let last = names.last().and_then(|name| {
            let epoch = name.as_str().rsplit('/').next()?;
            epoch.parse().ok()
        });
        Ok(Epoch(last.unwrap_or(0)))
    }

    async fn highest_anchor(&self, open: &OpenRepository) -> Result<Option<Anchor>, Error> {
        self.anchor_on(open, open.store.as_ref()).await
    }

    /// The highest anchor of this repository in a store; a chain that is broken is a refusal.
    pub(super) async fn anchor_on(
        &self,
        open: &OpenRepository,
        store: &dyn Store,
    ) -> Result<Option<Anchor>, Error> {
        self.anchors(open, store)
            .await?
            .map_err(|broken| Error::Refused(broken.to_string()))
    }

    /// The highest anchor in the store, if all of them form one chain.
    async fn anchors(
        &self,
        open: &OpenRepository,
        store: &dyn Store,
    ) -> Result<Result<Option<Anchor>, BrokenChain>, Error> {
        let there = own::all(store, &anchor::prefix(&open.name))
            .await
            .map_err(|e| store_failed("read its anchors", &e))?;
        let stored = there.iter().map(|o| Stored {
            name: o.name.as_str(),
            bytes: &o.bytes,
        });
        Ok(anchor::verify_chain(&open.name, stored))
    }

    pub(super) async fn read_row(&self, open: &OpenRepository) -> Result<LockRow, Error> {
        let row = self
            .state
            .lock(open.id)
            .await
            .map_err(|e| state_failed("read the lock", &e))?;
        open.gate.saw(row.clone());
        Ok(row)
    }
}

fn refused(denied: &Denied, repository: &Repository) -> Error {
    Error::Refused(denied.sentence(repository))
}

fn fresh() -> Handover {
    Handover::new(crate::random::text(22))
}

/// Nothing is in the way of the hand-over that was found.
fn goes_on(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Move(step) => matches!(step.lock, Lock::Fenced { .. }),
        Outcome::Stay(_) => true,
        Outcome::Deny(_) => false,
    }
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
