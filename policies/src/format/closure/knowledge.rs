//! What the live roots of a repository need.
//!
//! Decides: how a committed root changes it, and when a root stops being live. Invariant: an object that a live root needs
//! is known here, or is covered by an `opaque` mark because the body that would name it cannot be read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::newest::NewestSnapshot;
use super::propose::{Found, Problem, Proposal};
use super::sets::Slots;
use super::shard::{By, ShardDirectory};
use crate::format::digest::Digest;
use crate::format::paths::{Layout, PathType};
use crate::format::root::{Root, Snapshot};
use crate::key::{Class, ObjectKey};

/// Roots that can be the parent of the next one, at most; a cluster that never deletes an old root reaches it.
const MAX_LIVE: usize = 16;

#[derive(Debug, Default)]
pub struct Knowledge {
    pub(super) layout: Layout,
    /// Slot -> uuid.
    pub(super) slots: Vec<Option<Arc<str>>>,
    pub(super) by_uuid: HashMap<Arc<str>, u32>,
    /// Slot -> when that snapshot ended, in milliseconds since 1970.
    pub(super) ended: Vec<Option<i64>>,
    /// Slots whose metadata was written anew since it was read (a master finalised the same snapshot again).
    pub(super) rewritten: Slots,
    /// Ascending; the last is the newest committed root.
    pub(super) live: Vec<LiveRoot>,
    pub(super) indices: HashMap<Arc<str>, IndexDirectory>,
    /// What is wrong under the live roots, and was accepted: damage from before adoption, or behind the gateway.
    pub(super) problems: BTreeMap<ObjectKey, Problem>,
    /// Deleted while the newest root did not need them but an older live one did.
    pub(super) gone: HashMap<ObjectKey, Class>,
}

/// A committed root from which the cluster may go on.
#[derive(Debug)]
pub struct LiveRoot {
    pub root: Arc<Root>,
    /// Position in the root -> slot.
    pub(super) slots: Vec<u32>,
    pub(super) set: Slots,
    /// A root that came after an older one and made the cluster delete it: its snapshots are final.
    pub evidenced: bool,
}

impl LiveRoot {
    pub(crate) fn slots(&self) -> &Slots {
        &self.set
    }
}

#[derive(Debug, Default)]
pub(super) struct IndexDirectory {
    pub(super) path_type: PathType,
    /// Index metadata id -> number of shards, if it could be read.
    pub(super) metas: HashMap<Arc<str>, Option<u32>>,
    pub(super) members: Slots,
    /// Members whose number of shards is not known.
    pub(super) opaque: Slots,
    pub(super) shards: Vec<ShardDirectory>,
}

impl IndexDirectory {
    pub(super) fn shard(&mut self, number: u32) -> &mut ShardDirectory {
        let number = number as usize;
        if self.shards.len() <= number {
            self.shards.resize_with(number + 1, ShardDirectory::default);
        }
        &mut self.shards[number]
    }
}

impl Knowledge {
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The highest committed root.
    #[must_use]
    pub fn newest(&self) -> Option<&LiveRoot> {
        self.live.last()
    }

    /// The newest snapshot of the newest root.
    #[must_use]
    pub fn newest_snapshot(&self) -> Option<NewestSnapshot> {
        let newest = self.newest()?;
        let ended = |slot: &u32| self.ended.get(*slot as usize).copied().flatten();
        NewestSnapshot::of(&newest.root, newest.slots.iter().map(ended))
    }

    /// Every root that can be the parent of the next one, ascending.
    #[must_use]
    pub fn live(&self) -> &[LiveRoot] {
        &self.live
    }

    /// Whether something was wrong with an object before.
    #[must_use]
    pub fn is_known(&self, key: &ObjectKey) -> bool {
        self.problems.contains_key(key)
    }

    #[must_use]
    pub fn problem(&self, key: &ObjectKey) -> Option<&Problem> {
        self.problems.get(key)
    }

    /// Whether a shard generation was replaced for good.
    #[must_use]
    pub fn is_superseded(&self, index: &str, shard: u32, generation: &str) -> bool {
        let directory = self
            .indices
            .get(index)
            .and_then(|index| index.shards.get(shard as usize));
        directory
            .is_some_and(|directory| directory.superseded.iter().any(|old| **old == *generation))
    }

    /// Whether a known snapshot of `root` has files in a shard.
    #[must_use]
    pub fn has_shard_snapshot(&self, index: &str, shard: u32, root: &Root) -> bool {
        let directory = self
            .indices
            .get(index)
            .and_then(|index| index.shards.get(shard as usize));
        directory.is_some_and(|directory| {
            let named = root
                .index(index)
                .into_iter()
                .flat_map(|index| &index.snapshots);
            let mut slots =
                named.filter_map(|at| self.known_slot(&root.snapshots[*at as usize].uuid));
            slots.any(|slot| directory.snapshots.contains(slot))
        })
    }

    /// Snapshots of roots that are known to be final.
    pub(crate) fn final_slots(&self) -> Slots {
        let mut slots = Slots::default();
        for live in self.live.iter().filter(|live| live.evidenced) {
            slots.union(&live.set);
        }
        slots
    }

    /// The newest root entry of a slot, and whether it is in the newest root.
    pub(crate) fn snapshot_of(&self, slot: u32) -> Option<(&Snapshot, bool)> {
        let uuid = self.slots.get(slot as usize)?.as_ref()?;
        let (age, live) = self
            .live
            .iter()
            .rev()
            .enumerate()
            .find(|(_, live)| live.set.contains(slot))?;
        live.root
            .snapshot(uuid)
            .map(|snapshot| (snapshot, age == 0))
    }

    /// What is wrong and known to be wrong.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values()
    }

    /// The root of `proposal` was committed. The caller serialises commits; a proposal made before another commit
    /// is stale and must be made anew.
    pub fn commit(&mut self, proposal: Proposal) {
        let Proposal {
            root,
            found,
            problems,
            revived,
            ended,
            parent: _,
        } = proposal;
        let slots: Vec<u32> = root
            .snapshots
            .iter()
            .map(|snapshot| self.slot(&snapshot.uuid))
            .collect();
        self.ended.resize(self.slots.len(), None);
        for (slot, ended) in slots.iter().zip(ended) {
            self.ended[*slot as usize] = ended;
        }
        let renumbered = found
            .iter()
            .any(|found| matches!(found, Found::Numbered { .. }));
        for found in found {
            self.record(&root, &slots, found);
        }
        for key in &revived {
            self.gone.remove(key);
        }
        for problem in problems {
            match self.problems.get_mut(&problem.key) {
                Some(known) => known.hits(&problem.snapshots),
                None => {
                    self.problems.insert(problem.key.clone(), problem);
                }
            }
        }
        let listed = root.of_list || self.live.last().is_some_and(|live| live.root.of_list);
        if listed {
            // A 2.x repository has no roots to choose from: the list is the truth at every moment, until the first root.
            self.live.clear();
        }
        let set = slots.iter().copied().collect();
        let only_grows = !listed && self.live.len() < MAX_LIVE && !renumbered;
        self.live.push(LiveRoot {
            root,
            slots,
            set,
            evidenced: false,
        });
        if self.live.len() > MAX_LIVE {
            self.live.remove(0);
        }
        if !only_grows {
            self.release();
        }
    }

    /// As [`Self::commit`], of a root that is the newest one with more of its indices ([`Root::in_steps`]): it takes that
    /// one's place.
    pub fn grow(&mut self, proposal: Proposal) {
        self.commit(proposal);
        let newest = self.live.len() - 1;
        self.live.drain(..newest);
    }

    /// A root taken over from a store, not seen committed: final as it is. A list is never final.
    pub fn adopted(&mut self) {
        if let Some(newest) = self.live.last_mut().filter(|live| !live.root.of_list) {
            newest.evidenced = true;
        }
    }

    /// Whether what is known of a snapshot can be relied on.
    pub(super) fn known_slot(&self, uuid: &str) -> Option<u32> {
        self.by_uuid
            .get(uuid)
            .copied()
            .filter(|slot| !self.rewritten.contains(*slot))
    }

    pub(super) fn name_of(&self, slot: u32) -> Option<&Arc<str>> {
        let uuid = self.slots.get(slot as usize)?.as_ref()?;
        self.live
            .iter()
            .rev()
            .find_map(|live| live.root.snapshot(uuid))
            .map(|snapshot| &snapshot.name)
    }

    /// The slot of a snapshot; a new one if it was rewritten, because older live roots keep what they knew.
    fn slot(&mut self, uuid: &Arc<str>) -> u32 {
        if let Some(slot) = self.known_slot(uuid) {
            return slot;
        }
        let slot = self
            .slots
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
        self.slots[slot] = Some(uuid.clone());
        self.by_uuid.insert(uuid.clone(), slot as u32);
        slot as u32
    }

    fn record(&mut self, root: &Root, slots: &[u32], found: Found) {
        match found {
            Found::Metadata { index, id, shards } => {
                self.directory_of(root, index).metas.insert(id, shards);
            }
            Found::Member {
                index,
                snapshot,
                opaque,
            } => {
                let directory = self.directory_of(root, index);
                directory.members.insert(slots[snapshot as usize]);
                if opaque {
                    directory.opaque.insert(slots[snapshot as usize]);
                }
            }
            Found::ShardSnapshot {
                index,
                shard,
                snapshot,
                digest,
            } => {
                let directory = self.directory_of(root, index).shard(shard);
                let slot = slots[snapshot as usize];
                match digest.as_deref() {
                    Some(Digest::ShardSnapshot(body)) => {
                        directory.snapshots.insert(slot);
                        directory.add(&body.files, By::Snapshot(slot));
                    }
                    Some(Digest::ShallowShardSnapshot) => directory.shallow.insert(slot),
                    Some(
                        Digest::SnapshotInfo(_)
                        | Digest::GlobalMetadata
                        | Digest::IndexMetadata(_)
                        | Digest::ShardIndex(_),
                    )
                    | None => {
                        directory.snapshots.insert(slot);
                        directory.opaque.insert(slot);
                    }
                }
            }
            Found::Numbered {
                index,
                shard,
                number,
            } => {
                self.directory_of(root, index).shard(shard).numbered = number;
            }
            Found::ShardIndex {
                index,
                shard,
                generation,
                digest,
            } => {
                let directory = self.directory_of(root, index).shard(shard);
                let bit = directory
                    .listing(&generation)
                    .or_else(|| directory.new_listing(generation));
                if let (Some(bit), Some(Digest::ShardIndex(body))) = (bit, digest.as_deref()) {
                    directory.add(&body.files, By::Listing(bit));
                }
            }
        }
    }

    fn directory_of(&mut self, root: &Root, index: u32) -> &mut IndexDirectory {
        let index = &root.indices[index as usize];
        let directory = self.indices.entry(index.id.clone()).or_default();
        directory.path_type = index.path_type;
        directory
    }
}
