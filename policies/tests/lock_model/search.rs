//! Breadth-first search through every state that a scenario can reach.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::world::{Action, World};

/// A scenario that grows beyond this has become too large to be checked in CI.
const MOST_STATES: usize = 3_000_000;

pub struct Explored {
    pub states: usize,
    /// The shortest way to a broken invariant.
    pub counterexample: Option<Counterexample>,
    /// Goals that some state reached, so that a model that cannot move is noticed.
    pub reached: Reached,
}

pub struct Counterexample {
    pub broken: &'static str,
    pub actions: Vec<Action>,
}

#[derive(Default)]
pub struct Reached {
    pub all_acknowledged: bool,
    pub highest_epoch: u64,
    pub recovered: bool,
}

/// States are remembered by a 64-bit fingerprint: at a million states, two of them share one with a
/// chance of 1 in 30 million.
pub fn explore(first: World) -> Explored {
    let mut parents: HashMap<u64, Option<(u64, Action)>> = HashMap::new();
    let mut queue = VecDeque::new();
    let mut reached = Reached::default();
    parents.insert(fingerprint(&first), None);
    queue.push_back(first);
    while let Some(world) = queue.pop_front() {
        assert!(parents.len() < MOST_STATES, "the scenario is too large");
        let here = fingerprint(&world);
        reached.note(&world);
        for action in world.actions() {
            let mut next = world.clone();
            next.act(&action);
            let print = fingerprint(&next);
            if parents.contains_key(&print) {
                continue;
            }
            parents.insert(print, Some((here, action)));
            if let Some(broken) = next.broken() {
                return Explored {
                    states: parents.len(),
                    counterexample: Some(Counterexample {
                        broken,
                        actions: way(&parents, print),
                    }),
                    reached,
                };
            }
            queue.push_back(next);
        }
    }
    Explored {
        states: parents.len(),
        counterexample: None,
        reached,
    }
}

impl Reached {
    fn note(&mut self, world: &World) {
        self.all_acknowledged |= world.all_acknowledged();
        self.recovered |= world.recovered();
        self.highest_epoch = self.highest_epoch.max(world.ghost.max_held);
    }
}

fn way(parents: &HashMap<u64, Option<(u64, Action)>>, mut at: u64) -> Vec<Action> {
    let mut actions = vec![];
    while let Some(Some((before, action))) = parents.get(&at) {
        actions.push(action.clone());
        at = *before;
    }
    actions.reverse();
    actions
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}
