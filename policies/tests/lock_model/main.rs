//! The writer lock's protocol as a model: every state that a scenario can reach is visited, and the
//! invariants W1-W4, W5-W10, W13 and W19 hold in each. Then each step of the protocol is left out, and
//! the search must find how that breaks it: a model that cannot fail proves nothing.
//!
//! Two fences overlap on purpose and no mutant separates them: a recovery claims an incarnation and mints
//! an anchor, either of which stops another gateway; the anchor alone also works on a shared database.
//!
//! State counts and lengths of counterexamples are printed: `cargo test --test lock_model -- --nocapture`.
#![allow(clippy::unwrap_used)] // a test that fails may panic

mod invariants;
mod life;
mod possible;
#[path = "../search/mod.rs"]
mod search;
mod shell;
mod world;

use search::{Explored, Model, explore};
use world::{Action, Mutant, Scenario, World};

/// What some state reached.
#[derive(Debug, Default)]
pub struct Reached {
    all_acknowledged: bool,
    highest_epoch: u64,
    recovered: bool,
}

impl Model for World {
    type Action = Action;
    type Reached = Reached;

    fn actions(&self) -> Vec<Action> {
        World::actions(self)
    }

    fn act(&mut self, action: &Action) {
        World::act(self, action);
    }

    fn broken(&self) -> Option<String> {
        World::broken(self).map(str::to_owned)
    }

    fn note(&self, reached: &mut Reached) {
        reached.all_acknowledged |= self.all_acknowledged();
        reached.recovered |= self.recovered();
        reached.highest_epoch = reached.highest_epoch.max(self.ghost.max_held);
    }
}

const QUIET: Scenario = Scenario {
    name: "",
    ops: &["P", "Q"],
    hand_overs: &[],
    nodes: 1,
    slow_complete: false,
    create_only: false,
    incarnations: false,
    crashes: 0,
    lost_answers: 0,
    restores: 0,
    clones: 0,
    recoveries: 0,
};

/// Two nodes on one database, a store whose Complete takes time, the lock goes P -> Q -> P.
static TO_AND_FRO: Scenario = Scenario {
    name: "P -> Q -> P, two nodes, S3 store",
    ops: &["P", "Q"],
    hand_overs: &["Q", "P"],
    nodes: 2,
    slow_complete: true,
    crashes: 1,
    ..QUIET
};

/// One cluster writes a key twice at once.
static TWICE_AT_ONCE: Scenario = Scenario {
    name: "P writes a key twice at once, two nodes, S3 store",
    ops: &["P", "P"],
    nodes: 2,
    slow_complete: true,
    crashes: 1,
    lost_answers: 1,
    ..QUIET
};

/// A store that publishes by rename.
static DIRECTORY: Scenario = Scenario {
    name: "P -> Q, two nodes, directory store",
    ops: &["P", "Q"],
    hand_overs: &["Q"],
    nodes: 2,
    crashes: 1,
    lost_answers: 1,
    ..QUIET
};

/// Both clusters want the same new root.
static SAME_ROOT: Scenario = Scenario {
    name: "P -> Q, both write index-N, two nodes, S3 store",
    ops: &["P", "Q"],
    hand_overs: &["Q"],
    nodes: 2,
    slow_complete: true,
    create_only: true,
    crashes: 1,
    lost_answers: 1,
    ..QUIET
};

/// Yesterday's database comes back.
static RESTORED: Scenario = Scenario {
    name: "P -> Q, database restored from a backup, recovery, S3 store",
    ops: &["P", "Q"],
    hand_overs: &["Q"],
    slow_complete: true,
    incarnations: true,
    restores: 1,
    recoveries: 1,
    ..QUIET
};

/// The virtual machine is cloned with its database, and both gateways run.
static CLONED: Scenario = Scenario {
    name: "P -> Q, two gateways on cloned databases, recovery, S3 store",
    ops: &["P", "Q"],
    hand_overs: &["Q"],
    slow_complete: true,
    incarnations: true,
    clones: 1,
    recoveries: 1,
    ..QUIET
};

fn holds(scenario: &'static Scenario) -> Explored<World> {
    let started = std::time::Instant::now();
    let explored = explore(World::new(scenario, None));
    println!(
        "{}: {} states in {:?}",
        scenario.name,
        explored.states,
        started.elapsed()
    );
    if let Some(found) = &explored.counterexample {
        panic!(
            "{}: {} after {:?}",
            scenario.name, found.broken, found.actions
        );
    }
    explored
}

/// The search must find a state that breaks one of the invariants whose names are given.
fn breaks(mutant: Mutant, scenario: &'static Scenario, invariants: &[&str]) {
    let explored = explore(World::new(scenario, Some(mutant)));
    let Some(found) = explored.counterexample else {
        panic!(
            "{mutant:?} goes unnoticed in all {} states",
            explored.states
        );
    };
    println!(
        "{mutant:?}: {} steps, {} ({} states seen)",
        found.actions.len(),
        found.broken,
        explored.states
    );
    assert!(
        invariants.iter().any(|w| found.broken.starts_with(w)),
        "{mutant:?} breaks {} by {:?}",
        found.broken,
        found.actions
    );
}

#[test]
fn a_hand_over_to_and_fro_keeps_every_invariant() {
    let explored = holds(&TO_AND_FRO);
    assert!(explored.reached.all_acknowledged);
    assert_eq!(explored.reached.highest_epoch, 3);
}

#[test]
fn a_hand_over_on_a_directory_keeps_every_invariant() {
    let explored = holds(&DIRECTORY);
    assert!(explored.reached.all_acknowledged);
    assert_eq!(explored.reached.highest_epoch, 2);
}

#[test]
fn two_writes_to_a_key_are_recorded_in_the_order_of_their_effect() {
    let explored = holds(&TWICE_AT_ONCE);
    assert!(explored.reached.all_acknowledged);
}

#[test]
fn a_root_is_created_once() {
    let explored = holds(&SAME_ROOT);
    assert!(!explored.reached.all_acknowledged);
}

#[test]
fn a_restored_database_freezes_and_recovers() {
    let explored = holds(&RESTORED);
    assert!(explored.reached.all_acknowledged);
    assert!(explored.reached.recovered);
}

#[test]
fn of_two_cloned_gateways_one_writes() {
    let explored = holds(&CLONED);
    assert!(explored.reached.all_acknowledged);
    assert!(explored.reached.recovered);
}

#[test]
fn each_step_of_a_hand_over_is_needed() {
    breaks(Mutant::FenceWithOpenIntents, &TO_AND_FRO, &["W4"]);
    breaks(Mutant::IntentWithoutLockCheck, &TO_AND_FRO, &["W3"]);
    breaks(Mutant::TwoIntentsPerKey, &TWICE_AT_ONCE, &["W6", "W7"]);
    breaks(Mutant::CommitWithoutIntent, &TO_AND_FRO, &["W8"]);
    breaks(Mutant::AcknowledgeBeforeCommit, &TO_AND_FRO, &["W5"]);
    breaks(Mutant::LostAnswerIsFailure, &DIRECTORY, &["W9"]);
    breaks(Mutant::PublishReplaces, &SAME_ROOT, &["W10"]);
}

#[test]
fn each_step_of_resolving_an_intent_is_needed() {
    breaks(Mutant::ResolveWithoutAbort, &TO_AND_FRO, &["W"]);
    breaks(Mutant::ResolveWithoutAbort, &DIRECTORY, &["W"]);
    breaks(Mutant::AbortOnceIsEnough, &TO_AND_FRO, &["W"]);
    breaks(Mutant::ReadBeforeAbort, &DIRECTORY, &["W"]);
}

#[test]
fn each_use_of_the_anchors_is_needed() {
    breaks(Mutant::HoldWithoutAnchor, &RESTORED, &["W2"]);
    breaks(Mutant::AnchorNotCreateOnly, &CLONED, &["W1", "W2"]);
    breaks(Mutant::MintIgnoringAnchors, &RESTORED, &["W"]);
}

#[test]
fn each_check_of_a_start_and_a_recovery_is_needed() {
    breaks(Mutant::StartWithoutSweep, &RESTORED, &["W"]);
    breaks(Mutant::StartWithoutRootCheck, &RESTORED, &["W6"]);
    breaks(Mutant::NoIncarnationCheck, &CLONED, &["W13"]);
    breaks(Mutant::IncarnationCheckBeforeUpload, &CLONED, &["W13"]);
    breaks(Mutant::RecoverWithoutSweep, &RESTORED, &["W"]);
}
