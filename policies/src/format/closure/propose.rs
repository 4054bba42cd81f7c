//! What a new root would need beyond what the live roots need.
//!
//! Decides: root and facts -> [`Proposal`] (what is new, and what is wrong with it), or the facts that are missing. Changes
//! nothing. Cost: one pass over the root and over the bodies that are new in it; blobs that a live root
//! needs already are neither looked up nor copied.

mod shards;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::facts::{Facts, Needs};
use super::knowledge::{IndexDirectory, Knowledge};
use super::newest::NewestSnapshot;
use crate::format::digest::{Digest, Unreadable};
use crate::format::root::{Index, Root, Snapshot};
use crate::key::{Class, ObjectKey, Shard, ShardGeneration};

/// Something of a closure that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: ObjectKey,
    pub class: Class,
    pub kind: ProblemKind,
    /// Names of the snapshots it hits, sorted. None: restores do not need it, only the next create or delete.
    pub snapshots: Vec<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    #[error("is missing")]
    Missing,
    #[error("has {found} bytes instead of {expected}")]
    Size { expected: u64, found: u64 },
    #[error("cannot be read: {0}")]
    Unreadable(Unreadable),
    #[error("belongs to snapshot '{0}'")]
    OtherSnapshot(Arc<str>),
    #[error("is of index '{0}'")]
    OtherIndex(Arc<str>),
}

impl Problem {
    pub(super) fn hits(&mut self, snapshots: &[Arc<str>]) {
        self.snapshots.extend_from_slice(snapshots);
        self.snapshots.sort();
        self.snapshots.dedup();
    }
}

/// A root's claim on the repository, completely looked up; [`Knowledge::commit`] makes it known.
#[derive(Debug)]
pub struct Proposal {
    pub root: Arc<Root>,
    /// The newest root it was compared with.
    pub parent: Option<u64>,
    /// What is wrong with what the root needs, old damage included where the new root touches it.
    pub problems: Vec<Problem>,
    /// Hidden objects that the root needs again: its commit must show them.
    pub revived: Vec<ObjectKey>,
    pub(super) found: Vec<Found>,
    /// When each snapshot of the root ended, in their order there; milliseconds since 1970.
    pub(super) ended: Vec<Option<i64>>,
}

impl Proposal {
    /// The newest snapshot of the root.
    #[must_use]
    pub fn newest_snapshot(&self) -> Option<NewestSnapshot> {
        NewestSnapshot::of(&self.root, self.ended.iter().copied())
    }
}

/// One new thing; indices and snapshots by their position in the root.
#[derive(Debug)]
pub(super) enum Found {
    Metadata {
        index: u32,
        id: Arc<str>,
        shards: Option<u32>,
    },
    Member {
        index: u32,
        snapshot: u32,
        opaque: bool,
    },
    ShardSnapshot {
        index: u32,
        shard: u32,
        snapshot: u32,
        digest: Option<Arc<Digest>>,
    },
    ShardIndex {
        index: u32,
        shard: u32,
        generation: ShardGeneration,
        digest: Option<Arc<Digest>>,
    },
    Numbered {
        index: u32,
        shard: u32,
        number: Option<u64>,
    },
}

impl Knowledge {
    /// Compares `root` with what is known.
    ///
    /// # Errors
    /// The facts that are missing. Ask again with these added to the old ones.
    pub fn propose(&self, root: Arc<Root>, facts: &dyn Facts) -> Result<Proposal, Needs> {
        let mut pass = Pass {
            known: self,
            root: &root,
            facts,
            needs: Needs::default(),
            problems: BTreeMap::new(),
            found: Vec::new(),
            revived: self.revived(&root),
            damaged: self.damaged_shards(),
        };
        pass.snapshots();
        for position in 0..root.indices.len() {
            if pass.needs.len() >= Needs::ROUND {
                break;
            }
            pass.index(position as u32);
        }
        if !pass.needs.is_empty() {
            return Err(pass.needs.unique());
        }
        let ended = pass.ended();
        let mut revived = pass.revived;
        revived.sort();
        revived.dedup();
        let (problems, found) = (pass.problems.into_values().collect(), pass.found);
        let parent = self.newest().map(|newest| newest.root.generation);
        Ok(Proposal {
            root,
            parent,
            problems,
            revived,
            found,
            ended,
        })
    }

    /// Hidden objects that `root` needs although the newest root did not.
    fn revived(&self, root: &Root) -> Vec<ObjectKey> {
        let needs = |(key, class): (&ObjectKey, &Class)| {
            self.is_needed_by(root, key, class).then(|| key.clone())
        };
        self.gone.iter().filter_map(needs).collect()
    }

    /// Shard directories with known damage or hidden blobs: only there, a blob that is needed already must be looked at again.
    fn damaged_shards(&self) -> HashSet<Shard> {
        let problems = self.problems.values().map(|problem| &problem.class);
        let classes = problems.chain(self.gone.values());
        classes
            .filter_map(|class| match class {
                Class::Data { shard, .. }
                | Class::ShardIndex { shard, .. }
                | Class::ShardSnapshot { shard, .. } => Some(shard.clone()),
                Class::Root(_)
                | Class::Pointer
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
                | Class::LegacyShardSnapshot { .. }
                | Class::Unknown => None,
            })
            .collect()
    }
}

/// What a look at one object gave.
enum Seen {
    /// A fact is missing; it was asked for.
    NotYet,
    Absent,
    Unreadable,
    Read(Arc<Digest>),
}

struct Pass<'a> {
    known: &'a Knowledge,
    root: &'a Root,
    facts: &'a dyn Facts,
    needs: Needs,
    problems: BTreeMap<ObjectKey, Problem>,
    found: Vec<Found>,
    revived: Vec<ObjectKey>,
    damaged: HashSet<Shard>,
}

impl Pass<'_> {
    /// The root-level objects of snapshots that are new.
    fn snapshots(&mut self) {
        for snapshot in &self.root.snapshots {
            if self.known.known_slot(&snapshot.uuid).is_some() {
                continue;
            }
            let hit = [snapshot.name.clone()];
            let key = self.known.layout.snapshot_info(&snapshot.uuid);
            let class = Class::SnapshotInfo(snapshot.uuid.clone());
            if let Seen::Read(digest) = self.required(&key, &class, &hit)
                && let Some(info) = digest.snapshot_info()
                && info.uuid != snapshot.uuid
            {
                self.problem(
                    &key,
                    &class,
                    ProblemKind::OtherSnapshot(info.name.clone()),
                    &hit,
                );
            }
            let key = self.known.layout.global_metadata(&snapshot.uuid);
            self.required(&key, &Class::GlobalMetadata(snapshot.uuid.clone()), &hit);
        }
    }

    /// When each snapshot ended: by the root, else by its description.
    fn ended(&self) -> Vec<Option<i64>> {
        let ended = |(position, snapshot): (usize, &Snapshot)| {
            let described = || match self.known.known_slot(&snapshot.uuid) {
                Some(slot) => self.known.ended.get(slot as usize).copied().flatten(),
                None => described_end(self.info(position as u32).as_ref()),
            };
            snapshot.end_time_millis.or_else(described)
        };
        self.root.snapshots.iter().enumerate().map(ended).collect()
    }

    /// The description of a snapshot, if it could be read.
    fn info(&self, snapshot: u32) -> Option<Arc<Digest>> {
        let key = self
            .known
            .layout
            .snapshot_info(&self.root.snapshots[snapshot as usize].uuid);
        self.facts.digest(&key)?.ok()
    }

    fn index(&mut self, position: u32) {
        let index = &self.root.indices[position as usize];
        let directory = self
            .known
            .indices
            .get(&index.id)
            .filter(|known| known.path_type == index.path_type);
        let mut shards = index.generations.as_ref().map_or(0, Vec::len) as u32;
        let mut new = Vec::new();
        for &snapshot in &index.snapshots {
            let uuid = &self.root.snapshots[snapshot as usize].uuid;
            let id = self.root.index_metadata_id(index, snapshot).clone();
            let slot = self.known.known_slot(uuid);
            let member = directory
                .zip(slot)
                .is_some_and(|(directory, slot)| directory.members.contains(slot));
            let count = directory.and_then(|directory| directory.metas.get(&id).copied());
            match count {
                Some(count) if member => shards = shards.max(count.unwrap_or(0)),
                Some(Some(count)) if slot.is_some() || !self.is_rewritten_legacy(&id, uuid) => {
                    shards = shards.max(count);
                    new.push((snapshot, Some(count)));
                }
                Some(_) | None => {
                    let Some(count) = self.metadata(position, snapshot, &id) else {
                        continue;
                    };
                    shards = shards.max(count.unwrap_or(0));
                    if !member {
                        new.push((snapshot, count));
                    }
                }
            }
        }
        let known_shards = directory.map_or(0, |directory| directory.shards.len() as u32);
        self.shards(position, shards.max(known_shards), &new, directory);
    }

    /// Metadata under a snapshot's own uuid belongs to that snapshot and is written anew with it.
    fn is_rewritten_legacy(&self, id: &Arc<str>, uuid: &Arc<str>) -> bool {
        id == uuid && self.known.by_uuid.contains_key(uuid)
    }

    /// Looks at index metadata: its number of shards, `Some(None)` if it cannot be read, `None` if a fact is missing.
    fn metadata(&mut self, position: u32, snapshot: u32, id: &Arc<str>) -> Option<Option<u32>> {
        let index = &self.root.indices[position as usize];
        let key = self.known.layout.index_metadata(&index.id, id);
        let class = Class::IndexMetadata {
            index: index.id.clone(),
            id: id.clone(),
        };
        let hit = [self.root.snapshots[snapshot as usize].name.clone()];
        let shards = match self.required(&key, &class, &hit) {
            Seen::NotYet => return None,
            Seen::Absent | Seen::Unreadable => None,
            Seen::Read(digest) => match &*digest {
                Digest::IndexMetadata(read) => {
                    if read.index != index.name {
                        let kind = ProblemKind::OtherIndex(read.index.clone());
                        self.problem(&key, &class, kind, &hit);
                    }
                    Some(read.shards)
                }
                Digest::SnapshotInfo(_)
                | Digest::GlobalMetadata
                | Digest::ShardSnapshot(_)
                | Digest::ShallowShardSnapshot
                | Digest::ShardIndex(_) => None,
            },
        };
        self.found.push(Found::Metadata {
            index: position,
            id: id.clone(),
            shards,
        });
        Some(shards)
    }

    /// Looks at an object that must be there; reports what is wrong with it.
    fn required(&mut self, key: &ObjectKey, class: &Class, hit: &[Arc<str>]) -> Seen {
        let seen = self.look(key, class);
        match &seen {
            Seen::Absent => self.problem(key, class, ProblemKind::Missing, hit),
            Seen::Unreadable => {
                if let Some(Err(reason)) = self.facts.digest(key) {
                    self.problem(key, class, ProblemKind::Unreadable(reason), hit);
                }
            }
            Seen::NotYet | Seen::Read(_) => {}
        }
        seen
    }

    fn look(&mut self, key: &ObjectKey, class: &Class) -> Seen {
        match self.facts.size(key) {
            None => {
                self.needs.sizes.push(key.clone());
                Seen::NotYet
            }
            Some(None) => Seen::Absent,
            Some(Some(_)) => match self.facts.digest(key) {
                None => {
                    self.needs.digests.push((key.clone(), class.clone()));
                    Seen::NotYet
                }
                Some(Ok(digest)) => Seen::Read(digest),
                Some(Err(_)) => Seen::Unreadable,
            },
        }
    }

    fn problem(&mut self, key: &ObjectKey, class: &Class, kind: ProblemKind, hit: &[Arc<str>]) {
        let problem = || Problem {
            key: key.clone(),
            class: class.clone(),
            kind,
            snapshots: Vec::new(),
        };
        self.problems
            .entry(key.clone())
            .or_insert_with(problem)
            .hits(hit);
    }
}

fn described_end(info: Option<&Arc<Digest>>) -> Option<i64> {
    info?.snapshot_info()?.end_time
}

/// Whether a shard of a snapshot may lack its file list: it failed, or its data is in another repository.
fn may_lack(info: Option<&Arc<Digest>>, index: &Index, shard: u32) -> bool {
    // Without its description the snapshot is reported already, and what failed in it is not known.
    info.and_then(|digest| digest.snapshot_info())
        .is_none_or(|info| info.shallow || info.failures.contains(&(index.name.clone(), shard)))
}
