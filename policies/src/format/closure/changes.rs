//! How [`Knowledge`] follows what happens between roots: deletes, rewritten metadata, damage.
//!
//! Invariant: what is forgotten here is needed by no live root.

use std::collections::HashSet;
use std::sync::Arc;

use super::knowledge::{Knowledge, LiveRoot};
use super::propose::Problem;
use super::sets::Slots;
use super::shard::{By, ShardDirectory};
use crate::format::digest::{self, Digest};
use crate::format::paths;
use crate::format::root::{Generation, Root};
use crate::key::{Class, ObjectKey, Shard, ShardGeneration};

impl Knowledge {
    /// A root was deleted: the cluster went on from a newer one, so this and older ones are no parents any more.
    pub fn root_deleted(&mut self, generation: u64) {
        let before = self.live.len();
        while self.live.len() > 1 && self.live[0].root.generation <= generation {
            let old = self.live.remove(0);
            self.supersede(&old.root);
        }
        if self.live.len() < before {
            self.live[0].evidenced = true;
            self.release();
        }
    }

    /// An object was hidden by an allowed delete.
    pub fn deleted(&mut self, key: &ObjectKey, class: &Class) {
        let held = self.holders(key, class).is_some();
        match class {
            Class::Root(generation) => self.root_deleted(*generation),
            Class::ShardIndex { shard, generation } => self.shard_index_deleted(shard, generation),
            Class::SnapshotInfo(uuid) if *key == self.layout.snapshot_info(uuid) => {
                self.unlist(uuid);
            }
            Class::Pointer
            | Class::LegacyList
            | Class::Incompatible
            | Class::SnapshotInfo(_)
            | Class::GlobalMetadata(_)
            | Class::LegacySnapshot
            | Class::Pending
            | Class::Registration
            | Class::Analysis
            | Class::ShardPaths
            | Class::IndexMetadata { .. }
            | Class::Data { .. }
            | Class::ShardSnapshot { .. }
            | Class::LegacyShardSnapshot { .. }
            | Class::Unknown => {}
        }
        if held && self.holders(key, class).is_some() {
            self.gone.insert(key.clone(), class.clone());
        }
    }

    /// Where there is no root, a snapshot goes with its description.
    fn unlist(&mut self, uuid: &str) {
        let Some(list) = self.live.last().filter(|live| live.root.of_list) else {
            return;
        };
        let Some(gone) = list.root.position(uuid) else {
            return;
        };
        let mut slots = list.slots.clone();
        slots.remove(gone as usize);
        let left = LiveRoot {
            root: Arc::new(list.root.without_snapshot(uuid)),
            set: slots.iter().copied().collect(),
            slots,
            evidenced: false,
        };
        self.live = vec![left];
        self.release();
    }

    fn shard_index_deleted(&mut self, shard: &Shard, generation: &ShardGeneration) {
        let Some(directory) = self.known_shard(shard) else {
            return;
        };
        match generation {
            ShardGeneration::Uuid(uuid) => {
                directory.superseded.retain(|superseded| superseded != uuid);
            }
            ShardGeneration::Number(number) if directory.numbered == Some(*number) => {
                directory.numbered = None;
                self.release_shard(shard);
            }
            ShardGeneration::Number(_) => {}
        }
    }

    /// An object was written. What was missing may be healed; metadata written anew is read again at the next root; a
    /// numbered shard index becomes current at once, because no root names it.
    pub fn written(&mut self, key: &ObjectKey, class: &Class, digest: Option<&digest::Read>) {
        self.gone.remove(key);
        self.problems.remove(key);
        match class {
            Class::SnapshotInfo(uuid)
            | Class::ShardSnapshot { uuid, .. }
            | Class::IndexMetadata { id: uuid, .. } => {
                if let Some(slot) = self.by_uuid.get(uuid) {
                    self.rewritten.insert(*slot);
                }
            }
            Class::ShardIndex {
                shard,
                generation: ShardGeneration::Number(number),
            } => {
                self.numbered_written(key, shard, *number, digest);
            }
            Class::Root(_)
            | Class::Pointer
            | Class::LegacyList
            | Class::Incompatible
            | Class::GlobalMetadata(_)
            | Class::LegacySnapshot
            | Class::Pending
            | Class::Registration
            | Class::Analysis
            | Class::ShardPaths
            | Class::Data { .. }
            | Class::ShardIndex {
                generation: ShardGeneration::Uuid(_),
                ..
            }
            | Class::LegacyShardSnapshot { .. }
            | Class::Unknown => {}
        }
    }

    fn numbered_written(
        &mut self,
        key: &ObjectKey,
        shard: &Shard,
        number: u64,
        digest: Option<&digest::Read>,
    ) {
        let Some(path_type) = self.indices.get(&shard.index).map(|index| index.path_type) else {
            return;
        };
        let generation = ShardGeneration::Number(number);
        let directory = self.layout.shard_directory(shard, path_type);
        if *key != paths::shard_index(&directory, &generation) {
            return;
        }
        let Some(directory) = self.known_shard(shard) else {
            return;
        };
        if directory.numbered.is_some_and(|highest| highest >= number) {
            return;
        }
        directory.numbered = Some(number);
        let bit = directory
            .listing(&generation)
            .or_else(|| directory.new_listing(generation));
        if let (Some(bit), Some(Ok(digest))) = (bit, digest)
            && let Digest::ShardIndex(body) = &**digest
        {
            directory.add(&body.files, By::Listing(bit));
        }
        self.release_shard(shard);
    }

    /// An object that should be there was found missing or damaged (by a scrub, behind the gateway).
    pub fn found(&mut self, problem: Problem) {
        self.problems.insert(problem.key.clone(), problem);
    }

    fn known_shard(&mut self, shard: &Shard) -> Option<&mut ShardDirectory> {
        self.indices
            .get_mut(&shard.index)?
            .shards
            .get_mut(shard.number as usize)
    }

    fn live_slots(&self) -> Slots {
        let mut live = Slots::default();
        for root in &self.live {
            live.union(&root.set);
        }
        live
    }

    fn release_shard(&mut self, shard: &Shard) {
        let live = self.live_slots();
        let Some(index) = self.indices.get_mut(&shard.index) else {
            return;
        };
        let Some(directory) = index.shards.get_mut(shard.number as usize) else {
            return;
        };
        let listings = named_listings(&self.live, &shard.index, shard.number, directory);
        directory.release(&live, listings);
    }

    /// Whether it is a shard's file list of a live snapshot: one that is missing is no member, for it names no files.
    fn is_lacking(&self, class: &Class) -> bool {
        let Class::ShardSnapshot { shard, uuid, .. } = class else {
            return false;
        };
        let index = self.indices.get(&shard.index);
        index.is_some_and(|index| index.members.intersects(&self.slots_of(uuid)))
    }

    /// The generations of a root that is no parent any more and that no live root names were superseded for good.
    fn supersede(&mut self, old: &Root) {
        for index in &old.indices {
            let Some(directory) = self.indices.get_mut(&index.id) else {
                continue;
            };
            for (shard, generation) in index.generations.iter().flatten().enumerate() {
                let Generation::Uuid(uuid) = generation else {
                    continue;
                };
                let current = self
                    .live
                    .iter()
                    .filter_map(|live| live.root.index(&index.id));
                if !current
                    .into_iter()
                    .any(|index| index.generation(shard as u32) == generation)
                {
                    directory.shard(shard as u32).supersede(uuid.clone());
                }
            }
        }
    }

    /// Forgets what no live root needs.
    pub(super) fn release(&mut self) {
        let live = self.live_slots();
        let roots = &self.live;
        self.indices.retain(|id, directory| {
            directory.members.keep(&live);
            directory.opaque.keep(&live);
            for (number, shard) in directory.shards.iter_mut().enumerate() {
                let listings = named_listings(roots, id, number as u32, shard);
                shard.release(&live, listings);
            }
            roots.iter().any(|live| live.root.index(id).is_some())
        });
        for (slot, uuid) in self.slots.iter_mut().enumerate() {
            if !live.contains(slot as u32)
                && let Some(uuid) = uuid.take()
                && self.by_uuid.get(&uuid) == Some(&(slot as u32))
            {
                self.by_uuid.remove(&uuid);
            }
        }
        self.rewritten.keep(&live);
        let is_needed = |key: &ObjectKey, class: &Class| self.holders(key, class).is_some();
        let problems = self.problems.values().filter(|problem| {
            is_needed(&problem.key, &problem.class) || self.is_lacking(&problem.class)
        });
        let gone = self
            .gone
            .iter()
            .filter(|(key, class)| is_needed(key, class));
        let kept: HashSet<ObjectKey> = problems
            .map(|problem| problem.key.clone())
            .chain(gone.map(|(key, _)| key.clone()))
            .collect();
        self.problems.retain(|key, _| kept.contains(key));
        self.gone.retain(|key, _| kept.contains(key));
    }
}

/// The listings of a shard that live roots name, as bits.
fn named_listings(roots: &[LiveRoot], index: &str, number: u32, shard: &ShardDirectory) -> u32 {
    let mut named = 0;
    for (bit, listing) in shard.listings.iter().enumerate() {
        let Some(listing) = listing else { continue };
        let mut indices = roots.iter().filter_map(|live| live.root.index(index));
        let current = indices.any(|index| match (index.generation(number), listing) {
            (Generation::Uuid(uuid), ShardGeneration::Uuid(listed)) => uuid == listed,
            (Generation::Unknown, ShardGeneration::Number(number)) => {
                Some(*number) == shard.numbered
            }
            (Generation::Uuid(_) | Generation::Unknown | Generation::New, _) => false,
        });
        named |= u32::from(current) << bit;
    }
    named
}
