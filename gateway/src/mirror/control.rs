//! Orders to an applier, and what it tells about itself.
//!
//! Orders are durable rows; the applier is only told that there is something new to read (`round`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use policies::identity::{Epoch, Handover, Repository, StoreName};
use policies::key::ObjectKey;
use policies::mirror_order::Mode;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fence::Tenure;
use super::pace::Pace;
use super::plan::{MirrorsPlan, TargetPlan};
use super::throttle::Throttle;
use super::work::Counts;
use super::{Link, Source, Trouble, applier, horizon, scrub};
use crate::state::mirrors::{MirrorChange, MirrorRow, NewMirror, Resync};
use crate::stores::Store;
use crate::telemetry::clock;

/// How often a commit that waits for a mirror looks whether another node's applier has it.
const GLANCE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub struct Control {
    round: watch::Sender<u64>,
    stop: AtomicBool,
    pub counts: Arc<Counts>,
    told: Mutex<Told>,
    tenure: Mutex<Option<Tenure>>,
    /// The highest epoch that this process took.
    minted: Mutex<Option<Epoch>>,
    /// Sequence of the newest root that the target is known to have.
    rooted: watch::Sender<u64>,
    recorded: [AtomicU64; 3],
    pub pace: Pace,
}

/// What the applier says about itself.
#[derive(Debug, Default, Clone)]
struct Told {
    working_on: Option<String>,
    trouble: Option<String>,
    reached: bool,
}

impl Control {
    pub fn round(&self) -> u64 {
        *self.round.borrow()
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// There is something new to read in the row.
    pub fn tell(&self) {
        self.round.send_modify(|round| *round += 1);
    }

    /// Returns when something new was told since `round`.
    pub async fn told(&self, round: u64) {
        let mut rounds = self.round.subscribe();
        // The sender is ours: it does not go away.
        if rounds.wait_for(|now| *now != round).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A pause that an order ends.
    pub async fn wait(&self, round: u64, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.told(round) => {}
        }
    }

    pub fn works_on(&self, key: Option<&ObjectKey>) {
        self.told.lock().working_on = key.map(ToString::to_string);
    }

    pub fn working_on(&self) -> Option<String> {
        self.told.lock().working_on.clone()
    }

    pub fn trouble(&self, what: String) {
        self.told.lock().trouble = Some(what);
    }

    pub fn last_trouble(&self) -> Option<String> {
        self.told.lock().trouble.clone()
    }

    pub fn minted(&self) -> Option<Epoch> {
        *self.minted.lock()
    }

    pub fn mints(&self, epoch: Epoch) {
        *self.minted.lock() = Some(epoch);
    }

    /// Under what this process writes the target now; None = another node may.
    pub fn tenure(&self) -> Option<Tenure> {
        self.tenure.lock().clone()
    }

    pub fn serves(&self, tenure: Tenure) {
        *self.tenure.lock() = Some(tenure);
    }

    pub fn rests(&self) {
        *self.tenure.lock() = None;
    }

    /// The target answers.
    pub fn reached(&self) {
        self.told.lock().reached = true;
    }

    pub fn well(&self) {
        let mut told = self.told.lock();
        told.working_on = None;
        told.trouble = None;
    }

    pub fn rooted(&self, sequence: u64) {
        self.rooted.send_if_modified(|known| {
            let newer = sequence > *known;
            *known = (*known).max(sequence);
            newer
        });
    }

    /// What was counted since it was last recorded.
    pub fn counted(&self) -> Option<MirrorChange> {
        let now = [
            &self.counts.transferred,
            &self.counts.bytes,
            &self.counts.failed,
        ];
        let mut new = [0; 3];
        for ((now, recorded), new) in now.iter().zip(&self.recorded).zip(&mut new) {
            let now = now.load(Ordering::Relaxed);
            *new = now - recorded.swap(now, Ordering::Relaxed);
        }
        let [transferred, bytes, failed] = new;
        (new != [0; 3]).then_some(MirrorChange::Counted {
            transferred,
            bytes,
            failed,
        })
    }
}

/// One mirror at work.
#[derive(Debug)]
pub struct Mirror {
    pub link: Arc<Link>,
    pub control: Arc<Control>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// What else is at work for it: the scrub, and what tells the target how far the source is.
    beside: Mutex<Vec<JoinHandle<()>>>,
}

impl Mirror {
    /// Finds or makes the mirror's row and sets its applier to work.
    pub async fn start(
        source: Source,
        target: Arc<dyn Store>,
        plan: TargetPlan,
        journal_limit: u64,
    ) -> Result<Arc<Self>, Trouble> {
        let new = NewMirror {
            repository: source.id,
            store: plan.store.clone(),
            mode: plan.mode,
            handover: Handover::new(crate::random::text(22)),
            now_ms: clock::now_ms(),
        };
        let mode = plan.mode;
        let row = source.state.open_mirror(new).await?;
        let link = Arc::new(Link {
            throttle: Throttle::new(plan.bandwidth),
            target_name: plan.store.clone(),
            plan: RwLock::new(plan),
            source,
            target,
            journal_limit,
            interrupted: false.into(),
        });
        if row.mode != mode {
            applier::change(&link, None, vec![MirrorChange::Mode(mode)]).await?;
        }
        let control = Arc::new(Control::default());
        if row.resync.is_none() {
            control.rooted(row.applied);
        }
        let task = tokio::spawn(applier::run(Arc::clone(&link), Arc::clone(&control)));
        let mirror = Arc::new(Self {
            link,
            control,
            task: Mutex::new(Some(task)),
            beside: Mutex::default(),
        });
        Ok(mirror)
    }

    /// Returns when nothing of it acts on the target any more.
    pub async fn stop(&self) {
        self.control.stop.store(true, Ordering::Release);
        self.control.tell();
        let beside = std::mem::take(&mut *self.beside.lock());
        for task in beside {
            task.abort();
            drop(task.await);
        }
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(e) = task.await
        {
            tracing::error!(cause = %e, "a mirror's applier had ended before");
        }
    }

    /// Ends it where it is, as a crash would.
    #[cfg(test)]
    pub async fn kill(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            drop(task.await);
        }
    }

    pub async fn row(&self) -> Result<Option<MirrorRow>, Trouble> {
        applier::row(&self.link).await
    }

    pub async fn pause(&self) -> Result<(), Trouble> {
        self.order(MirrorChange::Paused(true)).await
    }

    pub async fn resume(&self) -> Result<(), Trouble> {
        self.order(MirrorChange::Paused(false)).await
    }

    /// Compares source and target from listings and makes them equal.
    pub async fn resync(&self, reason: &str, aside: bool) -> Result<(), Trouble> {
        let mut resync = Resync::begin(reason, clock::now_ms());
        resync.aside = aside;
        resync.behind_ms = match self.row().await? {
            Some(row) => {
                let source = &self.link.source;
                source
                    .state
                    .backlog(source.id, row.applied)
                    .await?
                    .oldest_ms
            }
            None => None,
        };
        self.order(MirrorChange::BeginResync(resync)).await
    }

    async fn order(&self, change: MirrorChange) -> Result<(), Trouble> {
        applier::change(&self.link, None, vec![change]).await?;
        self.control.tell();
        Ok(())
    }

    /// Returns true when the target has everything up to this sequence, false at the deadline.
    pub async fn has(&self, sequence: u64, patience: Duration) -> bool {
        let mut rooted = self.control.rooted.subscribe();
        let reached = async {
            tokio::select! {
                reached = rooted.wait_for(|known| *known >= sequence) => reached.is_ok(),
                () = self.has_elsewhere(sequence) => true,
            }
        };
        matches!(tokio::time::timeout(patience, reached).await, Ok(true))
    }

    /// Returns when the row says so, whichever node applies.
    async fn has_elsewhere(&self, sequence: u64) {
        if !self.link.source.state.shared() {
            std::future::pending::<()>().await;
        }
        while !matches!(self.row().await, Ok(Some(row)) if row.has(sequence)) {
            tokio::time::sleep(GLANCE).await;
        }
    }
}

type Key = (Repository, StoreName);

/// A configured mirror that does not run, and why. What it has and lacks is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asleep {
    pub store: StoreName,
    pub mode: Mode,
    pub why: String,
}

/// All mirrors of this process.
#[derive(Debug, Default)]
pub struct Mirrors {
    running: RwLock<HashMap<Key, Arc<Mirror>>>,
    asleep: RwLock<HashMap<Repository, Vec<Asleep>>>,
}

impl Mirrors {
    /// Sets the mirrors of a repository to work. `target` opens a store by its name.
    pub async fn start(
        &self,
        source: &Source,
        plan: &MirrorsPlan,
        target: impl Fn(&StoreName) -> Arc<dyn Store>,
    ) -> Result<(), Trouble> {
        let names: Vec<StoreName> = plan.targets.iter().map(|t| t.store.clone()).collect();
        source.state.keep_mirrors(source.id, &names).await?;
        for wanted in &plan.targets {
            let store = target(&wanted.store);
            let started =
                Mirror::start(source.clone(), store, wanted.clone(), plan.journal_limit).await?;
            *started.beside.lock() = vec![
                tokio::spawn(scrub::run(Arc::clone(&started))),
                tokio::spawn(horizon::run(Arc::clone(&started))),
            ];
            self.add(started);
        }
        Ok(())
    }

    pub fn add(&self, mirror: Arc<Mirror>) {
        let link = &mirror.link;
        let key = (link.source.name.clone(), link.target_name.clone());
        self.running.write().insert(key, mirror);
    }

    /// Returns when no applier of the repository acts any more.
    pub async fn stop(&self, repository: &Repository) {
        let gone: Vec<Arc<Mirror>> = {
            let mut running = self.running.write();
            let keys: Vec<Key> = running
                .keys()
                .filter(|(name, _)| name == repository)
                .cloned()
                .collect();
            keys.iter().filter_map(|key| running.remove(key)).collect()
        };
        for mirror in gone {
            mirror.stop().await;
        }
    }

    pub async fn stop_all(&self) {
        let names: Vec<Repository> = {
            let running = self.running.read();
            running.keys().map(|(name, _)| name.clone()).collect()
        };
        for name in names {
            self.stop(&name).await;
        }
    }

    #[must_use]
    pub fn get(&self, repository: &Repository, store: &StoreName) -> Option<Arc<Mirror>> {
        let key = (repository.clone(), store.clone());
        self.running.read().get(&key).cloned()
    }

    /// Those of a repository that should run and do not, from now on.
    pub fn let_sleep(&self, repository: &Repository, those: Vec<Asleep>) {
        self.asleep.write().insert(repository.clone(), those);
    }

    #[must_use]
    pub fn asleep_of(&self, repository: &Repository) -> Vec<Asleep> {
        let asleep = self.asleep.read();
        asleep.get(repository).cloned().unwrap_or_default()
    }

    /// All that do not run, in no order.
    #[must_use]
    pub fn asleep(&self) -> Vec<(Repository, StoreName)> {
        let asleep = self.asleep.read();
        let key = |(name, those): (&Repository, &Vec<Asleep>)| -> Vec<_> {
            let stores = those.iter().map(|one| (name.clone(), one.store.clone()));
            stores.collect()
        };
        asleep.iter().flat_map(key).collect()
    }

    /// In no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Mirror>> {
        self.running.read().values().cloned().collect()
    }

    /// In the order of the stores' names.
    #[must_use]
    pub fn of(&self, repository: &Repository) -> Vec<Arc<Mirror>> {
        let running = self.running.read();
        let mut found: Vec<_> = running
            .iter()
            .filter(|((name, _), _)| name == repository)
            .map(|(_, mirror)| Arc::clone(mirror))
            .collect();
        found.sort_by(|a, b| a.link.target_name.cmp(&b.link.target_name));
        found
    }

    /// Takes over what of a new configuration needs no restart.
    pub fn reload(&self, plans: &std::collections::BTreeMap<Repository, MirrorsPlan>) {
        for ((repository, store), mirror) in &*self.running.read() {
            if let Some(target) = plans.get(repository).and_then(|plan| plan.onto(store)) {
                mirror.link.throttle.set(target.bandwidth);
                mirror.link.plan.write().take_limits(target);
            }
        }
    }
}
