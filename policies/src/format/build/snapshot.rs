//! How a snapshot comes to be: data nodes write shards, the master finalises, and what the commit made superfluous goes last.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::known::{Metadata, Stored, Taken};
use super::{Cluster, Take};
use crate::key::ObjectKey;

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

impl Cluster {
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
        let mut taken = Taken {
            name: target.into(),
            uuid,
            indices: source.indices.clone(),
            failures: Vec::new(),
        };
        let superseded = self.clone_shards(&source, &taken);
        self.own_metadata(&mut taken);
        let before = self.finish(Started { taken, superseded });
        self.after_create(&before);
    }

    /// Every shard of `source` is listed once more, for `taken`; the shard indexes that are replaced.
    fn clone_shards(&mut self, source: &Taken, taken: &Taken) -> Vec<ObjectKey> {
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
                self.put_shard_snapshot(at, shard, taken, &files);
                self.indices[at].shard(shard).listed.push((
                    taken.name.clone(),
                    taken.uuid.clone(),
                    files,
                ));
                superseded.extend(self.put_shard_index(at, shard));
            }
        }
        superseded
    }

    /// Metadata that is found under a snapshot's uuid is written anew for a clone; what has an identifier is shared.
    fn own_metadata(&mut self, taken: &mut Taken) {
        for (index, metadata) in &mut taken.indices {
            if metadata.identifier.is_none() {
                self.put_index_metadata(index, &taken.uuid, metadata.shards);
                metadata.id = taken.uuid.clone();
            }
        }
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
}
