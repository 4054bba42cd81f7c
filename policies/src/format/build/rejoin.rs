//! A cluster that registers its repository again after an operator brought back what was deleted.
//!
//! Invariant: it takes from the root and a listing what real clusters take from them: the generation, what lies there, and
//! which shard index counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Cluster;
use super::known::{IndexState, ShardState};
use crate::format::paths;
use crate::format::root::{Generation, Root};
use crate::key::{Class, ObjectKey, Shard, ShardGeneration};

impl Cluster {
    /// Registers the repository anew: `root` is its newest, `visible` what a listing shows.
    pub fn register(&mut self, root: &Root, visible: BTreeMap<ObjectKey, Class>) {
        self.generation = Some(root.generation);
        self.next = root.generation + 1;
        self.objects = visible;
        // Index directories that no root names are not found again.
        self.indices.retain(|index| root.index(&index.id).is_some());
        for at in 0..self.indices.len() {
            for number in 0..self.indices[at].shards.len() as u32 {
                let known = root
                    .index(&self.indices[at].id)
                    .map_or(&Generation::Unknown, |index| index.generation(number));
                let generation = match known {
                    Generation::Uuid(uuid) => Some(ShardGeneration::Uuid(Arc::clone(uuid))),
                    Generation::New => None,
                    Generation::Unknown => self.highest_number(at, number),
                };
                let state = self.indices[at].shard(number);
                state.failed = *known == Generation::New;
                state.generation = generation;
            }
        }
    }

    /// A snapshot in progress was given up: an index that only it had gets a new directory when it is taken again, since real
    /// clusters look the directory up in the root.
    pub fn give_up(&mut self) {
        let snapshots = &self.snapshots;
        self.indices.retain(|index| {
            snapshots
                .iter()
                .any(|taken| taken.indices.contains_key(&index.id))
        });
    }

    /// What a listing shows.
    pub fn sees(&mut self, visible: BTreeMap<ObjectKey, Class>) {
        self.objects = visible;
    }

    /// The snapshot `name` that `then` had is there again, behind all others.
    pub fn regain(&mut self, then: &Self, name: &str) {
        let Some(taken) = then.snapshots.iter().find(|taken| &*taken.name == name) else {
            return;
        };
        self.snapshots.push(taken.clone());
        for before in &then.indices {
            if !taken.indices.contains_key(&before.id) {
                continue;
            }
            let at = self.index_again(before);
            for (number, shard) in before.shards.iter().enumerate() {
                let listed = shard.listed.iter().find(|(of, ..)| &**of == name);
                if let Some(listed) = listed {
                    let all = &mut self.indices[at].shard(number as u32).listed;
                    all.retain(|(of, ..)| &**of != name);
                    all.push(listed.clone());
                }
            }
        }
    }

    fn index_again(&mut self, before: &IndexState) -> usize {
        if let Some(at) = self.indices.iter().position(|index| index.id == before.id) {
            return at;
        }
        self.indices.push(IndexState {
            shards: vec![ShardState::default(); before.shards.len()],
            ..before.clone()
        });
        self.indices.len() - 1
    }

    fn highest_number(&self, at: usize, number: u32) -> Option<ShardGeneration> {
        let wanted = Shard {
            index: self.indices[at].id.clone(),
            number,
        };
        let directory = self.directory(at, number);
        let numbers = self.objects.values().filter_map(|class| match class {
            Class::ShardIndex {
                shard,
                generation: ShardGeneration::Number(number),
            } if *shard == wanted => Some(*number),
            _other => None,
        });
        let highest = numbers.max().map(ShardGeneration::Number)?;
        let key = paths::shard_index(&directory, &highest);
        self.objects.contains_key(&key).then_some(highest)
    }
}
