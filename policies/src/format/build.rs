//! A cluster in miniature: writes repositories of any shape, request by request, in the order real ones do.
//!
//! For tests of this crate and (feature `testing`) of others. Invariant: every object is one that a real cluster could
//! have written (frames, footers, sizes, checksums hold), and every delete is one that a correct cluster makes.
//! Protocols are those of the forms: 7.6+ (shard indexes named by uuid, deletes after the root), legacy (numbered shard
//! indexes, root first on deletes) and 2.x (no root at all). Deterministic: all names and bytes come from the seed.

mod bodies;
mod commit;
mod delete;
mod files;
mod known;
mod list;
mod random;
mod rejoin;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::paths::{Layout, PathType};
use crate::key::{Class, ObjectKey};
use known::{IndexState, Taken};

pub use snapshot::{Started, Superseded};

/// One request to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Put {
        key: ObjectKey,
        class: Class,
        bytes: Vec<u8>,
    },
    Delete {
        key: ObjectKey,
        class: Class,
    },
}

/// How the cluster writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub form: Form,
    /// For indices that are new in the repository.
    pub path_type: PathType,
    pub deflate: bool,
    /// Bytes of a part; files beyond it are split.
    pub part_size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 2.x: no root, names as ids, names of data used again.
    List,
    /// Before 7.6; with names `__0`, `__1`, … of before 2019 or uuids.
    Legacy { sequential: bool },
    /// 7.6+; Elasticsearch writes `uuid` and `cluster_id` since 7.12, OpenSearch never does.
    Uuid { identified: bool },
}

impl Default for Style {
    fn default() -> Self {
        Self {
            form: Form::Uuid { identified: true },
            path_type: PathType::Fixed,
            deflate: false,
            part_size: None,
        }
    }
}

/// One cluster and the repository it writes. A clone is a master that did not see what the other did.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub style: Style,
    layout: Layout,
    random: u64,
    uuid: Arc<str>,
    cluster_id: Arc<str>,
    /// The safe generation: that of the root the next one descends from.
    generation: Option<u64>,
    /// Above every generation ever used.
    next: u64,
    snapshots: Vec<Taken>,
    indices: Vec<IndexState>,
    /// What it would see in a listing.
    objects: BTreeMap<ObjectKey, Class>,
    requests: Vec<Request>,
}

/// An index as a snapshot request sees it.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    pub index: &'a str,
    pub shards: u32,
    /// Files that are new in every shard.
    pub new_files: u32,
    /// Files that every shard lost to merges, the oldest first.
    pub merged_away: u32,
    /// This shard fails, and the snapshot is PARTIAL.
    pub failed_shard: Option<u32>,
}

impl Cluster {
    #[must_use]
    pub fn new(seed: u64, base_path: &str, style: Style) -> Self {
        let mut cluster = Self {
            style,
            layout: Layout::new(base_path).expect("a test's base path is short"),
            random: seed,
            uuid: "".into(),
            cluster_id: "".into(),
            generation: None,
            next: 0,
            snapshots: Vec::new(),
            indices: Vec::new(),
            objects: BTreeMap::new(),
            requests: Vec::new(),
        };
        cluster.uuid = cluster.identifier(22);
        cluster.cluster_id = cluster.identifier(22);
        cluster
    }

    /// Other names and bytes from now on: two clusters that go on from one repository never draw the same uuid.
    pub fn reseed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// The requests since the last call.
    pub fn requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    #[must_use]
    pub fn snapshot_names(&self) -> Vec<Arc<str>> {
        self.snapshots
            .iter()
            .map(|taken| taken.name.clone())
            .collect()
    }

    /// The generation of the root the cluster works with.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Adopts what another master of the same cluster left in the store, as a listing shows it.
    pub fn relist(&mut self, other: &Self) {
        self.objects.clone_from(&other.objects);
        self.next = self.next.max(other.next);
        self.random = self.random.wrapping_add(other.random);
    }

    /// The cluster goes over to the 7.6 form: numbered shard indexes stay current until their shard is written again.
    pub fn upgrade(&mut self, identified: bool) {
        self.style.form = Form::Uuid { identified };
    }

    fn put(&mut self, key: ObjectKey, class: Class, bytes: Vec<u8>) {
        self.objects.insert(key.clone(), class.clone());
        self.requests.push(Request::Put { key, class, bytes });
    }

    fn delete_all(&mut self, keys: &[ObjectKey]) {
        for key in keys {
            self.remove(key.clone());
        }
    }

    fn remove(&mut self, key: ObjectKey) {
        if let Some(class) = self.objects.remove(&key) {
            self.requests.push(Request::Delete { key, class });
        }
    }
}
