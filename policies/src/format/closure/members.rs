//! Who needs an object, and all that a root needs.

use std::sync::Arc;

use super::knowledge::{Knowledge, LiveRoot};
use super::sets::Slots;
use crate::format::paths;
use crate::format::root::{Generation, Index, Root};
use crate::key::{Class, ObjectKey, Shard, ShardGeneration};

/// One object of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub key: ObjectKey,
    pub class: Class,
    /// Bytes, where the format says so: data blobs and their parts.
    pub size: Option<u64>,
    /// CRC-32 that the Lucene footer of the whole file must have (of all parts together, if it is split).
    pub checksum: Option<u32>,
    /// Names of the snapshots that need it to be restored, sorted; none if only the next create or delete does.
    pub snapshots: Vec<Arc<str>>,
}

/// Who needs an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    pub(crate) snapshots: Slots,
    /// Those of `snapshots` whose file list cannot be read: they may need it.
    pub(crate) unsure: Slots,
    /// It is, or is listed in, the current shard index of these live roots (their generations).
    pub(crate) indexed: Vec<u64>,
    /// It is this root.
    pub(crate) root: Option<u64>,
    /// Bytes.
    pub size: Option<u64>,
}

impl Holders {
    fn of(snapshots: Slots) -> Option<Self> {
        (!snapshots.is_empty()).then(|| Self {
            snapshots,
            ..Self::default()
        })
    }
}

impl Knowledge {
    /// Who of the live roots needs the object `key`; `None` if nobody does, or if the key is not where a member of that
    /// class would lie.
    #[must_use]
    pub fn holders(&self, key: &ObjectKey, class: &Class) -> Option<Holders> {
        match class {
            Class::Root(generation) => {
                let live = self
                    .live
                    .iter()
                    .find(|live| live.root.generation == *generation && !live.root.of_list)?;
                (*key == self.layout.root(*generation)).then(|| Holders {
                    root: Some(*generation),
                    snapshots: live.set.clone(),
                    ..Holders::default()
                })
            }
            Class::SnapshotInfo(uuid) => {
                Holders::of(self.slots_of(uuid)).filter(|_| *key == self.layout.snapshot_info(uuid))
            }
            Class::GlobalMetadata(uuid) => Holders::of(self.slots_of(uuid))
                .filter(|_| *key == self.layout.global_metadata(uuid)),
            Class::IndexMetadata { index, id } => Holders::of(self.metadata_slots(index, id))
                .filter(|_| *key == self.layout.index_metadata(index, id)),
            Class::Data { shard, blob, part } => {
                let directory = self.directory(shard, key)?;
                (*key == paths::data(&directory, blob, part.map(u64::from)))
                    .then(|| self.data_holders(shard, blob, *part))?
            }
            Class::ShardIndex { shard, generation } => {
                let directory = self.directory(shard, key)?;
                let indexed = self.indexed_by(shard, generation);
                (!indexed.is_empty() && *key == paths::shard_index(&directory, generation)).then(
                    || Holders {
                        indexed,
                        ..Holders::default()
                    },
                )
            }
            Class::ShardSnapshot {
                shard,
                uuid,
                shallow,
            } => {
                let directory = self.directory(shard, key)?;
                let known = self
                    .indices
                    .get(&shard.index)?
                    .shards
                    .get(shard.number as usize)?;
                let mut slots = self.slots_of(uuid);
                slots.keep(if *shallow {
                    &known.shallow
                } else {
                    &known.snapshots
                });
                Holders::of(slots)
                    .filter(|_| *key == paths::shard_snapshot(&directory, uuid, *shallow))
            }
            Class::Pointer
            | Class::LegacyList
            | Class::Incompatible
            | Class::LegacySnapshot
            | Class::Pending
            | Class::Registration
            | Class::Analysis
            | Class::ShardPaths
            | Class::LegacyShardSnapshot { .. }
            | Class::Unknown => None,
        }
    }

    pub(super) fn slots_of(&self, uuid: &str) -> Slots {
        let same = |(slot, known): (usize, &Option<Arc<str>>)| {
            (known.as_deref() == Some(uuid)).then_some(slot as u32)
        };
        self.slots.iter().enumerate().filter_map(same).collect()
    }

    fn metadata_slots(&self, index: &str, id: &str) -> Slots {
        let mut slots = Slots::default();
        for live in &self.live {
            let Some(index) = live.root.index(index) else {
                continue;
            };
            for &snapshot in &index.snapshots {
                if **live.root.index_metadata_id(index, snapshot) == *id {
                    slots.insert(live.slots[snapshot as usize]);
                }
            }
        }
        slots
    }

    /// The directory of a shard, if `key` lies in it.
    fn directory(&self, shard: &Shard, key: &ObjectKey) -> Option<String> {
        let path_type = self.indices.get(&shard.index)?.path_type;
        let directory = self.layout.shard_directory(shard, path_type);
        key.as_str().starts_with(&directory).then_some(directory)
    }

    fn data_holders(&self, shard: &Shard, blob: &str, part: Option<u32>) -> Option<Holders> {
        let index = self.indices.get(&shard.index)?;
        let mut holders = Holders {
            unsure: index.opaque.clone(),
            ..Holders::default()
        };
        if let Some(known) = index.shards.get(shard.number as usize) {
            holders.unsure.union(&known.opaque);
            for (file, needed) in known.find(blob) {
                let Some(size) = file.object_size(part) else {
                    continue;
                };
                holders.size = Some(size);
                holders.snapshots.union(&needed.snapshots);
                for (bit, listing) in known.listings.iter().enumerate() {
                    if let Some(generation) =
                        listing.as_ref().filter(|_| needed.listings >> bit & 1 == 1)
                    {
                        holders.indexed.extend(self.indexed_by(shard, generation));
                    }
                }
            }
        }
        holders.snapshots.union(&holders.unsure.clone());
        holders.indexed.sort_unstable();
        holders.indexed.dedup();
        (!holders.snapshots.is_empty() || !holders.indexed.is_empty()).then_some(holders)
    }

    /// The live roots for which a generation is the current index of a shard. A numbered one is current for a root that does
    /// not name it only while a snapshot of that root has files there.
    fn indexed_by(&self, shard: &Shard, generation: &ShardGeneration) -> Vec<u64> {
        let index = self.indices.get(&shard.index);
        let directory = index.and_then(|index| index.shards.get(shard.number as usize));
        let current = |live: &&LiveRoot| {
            let Some(index) = live.root.index(&shard.index) else {
                return false;
            };
            match (index.generation(shard.number), generation) {
                (Generation::Uuid(current), ShardGeneration::Uuid(uuid)) => current == uuid,
                (Generation::Unknown, ShardGeneration::Number(number)) => {
                    directory.is_some_and(|directory| {
                        directory.numbered == Some(*number)
                            && directory.snapshots.intersects(&live.set)
                    })
                }
                (Generation::Uuid(_) | Generation::Unknown | Generation::New, _) => false,
            }
        };
        self.live
            .iter()
            .filter(current)
            .map(|live| live.root.generation)
            .collect()
    }

    /// Whether `root`, which may be none of the live ones, needs a known object.
    pub(super) fn is_needed_by(&self, root: &Root, key: &ObjectKey, class: &Class) -> bool {
        if let Class::ShardIndex {
            shard,
            generation: ShardGeneration::Uuid(uuid),
        } = class
        {
            return root.index(&shard.index).is_some_and(|index| {
                *index.generation(shard.number) == Generation::Uuid(uuid.clone())
            });
        }
        let slots: Slots = root
            .snapshots
            .iter()
            .filter_map(|snapshot| self.by_uuid.get(&snapshot.uuid).copied())
            .collect();
        self.holders(key, class)
            .is_some_and(|holders| holders.snapshots.intersects(&slots))
    }

    /// Names of the snapshots in a set, sorted.
    pub(crate) fn names(&self, slots: &Slots) -> Vec<Arc<str>> {
        let mut names: Vec<_> = slots
            .iter()
            .filter_map(|slot| self.name_of(slot).cloned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Every object that the newest root needs, shard by shard. Metadata first within its directory.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.newest().into_iter().flat_map(move |newest| {
            let root = &*newest.root;
            let top = self.root_members(root);
            let indices = root.indices.iter().flat_map(move |index| {
                let metadata = self.metadata_members(root, index);
                let shards = self
                    .indices
                    .get(&index.id)
                    .map_or(0, |known| known.shards.len() as u32);
                metadata
                    .into_iter()
                    .chain((0..shards).flat_map(move |number| self.shard_members(index, number)))
            });
            top.into_iter().chain(indices)
        })
    }

    fn root_members(&self, root: &Root) -> Vec<Member> {
        let member = |key, class, snapshots| Member {
            key,
            class,
            size: None,
            checksum: None,
            snapshots,
        };
        let mut members = Vec::new();
        if !root.of_list {
            let mut all: Vec<_> = root
                .snapshots
                .iter()
                .map(|snapshot| snapshot.name.clone())
                .collect();
            all.sort();
            members.push(member(
                self.layout.root(root.generation),
                Class::Root(root.generation),
                all,
            ));
        }
        for snapshot in &root.snapshots {
            let (uuid, name) = (&snapshot.uuid, vec![snapshot.name.clone()]);
            members.push(member(
                self.layout.snapshot_info(uuid),
                Class::SnapshotInfo(uuid.clone()),
                name.clone(),
            ));
            members.push(member(
                self.layout.global_metadata(uuid),
                Class::GlobalMetadata(uuid.clone()),
                name,
            ));
        }
        members
    }

    fn metadata_members(&self, root: &Root, index: &Index) -> Vec<Member> {
        let mut members = std::collections::BTreeMap::<Arc<str>, Vec<Arc<str>>>::new();
        for &snapshot in &index.snapshots {
            let id = root.index_metadata_id(index, snapshot).clone();
            members
                .entry(id)
                .or_default()
                .push(root.snapshots[snapshot as usize].name.clone());
        }
        let member = |(id, mut snapshots): (Arc<str>, Vec<Arc<str>>)| {
            snapshots.sort();
            let key = self.layout.index_metadata(&index.id, &id);
            let class = Class::IndexMetadata {
                index: index.id.clone(),
                id,
            };
            Member {
                key,
                class,
                size: None,
                checksum: None,
                snapshots,
            }
        };
        members.into_iter().map(member).collect()
    }

    fn shard_members(&self, index: &Index, number: u32) -> Vec<Member> {
        let (Some(newest), Some(known)) = (self.newest(), self.indices.get(&index.id)) else {
            return Vec::new();
        };
        let (root, directory) = (newest.root.generation, &known.shards[number as usize]);
        let shard = Shard {
            index: index.id.clone(),
            number,
        };
        let path = self.layout.shard_directory(&shard, known.path_type);
        let mut members = Vec::new();
        for (shallow, slots) in [(false, &directory.snapshots), (true, &directory.shallow)] {
            for slot in slots.iter().filter(|slot| newest.set.contains(*slot)) {
                let Some(uuid) = &self.slots[slot as usize] else {
                    continue;
                };
                members.push(Member {
                    key: paths::shard_snapshot(&path, uuid, shallow),
                    class: Class::ShardSnapshot {
                        shard: shard.clone(),
                        uuid: uuid.clone(),
                        shallow,
                    },
                    size: None,
                    checksum: None,
                    snapshots: self.name_of(slot).cloned().into_iter().collect(),
                });
            }
        }
        let mut current = 0_u32;
        for (bit, listing) in directory.listings.iter().enumerate() {
            let Some(generation) = listing else { continue };
            if self.indexed_by(&shard, generation).contains(&root) {
                current |= 1 << bit;
                let key = paths::shard_index(&path, generation);
                let class = Class::ShardIndex {
                    shard: shard.clone(),
                    generation: generation.clone(),
                };
                members.push(Member {
                    key,
                    class,
                    size: None,
                    checksum: None,
                    snapshots: Vec::new(),
                });
            }
        }
        for (file, needed) in directory.files() {
            let mut slots = needed.snapshots.clone();
            slots.keep(&newest.set);
            if slots.is_empty() && needed.listings & current == 0 {
                continue;
            }
            let snapshots = self.names(&slots);
            let blob: Arc<str> = file.name.to_string().into();
            for (part, size) in file.objects() {
                members.push(Member {
                    key: paths::data(&path, &file.name, part),
                    class: Class::Data {
                        shard: shard.clone(),
                        blob: blob.clone(),
                        part: part.map(|part| part as u32),
                    },
                    size: Some(size),
                    checksum: file.checksum,
                    snapshots: snapshots.clone(),
                });
            }
        }
        members
    }
}
