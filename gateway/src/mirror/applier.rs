//! Applies the journal: asks the planner, does what it says, records what the target confirmed.
//!
//! Order of a round: have the duty (of several nodes on a database one has it), read the row (paused? stalled? to be
//! reconciled?), stand on the target by its anchor, end what others began there, read entries, cut a step, do it stage
//! by stage, record the position. Facts about the target live in memory only; after a crash, or by another node, they
//! are found out anew, and the same step is done again: everything in it may be repeated.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use policies::identity::Epoch;
use policies::key::ObjectKey;
use policies::mirror_order::{Facts, Step};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::control::Control;
use super::fence::Tenure;
use super::work::{Backoff, Work, keep_later, passes};
use super::{Link, Trouble};
use crate::checkpoint::Follower;
use crate::state::Duty;
use crate::state::mirrors::{MirrorChange, MirrorRow, Resync, Stalled};
use crate::telemetry::clock;

mod stages;

/// Entries that are read for one step. Part of what is durable: a step that a crash cut short must be found again
/// or be longer, so this number may grow from one version to the next, and never shrink.
pub const WINDOW: usize = 8192;
/// How often the journal is looked at when nothing is to be done. One read of an indexed row.
const IDLE: Duration = Duration::from_millis(100);
/// How often the target is looked at when nothing is to be done.
const FENCE_CHECK: Duration = Duration::from_secs(5);
/// How often a node asks for a duty that another one has, and the one that has it for orders given elsewhere.
const GLANCE: Duration = Duration::from_millis(500);
/// Failures in a row after which what is wrong is said in the mirror's state.
const PATIENCE: u32 = 4;

#[derive(Debug)]
pub struct Applier {
    pub link: Arc<Link>,
    pub control: Arc<Control>,
    pub tenure: Tenure,
    pub facts: Facts,
    pub work: Work,
    duty: Arc<dyn Duty>,
    /// The target's own record of what it holds.
    checkpoint: Follower,
    /// Contents that the target confirmed since the reconciliation's last record: they are not asked for again.
    pub reconciled: HashSet<(ObjectKey, u64)>,
    /// Grows with all that the target confirmed.
    confirmed: u64,
    /// The round of orders that this work belongs to.
    pub round: u64,
    fence_checked: Instant,
}

/// Runs until it is stopped.
pub async fn run(link: Arc<Link>, control: Arc<Control>) {
    let mut backoff = Backoff::default();
    while !control.stopped() {
        let round = control.round();
        let work = format!("mirror {} {}", link.source.id.0, link.target_name);
        match link.source.state.take_duty(&work).await {
            Ok(Some(duty)) => {
                backoff = Backoff::default();
                on_duty(&link, &control, duty.into()).await;
                // Whoever applies from here on says what is in the way.
                control.well();
            }
            Ok(None) => control.wait(round, GLANCE).await,
            Err(e) => {
                tracing::debug!(repository = %link.source.name, store = %link.target_name, cause = %e, "who applies could not be asked");
                control.wait(round, backoff.next()).await;
            }
        }
    }
}

/// Until the duty is lost.
async fn on_duty(link: &Arc<Link>, control: &Arc<Control>, duty: Arc<dyn Duty>) {
    let mut beside = JoinSet::new();
    if link.source.state.shared() {
        let (told, lost) = (Arc::clone(control), Arc::clone(&duty));
        beside.spawn(async move {
            lost.lost().await;
            told.tell();
        });
        let heard = row(link).await.ok().flatten().map(|row| row.orders);
        beside.spawn(hear_orders(Arc::clone(link), Arc::clone(control), heard));
    }
    let mut backoff = Backoff::default();
    while !control.stopped() && duty.holds() {
        let round = control.round();
        let ended = one_run(link, control, &duty).await;
        control.rests();
        match ended {
            Ok(()) | Err(Trouble::Interrupted) => backoff = Backoff::default(),
            // By the duty's word or the target's: who has it now sees to the rest.
            Err(Trouble::Relieved) => control.wait(round, backoff.next()).await,
            Err(trouble) => {
                report(link, control, control.minted(), &trouble, backoff.tries()).await;
                control.wait(round, backoff.next()).await;
            }
        }
    }
}

/// Orders that are given through another node.
async fn hear_orders(link: Arc<Link>, control: Arc<Control>, mut heard: Option<u64>) {
    loop {
        if let Ok(Some(row)) = row(&link).await
            && heard.replace(row.orders) != Some(row.orders)
        {
            control.tell();
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// From a look at the row until something is in the way.
async fn one_run(
    link: &Arc<Link>,
    control: &Arc<Control>,
    duty: &Arc<dyn Duty>,
) -> Result<(), Trouble> {
    let round = control.round();
    let Some(row) = row(link).await? else {
        control.wait(round, FENCE_CHECK).await;
        return Ok(());
    };
    if row.paused {
        control.wait(round, FENCE_CHECK).await;
        return Ok(());
    }
    let state = &link.source.state;
    let tenure = link.take_epoch(&row, &**duty, control.minted()).await?;
    let epoch = tenure.epoch;
    control.mints(epoch);
    let applier = state.name().map(str::to_owned);
    if (epoch, &applier) != (row.epoch, &row.applier) {
        change(link, None, vec![MirrorChange::Epoch { epoch, applier }]).await?;
        tracing::info!(repository = %link.source.name, store = %link.target_name, %epoch, "mirroring");
    }
    match link.sweep_uploads(epoch).await {
        Ok(()) => {}
        // Another node may have begun some of them.
        Err(e) if state.shared() => return Err(Trouble::target(e)),
        Err(e) => {
            tracing::debug!(repository = %link.source.name, store = %link.target_name, cause = %e, "what was left hidden on a mirror stays for now");
        }
    }
    let mut applier = Applier {
        link: Arc::clone(link),
        control: Arc::clone(control),
        facts: link.look().await?,
        checkpoint: Follower::new(
            Arc::clone(state),
            Arc::clone(&link.target),
            link.source.name.clone(),
            (link.source.id, link.source.bucket_id),
            epoch,
        ),
        work: Work::new(
            Arc::clone(link),
            tenure.clone(),
            Arc::clone(&control.counts),
        ),
        duty: Arc::clone(duty),
        tenure: tenure.clone(),
        reconciled: HashSet::new(),
        confirmed: 0,
        round,
        fence_checked: Instant::now(),
    };
    control.reached();
    control.serves(tenure);
    let ended = applier.until_something_else().await;
    applier.work.end().await;
    ended
}

pub async fn row(link: &Link) -> Result<Option<MirrorRow>, Trouble> {
    Ok(link
        .source
        .state
        .mirror(link.source.id, &link.target_name)
        .await?)
}

/// `by`: the epoch of the applier that reports, None for an order.
pub async fn change(
    link: &Link,
    by: Option<Epoch>,
    changes: Vec<MirrorChange>,
) -> Result<Option<MirrorRow>, Trouble> {
    let (id, store) = (link.source.id, &link.target_name);
    let changed = link
        .source
        .state
        .change_mirror(id, store, by, changes)
        .await;
    Ok(changed?)
}

/// What is in the way, for the log and for the mirror's state. `by`: the epoch that was taken, if one was.
async fn report(link: &Link, control: &Control, by: Option<Epoch>, trouble: &Trouble, tries: u32) {
    control.trouble(trouble.to_string());
    let fenced = matches!(trouble, Trouble::Fenced(_));
    if passes(trouble) && tries < PATIENCE {
        tracing::debug!(repository = %link.source.name, store = %link.target_name, cause = %trouble, "the mirror tries again");
        return;
    }
    if tries == 0 || tries == PATIENCE || tries.is_multiple_of(20) {
        tracing::warn!(repository = %link.source.name, store = %link.target_name, cause = %trouble, tries, "the mirror does not get on");
    }
    if passes(trouble) {
        return;
    }
    let stalled = Stalled {
        key: control.working_on(),
        reason: trouble.to_string(),
        since_ms: clock::now_ms(),
        fenced,
    };
    let recorded = async {
        let Some(row) = row(link).await? else {
            return Ok(());
        };
        let known = row.stalled.as_ref();
        if known.is_some_and(|known| known.reason == stalled.reason && known.key == stalled.key) {
            return Ok(());
        }
        let by = by.unwrap_or(row.epoch);
        change(link, Some(by), vec![MirrorChange::Stalled(Some(stalled))])
            .await
            .map(drop)
    };
    if let Err(e) = recorded.await {
        tracing::warn!(cause = %e, "why a mirror stalls could not be recorded");
    }
}

impl Applier {
    pub fn check_orders(&self) -> Result<(), Trouble> {
        if !self.duty.holds() {
            Err(Trouble::Relieved)
        } else if self.control.round() == self.round && !self.control.stopped() {
            Ok(())
        } else {
            Err(Trouble::Interrupted)
        }
    }

    /// Reports; whoever was relieved reports nothing any more.
    pub async fn change(&self, changes: Vec<MirrorChange>) -> Result<(), Trouble> {
        match change(&self.link, Some(self.tenure.epoch), changes).await? {
            Some(_) => Ok(()),
            None => Err(Trouble::Relieved),
        }
    }

    /// Works until there are other orders, or for good. What fails is tried again with all that is known.
    async fn until_something_else(&mut self) -> Result<(), Trouble> {
        let mut backoff = Backoff::default();
        loop {
            let confirmed = self.confirmed;
            match self.once(&mut backoff).await {
                Ok(()) => {}
                Err(ended @ (Trouble::Interrupted | Trouble::Relieved | Trouble::Fenced(_))) => {
                    return Err(ended);
                }
                Err(trouble) => {
                    // What fails now and then, among much that does not, is tried again at once.
                    if self.confirmed > confirmed {
                        backoff = Backoff::default();
                    }
                    self.rest(&mut backoff, trouble).await?;
                }
            }
        }
    }

    /// Waits until the target answers. A try reads thousands of entries where much is pending, at the cost of the
    /// source's writes: a target that is away is only asked for its roots.
    async fn rest(&mut self, backoff: &mut Backoff, mut trouble: Trouble) -> Result<(), Trouble> {
        loop {
            self.control.counts.fail();
            let (by, tries) = (Some(self.tenure.epoch), backoff.tries());
            report(&self.link, &self.control, by, &trouble, tries).await;
            self.control.wait(self.round, backoff.next()).await;
            self.check_orders()?;
            match self.link.look().await {
                Ok(seen) => {
                    (self.facts.root, self.facts.pointer) = (seen.root, seen.pointer);
                    return Ok(());
                }
                Err(away) => trouble = away,
            }
        }
    }

    async fn once(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        self.resync(backoff).await?;
        self.follow(backoff).await
    }

    /// Applies entries as they come, until a reconciliation is recorded.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        loop {
            self.check_orders()?;
            let Some(row) = row(&self.link).await? else {
                return Err(Trouble::Interrupted);
            };
            if row.resync.is_some() {
                return Ok(());
            }
            let entries = self.link.source.entries(row.applied, WINDOW).await?;
            match Step::cut(row.applied, &entries) {
                Err(gap) => return self.begin_resync(&gap.to_string()).await,
                Ok(None) if self.behind_a_lost_journal(&row).await? => {
                    return self
                        .begin_resync("the journal ends before what was committed")
                        .await;
                }
                Ok(None) => self.idle(&row).await?,
                Ok(Some(step)) => {
                    self.apply(&step, &entries).await?;
                    self.record(&row, step.upto()).await?;
                    *backoff = Backoff::default();
                }
            }
        }
    }

    /// No entry is left, yet the newest sequence is another one.
    async fn behind_a_lost_journal(&self, row: &MirrorRow) -> Result<bool, Trouble> {
        let source = &self.link.source;
        let usage = source.state.usage(source.id).await?;
        if usage.sequence == row.applied {
            return Ok(false);
        }
        // Something was committed between the two looks.
        let again = source.entries(row.applied, 1).await?;
        Ok(again.is_empty())
    }

    async fn begin_resync(&self, reason: &str) -> Result<(), Trouble> {
        tracing::error!(repository = %self.link.source.name, store = %self.link.target_name, reason, "the mirror must be reconciled");
        let resync = Resync::begin(reason, clock::now_ms());
        self.change(vec![MirrorChange::BeginResync(resync)]).await
    }

    async fn idle(&mut self, row: &MirrorRow) -> Result<(), Trouble> {
        if row.stalled.is_some() {
            self.change(vec![MirrorChange::Stalled(None)]).await?;
        }
        self.control.well();
        if self.fence_checked.elapsed() >= FENCE_CHECK {
            self.check_fence().await?;
            // What comes without a root: pins, and what was deleted since.
            let noted = self.checkpoint.advance_to(row.applied).await;
            noted.map_err(Trouble::checkpoint)?;
        }
        self.control.wait(self.round, IDLE).await;
        Ok(())
    }

    pub async fn check_fence(&mut self) -> Result<(), Trouble> {
        self.check_orders()?;
        self.link.check_fence(&self.tenure).await?;
        self.fence_checked = Instant::now();
        Ok(())
    }

    async fn record(&mut self, row: &MirrorRow, upto: u64) -> Result<(), Trouble> {
        let mut changes = vec![MirrorChange::Applied(upto)];
        changes.extend(self.control.counted());
        if row.stalled.is_some() {
            changes.push(MirrorChange::Stalled(None));
        }
        self.change(changes).await?;
        keep_later(&mut self.facts.keys, upto);
        self.control.rooted(upto);
        self.control.well();
        Ok(())
    }
}
