//! Two stores, a mirror kept by hand, and gateways that come and go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use policies::format::build::{Request, Style, Take};
use policies::identity::{Bucket, Cluster, Epoch, Repository};
use policies::key::{Layout, ObjectKey};
use policies::lock::Mode;
use policies::mirror_order;
use tempfile::TempDir;

use super::elsewhere::highest;
use super::*;
use crate::checkpoint::{Follower, Horizon};
use crate::repository::plan::{Readers, RepositoryPlan};
use crate::repository::{Address, Body, Caller, ReadCondition, WriteCondition};
use crate::state::mirrors::{MirrorChange, NewMirror};
use crate::state::sqlite::Database;
use crate::state::{BucketId, Details, RepositoryId, State};
use crate::stores::directory::Directory;
use crate::stores::faults::{Fault, Faulty, Gate};
use crate::stores::metrics::Operation;
use crate::stores::unreachable::Unreachable;

mod checkpoints;
mod cold;
mod crashes;
mod nodes;
mod reads;
mod returns;
mod warm;

const BUCKET: &str = "backup";

/// What outlives every gateway.
struct Disks {
    files: TempDir,
}

impl Disks {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        for store in ["eu", "us"] {
            std::fs::create_dir(files.path().join(store)).unwrap();
        }
        Self { files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    async fn store(&self, name: &str) -> Arc<dyn Store> {
        Arc::new(Directory::open(self.path(name)).await.unwrap())
    }

    /// A gateway with the state database `db`, configured with the repository on store `home`.
    async fn gateway(&self, db: &str, home: &str) -> Gateway {
        let (eu, us) = (self.store("eu").await, self.store("us").await);
        self.gateway_with(db, home, [("eu", eu), ("us", us)]).await
    }

    async fn gateway_with<const N: usize>(
        &self,
        db: &str,
        home: &str,
        stores: [(&str, Arc<dyn Store>); N],
    ) -> Gateway {
        let path = self.path(&format!("{db}.db"));
        self.gateway_on(Arc::new(Database::open(&path).unwrap()), home, stores)
            .await
    }

    /// Two gateways on one PostgreSQL database.
    async fn nodes(&self, home: &str) -> [Gateway; 2] {
        let [one, two] = crate::state::postgres::tests::nodes().await;
        let (eu, us) = (self.store("eu").await, self.store("us").await);
        let stores = || [("eu", Arc::clone(&eu)), ("us", Arc::clone(&us))];
        let one = self.gateway_on(one, home, stores()).await;
        [one, self.gateway_on(two, home, stores()).await]
    }

    async fn gateway_on<const N: usize>(
        &self,
        state: Arc<dyn State>,
        home: &str,
        stores: [(&str, Arc<dyn Store>); N],
    ) -> Gateway {
        let plan = RepositoryPlan {
            bucket: Bucket::new(BUCKET),
            base_path: "base".into(),
            store: StoreName::new(home),
            writers: BTreeSet::from([Cluster::new("a"), Cluster::new("b")]),
            readers: Readers::Everyone,
            mode: Mode::Auto,
            retention: Duration::from_secs(3600),
            uploads_end_after: None,
        };
        let name = Repository::new("prod");
        let layout = Layout::new([plan.place(&name)]).unwrap();
        let row = state.open_repository(&plan.identity(&name)).await.unwrap();
        let stores: HashMap<StoreName, Arc<dyn Store>> = stores
            .into_iter()
            .map(|(name, store)| (StoreName::new(name), store))
            .collect();
        let plan = RepositoryPlan {
            store: row.store.clone(),
            ..plan
        };
        let store = stores.get(&plan.store).cloned();
        let store = store.unwrap_or_else(|| Arc::new(Unreachable));
        let open = OpenRepository::new(name.clone(), &row, plan, store, true);
        let door = Door::new(layout, Arc::clone(&state), vec![Arc::new(open)]);
        let door = Arc::new(door.with_stores(stores));
        door.recover().await.unwrap();
        Gateway { door, state, name }
    }
}

struct Gateway {
    door: Arc<Door>,
    state: Arc<dyn State>,
    name: Repository,
}

fn caller(cluster: &str) -> Caller {
    Caller {
        cluster: Cluster::new(cluster),
        request_id: "r".into(),
        invocation: None,
        presigned: false,
    }
}

fn at(key: &str) -> Address {
    Address {
        bucket: Bucket::new(BUCKET),
        key: ObjectKey::parse(key).unwrap(),
    }
}

impl Gateway {
    fn open(&self) -> Arc<OpenRepository> {
        self.door.repository(&self.name).unwrap()
    }

    fn lock(&self) -> Lock {
        self.open().gate.row().lock
    }

    async fn put(&self, cluster: &str, key: &ObjectKey, bytes: Vec<u8>) -> Result<(), String> {
        let body = Body {
            size: Some(bytes.len() as u64),
            bytes: stream::iter([Ok(Bytes::from(bytes))]).boxed(),
            trailer: None,
            md5: None,
            expected: Vec::new(),
            compute: None,
        };
        let details = Details {
            headers: vec![("content-type".into(), "application/octet-stream".into())],
            ..Details::default()
        };
        let (caller, to) = (caller(cluster), at(key.as_str()));
        let put = self
            .door
            .put(&caller, &to, body, details, WriteCondition::Always);
        put.await.map(|_| ()).map_err(|e| e.to_string())
    }

    async fn perform(&self, cluster: &str, requests: Vec<Request>) {
        for request in requests {
            match request {
                Request::Put { key, bytes, .. } => self.put(cluster, &key, bytes).await.unwrap(),
                Request::Delete { key, .. } => {
                    let verdicts = self
                        .door
                        .delete(&caller(cluster), &Bucket::new(BUCKET), vec![key])
                        .await
                        .unwrap();
                    verdicts.into_iter().for_each(|v| v.unwrap());
                }
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Vec<u8>, String> {
        let got = self
            .door
            .get(&caller("a"), &at(key), None, &ReadCondition::default())
            .await
            .map_err(|e| e.to_string())?;
        let chunks: Vec<Bytes> = got.bytes.try_collect().await.map_err(|e| e.to_string())?;
        Ok(chunks.concat())
    }

    /// Every visible object: ETag, whether its hash is known, and the hash of its content.
    async fn contents(&self) -> BTreeMap<String, (String, bool, String)> {
        let open = self.open();
        let mut contents = BTreeMap::new();
        let objects = self
            .state
            .objects_after(open.bucket_id, open.id, None, 100_000)
            .await
            .unwrap();
        for object in objects {
            let bytes = self.get(object.key.as_str()).await.unwrap();
            let content = blake3::hash(&bytes).to_hex().to_string();
            let seen = (object.etag.to_string(), object.hash.is_some(), content);
            contents.insert(object.key.as_str().to_owned(), seen);
        }
        contents
    }

    async fn sequence(&self) -> u64 {
        self.state.usage(self.open().id).await.unwrap().sequence
    }

    /// Copies what is visible to store `us`, as an applier that is not behind would have it.
    async fn mirror(&self, disks: &Disks) {
        let (open, us) = (self.open(), disks.store("us").await);
        let name = StoreName::new("us");
        let handover = Handover::new("mirror");
        let epoch = Epoch(1);
        let anchor = Anchor {
            repository: self.name.clone(),
            epoch,
            holder: Some(promotion::mirror_of(&StoreName::new("eu"))),
            handover: handover.clone(),
            previous: None,
        };
        self.door
            .create_anchor_on(&open, us.as_ref(), anchor)
            .await
            .unwrap();
        let sequence = self.sequence().await;
        let mut follower = Follower::new(
            Arc::clone(&self.state),
            Arc::clone(&us),
            self.name.clone(),
            (open.id, open.bucket_id),
            epoch,
        );
        follower.advance_to(sequence).await.unwrap();
        copy_tree(&disks.path("eu/base"), &disks.path("us/base"));
        let visible = self.contents().await;
        forget_others(&disks.path("us"), &disks.path("us/base"), &visible);
        let new = NewMirror {
            repository: open.id,
            store: name.clone(),
            mode: mirror_order::Mode::Async,
            handover,
            now_ms: 7,
        };
        let row = self.state.open_mirror(new).await.unwrap();
        let mut changes = vec![MirrorChange::Epoch {
            epoch,
            applier: None,
        }];
        if let Some(resync) = row.resync {
            changes.push(MirrorChange::Resynced {
                since_ms: resync.since_ms,
                upto: sequence,
            });
        }
        changes.push(MirrorChange::Applied(sequence));
        self.state
            .change_mirror(open.id, &name, None, changes)
            .await
            .unwrap();
    }

    /// The mirror hears of the newest root, and gets nothing of it.
    async fn mirror_far_behind(&self, disks: &Disks) {
        let newest = self.state.restore_points(self.open().id, None, 1).await;
        let horizon = Horizon::from(&newest.unwrap()[0]);
        let at = Horizon::key(&self.name, Epoch(1)).unwrap();
        let permit = policies::lock::upkeep(&self.name, Epoch(1));
        let us = disks.store("us").await;
        crate::stores::own::create(us.as_ref(), &permit, at.as_str(), horizon.encode())
            .await
            .unwrap();
    }

    /// A mirror that is not waited for.
    async fn pause(&self) {
        let paused = vec![MirrorChange::Paused(true)];
        let us = StoreName::new("us");
        let row = self
            .state
            .change_mirror(self.open().id, &us, None, paused)
            .await;
        row.unwrap();
    }

    async fn promote(&self, store: &str, writer: &str) -> Result<Promoted, String> {
        let ask = ask(store, writer);
        self.door
            .promote(&self.open(), ask, &ByHand)
            .await
            .map_err(|e| e.to_string())
    }

    /// Ends it as a crash does.
    async fn gone(self) {
        let Self { door, state, .. } = self;
        drop(door);
        // What runs detached ends by itself.
        let mut state = state;
        while Arc::get_mut(&mut state).is_none() {
            tokio::task::yield_now().await;
        }
    }
}

/// A test mirrors by hand.
struct ByHand;

#[async_trait]
impl Appliers for ByHand {
    async fn stop(&self, _: &Repository) {}
    async fn start(&self, _: &OpenRepository) {}
}

fn ask(store: &str, writer: &str) -> Ask {
    Ask {
        store: StoreName::new(store),
        writer: Cluster::new(writer),
        reason: Some("a test".into()),
        nothing_behind: None,
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            // A new file, as a store makes it: the old one may have a second name.
            if to.exists() {
                std::fs::remove_file(&to).unwrap();
            }
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Removes files of a store that nobody sees.
fn forget_others<T>(root: &Path, folder: &Path, visible: &BTreeMap<String, T>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            forget_others(root, &path, visible);
        } else {
            let key = path.strip_prefix(root).unwrap().to_str().unwrap();
            if !visible.contains_key(key) {
                std::fs::remove_file(&path).unwrap();
            }
        }
    }
}

fn cluster() -> policies::format::build::Cluster {
    policies::format::build::Cluster::new(11, "base", Style::default())
}

fn take() -> Take<'static> {
    Take {
        index: "logs",
        shards: 2,
        new_files: 2,
        merged_away: 0,
        failed_shard: None,
    }
}

/// Region A with snapshot `s1` mirrored to `us`, and the cluster that wrote it.
async fn region_a(disks: &Disks) -> (Gateway, policies::format::build::Cluster) {
    let gateway = disks.gateway("a", "eu").await;
    let writer = s1_mirrored(&gateway, disks).await;
    (gateway, writer)
}

async fn s1_mirrored(gateway: &Gateway, disks: &Disks) -> policies::format::build::Cluster {
    let mut writer = cluster();
    writer.create("s1", &[take()]);
    gateway.perform("a", writer.requests()).await;
    gateway.mirror(disks).await;
    writer
}

/// Every name with the hash of its content.
fn bytes(contents: BTreeMap<String, (String, bool, String)>) -> BTreeMap<String, String> {
    let told = contents.into_iter();
    told.map(|(key, (_, _, content))| (key, content)).collect()
}

fn held_by(lock: &Lock, cluster: &str) -> bool {
    matches!(lock, Lock::Held { holder, .. } if holder.as_str() == cluster)
}
