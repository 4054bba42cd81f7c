//! How snapshots are deleted, in the order of each form.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Cluster;
use super::known::{IndexState, Taken};
use crate::format::paths;
use crate::key::{Class, ObjectKey, Shard};

impl Cluster {
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

    pub(super) fn delete_descriptions(&mut self, gone: &[Taken]) {
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
    pub(super) fn rewrite_shards(&mut self, dead: &[Arc<str>]) {
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
    pub(super) fn sweep_shards(&mut self, dropped: &[IndexState]) {
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
}
