//! One schedule's gateways, databases and store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;
use rusqlite::Connection;

use super::history::{Event, History, Life, Lineage};
use super::network::Network;
use super::node::{BASE, Node};
use super::shelf::Shelf;

/// Databases that may work on the store at a time.
const MOST_LINEAGES: usize = 3;

#[derive(Clone)]
pub struct World {
    pub history: History,
    pub shelf: Shelf,
    pub network: Network,
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    template: PathBuf,
    over: AtomicBool,
    operations: AtomicUsize,
    lives: AtomicUsize,
    lineages: AtomicUsize,
    places: Mutex<Vec<Place>>,
    backup: Mutex<Option<Backup>>,
    keys: Mutex<Vec<String>>,
}

/// A database and the gateway that works on it, if it runs.
struct Place {
    lineage: Lineage,
    file: PathBuf,
    node: Option<Arc<Node>>,
    starting: bool,
}

struct Backup {
    of: Lineage,
    file: PathBuf,
    roots: usize,
    anchors: usize,
}

impl World {
    pub fn new(
        directory: &Path,
        template: &Path,
        shelf: Shelf,
        network: Network,
        history: History,
    ) -> Self {
        let world = Self {
            history,
            shelf,
            network,
            inner: Arc::new(Inner {
                directory: directory.to_owned(),
                template: template.to_owned(),
                over: AtomicBool::new(false),
                operations: AtomicUsize::new(0),
                lives: AtomicUsize::new(0),
                lineages: AtomicUsize::new(0),
                places: Mutex::default(),
                backup: Mutex::default(),
                keys: Mutex::default(),
            }),
        };
        let template = world.inner.template.clone();
        world.add_place(&template);
        world
    }

    pub fn end(&self) {
        self.inner.over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.inner.over.load(Ordering::Relaxed)
    }

    pub fn next_operation(&self) -> usize {
        self.inner.operations.fetch_add(1, Ordering::Relaxed)
    }

    fn add_place(&self, copy_of: &Path) -> Lineage {
        let lineage = Lineage(self.inner.lineages.fetch_add(1, Ordering::Relaxed));
        let file = self.inner.directory.join(format!("state-{}.db", lineage.0));
        std::fs::copy(copy_of, &file).unwrap();
        self.inner.places.lock().push(Place {
            lineage,
            file,
            node: None,
            starting: false,
        });
        lineage
    }

    pub fn some_node(&self, random: &mut StdRng) -> Option<Arc<Node>> {
        let places = self.inner.places.lock();
        let up: Vec<_> = places.iter().filter_map(|p| p.node.clone()).collect();
        if up.is_empty() {
            return None;
        }
        Some(Arc::clone(&up[random.random_range(0..up.len())]))
    }

    pub fn acknowledged(&self, key: &str) {
        self.inner.keys.lock().push(key.to_owned());
    }

    pub fn some_key(&self, random: &mut StdRng) -> Option<String> {
        let keys = self.inner.keys.lock();
        (!keys.is_empty()).then(|| keys[random.random_range(0..keys.len())].clone())
    }

    /// The highest generation that the store holds.
    pub fn newest_root(&self) -> u64 {
        let prefix = format!("{BASE}index-");
        self.shelf
            .contents()
            .iter()
            .filter_map(|(name, _)| name.strip_prefix(&prefix)?.parse().ok())
            .max()
            .unwrap_or(0)
    }

    fn count(&self, prefix: &str) -> usize {
        let contents = self.shelf.contents();
        contents
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .count()
    }

    /// The newest start in the store is one that this database did not make.
    fn is_stranger_to(&self, file: &Path) -> bool {
        let contents = self.shelf.contents();
        let newest = contents
            .iter()
            .rfind(|(name, _)| name.starts_with(".snapgate/incarnation-"));
        let Some((_, token)) = newest else {
            return false;
        };
        let token = std::str::from_utf8(token).unwrap().trim();
        let db = Connection::open(file).unwrap();
        let known: u32 = db
            .query_row(
                "SELECT COUNT(*) FROM incarnations WHERE token = ?1",
                [token],
                |row| row.get(0),
            )
            .unwrap();
        known == 0
    }

    pub fn kill(&self, lineage: Lineage) {
        let node = self
            .inner
            .places
            .lock()
            .iter_mut()
            .find(|place| place.lineage == lineage)
            .and_then(|place| place.node.take());
        if let Some(node) = node {
            node.end();
        }
    }

    /// Gateways that came to a step at which they were to die.
    pub fn bury_dead(&self) {
        let dead: Vec<Lineage> = {
            let places = self.inner.places.lock();
            let dead = places
                .iter()
                .filter(|p| p.node.as_ref().is_some_and(|node| node.pulse.is_dead()));
            dead.map(|p| p.lineage).collect()
        };
        for lineage in dead {
            self.kill(lineage);
        }
    }

    pub async fn start_missing(&self, dies_in: Option<u64>) {
        let missing: Vec<Lineage> = {
            let places = self.inner.places.lock();
            let missing = places.iter().filter(|p| p.node.is_none() && !p.starting);
            missing.map(|p| p.lineage).collect()
        };
        for lineage in missing {
            self.start(lineage, dies_in).await;
        }
    }

    pub async fn start(&self, lineage: Lineage, dies_in: Option<u64>) -> Option<Arc<Node>> {
        let file = {
            let mut places = self.inner.places.lock();
            let place = places
                .iter_mut()
                .find(|p| p.lineage == lineage && !p.starting && p.node.is_none())?;
            place.starting = true;
            place.file.clone()
        };
        let life = Life(self.inner.lives.fetch_add(1, Ordering::Relaxed));
        let (shelf, network) = (&self.shelf, &self.network);
        let started =
            Node::start(life, lineage, &file, shelf, network, &self.history, dies_in).await;
        let mut places = self.inner.places.lock();
        let place = places.iter_mut().find(|p| p.lineage == lineage);
        let node = started.map(Arc::new);
        match place {
            Some(place) => {
                place.starting = false;
                place.node.clone_from(&node);
                node
            }
            // it was replaced by a backup while it started
            None => {
                if let Some(node) = node {
                    node.end();
                }
                None
            }
        }
    }

    pub fn back_up(&self, random: &mut StdRng) {
        let Some(node) = self.some_node(random) else {
            return;
        };
        let file = self.inner.directory.join("backup.db");
        std::fs::copy(&node.file, &file).unwrap();
        self.history.note(format!("a backup of {:?}", node.lineage));
        *self.inner.backup.lock() = Some(Backup {
            of: node.lineage,
            file,
            roots: self.count(&format!("{BASE}index-")),
            anchors: self.count(".snapgate/anchors/"),
        });
    }

    /// Yesterday's database comes back in place of all that are there, after something happened since that the
    /// store can tell: a root, or a hand-over or a start of which the copy did not know.
    pub async fn restore(&self) {
        let telling = self.inner.backup.lock().as_ref().is_some_and(|backup| {
            self.count(&format!("{BASE}index-")) > backup.roots
                || self.count(".snapgate/anchors/") > backup.anchors + 1
                || self.is_stranger_to(&backup.file)
        });
        let starting = self.inner.places.lock().iter().any(|p| p.starting);
        if !telling || starting {
            return;
        }
        let Some(backup) = self.inner.backup.lock().take() else {
            return;
        };
        let all: Vec<Lineage> = self.inner.places.lock().iter().map(|p| p.lineage).collect();
        for lineage in all {
            self.kill(lineage);
        }
        self.inner.places.lock().clear();
        let lineage = self.copied(backup.of, &backup.file, true);
        self.history
            .note(format!("{lineage:?} is restored from the backup"));
        if let Some(node) = self.start(lineage, None).await
            && !node.open.gate.is_frozen()
        {
            self.history.add(Event::Broken(
                "W13: a database from a backup serves although the store went on".into(),
            ));
        }
    }

    fn copied(&self, of: Lineage, file: &Path, running: bool) -> Lineage {
        let lineage = self.add_place(file);
        let db = Connection::open(file).unwrap();
        let sequence: i64 = db
            .query_row(
                "SELECT COALESCE(MAX(sequence), 0) FROM journal",
                [],
                |row| row.get(0),
            )
            .unwrap();
        self.history.add(Event::Copied {
            from: of,
            to: lineage,
            sequence: u64::try_from(sequence).unwrap(),
            running,
        });
        lineage
    }

    /// The virtual machine is cloned with its database, while it runs or after it stopped, and then both run.
    pub async fn clone_one(&self, random: &mut StdRng) {
        if self.inner.places.lock().len() >= MOST_LINEAGES {
            return;
        }
        let Some(node) = self.some_node(random) else {
            return;
        };
        let running = random.random_bool(0.5);
        if !running {
            self.kill(node.lineage);
        }
        let lineage = self.copied(node.lineage, &node.file, running);
        self.history
            .note(format!("{lineage:?} is cloned from {:?}", node.lineage));
        self.start(lineage, None).await;
    }

    pub fn retire_one(&self, random: &mut StdRng) {
        let lineages: Vec<Lineage> = {
            let places = self.inner.places.lock();
            places
                .iter()
                .filter(|p| !p.starting)
                .map(|p| p.lineage)
                .collect()
        };
        if lineages.len() > 1 {
            let lineage = lineages[random.random_range(0..lineages.len())];
            self.kill(lineage);
            self.inner.places.lock().retain(|p| p.lineage != lineage);
            self.history.note(format!("{lineage:?} is given up"));
        }
    }

    /// All but one database are given up: the one whose gateway started last stays.
    pub fn keep_newest(&self) -> Lineage {
        self.bury_dead();
        let newest = {
            let places = self.inner.places.lock();
            let newest = places
                .iter()
                .max_by_key(|p| (p.node.as_ref().map(|node| node.life), p.lineage));
            newest.map(|p| p.lineage).unwrap()
        };
        let others: Vec<Lineage> = {
            let places = self.inner.places.lock();
            places
                .iter()
                .map(|p| p.lineage)
                .filter(|l| *l != newest)
                .collect()
        };
        for lineage in others {
            self.kill(lineage);
        }
        self.inner.places.lock().retain(|p| p.lineage == newest);
        newest
    }

    pub fn unpause_all(&self) {
        for place in self.inner.places.lock().iter() {
            if let Some(node) = &place.node {
                node.pulse.pause(false);
            }
        }
    }

    pub fn had_others(&self) -> bool {
        self.inner.lineages.load(Ordering::Relaxed) > 1
    }

    /// What store and database hold now.
    pub fn rest(&self, node: &Node) {
        let db = Connection::open(&node.file).unwrap();
        let mut statement = db.prepare("SELECT key, size, hash FROM objects").unwrap();
        let catalog = statement
            .query_map([], |row| {
                Ok((
                    String::from_utf8(row.get(0)?).unwrap(),
                    u64::try_from(row.get::<_, i64>(1)?).unwrap(),
                    row.get(2)?,
                ))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut statement = db.prepare("SELECT location FROM tombstones").unwrap();
        let kept = statement
            .query_map([], |row| Ok(String::from_utf8(row.get(0)?).unwrap()))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let intents = db
            .query_row("SELECT COUNT(*) FROM intents", [], |row| {
                row.get::<_, u32>(0)
            })
            .unwrap();
        let store: Vec<(String, Bytes)> = self.shelf.contents();
        self.history.add(Event::Rest {
            lineage: node.lineage,
            store,
            catalog,
            kept,
            intents: intents as usize,
        });
    }
}
