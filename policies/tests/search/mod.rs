//! Breadth-first search through every state that a model can reach. Shared by the tests that are models.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A scenario that grows beyond this has become too large to be checked in CI.
const MOST_STATES: usize = 3_000_000;

/// A state of a model, and what may happen next.
pub trait Model: Clone + Hash {
    type Action: Clone + Debug;
    /// What some state reached, so that a model that cannot move is noticed.
    type Reached: Default;

    fn actions(&self) -> Vec<Self::Action>;
    fn act(&mut self, action: &Self::Action);
    /// The invariant that does not hold.
    fn broken(&self) -> Option<String>;
    fn note(&self, reached: &mut Self::Reached);
}

pub struct Explored<M: Model> {
    pub states: usize,
    pub counterexample: Option<Counterexample<M::Action>>,
    pub reached: M::Reached,
}

/// The shortest way to a broken invariant.
pub struct Counterexample<A> {
    pub broken: String,
    pub actions: Vec<A>,
}

/// States are remembered by a 64-bit fingerprint: at a million states, two of them share one with a
/// chance of 1 in 30 million.
pub fn explore<M: Model>(first: M) -> Explored<M> {
    let mut parents: HashMap<u64, Option<(u64, M::Action)>> = HashMap::new();
    let mut queue = VecDeque::new();
    let mut reached = M::Reached::default();
    let mut counterexample = None;
    parents.insert(fingerprint(&first), None);
    queue.push_back(first);
    'search: while let Some(model) = queue.pop_front() {
        assert!(parents.len() < MOST_STATES, "the scenario is too large");
        model.note(&mut reached);
        let here = fingerprint(&model);
        for action in model.actions() {
            let mut next = model.clone();
            next.act(&action);
            let print = fingerprint(&next);
            if parents.contains_key(&print) {
                continue;
            }
            parents.insert(print, Some((here, action)));
            if let Some(broken) = next.broken() {
                let actions = way(&parents, print);
                counterexample = Some(Counterexample { broken, actions });
                break 'search;
            }
            queue.push_back(next);
        }
    }
    Explored {
        states: parents.len(),
        counterexample,
        reached,
    }
}

fn way<A: Clone>(parents: &HashMap<u64, Option<(u64, A)>>, mut at: u64) -> Vec<A> {
    let mut actions = vec![];
    while let Some(Some((before, action))) = parents.get(&at) {
        actions.push(action.clone());
        at = *before;
    }
    actions.reverse();
    actions
}

fn fingerprint(model: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    hasher.finish()
}
