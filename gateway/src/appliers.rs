//! Which mirrors run: those of every repository whose catalog is current, onto the stores that it should have now.
//!
//! Looked at every few seconds, so that a store that answers again, a thaw, an adoption and a promotion need no word
//! to each other. A repository whose catalog is not current has none: a mirror of what is not known would take
//! the target away from the one that does know.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use policies::identity::{Repository, StoreName};
use tokio::time::Instant;

use crate::mirror::plan::{MirrorsPlan, TargetPlan};
use crate::mirror::{self, Asleep, Mirror, Mirrors};
use crate::repository::promotion::{self, RETURNING};
use crate::repository::witness::Witness;
use crate::repository::{Door, OpenRepository};
use crate::state;
use crate::stores::Store;
use crate::stores::unreachable::Unreachable;
use crate::watch::{Kind, Warning};

const INTERVAL: Duration = Duration::from_secs(2);
/// Below every client's time-out, with what a barrier may take on top.
const PATIENCE: Duration = Duration::from_secs(10);
const NOT_CURRENT: &str = "the repository is frozen, and what its store holds is not known for sure; it goes on when that is settled";
const GLANCE: Duration = Duration::from_millis(20);

/// What became of a look at one repository.
enum Fit {
    Running,
    /// Its catalog is not current: nothing runs.
    NotCurrent,
}

pub struct Appliers {
    door: Arc<Door>,
    mirrors: Arc<Mirrors>,
    plans: RwLock<BTreeMap<Repository, MirrorsPlan>>,
    /// The store of each repository by the configuration; a promotion may have left it.
    homes: BTreeMap<Repository, StoreName>,
    /// What was said last of a home that was left.
    said: Mutex<BTreeMap<Repository, Option<StoreName>>>,
    /// Being promoted: nothing runs until that is over.
    held: Mutex<HashSet<Repository>>,
    /// Their mirrors could not be set to work.
    idle: Mutex<HashSet<Repository>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Appliers {
    pub fn new(
        door: Arc<Door>,
        mirrors: Arc<Mirrors>,
        plans: BTreeMap<Repository, MirrorsPlan>,
        homes: BTreeMap<Repository, StoreName>,
    ) -> Self {
        Self {
            door,
            mirrors,
            plans: RwLock::new(plans),
            homes,
            said: Mutex::default(),
            held: Mutex::default(),
            idle: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// The configuration names this store as a mirror, or as the home, of the repository.
    #[must_use]
    pub fn plan_of(&self, repository: &Repository, store: &StoreName) -> Option<TargetPlan> {
        self.plans.read().get(repository)?.onto(store).cloned()
    }

    /// Takes over what of a new configuration needs no restart, for the mirrors that run and those that will.
    pub fn reload(&self, new: &BTreeMap<Repository, MirrorsPlan>) {
        for (repository, plan) in &mut *self.plans.write() {
            for target in &mut plan.targets {
                if let Some(limits) = new
                    .get(repository)
                    .and_then(|plan| plan.onto(&target.store))
                {
                    target.take_limits(limits);
                }
            }
        }
        self.mirrors.reload(new);
    }

    /// Runs until the process ends.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.look().await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Makes what runs what should.
    pub async fn look(&self) {
        for open in self.door.repositories().values() {
            let _alone = self.looking.lock().await;
            if self.held.lock().contains(&open.name) {
                continue;
            }
            let fit = self.fit(open).await;
            let asleep = match &fit {
                Ok(Fit::Running) => Vec::new(),
                Ok(Fit::NotCurrent) => self.asleep(open, NOT_CURRENT),
                Err(e) => {
                    tracing::warn!(repository = %open.name, cause = %e, "its mirrors could not be set to work; trying again");
                    let why = format!("it could not be set to work, and will be tried again: {e}");
                    self.asleep(open, &why)
                }
            };
            self.mirrors.let_sleep(&open.name, asleep);
            match fit {
                Ok(_) => self.idle.lock().remove(&open.name),
                Err(_) => self.idle.lock().insert(open.name.clone()),
            };
        }
    }

    async fn fit(&self, open: &OpenRepository) -> Result<Fit, mirror::Trouble> {
        let running = self.mirrors.of(&open.name);
        if !open.gate.row().lock.catalog_is_current() {
            if !running.is_empty() {
                self.mirrors.stop(&open.name).await;
            }
            return Ok(Fit::NotCurrent);
        }
        let wanted = self.wanted(open).await?;
        self.warn_of_left(open, self.left(open, &wanted)).await;
        let same = running.len() == wanted.targets.len()
            && running.iter().all(|mirror| self.is_right(open, mirror))
            && wanted
                .targets
                .iter()
                .all(|t| running.iter().any(|m| m.link.target_name == t.store));
        if same {
            return Ok(Fit::Running);
        }
        self.mirrors.stop(&open.name).await;
        let target = |name: &StoreName| -> Arc<dyn Store> {
            let known = self.door.store(name);
            known.unwrap_or_else(|| Arc::new(Unreachable))
        };
        self.mirrors
            .start(&mirror_source(&self.door, open), &wanted, target)
            .await?;
        Ok(Fit::Running)
    }

    /// The configured mirrors that do not run.
    fn asleep(&self, open: &OpenRepository, why: &str) -> Vec<Asleep> {
        let plans = self.plans.read();
        let targets = plans.get(&open.name).map_or(&[][..], |plan| &plan.targets);
        let waits = |target: &&TargetPlan| {
            target.store != open.plan.store && self.mirrors.get(&open.name, &target.store).is_none()
        };
        let told = |target: &TargetPlan| Asleep {
            store: target.store.clone(),
            mode: target.mode,
            why: why.to_owned(),
        };
        targets.iter().filter(waits).map(told).collect()
    }

    /// The store that the configuration names, if a promotion left it and nothing is mirrored to it.
    pub async fn left_behind(
        &self,
        open: &OpenRepository,
    ) -> Result<Option<StoreName>, state::Error> {
        if !open.gate.row().lock.catalog_is_current() {
            return Ok(None);
        }
        let wanted = self.wanted(open).await?;
        Ok(self.left(open, &wanted))
    }

    fn left(&self, open: &OpenRepository, wanted: &MirrorsPlan) -> Option<StoreName> {
        let home = self.homes.get(&open.name)?;
        let mirrored = wanted.targets.iter().any(|target| target.store == *home);
        (*home != open.plan.store && !mirrored).then(|| home.clone())
    }

    /// Opens the warning and closes it, when that changed.
    async fn warn_of_left(&self, open: &OpenRepository, left: Option<StoreName>) {
        let before = self.said.lock().insert(open.name.clone(), left.clone());
        if before.as_ref() == Some(&left) {
            return;
        }
        let watch = self.door.watch();
        watch
            .clear_if_open(open.id, &open.name, &[Kind::NotMirrored])
            .await;
        if let Some(left) = left {
            let warning = Warning::NotMirrored {
                repository: open.name.clone(),
                left,
                now: open.plan.store.clone(),
            };
            watch.raise(open.id, &open.name, warning).await;
        }
    }

    /// It reads where the repository is, and writes the store that answers now.
    fn is_right(&self, open: &OpenRepository, mirror: &Mirror) -> bool {
        let link = &mirror.link;
        let target = self.door.store(&link.target_name);
        Arc::ptr_eq(&link.source.store, &open.store)
            && target.is_none_or(|store| Arc::ptr_eq(&store, &link.target))
    }

    /// The configured targets but the one that is the primary now, and a store that is being brought back.
    async fn wanted(&self, open: &OpenRepository) -> Result<MirrorsPlan, state::Error> {
        let mut wanted = self
            .plans
            .read()
            .get(&open.name)
            .cloned()
            .unwrap_or_default();
        wanted
            .targets
            .retain(|target| target.store != open.plan.store);
        let returning = self.door.state().position(open.id, RETURNING).await?;
        if let Some(store) = returning.map(StoreName::new)
            && store != open.plan.store
            && wanted.targets.iter().all(|t| t.store != store)
        {
            wanted.targets.push(TargetPlan::onto(store));
        }
        Ok(wanted)
    }
}

impl fmt::Debug for Appliers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appliers").finish_non_exhaustive()
    }
}

/// While mirrors are being stopped and started nobody could be asked: an answer that has to wait for a barrier waits
/// for the new arrangement.
#[async_trait]
impl Witness for Appliers {
    async fn has(&self, repository: &Repository, sequence: u64) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let arranged = !self.held.lock().contains(repository)
                && !self.idle.lock().contains(repository)
                && self.looking.try_lock().is_ok();
            if arranged {
                return self.mirrors.has(repository, sequence).await;
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "the mirrors of repository '{repository}' are being set to work; repeat the request"
                ));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

#[async_trait]
impl promotion::Appliers for Appliers {
    async fn stop(&self, repository: &Repository) {
        self.held.lock().insert(repository.clone());
        let _alone = self.looking.lock().await;
        self.mirrors.stop(repository).await;
    }

    async fn start(&self, open: &OpenRepository) {
        self.held.lock().remove(&open.name);
        self.look().await;
    }
}

/// What a mirror of a repository follows.
pub fn mirror_source(door: &Door, open: &OpenRepository) -> mirror::Source {
    mirror::Source {
        name: open.name.clone(),
        id: open.id,
        bucket: open.plan.bucket.clone(),
        bucket_id: open.bucket_id,
        prefix: open.plan.prefix(),
        store_name: open.plan.store.clone(),
        store: Arc::clone(&open.store),
        state: Arc::clone(door.state()),
        layout: door.layout().clone(),
    }
}
