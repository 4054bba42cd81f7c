//! How much each snapshot of the newest root holds, and when it ended.
//!
//! Decides: what counts. Data files do, in parts as they lie in the store, those that a snapshot shares with others for
//! each of them; metadata does not, so that the sum over all snapshots says nothing. Invariant: a walk over the files of each
//! shard, whose sets of snapshots are few, so that a repository of a million files is counted in well under a second.

use std::collections::HashMap;

use super::knowledge::Knowledge;
use super::sets::Slots;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Data files, and their bytes, that a restore of the snapshot reads.
    pub objects: u64,
    pub bytes: u64,
    /// Milliseconds since 1970, by the clock of the cluster that took it.
    pub ended_millis: Option<i64>,
}

impl Knowledge {
    /// In the order of the newest root's snapshots.
    #[must_use]
    pub fn contents(&self) -> Vec<Content> {
        let Some(newest) = self.newest() else {
            return Vec::new();
        };
        let mut by_slot = HashMap::<u32, Content>::new();
        let indices = newest.root.indices.iter();
        let known = indices.filter_map(|index| self.indices.get(&index.id));
        for directory in known.flat_map(|index| &index.shards) {
            let mut by_set = HashMap::<&Slots, (u64, u64)>::new();
            for (file, needed) in directory.files() {
                let sum = by_set.entry(&needed.snapshots).or_default();
                sum.0 += file.objects().count() as u64;
                sum.1 += file.length;
            }
            for (slots, (objects, bytes)) in by_set {
                for slot in slots.iter() {
                    let content = by_slot.entry(slot).or_default();
                    content.objects += objects;
                    content.bytes += bytes;
                }
            }
        }
        let content = |slot: &u32| Content {
            ended_millis: self.ended.get(*slot as usize).copied().flatten(),
            ..by_slot.remove(slot).unwrap_or_default()
        };
        newest.slots.iter().map(content).collect()
    }
}
