//! The door itself: which repository an address belongs to, and who may pass.
//!
//! Invariant: every operation resolves its address here, by the one [`Layout`], before anything else happens.
//! A repository that moves to another store is swapped whole ([`Door::replace`]): an operation goes on with what it
//! resolved, and ends by the fence of the store that it began on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use policies::identity::{Bucket, Repository, StoreName};
use policies::key::{Class, Layout, ObjectKey, Place};
use policies::lock::{self, Permit};

use super::gate::Gate;
use super::guarding::{self, Guarding};
use super::incarnation::Incarnation;
use super::plan::RepositoryPlan;
use super::witness::Witness;
use super::{Address, Caller, Error, Refusal, unavailable};
use crate::state::{BucketId, Due, LockRow, Lookup, RepositoryId, State};
use crate::stores::Store;
use crate::watch::Watch;

/// One per process, shared by all fronts.
pub struct Door {
    pub(super) layout: Layout,
    opened: RwLock<Opened>,
    pub(super) state: Arc<dyn State>,
    pub(super) watch: Arc<Watch>,
    /// Every store of the configuration.
    stores: HashMap<StoreName, Arc<dyn Store>>,
    witness: OnceLock<Arc<dyn Witness>>,
    /// Starts that are made up for go one at a time: what one lets in, the next must not take for left over.
    pub(super) starting: tokio::sync::Mutex<()>,
}

/// What is open now. Both maps are replaced whole, never changed.
struct Opened {
    repositories: Arc<HashMap<Repository, Arc<OpenRepository>>>,
    buckets: Arc<BTreeMap<Bucket, Vec<Arc<OpenRepository>>>>,
}

impl Opened {
    fn of(repositories: HashMap<Repository, Arc<OpenRepository>>) -> Self {
        let mut buckets: BTreeMap<Bucket, Vec<Arc<OpenRepository>>> = BTreeMap::new();
        let mut in_order: Vec<_> = repositories.values().collect();
        in_order.sort_by(|a, b| a.name.cmp(&b.name));
        for open in in_order {
            buckets
                .entry(open.plan.bucket.clone())
                .or_default()
                .push(Arc::clone(open));
        }
        Self {
            repositories: Arc::new(repositories),
            buckets: Arc::new(buckets),
        }
    }
}

/// A configured repository with its store and lock.
pub struct OpenRepository {
    pub name: Repository,
    pub id: RepositoryId,
    pub bucket_id: BucketId,
    pub plan: RepositoryPlan,
    pub store: Arc<dyn Store>,
    /// The store it was on before its last promotion.
    pub promoted_from: Option<StoreName>,
    pub gate: Gate,
    pub guarding: Guarding,
    /// Writes that change bytes under a name go one at a time per key.
    pub(super) keys: DashMap<ObjectKey, Arc<tokio::sync::Mutex<()>>>,
    /// This start's number in the store; none while that is in doubt.
    pub(super) incarnation: Mutex<Option<Incarnation>>,
    /// An entry that the journal is known to have reached.
    pub(super) reached: AtomicU64,
    /// Write-once names where other content lies: the next write of them goes under an intent. A hint.
    contested: Mutex<BTreeSet<ObjectKey>>,
    /// One repository per process counts the gateway's uptime.
    pub(super) keeps_time: bool,
    /// Wakes the reaper when something may be removed at once.
    pub(super) reap: tokio::sync::Notify,
    /// Behind which of what is due the reaper goes on, once it met more that is held than one look passes over.
    pub(super) reaped_to: Mutex<Option<Due>>,
}

impl fmt::Debug for OpenRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRepository")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("repositories", &self.repositories().keys())
            .finish_non_exhaustive()
    }
}

/// An address resolved: whose it is and what part it plays.
pub(super) struct Found {
    pub open: Arc<OpenRepository>,
    pub class: Class,
}

impl Door {
    #[must_use]
    pub fn new(
        layout: Layout,
        state: Arc<dyn State>,
        repositories: Vec<Arc<OpenRepository>>,
    ) -> Self {
        let repositories = repositories
            .into_iter()
            .map(|open| (open.name.clone(), open))
            .collect();
        Self {
            layout,
            opened: RwLock::new(Opened::of(repositories)),
            watch: Arc::new(Watch::new(Arc::clone(&state))),
            state,
            stores: HashMap::new(),
            witness: OnceLock::new(),
            starting: tokio::sync::Mutex::new(()),
        }
    }

    /// The stores that mirrors and promotions may use.
    #[must_use]
    pub fn with_stores(mut self, stores: HashMap<StoreName, Arc<dyn Store>>) -> Self {
        self.stores = stores;
        self
    }

    /// None: the configuration has no such store. One that does not answer is there, and says so.
    #[must_use]
    pub fn store(&self, name: &StoreName) -> Option<Arc<dyn Store>> {
        self.stores.get(name).cloned()
    }

    /// As they are now. A task that runs for long asks again each round: a promotion replaces them.
    /// From now on roots are acknowledged when the witness has them.
    pub fn await_witness(&self, witness: Arc<dyn Witness>) {
        if self.witness.set(witness).is_err() {
            tracing::error!("a second witness of commits was named; the first one stays");
        }
    }

    pub(super) fn witness(&self) -> Option<&Arc<dyn Witness>> {
        self.witness.get()
    }

    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    #[must_use]
    pub fn repositories(&self) -> Arc<HashMap<Repository, Arc<OpenRepository>>> {
        Arc::clone(&self.opened.read().repositories)
    }

    #[must_use]
    pub fn repository(&self, name: &Repository) -> Option<Arc<OpenRepository>> {
        self.opened.read().repositories.get(name).cloned()
    }

    /// From now on every operation that begins finds this one under its name. What is under way on the one before
    /// keeps its store and lock, and is fenced by them.
    pub fn replace(&self, open: Arc<OpenRepository>) {
        let mut opened = self.opened.write();
        let mut repositories = (*opened.repositories).clone();
        repositories.insert(open.name.clone(), open);
        *opened = Opened::of(repositories);
    }

    pub(super) fn has_bucket(&self, bucket: &Bucket) -> bool {
        self.opened.read().buckets.contains_key(bucket)
    }

    #[must_use]
    pub fn state(&self) -> &Arc<dyn State> {
        &self.state
    }

    /// Warnings and events of all repositories.
    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Buckets that the caller may read, in order.
    #[must_use]
    pub fn buckets(&self, caller: &Caller) -> Vec<Bucket> {
        let readable = |open: &&Arc<OpenRepository>| open.readable_by(caller);
        let buckets = Arc::clone(&self.opened.read().buckets);
        buckets
            .iter()
            .filter(|(_, all)| all.iter().find(readable).is_some())
            .map(|(bucket, _)| bucket.clone())
            .collect()
    }

    pub fn head_bucket(&self, caller: &Caller, bucket: &Bucket) -> Result<(), Error> {
        self.readable(caller, bucket).map(|_| ())
    }

    /// Everything that can be refused before the first byte of a body: call it before the body is polled
    /// (so before `100 Continue`); `put` and `put_part` ask it again.
    pub async fn may_write(&self, caller: &Caller, to: &Address) -> Result<(), Error> {
        self.look_for_twin(to).await;
        let found = self.find(to)?;
        self.permit(&found, caller, &to.key).await.map(|_| ())
    }

    #[must_use]
    pub fn place_of(&self, at: &Address) -> Place {
        self.layout.locate(&at.bucket, &at.key)
    }

    /// For the access log.
    #[must_use]
    pub fn repository_of(&self, at: &Address) -> Option<Repository> {
        match self.layout.locate(&at.bucket, &at.key) {
            Place::In { repository, .. } | Place::NestedRoot { repository, .. } => Some(repository),
            Place::View(view) => Some(view.repository),
            Place::Outside { .. } | Place::Reserved | Place::NoSuchBucket => None,
        }
    }

    pub(super) fn find(&self, at: &Address) -> Result<Found, Error> {
        match self.layout.locate(&at.bucket, &at.key) {
            Place::In { repository, class } => {
                let open = self.repository(&repository).ok_or(Error::NoSuchBucket)?;
                Ok(Found { open, class })
            }
            Place::NestedRoot {
                repository,
                base_path,
            } => Err(Refusal::NestedRoot {
                key: at.key.clone(),
                repository,
                base_path,
            }
            .into()),
            Place::Outside { base_paths } => Err(Refusal::OutsideRepositories {
                bucket: at.bucket.clone(),
                key: at.key.clone(),
                base_paths: base_paths
                    .iter()
                    .map(|p| format!("'{p}'"))
                    .collect::<Vec<_>>()
                    .join(", "),
            }
            .into()),
            Place::View(view) => Err(Refusal::ReadOnlyView {
                repository: view.repository,
                generation: view.generation,
                spelt: view.spelt,
            }
            .into()),
            Place::Reserved => Err(Refusal::Reserved.into()),
            Place::NoSuchBucket => Err(Error::NoSuchBucket),
        }
    }

    /// As [`Self::find`], for a caller that wants to read.
    pub(super) fn find_readable(&self, caller: &Caller, at: &Address) -> Result<Found, Error> {
        let found = self.find(at)?;
        found.open.check_readable(caller)?;
        Ok(found)
    }

    /// The repositories of a bucket that the caller may read; none at all is a refusal.
    pub(super) fn readable(
        &self,
        caller: &Caller,
        bucket: &Bucket,
    ) -> Result<Vec<Arc<OpenRepository>>, Error> {
        let buckets = Arc::clone(&self.opened.read().buckets);
        let all = buckets.get(bucket).ok_or(Error::NoSuchBucket)?;
        let readable: Vec<_> = all
            .iter()
            .filter(|open| open.readable_by(caller))
            .cloned()
            .collect();
        match (readable.is_empty(), all.first()) {
            (true, Some(open)) => Err(Refusal::NotAReader {
                cluster: caller.cluster.clone(),
                repository: open.name.clone(),
            }
            .into()),
            (true, None) => Err(Error::NoSuchBucket),
            (false, _) => {
                for open in &readable {
                    open.gate.check_store_known(&open.name)?;
                }
                Ok(readable)
            }
        }
    }

    pub(super) async fn lookup(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Lookup, Error> {
        self.state
            .object(open.bucket_id, key)
            .await
            .map_err(|e| unavailable("read its catalog", &e))
    }
}

impl OpenRepository {
    #[must_use]
    pub fn new(
        name: Repository,
        row: &crate::state::RepositoryRow,
        plan: RepositoryPlan,
        store: Arc<dyn Store>,
        keeps_time: bool,
    ) -> Self {
        let guarding = guarding::unread(&name, &plan.base_path);
        Self {
            name,
            id: row.id,
            bucket_id: row.bucket,
            plan,
            store,
            promoted_from: row.promoted_from.clone(),
            gate: Gate::new(row.lock.clone()),
            guarding,
            keys: DashMap::new(),
            incarnation: Mutex::new(None),
            reached: AtomicU64::new(0),
            contested: Mutex::default(),
            keeps_time,
            reap: tokio::sync::Notify::new(),
            reaped_to: Mutex::default(),
        }
    }

    /// The same repository on another store, with nothing of what is under way on this one.
    pub(super) fn moved_to(&self, name: &StoreName, store: Arc<dyn Store>, lock: LockRow) -> Self {
        let mut plan = self.plan.clone();
        let before = std::mem::replace(&mut plan.store, name.clone());
        let promoted_from = if before == plan.store {
            self.promoted_from.clone()
        } else {
            Some(before)
        };
        let row = crate::state::RepositoryRow {
            id: self.id,
            bucket: self.bucket_id,
            lock,
            new: false,
            store: plan.store.clone(),
            promoted_from,
        };
        Self::new(self.name.clone(), &row, plan, store, self.keeps_time)
    }

    /// From now on root commits check that no later start of another gateway is in the store.
    pub fn stand_as(&self, ours: Incarnation) {
        *self.incarnation.lock() = Some(ours);
    }

    /// Leave for the gateway's own work here, at the epoch that this process last saw.
    #[must_use]
    pub fn upkeep(&self) -> Permit {
        lock::upkeep(&self.name, self.gate.row().lock.epoch())
    }

    fn readable_by(&self, caller: &Caller) -> bool {
        self.plan.readers.admit(&caller.cluster) || self.plan.writers.contains(&caller.cluster)
    }

    pub(super) fn check_readable(&self, caller: &Caller) -> Result<(), Error> {
        if !self.readable_by(caller) {
            return Err(Refusal::NotAReader {
                cluster: caller.cluster.clone(),
                repository: self.name.clone(),
            }
            .into());
        }
        self.gate.check_store_known(&self.name)
    }

    /// Waits for its turn among the writes to one key.
    pub(super) async fn turn(&self, key: &ObjectKey) -> Turn<'_> {
        let lock = Arc::clone(&self.keys.entry(key.clone()).or_default());
        let guard = lock.lock_owned().await;
        Turn {
            open: self,
            key: key.clone(),
            guard: Some(guard),
        }
    }

    /// The journal had come to at least this entry before now.
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    pub(super) fn reaches(&self, sequence: u64) {
        self.reached.fetch_max(sequence, Ordering::AcqRel);
    }

    pub(super) fn is_contested(&self, key: &ObjectKey) -> bool {
        self.contested.lock().contains(key)
    }

    pub(super) fn contest(&self, key: &ObjectKey) {
        const MOST: usize = 1000;
        let mut contested = self.contested.lock();
        if contested.len() >= MOST {
            contested.pop_first();
        }
        contested.insert(key.clone());
    }

    pub(super) fn settled(&self, key: &ObjectKey) {
        self.contested.lock().remove(key);
    }

    /// Milliseconds of uptime that deleted content is kept.
    pub(super) fn retain_ms(&self) -> u64 {
        u64::try_from(self.plan.retention.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The right to change one key now; forgotten keys cost no memory.
pub(super) struct Turn<'a> {
    open: &'a OpenRepository,
    key: ObjectKey,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard.take();
        self.open
            .keys
            .remove_if(&self.key, |_, lock| Arc::strong_count(lock) == 1);
    }
}
