//! A gateway with a cluster in miniature, and a mirror that is looked at after each of its changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use policies::format::build::Request;
use policies::identity::StoreName;
use policies::key::ObjectKey;

use super::plan::{DEFAULT_JOURNAL_LIMIT, TargetPlan};
use super::status::{State, Status};
use super::{Mirror, Source};
use crate::repository::miniature::World;
use crate::state::mirrors::{MirrorRow, Stalled};
use crate::stores::Store;
use memory::{Look, Memory};
use restores::{Objects, broken, newest};

mod barrier;
mod campaign;
mod follows;
mod memory;
mod nodes;
mod persists;
mod reconciles;
mod restores;
mod two_sites;
mod watched;

/// What a test does with a target besides mirroring onto it.
trait Target: Store + Clone {
    /// A share of the operations fails: half of them after they took effect.
    fn fail(&self, share: f64);
    /// Everything fails, until it is called off.
    fn cut(&self, cut: bool);
    fn look(&self, look: Look);
    fn objects(&self) -> Objects;
}

/// What was found at the target's instants.
#[derive(Debug, Default)]
struct Seen {
    /// The repository's base path.
    base: String,
    instants: u64,
    newest: Option<u64>,
    /// Every content that was ever written under a name.
    written: BTreeMap<ObjectKey, Vec<Vec<u8>>>,
    wrong: Vec<String>,
}

impl Seen {
    fn look(&mut self, objects: &Objects) {
        self.instants += 1;
        if let Some(broken) = broken(objects, &self.base) {
            self.wrong
                .push(format!("instant {}: {broken}", self.instants));
        }
        let newest = newest(objects, &self.base);
        if newest < self.newest {
            self.wrong.push(format!(
                "instant {}: the newest root went from {:?} to {newest:?}",
                self.instants, self.newest
            ));
        }
        self.newest = newest;
        for (key, bytes) in objects.range(ObjectKey::parse(&self.base).unwrap()..) {
            // The pointer is the mirror's own making; what it names was looked at above.
            if key.as_str().ends_with("/index.latest") {
                continue;
            }
            let known = self.written.get(key);
            if !known.is_some_and(|all| all.iter().any(|one| one[..] == bytes[..])) {
                self.wrong.push(format!(
                    "instant {}: '{key}' has bytes that nobody wrote",
                    self.instants
                ));
            }
        }
    }
}

/// A world, its mirror, and what was seen of it.
struct Mirrored<T = Memory> {
    world: World,
    target: T,
    seen: Arc<Mutex<Seen>>,
    mirror: Arc<Mirror>,
}

impl Mirrored {
    async fn new() -> Self {
        Self::onto(World::new().await, Memory::new(1)).await
    }

    /// With one snapshot, `one`, that the mirror has.
    async fn with_one() -> Self {
        let mut m = Self::new().await;
        m.snapshot("one").await;
        m.until(State::InSync).await;
        m
    }
}

impl<T: Target> Mirrored<T> {
    async fn onto(world: World, target: T) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            base: world.open.plan.base_path.clone(),
            ..Seen::default()
        }));
        let looking = Arc::clone(&seen);
        target.look(Box::new(move |objects| looking.lock().look(objects)));
        let mirror = start(&world, &target).await;
        Self {
            world,
            target,
            seen,
            mirror,
        }
    }

    /// The applier dies where it is, and another takes over.
    async fn kill(&mut self) {
        self.mirror.kill().await;
        self.mirror = start(&self.world, &self.target).await;
    }

    /// What a request puts may be seen on the target.
    fn note(&self, request: &Request) {
        if let Request::Put { key, bytes, .. } = request {
            let mut seen = self.seen.lock();
            let written = seen.written.entry(key.clone()).or_default();
            written.push(bytes.clone());
        }
    }

    async fn send(&mut self, request: Request) {
        self.note(&request);
        self.world.send(request).await.unwrap();
    }

    async fn send_all(&mut self) {
        for request in self.world.cluster.requests() {
            self.send(request).await;
        }
    }

    async fn snapshot(&mut self, name: &str) {
        self.world.take(name);
        self.send_all().await;
    }

    async fn delete_snapshot(&mut self, name: &str) {
        self.world.cluster.delete(&[name], false);
        self.send_all().await;
    }

    async fn status(&self) -> Status {
        self.mirror.status().await.unwrap().unwrap()
    }

    async fn state(&self) -> State {
        self.status().await.state
    }

    async fn row(&self) -> MirrorRow {
        self.mirror.row().await.unwrap().unwrap()
    }

    async fn stalled(&self) -> Option<Stalled> {
        self.row().await.stalled
    }

    /// Nothing is applied any more when this returns.
    async fn pause(&self) {
        self.mirror.pause().await.unwrap();
        self.until(State::Paused).await;
    }

    async fn until(&self, state: State) {
        for _ in 0..6000 {
            if self.state().await == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not {state:?}: {:?}", self.mirror.status().await);
    }

    /// What the catalog shows, with its bytes in the store.
    fn source_objects(&self) -> BTreeMap<String, Vec<u8>> {
        let root = self.world.path("");
        let mut found = BTreeMap::new();
        let mut folders = vec![root.join(&self.world.open.plan.base_path)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                    found.insert(name.to_owned(), std::fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    /// Target = what the source's catalog shows, byte by byte; and nothing was wrong on the way.
    async fn equal(&self) {
        let wrong = self.seen.lock().wrong.clone();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let stored = self.source_objects();
        let there = self.target.objects();
        let shown = crate::state::ListQuery {
            bucket: self.world.open.bucket_id,
            repositories: [self.world.open.id].into(),
            prefix: String::new(),
            delimiter: None,
            after: None,
            limit: 100_000,
        };
        let listing = self.world.door.state().list(&shown).await.unwrap();
        let mut names = Vec::new();
        for entry in listing.entries {
            let crate::state::Entry::Object(object) = entry else {
                panic!("{entry:?}");
            };
            let bytes = there
                .get(&object.key)
                .unwrap_or_else(|| panic!("'{}' is missing", object.key));
            assert_eq!(
                &stored[object.key.as_str()][..],
                &bytes[..],
                "{}",
                object.key
            );
            names.push(object.key);
        }
        let extra: Vec<_> = there
            .keys()
            .filter(|key| {
                key.as_str().starts_with(&self.world.open.plan.base_path) && !names.contains(key)
            })
            .collect();
        assert!(extra.is_empty(), "{extra:?}");
    }
}

fn source(world: &World) -> Source {
    crate::appliers::mirror_source(&world.door, &world.open)
}

async fn start<T: Target>(world: &World, target: &T) -> Arc<Mirror> {
    start_from(source(world), Arc::new(target.clone())).await
}

async fn start_from(source: Source, target: Arc<dyn Store>) -> Arc<Mirror> {
    let plan = TargetPlan::onto(StoreName::new("far"));
    let started = Mirror::start(source, target, plan, DEFAULT_JOURNAL_LIMIT).await;
    started.unwrap()
}
