//! What 2.x does otherwise: a snapshot is there when its description is, and goes with it; `index` only tells those who cannot list.
//!
//! Source: `BlobStoreRepository` and `BlobStoreIndexShardRepository` 2.4.

use std::sync::Arc;

use serde_json::json;

use super::known::{IndexState, Stored, Taken};
use super::{Cluster, Form};
use crate::format::paths;
use crate::key::{Class, ObjectKey};

impl Cluster {
    pub(super) fn lists(&self) -> bool {
        self.style.form == Form::List
    }

    /// The list for readers is deleted and written anew.
    pub(super) fn put_list(&mut self) {
        let pointer = self.layout.pointer();
        let key = pointer.as_str().trim_end_matches(".latest");
        let key = ObjectKey::parse(key).expect("a part of a key");
        let names: Vec<_> = self.snapshots.iter().map(|taken| &*taken.name).collect();
        let bytes = json!({ "snapshots": names }).to_string().into_bytes();
        self.remove(key.clone());
        self.put(key, Class::LegacyList, bytes);
    }

    /// A cluster of 5.x registers the repository: it writes the first root at once, of what it finds listed.
    pub fn take_over(&mut self) {
        self.style.form = Form::Legacy { sequential: true };
        self.put_root();
    }

    /// A shard's index goes before its next one is written.
    pub(super) fn drop_shard_index(&mut self, at: usize, number: u32) {
        let directory = self.directory(at, number);
        if let Some(generation) = &self.indices[at].shards[number as usize].generation {
            self.remove(paths::shard_index(&directory, generation));
        }
    }

    /// The descriptions go first, then the shards' parts.
    pub(super) fn delete_listed(
        &mut self,
        gone: &[Taken],
        dead: &[Arc<str>],
        dropped: &[IndexState],
    ) {
        self.delete_descriptions(gone);
        self.put_list();
        let hit = |listed: &[(Arc<str>, Arc<str>, Vec<Stored>)]| {
            listed.iter().any(|(name, ..)| dead.contains(name))
        };
        for at in 0..self.indices.len() {
            for number in 0..self.indices[at].shards.len() {
                if hit(&self.indices[at].shards[number].listed) {
                    self.drop_shard_index(at, number as u32);
                }
            }
        }
        self.rewrite_shards(dead);
        self.sweep_shards(dropped);
    }
}
