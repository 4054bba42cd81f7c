//! For tests: a door over a directory store and a SQLite file, and a cluster in miniature that writes through it.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use policies::format::build::{self, Request, Style, Take};
use policies::identity::{Bucket, Cluster};
use policies::key::ObjectKey;

use super::plan::RepositoryPlan;
use super::{Address, Body, Caller, Door, Error, OpenRepository, WriteCondition, Written, opened};
use crate::state::sqlite::Database;
use crate::state::{Details, State};
use crate::stores::Store;
use crate::stores::directory::Directory;
use crate::stores::faults::Faulty;

pub const BASE: &str = "base";
pub const UPLOADS_END_AFTER: Duration = Duration::from_secs(3600);
/// The file of the state database.
pub const DATABASE: &str = "state.db";

/// Where a repository stands.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub repository: &'static str,
    pub bucket: &'static str,
    pub base: &'static str,
    /// How long deleted content is kept.
    pub retention: Duration,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            repository: "prod",
            bucket: "backups",
            base: BASE,
            retention: Duration::from_secs(60),
        }
    }
}

/// A repository (by default `prod` in bucket `backups`, base path `base`) of writer `a`, and what it lies in.
pub struct World {
    files: Arc<tempfile::TempDir>,
    site: Site,
    pub door: Arc<Door>,
    pub open: Arc<OpenRepository>,
    pub store: Arc<dyn Store>,
    pub cluster: build::Cluster,
}

impl World {
    pub async fn new() -> Self {
        Self::styled(Style::default()).await
    }

    /// Of a cluster that writes so.
    pub async fn styled(style: Style) -> Self {
        Self::at_site(Site::default(), style).await
    }

    /// Of a cluster whose names follow from `seed`, and a gateway that keeps deleted content so long.
    pub async fn lasting(seed: u64, style: Style, retention: Duration) -> Self {
        let site = Site {
            retention,
            ..Site::default()
        };
        let mut world = Self::at_site(site, style).await;
        world.cluster = build::Cluster::new(seed, BASE, style);
        world
    }

    pub async fn at_site(site: Site, style: Style) -> Self {
        let files = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(files.path().join("store")).unwrap();
        let cluster = build::Cluster::new(7, site.base, style);
        Self::start(files, site, cluster).await
    }

    /// Ends the gateway as a crash does; what runs detached ends by itself.
    async fn end(self) -> (Arc<tempfile::TempDir>, Site, build::Cluster) {
        let mut state = Arc::clone(self.door.state());
        drop((self.door, self.open, self.store));
        while Arc::get_mut(&mut state).is_none() {
            tokio::task::yield_now().await;
        }
        (self.files, self.site, self.cluster)
    }

    /// Another start of the gateway on the same files.
    pub async fn restart(self) -> Self {
        let (files, site, cluster) = self.end().await;
        Self::start(files, site, cluster).await
    }

    /// Another start, which reaches its store by what `around` makes of it.
    pub async fn restart_behind(
        self,
        around: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        let (files, site, cluster) = self.end().await;
        let directory = Directory::open(files.path().join("store")).await.unwrap();
        let store = around(Arc::new(directory));
        Self::start_with(files, site, cluster, DATABASE, store).await
    }

    /// Another start, with a store that fails as it is told to.
    pub async fn restart_faulty(self) -> (Self, Arc<Faulty<dyn Store>>) {
        let mut faulty = None;
        let around = |store| -> Arc<dyn Store> {
            let store = Arc::new(Faulty::new(store));
            faulty = Some(Arc::clone(&store));
            store
        };
        let world = self.restart_behind(around).await;
        (world, faulty.unwrap())
    }

    /// Another start on the same store, with another file as its state database.
    pub async fn restart_on(self, database: &'static str) -> Self {
        let (files, site, cluster) = self.end().await;
        Self::start_on(files, site, cluster, database).await
    }

    /// Stops the gateway, copies its state database, and starts it again.
    pub async fn copy_database(self, to: &'static str) -> Self {
        let (files, site, cluster) = self.end().await;
        std::fs::copy(files.path().join(DATABASE), files.path().join(to)).unwrap();
        Self::start(files, site, cluster).await
    }

    /// Copies the state database as it is on the disk, with its log, while the gateway runs.
    pub fn copy_database_while_it_runs(&self, to: &str) {
        for end in ["", "-wal"] {
            let from = self.files.path().join(format!("{DATABASE}{end}"));
            std::fs::copy(from, self.files.path().join(format!("{to}{end}"))).unwrap();
        }
    }

    /// Another start after the file of the state database was emptied.
    pub async fn empty_database(self) -> Self {
        let (files, site, cluster) = self.end().await;
        std::fs::write(files.path().join(DATABASE), []).unwrap();
        Self::start(files, site, cluster).await
    }

    /// Another start after the state database was lost.
    pub async fn forget(self) -> Self {
        let (files, site, cluster) = self.end().await;
        for entry in std::fs::read_dir(files.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
        std::fs::remove_dir_all(files.path().join("store/.snapgate")).unwrap();
        Self::start(files, site, cluster).await
    }

    async fn start(files: Arc<tempfile::TempDir>, site: Site, cluster: build::Cluster) -> Self {
        Self::start_on(files, site, cluster, DATABASE).await
    }

    async fn start_on(
        files: Arc<tempfile::TempDir>,
        site: Site,
        cluster: build::Cluster,
        database: &str,
    ) -> Self {
        let directory = Directory::open(files.path().join("store")).await.unwrap();
        Self::start_with(files, site, cluster, database, Arc::new(directory)).await
    }

    async fn start_with(
        files: Arc<tempfile::TempDir>,
        site: Site,
        cluster: build::Cluster,
        database: &str,
        store: Arc<dyn Store>,
    ) -> Self {
        let database = Database::open(&files.path().join(database)).unwrap();
        Self::over(files, site, cluster, Arc::new(database), store).await
    }

    /// Two gateways on one store and one state database. The second one's cluster never writes.
    pub async fn nodes([one, two]: [Arc<dyn State>; 2]) -> [Self; 2] {
        let (site, style) = (Site::default(), Style::default());
        let files = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(files.path().join("store")).unwrap();
        let node = async |state| {
            let directory = Directory::open(files.path().join("store")).await.unwrap();
            let cluster = build::Cluster::new(7, site.base, style);
            Self::over(
                Arc::clone(&files),
                site,
                cluster,
                state,
                Arc::new(directory),
            )
            .await
        };
        [node(one).await, node(two).await]
    }

    /// One more gateway on the same store, on a state database of its own; it reaches the store by what `around` makes
    /// of it.
    pub async fn another_gateway(
        &self,
        database: &str,
        around: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        let directory = Directory::open(self.files.path().join("store")).await;
        let store = around(Arc::new(directory.unwrap()));
        let cluster = build::Cluster::new(7, self.site.base, Style::default());
        Self::start_with(Arc::clone(&self.files), self.site, cluster, database, store).await
    }

    /// One more gateway on the same store, by a state database that it shares with this one.
    pub async fn another_node(&self, state: Arc<dyn State>) -> Self {
        let directory = Directory::open(self.files.path().join("store")).await;
        let (files, site) = (Arc::clone(&self.files), self.site);
        let cluster = build::Cluster::new(7, site.base, Style::default());
        Self::over(files, site, cluster, state, Arc::new(directory.unwrap())).await
    }

    async fn over(
        files: Arc<tempfile::TempDir>,
        site: Site,
        cluster: build::Cluster,
        state: Arc<dyn State>,
        store: Arc<dyn Store>,
    ) -> Self {
        let seen = Arc::clone(&store);
        let (door, open) = opened::one(state, site.repository, plan(site), seen).await;
        door.recover().await.unwrap();
        Self {
            files,
            site,
            door,
            open,
            store,
            cluster,
        }
    }

    /// Where an object's bytes lie.
    pub fn path(&self, key: &str) -> PathBuf {
        self.files.path().join("store").join(key)
    }

    /// Takes a snapshot of one index with two shards, through the door.
    pub async fn snapshot(&mut self, name: &str) {
        self.take(name);
        self.send_all().await;
    }

    /// Takes a snapshot whose requests are not sent yet.
    pub fn take(&mut self, name: &str) {
        let take = Take {
            index: "logs",
            shards: 2,
            new_files: 3,
            merged_away: 0,
            failed_shard: None,
        };
        self.cluster.create(name, &[take]);
    }

    pub async fn send_all(&mut self) {
        for request in self.cluster.requests() {
            self.send(request).await.unwrap();
        }
    }

    pub async fn send(&self, request: Request) -> Result<(), Error> {
        self.send_as(&caller(), request).await
    }

    pub async fn send_as(&self, caller: &Caller, request: Request) -> Result<(), Error> {
        match request {
            Request::Put { key, bytes, .. } => {
                self.put_as(caller, key.as_str(), bytes).await.map(drop)
            }
            Request::Delete { key, .. } => {
                let bucket = self.open.plan.bucket.clone();
                let verdicts = self.door.delete(caller, &bucket, vec![key]).await?;
                verdicts.into_iter().collect::<Result<_, _>>()
            }
        }
    }

    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<Written, Error> {
        self.put_as(&caller(), key, bytes).await
    }

    async fn put_as(&self, caller: &Caller, key: &str, bytes: Vec<u8>) -> Result<Written, Error> {
        let body = body(bytes);
        let at = self.at(key);
        self.door.may_write(caller, &at).await?;
        self.door
            .put(
                caller,
                &at,
                body,
                Details::default(),
                WriteCondition::Always,
            )
            .await
    }

    pub fn at(&self, key: &str) -> Address {
        Address {
            bucket: self.open.plan.bucket.clone(),
            key: ObjectKey::parse(key).unwrap(),
        }
    }

    /// The first key of the repository's root level whose name starts so.
    pub fn cluster_key(&self, name: &str) -> ObjectKey {
        let mut names: Vec<_> = std::fs::read_dir(self.path(self.site.base))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|found| found.starts_with(name))
            .collect();
        names.sort();
        ObjectKey::parse(&format!("{}/{}", self.site.base, names[0])).unwrap()
    }

    /// Kinds and subjects of the open warnings.
    pub async fn warnings(&self) -> Vec<String> {
        let rows = self.door.watch().open(self.open.id).await.unwrap();
        rows.into_iter()
            .map(|row| format!("{} {}", row.kind, row.subject))
            .collect()
    }

    /// Names of the data files that lie in the store.
    pub fn data_files(&self) -> Vec<String> {
        let mut found = self.files_of(self.site.base);
        found.retain(|name| name.contains("/__"));
        found
    }

    /// Names of all files of the repository that lie in the store.
    pub fn objects(&self) -> Vec<String> {
        self.files_of(self.site.base)
    }

    fn files_of(&self, folder: &str) -> Vec<String> {
        let root = self.files.path().join("store");
        let mut found = Vec::new();
        let mut folders = vec![root.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(name.to_owned());
                }
            }
        }
        found.sort();
        found
    }
}

/// Polls some work so many times, then lets it go: the process died there. None = it was not done.
pub async fn cut<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

pub fn caller() -> Caller {
    caller_of("a")
}

pub fn caller_of(cluster: &str) -> Caller {
    Caller {
        cluster: Cluster::new(cluster),
        request_id: "test".into(),
        invocation: None,
        presigned: false,
    }
}

/// What a client sends without checksums.
pub fn body(bytes: Vec<u8>) -> Body {
    Body {
        size: Some(bytes.len() as u64),
        bytes: Box::pin(futures::stream::iter([Ok(Bytes::from(bytes))])),
        trailer: None,
        md5: None,
        expected: Vec::new(),
        compute: None,
    }
}

fn plan(site: Site) -> RepositoryPlan {
    RepositoryPlan {
        bucket: Bucket::new(site.bucket),
        base_path: site.base.into(),
        retention: site.retention,
        uploads_end_after: Some(UPLOADS_END_AFTER),
        ..opened::plan(["a", "b"])
    }
}
