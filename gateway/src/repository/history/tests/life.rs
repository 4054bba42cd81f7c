//! A repository's life through the real door, beside a record of what every root's closure was, byte for byte.
//!
//! The record is judged by itself: the closure of a root is computed from what the clients wrote and deleted, never from
//! what the gateway says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use policies::format::build::{Cluster, Request};
use policies::format::closure::{Facts, Knowledge, Member};
use policies::format::digest;
use policies::format::frame::Limits;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::key::{Class, ObjectKey, Shard, ShardGeneration};

use super::super::Ask;
use crate::repository::miniature::{BASE, World, caller, caller_of};
use crate::repository::{Error, ListRequest, ReadCondition};
use crate::state::Entry;

pub type Objects = BTreeMap<ObjectKey, (Class, Bytes)>;

/// What was when a root was committed.
pub struct Then {
    pub visible: Objects,
    pub closure: BTreeSet<ObjectKey>,
    /// What restores of its snapshots read, and the root. Before 7.6 a cluster writes its shard indexes anew after the root, so
    /// that no more stays.
    pub restored: BTreeSet<ObjectKey>,
    pub root: Arc<Root>,
    pub cluster: Cluster,
    /// Uptime at which the next root took its place.
    pub until: Option<u64>,
}

impl Then {
    pub fn names(&self) -> BTreeSet<String> {
        let names = self.root.snapshots.iter().map(|s| s.name.to_string());
        names.collect()
    }

    pub fn bytes(&self, key: &ObjectKey) -> &Bytes {
        &self.visible[key].1
    }
}

pub struct Life {
    world: Option<World>,
    /// What clients wrote and did not delete.
    pub visible: Objects,
    hidden: Objects,
    pub points: BTreeMap<u64, Then>,
    /// Milliseconds.
    pub uptime: u64,
    pub retention: u64,
    pub pinned: BTreeSet<String>,
    pub holder: &'static str,
}

/// Hidden objects count where none is visible: a root that needs them shows them again.
pub struct Alone<'a>(pub &'a Objects, pub &'a Objects);

impl Alone<'_> {
    fn find(&self, key: &ObjectKey) -> Option<&(Class, Bytes)> {
        self.0.get(key).or_else(|| self.1.get(key))
    }
}

impl Facts for Alone<'_> {
    fn size(&self, key: &ObjectKey) -> Option<Option<u64>> {
        Some(self.find(key).map(|(_, bytes)| bytes.len() as u64))
    }

    fn digest(&self, key: &ObjectKey) -> Option<digest::Read> {
        let (class, bytes) = self.find(key)?;
        digest::read(class, bytes, Limits::default())
    }

    fn highest_numbered(&self, wanted: &Shard, _directory: &str) -> Option<Option<u64>> {
        let numbers = self.0.values().filter_map(|(class, _)| match class {
            Class::ShardIndex {
                shard,
                generation: ShardGeneration::Number(number),
            } if shard == wanted => Some(*number),
            _other => None,
        });
        Some(numbers.max())
    }
}

impl Life {
    pub fn new(world: World, retention: u64) -> Self {
        Self {
            world: Some(world),
            visible: Objects::new(),
            hidden: Objects::new(),
            points: BTreeMap::new(),
            uptime: 0,
            retention,
            pinned: BTreeSet::new(),
            holder: "a",
        }
    }

    pub fn world(&self) -> &World {
        self.world.as_ref().expect("it is gone only in a restart")
    }

    pub fn cluster(&mut self) -> &mut Cluster {
        &mut self.world.as_mut().expect("as above").cluster
    }

    pub async fn restart(&mut self) {
        self.anew(World::restart).await;
    }

    /// Another start, as `start` makes it.
    pub async fn anew(&mut self, start: impl AsyncFnOnce(World) -> World) {
        let world = self.world.take().expect("as above");
        self.world = Some(start(world).await);
    }

    pub fn newest(&self) -> Option<u64> {
        self.points.keys().next_back().copied()
    }

    /// Sends what the cluster wants; nothing of it is refused.
    pub async fn perform(&mut self) {
        let requests = self.cluster().requests();
        for request in requests {
            let shown: String = format!("{request:?}").chars().take(200).collect();
            let sent = self.send(request).await;
            assert!(sent.is_ok(), "refused: {sent:?}\n{shown}");
        }
    }

    pub async fn send(&mut self, request: Request) -> Result<(), Error> {
        let caller = caller_of(self.holder);
        self.world().send_as(&caller, request.clone()).await?;
        match request {
            Request::Put { key, class, bytes } => {
                let root = match &class {
                    Class::Root(generation) => Some(*generation),
                    _other => None,
                };
                self.visible.insert(key, (class, bytes.into()));
                if let Some(generation) = root {
                    self.committed(generation);
                }
            }
            Request::Delete {
                class: Class::Pointer,
                ..
            } => {}
            Request::Delete { key, .. } => {
                if let Some(object) = self.visible.remove(&key) {
                    self.hidden.insert(key, object);
                }
            }
        }
        Ok(())
    }

    /// A root was committed; what it needs and was hidden is visible again.
    pub fn committed(&mut self, generation: u64) {
        let layout = Layout::new(BASE).unwrap();
        let body = self.visible[&layout.root(generation)].1.clone();
        let root = Arc::new(Root::parse(generation, &body).unwrap());
        let mut knowledge = Knowledge::new(layout);
        let proposal = knowledge
            .propose(Arc::clone(&root), &Alone(&self.visible, &self.hidden))
            .unwrap_or_else(|needs| panic!("everything is told, and yet {needs:?}"));
        assert_eq!(proposal.problems, [], "root {generation}");
        knowledge.commit(proposal);
        let closure: BTreeSet<_> = knowledge.members().map(|member| member.key).collect();
        let restores = |m: &Member| matches!(m.class, Class::Root(_)) || !m.snapshots.is_empty();
        let restored = knowledge
            .members()
            .filter(restores)
            .map(|m| m.key)
            .collect();
        for key in &closure {
            if !self.visible.contains_key(key) {
                let object = self.hidden.remove(key).expect("it was found there");
                self.visible.insert(key.clone(), object);
            }
        }
        let uptime = self.uptime;
        if let Some(before) = self.points.values_mut().next_back() {
            before.until = Some(uptime);
        }
        let then = Then {
            visible: self.visible.clone(),
            closure,
            restored,
            root,
            cluster: self.world().cluster.clone(),
            until: None,
        };
        self.points.insert(generation, then);
    }

    /// What was done in vain is there and nobody needs it.
    pub fn relist(&mut self) {
        let classes = self.visible.iter();
        let classes = classes.map(|(key, (class, _))| (key.clone(), class.clone()));
        let classes = classes.collect();
        self.cluster().sees(classes);
    }

    /// The newest root's record is of this cluster's making.
    pub fn made_by(&mut self, cluster: &Cluster) {
        if let Some(then) = self.points.values_mut().next_back() {
            then.cluster = cluster.clone();
        }
    }

    pub async fn read(&self, key: &str) -> Result<Bytes, Error> {
        let (door, at) = (&self.world().door, self.world().at(key));
        let found = door
            .get(&caller(), &at, None, &ReadCondition::default())
            .await?;
        let chunks: Vec<Bytes> = found
            .bytes
            .try_collect()
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        Ok(chunks.concat().into())
    }

    pub async fn list(&self, prefix: &str, limit: usize) -> Vec<String> {
        let mut request = ListRequest {
            bucket: self.world().open.plan.bucket.clone(),
            prefix: prefix.to_owned(),
            delimiter: None,
            after: None,
            limit,
        };
        let mut names = Vec::new();
        loop {
            let page = self.world().door.list(&caller(), request.clone()).await;
            let page = page.unwrap();
            names.extend(page.entries.iter().map(|entry| match entry {
                Entry::Object(object) => object.key.to_string(),
                Entry::Prefix(prefix) => prefix.clone(),
            }));
            if !page.truncated {
                return names;
            }
            assert!(!page.entries.is_empty(), "a page without an end");
            request.after = names.last().cloned();
        }
    }

    /// Whether the retention still holds this restore point.
    pub fn is_held(&self, generation: u64) -> bool {
        let then = &self.points[&generation];
        if self.retention == 0 && then.root.is_legacy_form() {
            return false;
        }
        then.until
            .is_none_or(|until| self.uptime < until + self.retention)
    }

    pub async fn freeze(&self) {
        let (door, open) = (&self.world().door, &self.world().open);
        let ask = crate::repository::handover::Ask::Freeze;
        door.hand_over(open, ask, Some("a test".into()))
            .await
            .unwrap();
    }

    pub async fn thaw(&self) {
        let (door, open) = (&self.world().door, &self.world().open);
        let ask = crate::repository::handover::Ask::Thaw { recover: false };
        door.hand_over(open, ask, None).await.unwrap();
    }

    pub async fn bring_back(&self, ask: &Ask) -> Result<u64, Error> {
        let world = self.world();
        let quiet = |_, _| {};
        let done = world
            .door
            .bring_back(&world.open, ask, false, "test", &quiet)
            .await?;
        Ok(done.plan.generation)
    }

    /// Everything that clients see, with its bytes.
    async fn seen(&self) -> Objects {
        let mut seen = Objects::new();
        for name in self.list("", 1000).await {
            let at = self.world().at(&name);
            let class = self.world().door.find(&at).unwrap().class;
            let bytes = self.read(&name).await.unwrap();
            seen.insert(at.key, (class, bytes));
        }
        seen
    }

    /// The root that an operator made: what it needs is what it needed then, everything else is as it was.
    pub async fn brought_back(&mut self, generation: u64, cluster: Cluster, seed: u64) {
        let seen = self.seen().await;
        let before = std::mem::replace(&mut self.visible, seen);
        *self.cluster() = cluster;
        self.committed(generation);
        let then = &self.points[&generation];
        for (key, (class, bytes)) in &before {
            let may_go = then.closure.contains(key)
                || *class == Class::Pointer
                || matches!(
                    class,
                    Class::ShardIndex {
                        generation: ShardGeneration::Number(_),
                        ..
                    }
                );
            let now = self.visible.get(key).map(|(_, bytes)| bytes);
            assert!(may_go || now == Some(bytes), "{key} is not what it was");
        }
        let pointer = Layout::new(BASE).unwrap().pointer();
        assert_eq!(self.visible[&pointer].1[..], generation.to_be_bytes());
        let root = Arc::clone(&then.root);
        let classes = self.visible.iter();
        let classes = classes.map(|(key, (class, _))| (key.clone(), class.clone()));
        let classes = classes.collect();
        let cluster = self.cluster();
        cluster.reseed(seed);
        cluster.register(&root, classes);
        let cluster = cluster.clone();
        self.made_by(&cluster);
    }
}
