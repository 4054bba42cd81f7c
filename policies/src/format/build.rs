//! A cluster in miniature: writes repositories of any shape, request by request, in the order real ones do.
//!
//! For tests of this crate and (feature `testing`) of others. Invariant: every object is one that a real cluster could
//! have written (frames, footers, sizes, checksums hold), and every delete is one that a correct cluster makes.
//! Protocols are those of the forms: 7.6+ (shard indexes named by uuid, deletes after the root), legacy (numbered shard
//! indexes, root first on deletes) and 2.x (no root at all). Deterministic: all names and bytes come from the seed.

mod bodies;
mod list;
mod rejoin;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::frame;
use super::paths::{self, Layout, PathType};
use super::shard::File;
use crate::key::{Class, ObjectKey, Shard, ShardGeneration};

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

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) file: File,
    /// `v__`: the bytes are in the metadata.
    pub(super) content: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ShardState {
    pub(super) generation: Option<ShardGeneration>,
    /// `_new`: no snapshot of it ever succeeded.
    pub(super) failed: bool,
    /// Snapshot name, uuid, files: what the current shard index lists.
    pub(super) listed: Vec<(Arc<str>, Arc<str>, Vec<Stored>)>,
}

#[derive(Debug, Clone)]
pub(super) struct IndexState {
    pub(super) name: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) path_type: PathType,
    pub(super) shards: Vec<ShardState>,
}

#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) name: Arc<str>,
    pub(super) uuid: Arc<str>,
    /// Index id -> metadata.
    pub(super) indices: BTreeMap<Arc<str>, Metadata>,
    /// Index name, shard.
    pub(super) failures: Vec<(Arc<str>, u32)>,
}

#[derive(Debug, Clone)]
pub(super) struct Metadata {
    pub(super) id: Arc<str>,
    /// Absent: found under the snapshot's uuid.
    pub(super) identifier: Option<Arc<str>>,
    pub(super) shards: u32,
}

/// One cluster and the repository it writes. A clone is a master that did not see what the other did.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub style: Style,
    pub(super) layout: Layout,
    random: u64,
    pub(super) uuid: Arc<str>,
    pub(super) cluster_id: Arc<str>,
    /// The safe generation: that of the root the next one descends from.
    pub(super) generation: Option<u64>,
    /// Above every generation ever used.
    pub(super) next: u64,
    pub(super) snapshots: Vec<Taken>,
    pub(super) indices: Vec<IndexState>,
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

    /// Takes a snapshot: [`Self::start`], [`Self::finish`], and the deletes that follow a commit.
    pub fn create(&mut self, name: &str, takes: &[Take<'_>]) {
        let started = self.start(name, takes);
        let before = self.finish(started);
        self.after_create(&before);
    }

    /// The part of a snapshot that data nodes do.
    pub fn start(&mut self, name: &str, takes: &[Take<'_>]) -> Started {
        let uuid = if self.lists() {
            name.into()
        } else {
            self.identifier(22)
        };
        let mut taken = Taken {
            name: name.into(),
            uuid: uuid.clone(),
            indices: BTreeMap::new(),
            failures: Vec::new(),
        };
        let mut superseded = Vec::new();
        for take in takes {
            let at = self.index(take.index);
            let metadata = self.metadata(at, take.shards, &uuid);
            taken.indices.insert(self.indices[at].id.clone(), metadata);
            for shard in 0..take.shards {
                if take.failed_shard == Some(shard) {
                    self.indices[at].shard(shard).failed = true;
                    taken.failures.push((take.index.into(), shard));
                } else {
                    superseded.extend(self.upload_shard(at, shard, &taken, *take));
                }
            }
        }
        Started { taken, superseded }
    }

    /// The part of a snapshot that the master does, up to the pointer. Returns what the commit made superfluous.
    pub fn finish(&mut self, started: Started) -> Superseded {
        let Started { taken, superseded } = started;
        self.put_snapshot(&taken);
        self.snapshots.push(taken);
        let roots = if self.lists() {
            self.put_list();
            Vec::new()
        } else {
            self.put_root()
        };
        Superseded {
            roots,
            shard_indexes: superseded,
        }
    }

    /// Finalises the same snapshot again after a master that committed it was lost: same uuid, other bytes.
    pub fn finish_again(&mut self, started: Started) -> Superseded {
        self.style.deflate = !self.style.deflate;
        let superseded = self.finish(started);
        self.style.deflate = !self.style.deflate;
        superseded
    }

    /// The deletes after the commit of a create.
    pub fn after_create(&mut self, superseded: &Superseded) {
        self.delete_all(&superseded.roots);
        self.delete_all(&superseded.shard_indexes);
    }

    /// Clones a snapshot: the same files under a second name, without a byte of data.
    pub fn clone_snapshot(&mut self, source: &str, target: &str) {
        let uuid = self.identifier(22);
        let Some(source) = self
            .snapshots
            .iter()
            .find(|taken| &*taken.name == source)
            .cloned()
        else {
            return;
        };
        if !source.failures.is_empty() {
            return;
        }
        let taken = Taken {
            name: target.into(),
            uuid: uuid.clone(),
            indices: source.indices.clone(),
            failures: Vec::new(),
        };
        let mut superseded = Vec::new();
        for at in 0..self.indices.len() {
            let Some(metadata) = source.indices.get(&self.indices[at].id) else {
                continue;
            };
            for shard in 0..metadata.shards {
                let listed = &self.indices[at].shard(shard).listed;
                let Some(files) = listed
                    .iter()
                    .find(|(name, ..)| *name == source.name)
                    .map(|(_, _, files)| files.clone())
                else {
                    continue;
                };
                self.put_shard_snapshot(at, shard, &taken, &files);
                self.indices[at].shard(shard).listed.push((
                    taken.name.clone(),
                    uuid.clone(),
                    files,
                ));
                superseded.extend(self.put_shard_index(at, shard));
            }
        }
        let legacy_metadata: Vec<_> = taken
            .indices
            .iter()
            .filter(|(_, m)| m.identifier.is_none())
            .map(|(i, m)| (i.clone(), m.clone()))
            .collect();
        let mut taken = taken;
        for (index, metadata) in legacy_metadata {
            self.put_index_metadata(&index, &uuid, metadata.shards);
            taken.indices.insert(
                index,
                Metadata {
                    id: uuid.clone(),
                    ..metadata
                },
            );
        }
        let before = self.finish(Started { taken, superseded });
        self.after_create(&before);
    }

    /// `_cleanup`: a new root with the same content, if any old root is left.
    pub fn cleanup(&mut self) {
        let roots = self.stale_roots(self.generation.unwrap_or(0));
        if roots.is_empty() {
            return;
        }
        self.put_root();
        self.delete_all(&roots);
    }

    /// The cluster goes over to the 7.6 form: numbered shard indexes stay current until their shard is written again.
    pub fn upgrade(&mut self, identified: bool) {
        self.style.form = Form::Uuid { identified };
    }

    fn legacy(&self) -> bool {
        match self.style.form {
            Form::List | Form::Legacy { .. } => true,
            Form::Uuid { .. } => false,
        }
    }

    /// Deletes snapshots in the protocol of the form. `roots_last`: the delete of old roots comes after the others (8.4+).
    pub fn delete(&mut self, names: &[&str], roots_last: bool) {
        let (gone, kept): (Vec<_>, Vec<_>) = self
            .snapshots
            .drain(..)
            .partition(|taken| names.contains(&&*taken.name));
        self.snapshots = kept;
        if gone.is_empty() {
            return;
        }
        let dead: Vec<_> = gone.iter().map(|taken| taken.name.clone()).collect();
        let alive = |index: &IndexState, snapshots: &[Taken]| {
            snapshots.iter().any(|t| t.indices.contains_key(&index.id))
        };
        let (survivors, dropped): (Vec<_>, Vec<_>) = self
            .indices
            .drain(..)
            .partition(|index| alive(index, &self.snapshots));
        self.indices = survivors;
        if self.lists() {
            return self.delete_listed(&gone, &dead, &dropped);
        }
        let legacy = self.legacy();
        if !legacy {
            self.rewrite_shards(&dead);
        }
        let roots = self.put_root();
        if legacy || !roots_last {
            self.delete_all(&roots);
        }
        if legacy {
            self.delete_descriptions(&gone);
            self.rewrite_shards(&dead);
        } else {
            self.delete_descriptions(&gone);
        }
        self.sweep_shards(&dropped);
        if !legacy && roots_last {
            self.delete_all(&roots);
        }
    }

    /// The part of a delete before its root is known to be committed: new shard indexes, root, pointer.
    pub fn delete_uncommitted(&mut self, names: &[&str]) {
        let dead: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
        self.snapshots.retain(|taken| !dead.contains(&taken.name));
        self.give_up();
        self.rewrite_shards(&dead);
        self.put_root();
    }

    fn delete_descriptions(&mut self, gone: &[Taken]) {
        for taken in gone {
            self.remove(self.layout.snapshot_info(&taken.uuid));
            self.remove(self.layout.global_metadata(&taken.uuid));
        }
        let used: BTreeSet<_> = self
            .snapshots
            .iter()
            .flat_map(|taken| {
                taken
                    .indices
                    .iter()
                    .map(|(index, metadata)| self.layout.index_metadata(index, &metadata.id))
            })
            .collect();
        for taken in gone {
            for (index, metadata) in &taken.indices {
                let key = self.layout.index_metadata(index, &metadata.id);
                if !used.contains(&key) {
                    self.remove(key);
                }
            }
        }
    }

    /// New shard indexes without the dead snapshots.
    fn rewrite_shards(&mut self, dead: &[Arc<str>]) {
        for at in 0..self.indices.len() {
            for shard in 0..self.indices[at].shards.len() as u32 {
                let state = self.indices[at].shard(shard);
                let before = state.listed.len();
                state.listed.retain(|(name, ..)| !dead.contains(name));
                if state.listed.len() < before {
                    if state.listed.is_empty() {
                        state.generation = None;
                    } else {
                        self.put_shard_index(at, shard);
                    }
                }
            }
        }
    }

    /// Deletes what lies in shard directories beside what the current index lists, and dropped indices whole.
    fn sweep_shards(&mut self, dropped: &[IndexState]) {
        let mut keep = BTreeSet::new();
        let mut directories = Vec::new();
        for index in &self.indices {
            for number in 0..index.shards.len() as u32 {
                let shard = Shard {
                    index: index.id.clone(),
                    number,
                };
                let directory = self.layout.shard_directory(&shard, index.path_type);
                let state = &index.shards[number as usize];
                if let Some(generation) = &state.generation {
                    keep.insert(paths::shard_index(&directory, generation));
                }
                for (_, uuid, files) in &state.listed {
                    keep.insert(paths::shard_snapshot(&directory, uuid, false));
                    for stored in files.iter().filter(|stored| stored.content.is_none()) {
                        keep.extend(
                            stored
                                .file
                                .objects()
                                .map(|(part, _)| paths::data(&directory, &stored.file.name, part)),
                        );
                    }
                }
                directories.push(directory);
            }
        }
        let dropped_ids: BTreeSet<_> = dropped.iter().map(|index| index.id.clone()).collect();
        let stale = |key: &ObjectKey, class: &Class| {
            if let Class::IndexMetadata { index, .. } = class {
                return dropped_ids.contains(index);
            }
            let (Class::Data { shard, .. }
            | Class::ShardIndex { shard, .. }
            | Class::ShardSnapshot { shard, .. }) = class
            else {
                return false;
            };
            let in_directory = || {
                directories
                    .iter()
                    .any(|directory| key.as_str().starts_with(directory))
            };
            dropped_ids.contains(&shard.index) || !keep.contains(key) && in_directory()
        };
        let keys: Vec<_> = self
            .objects
            .iter()
            .filter(|(key, class)| stale(key, class))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.remove(key);
        }
    }

    fn index(&mut self, name: &str) -> usize {
        if let Some(at) = self.indices.iter().position(|index| &*index.name == name) {
            return at;
        }
        let id = if self.lists() {
            name.into()
        } else {
            self.identifier(22)
        };
        let path_type = if self.legacy() {
            PathType::Fixed
        } else {
            self.style.path_type
        };
        self.indices.push(IndexState {
            name: name.into(),
            id,
            path_type,
            shards: Vec::new(),
        });
        self.indices.len() - 1
    }

    /// Metadata of an index, shared with earlier snapshots of the same number of shards since 7.9.
    fn metadata(&mut self, at: usize, shards: u32, uuid: &Arc<str>) -> Metadata {
        let index = self.indices[at].id.clone();
        if self.legacy() {
            self.put_index_metadata(&index, uuid, shards);
            return Metadata {
                id: uuid.clone(),
                identifier: None,
                shards,
            };
        }
        let known = self
            .snapshots
            .iter()
            .filter_map(|taken| taken.indices.get(&index));
        if let Some(same) = known
            .clone()
            .find(|known| known.identifier.is_some() && known.shards == shards)
        {
            return same.clone();
        }
        let (id, identifier) = (self.identifier(20), self.identifier(22));
        self.put_index_metadata(&index, &id, shards);
        Metadata {
            id,
            identifier: Some(format!("{identifier}-_na_-1-2-1").into()),
            shards,
        }
    }

    fn upload_shard(
        &mut self,
        at: usize,
        number: u32,
        taken: &Taken,
        take: Take<'_>,
    ) -> Vec<ObjectKey> {
        let state = self.indices[at].shard(number);
        let mut files: Vec<Stored> = state
            .listed
            .last()
            .map(|(_, _, files)| files.clone())
            .unwrap_or_default();
        files.retain(|stored| stored.content.is_none());
        files.drain(..files.len().min(take.merged_away as usize));
        let new: Vec<_> = (0..take.new_files)
            .map(|_| self.new_file(at, number))
            .collect();
        for (stored, bytes) in new {
            self.put_data(at, number, &stored.file, &bytes);
            files.push(stored);
        }
        files.push(self.virtual_file());
        self.put_shard_snapshot(at, number, taken, &files);
        let state = self.indices[at].shard(number);
        state.failed = false;
        state
            .listed
            .push((taken.name.clone(), taken.uuid.clone(), files));
        if self.lists() {
            self.drop_shard_index(at, number);
        }
        let superseded = self.put_shard_index(at, number);
        if self.legacy() {
            self.delete_all(&superseded);
            return Vec::new();
        }
        superseded
    }

    fn new_file(&mut self, at: usize, number: u32) -> (Stored, Vec<u8>) {
        let name = match self.style.form {
            Form::List | Form::Legacy { sequential: true } => {
                let next = self
                    .highest_sequential(at, number)
                    .map_or(0, |highest| highest + 1);
                format!("__{}", base36(next))
            }
            Form::Legacy { sequential: false } | Form::Uuid { .. } => {
                format!("__{}", self.identifier(22))
            }
        };
        let length = 1 + self.draw() % 90;
        let body = (0..length).map(|_| self.draw() as u8).collect();
        let bytes = frame::close(body);
        let checksum = u32::from_be_bytes(
            bytes[bytes.len() - 4..]
                .try_into()
                .expect("a footer has 16 bytes"),
        );
        let file = File {
            name: super::name::BlobName::new(&name),
            length: bytes.len() as u64,
            part_size: self.style.part_size.unwrap_or(File::WHOLE),
            checksum: Some(checksum),
        };
        // The name is taken at once: the next file of the same shard counts on.
        let key = paths::data(&self.directory(at, number), &file.name, None);
        self.objects
            .insert(key, self.data_class(at, number, &file, None));
        (
            Stored {
                file,
                content: None,
            },
            bytes,
        )
    }

    fn highest_sequential(&self, at: usize, number: u32) -> Option<u64> {
        let prefix = self.directory(at, number) + "__";
        let keys = self
            .objects
            .keys()
            .filter_map(|key| key.as_str().strip_prefix(&prefix));
        keys.filter_map(|name| u64::from_str_radix(name.split(".part").next()?, 36).ok())
            .max()
    }

    fn virtual_file(&mut self) -> Stored {
        let content = frame::close(vec![self.draw() as u8; 8]);
        let file = File {
            name: super::name::BlobName::new(&format!("v__{}", self.identifier(22))),
            length: content.len() as u64,
            part_size: File::WHOLE,
            checksum: None,
        };
        Stored {
            file,
            content: Some(content),
        }
    }

    pub(super) fn directory(&self, at: usize, number: u32) -> String {
        let index = &self.indices[at];
        self.layout.shard_directory(
            &Shard {
                index: index.id.clone(),
                number,
            },
            index.path_type,
        )
    }

    fn data_class(&self, at: usize, number: u32, file: &File, part: Option<u64>) -> Class {
        let shard = Shard {
            index: self.indices[at].id.clone(),
            number,
        };
        Class::Data {
            shard,
            blob: file.name.to_string().into(),
            part: part.map(|part| part as u32),
        }
    }

    fn put_data(&mut self, at: usize, number: u32, file: &File, bytes: &[u8]) {
        let directory = self.directory(at, number);
        if file.parts() > 1 {
            self.objects
                .remove(&paths::data(&directory, &file.name, None));
        }
        let mut rest = bytes;
        for (part, size) in file.objects() {
            let (head, tail) = rest.split_at(size as usize);
            rest = tail;
            self.put(
                paths::data(&directory, &file.name, part),
                self.data_class(at, number, file, part),
                head.to_vec(),
            );
        }
    }

    /// Roots below `generation` that a listing shows.
    fn stale_roots(&self, generation: u64) -> Vec<ObjectKey> {
        let stale = |(key, class): (&ObjectKey, &Class)| {
            let Class::Root(other) = class else {
                return None;
            };
            (*other < generation).then(|| key.clone())
        };
        self.objects.iter().filter_map(stale).collect()
    }

    /// Writes the next root and the pointer; the old roots that the form deletes after it.
    fn put_root(&mut self) -> Vec<ObjectKey> {
        let generation = self.next;
        self.next += 1;
        let json = self.root_json();
        self.put(self.layout.root(generation), Class::Root(generation), json);
        self.put(
            self.layout.pointer(),
            Class::Pointer,
            generation.to_be_bytes().to_vec(),
        );
        // Before 7.6 the previous root stays.
        let below = if self.legacy() {
            generation.saturating_sub(1)
        } else {
            generation
        };
        self.generation = Some(generation);
        self.stale_roots(below)
    }

    pub(super) fn put(&mut self, key: ObjectKey, class: Class, bytes: Vec<u8>) {
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

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(super) fn identifier(&mut self, length: usize) -> Arc<str> {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // An identifier of digits alone would read as a number.
        let text: String = (0..length - 1)
            .map(|_| char::from(ALPHABET[(self.draw() % 64) as usize]))
            .collect();
        format!("{text}w").into()
    }
}

impl IndexState {
    fn shard(&mut self, number: u32) -> &mut ShardState {
        let number = number as usize;
        if self.shards.len() <= number {
            self.shards.resize_with(number + 1, ShardState::default);
        }
        &mut self.shards[number]
    }
}

/// A snapshot whose data is there and whose root is not.
#[derive(Debug, Clone)]
pub struct Started {
    taken: Taken,
    superseded: Vec<ObjectKey>,
}

/// What a commit made superfluous.
#[derive(Debug, Clone)]
pub struct Superseded {
    roots: Vec<ObjectKey>,
    shard_indexes: Vec<ObjectKey>,
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(
            char::from_digit((number % 36) as u32, 36).expect("a remainder of 36 is a digit"),
        );
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}
