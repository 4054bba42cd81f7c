//! The shard directories of one index in a proposal.

use std::sync::Arc;

use super::{Found, IndexDirectory, Pass, ProblemKind, Seen, may_lack};
use crate::format::digest::Digest;
use crate::format::paths;
use crate::format::root::{Generation, Index};
use crate::format::shard::File;
use crate::key::{Class, Shard, ShardGeneration};

use super::super::shard::ShardDirectory;

/// A shard directory while it is looked at.
struct Place<'a> {
    shard: Shard,
    directory: String,
    known: Option<&'a ShardDirectory>,
}

impl Place<'_> {
    fn data(&self, file: &File, part: Option<u64>) -> Class {
        Class::Data {
            shard: self.shard.clone(),
            blob: file.name.to_string().into(),
            part: part.map(|part| part as u32),
        }
    }
}

impl Pass<'_> {
    /// `new`: snapshots that are new in this index, with their number of shards if it could be read.
    pub(super) fn shards(
        &mut self,
        position: u32,
        shards: u32,
        new: &[(u32, Option<u32>)],
        known: Option<&IndexDirectory>,
    ) {
        let root = self.root;
        let index = &root.indices[position as usize];
        let infos: Vec<_> = new
            .iter()
            .map(|(snapshot, _)| self.info(*snapshot))
            .collect();
        for (snapshot, count) in new {
            self.found.push(Found::Member {
                index: position,
                snapshot: *snapshot,
                opaque: count.is_none(),
            });
        }
        for number in 0..shards {
            let known = known.and_then(|index| index.shards.get(number as usize));
            if new.is_empty() && self.is_listed(index, number, known) {
                continue;
            }
            let shard = Shard {
                index: index.id.clone(),
                number,
            };
            let directory = self.known.layout.shard_directory(&shard, index.path_type);
            let place = Place {
                shard,
                directory,
                known,
            };
            for ((snapshot, count), info) in new.iter().zip(&infos) {
                if count.is_none_or(|count| number < count) {
                    self.shard_snapshot(
                        position,
                        &place,
                        *snapshot,
                        info.as_ref(),
                        count.is_some(),
                    );
                }
            }
            self.shard_index(position, &place);
        }
    }

    /// Whether nothing about a shard's current index can have changed.
    fn is_listed(&self, index: &Index, number: u32, known: Option<&ShardDirectory>) -> bool {
        match index.generation(number) {
            Generation::New => true,
            Generation::Uuid(uuid) => known.is_some_and(|known| {
                known
                    .listing(&ShardGeneration::Uuid(uuid.clone()))
                    .is_some()
            }),
            // In the legacy form, numbered indices come and go without the root saying so.
            Generation::Unknown => {
                !self.root.is_legacy_form() && known.is_some_and(|known| known.numbered.is_some())
            }
        }
    }

    fn shard_snapshot(
        &mut self,
        position: u32,
        place: &Place<'_>,
        snapshot: u32,
        info: Option<&Arc<Digest>>,
        counted: bool,
    ) {
        let root = self.root;
        let entry = &root.snapshots[snapshot as usize];
        let (uuid, hit) = (&entry.uuid, [entry.name.clone()]);
        let found = |digest| Found::ShardSnapshot {
            index: position,
            shard: place.shard.number,
            snapshot,
            digest,
        };
        let key = paths::shard_snapshot(&place.directory, uuid, false);
        let class = Class::ShardSnapshot {
            shard: place.shard.clone(),
            uuid: uuid.clone(),
            shallow: false,
        };
        match self.look(&key, &class) {
            Seen::NotYet => {}
            Seen::Read(digest) => {
                if let Digest::ShardSnapshot(body) = &*digest {
                    if body.name != entry.name {
                        self.problem(
                            &key,
                            &class,
                            ProblemKind::OtherSnapshot(body.name.clone()),
                            &hit,
                        );
                    }
                    self.files(place, &body.files, &hit);
                }
                self.found.push(found(Some(digest)));
            }
            Seen::Unreadable => {
                self.required(&key, &class, &hit);
                self.found.push(found(None));
            }
            Seen::Absent if self.shallow(place, uuid) => self
                .found
                .push(found(Some(Arc::new(Digest::ShallowShardSnapshot)))),
            Seen::Absent
                if !counted
                    || may_lack(info, &root.indices[position as usize], place.shard.number) => {}
            Seen::Absent => self.problem(&key, &class, ProblemKind::Missing, &hit),
        }
    }

    /// Whether the shard has a file list of the kind whose data is in another repository.
    fn shallow(&mut self, place: &Place<'_>, uuid: &Arc<str>) -> bool {
        let key = paths::shard_snapshot(&place.directory, uuid, true);
        let class = Class::ShardSnapshot {
            shard: place.shard.clone(),
            uuid: uuid.clone(),
            shallow: true,
        };
        matches!(self.look(&key, &class), Seen::Read(_))
    }

    fn shard_index(&mut self, position: u32, place: &Place<'_>) {
        let root = self.root;
        let index = &root.indices[position as usize];
        let number = place.shard.number;
        let generation = match index.generation(number) {
            Generation::New => return,
            Generation::Uuid(uuid) => ShardGeneration::Uuid(uuid.clone()),
            Generation::Unknown => {
                match self.facts.highest_numbered(&place.shard, &place.directory) {
                    None => {
                        self.needs
                            .numbered
                            .push((place.shard.clone(), place.directory.clone()));
                        return;
                    }
                    Some(highest) => {
                        self.found.push(Found::Numbered {
                            index: position,
                            shard: number,
                            number: highest,
                        });
                        // Without one, the next create or delete starts from what it lists: no member is missing.
                        let Some(highest) = highest else { return };
                        ShardGeneration::Number(highest)
                    }
                }
            }
        };
        if place
            .known
            .is_some_and(|known| known.listing(&generation).is_some())
        {
            return;
        }
        let key = paths::shard_index(&place.directory, &generation);
        let class = Class::ShardIndex {
            shard: place.shard.clone(),
            generation: generation.clone(),
        };
        let digest = match self.required(&key, &class, &[]) {
            Seen::NotYet => return,
            Seen::Absent | Seen::Unreadable => None,
            Seen::Read(digest) => {
                if let Digest::ShardIndex(body) = &*digest {
                    self.files(place, &body.files, &[]);
                }
                Some(digest)
            }
        };
        self.found.push(Found::ShardIndex {
            index: position,
            shard: number,
            generation,
            digest,
        });
    }

    /// The blobs of a file list. Those that snapshots of a live root need are there, unless this directory has known damage.
    fn files(&mut self, place: &Place<'_>, files: &[File], hit: &[Arc<str>]) {
        let mut new = Vec::new();
        let mut again = Vec::new();
        match place.known {
            Some(known) => known.compare(files, |file| again.push(file), |file| new.push(file)),
            None => new.extend(files),
        }
        if self.damaged.contains(&place.shard) {
            for file in again {
                self.known_damage(place, file, hit);
            }
        }
        for file in new {
            for (part, expected) in file.objects() {
                let key = paths::data(&place.directory, &file.name, part);
                if self.known.gone.contains_key(&key) {
                    self.revived.push(key);
                    continue;
                }
                match self.facts.size(&key) {
                    None => self.needs.sizes.push(key),
                    Some(Some(found)) if found == expected => {}
                    Some(Some(found)) => {
                        self.problem(
                            &key,
                            &place.data(file, part),
                            ProblemKind::Size { expected, found },
                            hit,
                        );
                    }
                    Some(None) => {
                        self.problem(&key, &place.data(file, part), ProblemKind::Missing, hit);
                    }
                }
            }
        }
    }

    fn known_damage(&mut self, place: &Place<'_>, file: &File, hit: &[Arc<str>]) {
        for (part, _) in file.objects() {
            let key = paths::data(&place.directory, &file.name, part);
            if self.known.gone.contains_key(&key) {
                self.revived.push(key);
            } else if let Some(problem) = self.known.problems.get(&key) {
                let kind = problem.kind.clone();
                self.problem(&key, &place.data(file, part), kind, hit);
            }
        }
    }
}
