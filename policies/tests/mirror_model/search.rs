//! Breadth-first search through every state that a scenario can reach.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::world::{Action, World};

/// A scenario that grows beyond this has become too large to be checked in CI.
const MOST_STATES: usize = 3_000_000;

pub struct Explored {
    pub states: usize,
    /// The shortest way to a broken invariant.
    pub counterexample: Option<(String, Vec<Action>)>,
    /// The target had everything in some state, so that a model that cannot move is noticed.
    pub all_applied: bool,
    pub highest_applied: u64,
}

/// States are remembered by a 64-bit fingerprint: at a million states, two of them share one with a
/// chance of 1 in 30 million.
pub fn explore(first: World) -> Explored {
    let mut parents: HashMap<u64, Option<(u64, Action)>> = HashMap::new();
    let mut queue = VecDeque::new();
    let mut explored = Explored {
        states: 0,
        counterexample: None,
        all_applied: false,
        highest_applied: 0,
    };
    parents.insert(fingerprint(&first), None);
    queue.push_back(first);
    while let Some(world) = queue.pop_front() {
        assert!(parents.len() < MOST_STATES, "the scenario is too large");
        explored.all_applied |= world.all_applied();
        explored.highest_applied = explored.highest_applied.max(world.highest_applied());
        let here = fingerprint(&world);
        for action in world.actions() {
            let mut next = world.clone();
            next.act(action);
            let print = fingerprint(&next);
            if parents.contains_key(&print) {
                continue;
            }
            parents.insert(print, Some((here, action)));
            if let Some(broken) = next.broken() {
                explored.states = parents.len();
                explored.counterexample = Some((broken, way(&parents, print)));
                return explored;
            }
            queue.push_back(next);
        }
    }
    explored.states = parents.len();
    explored
}

fn way(parents: &HashMap<u64, Option<(u64, Action)>>, mut at: u64) -> Vec<Action> {
    let mut actions = vec![];
    while let Some(Some((before, action))) = parents.get(&at) {
        actions.push(*action);
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
