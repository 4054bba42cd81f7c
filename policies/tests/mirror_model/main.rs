//! The mirror's protocol as a model: every state that a scenario can reach is visited, and the invariants M1-M4,
//! M7, M8, M14, M18 and M21 hold in each. Then each rule is left out, and the search must find how that breaks it: a
//! model that cannot fail proves nothing.
//!
//! State counts and lengths of counterexamples are printed: `cargo test --test mirror_model -- --nocapture`.
#![allow(clippy::unwrap_used)] // a test that fails may panic

mod mutant;
mod search;
mod world;

use mutant::Mutant;
use search::{Explored, explore};
use world::Op::{Delete, Put};
use world::{Scenario, World};

const QUIET: Scenario = Scenario {
    name: "",
    names: &[],
    journal: &[],
    closures: &[],
    targets: 1,
    crashes: 0,
    lost_answers: 0,
    duplicates: 0,
    promotions: 0,
    poison: None,
};

const DATA_A: usize = 0;
const DATA_B: usize = 1;
const SNAP: usize = 2;
const LATEST: usize = 3;
const ROOT_0: usize = 4;
const ROOT_1: usize = 5;
const ROOT_2: usize = 6;

const NAMES: &[&str] = &[
    "indices/i/0/__AAAAAAAAAAAAAAAAAAAAAA",
    "indices/i/0/__BBBBBBBBBBBBBBBBBBBBBB",
    "snap-s.dat",
    "index.latest",
    "index-0",
    "index-1",
    "index-2",
    "index-9",
];

/// Two snapshots, the second one's file rewritten after a failover of the master, then a delete.
static UUID_NAMES: Scenario = Scenario {
    name: "names used once: two snapshots, a rewrite, a delete",
    names: NAMES,
    journal: &[
        Put(DATA_A),
        Put(SNAP),
        Put(ROOT_0),
        Put(LATEST),
        Put(DATA_B),
        Put(SNAP),
        Put(ROOT_1),
        Put(LATEST),
        Delete(ROOT_0),
        Put(ROOT_2),
        Put(LATEST),
        Delete(DATA_A),
        Delete(ROOT_1),
    ],
    // The rewritten file parses to the same snapshot: either content will do.
    closures: &[
        &[(DATA_A, 1)],
        &[(DATA_A, 1), (DATA_B, 5), (SNAP, 6)],
        &[(DATA_B, 5), (SNAP, 6)],
    ],
    crashes: 1,
    lost_answers: 1,
    duplicates: 1,
    ..QUIET
};

const REUSED: &[&str] = &[
    "indices/i/0/__1",
    "indices/i/0/__2",
    "unused",
    "index.latest",
    "index-0",
    "index-1",
    "index-2",
    "index-9",
];

/// `__1` is deleted and used again with other content.
static REUSED_NAMES: Scenario = Scenario {
    name: "names used again",
    names: REUSED,
    journal: &[
        Put(DATA_A),
        Put(ROOT_0),
        Put(LATEST),
        Put(ROOT_1),
        Put(LATEST),
        Delete(ROOT_0),
        Delete(DATA_A),
        Put(DATA_A),
        Put(ROOT_2),
        Put(LATEST),
        Delete(ROOT_1),
    ],
    closures: &[&[(DATA_A, 1)], &[], &[(DATA_A, 8)]],
    crashes: 1,
    lost_answers: 1,
    duplicates: 1,
    ..QUIET
};

static TWO_TARGETS: Scenario = Scenario {
    name: "two targets",
    targets: 2,
    journal: &[
        Put(DATA_A),
        Put(ROOT_0),
        Put(LATEST),
        Put(ROOT_1),
        Delete(DATA_A),
        Delete(ROOT_0),
    ],
    closures: &[&[(DATA_A, 1)], &[]],
    crashes: 1,
    lost_answers: 1,
    names: NAMES,
    ..QUIET
};

/// The target is promoted while the old applier is at work.
static PROMOTED: Scenario = Scenario {
    name: "promotion",
    promotions: 1,
    lost_answers: 1,
    ..UUID_NAMES_ONCE
};

const UUID_NAMES_ONCE: Scenario = Scenario {
    name: "",
    names: NAMES,
    journal: &[
        Put(DATA_A),
        Put(ROOT_0),
        Put(LATEST),
        Put(DATA_B),
        Put(ROOT_1),
        Put(LATEST),
        Delete(ROOT_0),
        Put(ROOT_2),
        Put(LATEST),
        Delete(DATA_A),
        Delete(ROOT_1),
    ],
    closures: &[&[(DATA_A, 1)], &[(DATA_A, 1), (DATA_B, 4)], &[(DATA_B, 4)]],
    crashes: 1,
    ..QUIET
};

/// The second snapshot's data rotted at the source.
static POISONED: Scenario = Scenario {
    name: "an entry that cannot be copied",
    poison: Some(4),
    lost_answers: 1,
    ..UUID_NAMES_ONCE
};

fn holds(scenario: &'static Scenario) -> Explored {
    let started = std::time::Instant::now();
    let explored = explore(World::new(scenario, None));
    let (states, took) = (explored.states, started.elapsed());
    println!("{}: {states} states in {took:?}", scenario.name);
    if let Some((broken, actions)) = &explored.counterexample {
        panic!("{}: {broken} after {actions:#?}", scenario.name);
    }
    explored
}

/// The search must find a state that breaks one of the invariants whose names are given.
fn breaks(mutant: Mutant, scenario: &'static Scenario, invariants: &[&str]) {
    let explored = explore(World::new(scenario, Some(mutant)));
    let Some((broken, actions)) = explored.counterexample else {
        panic!(
            "{mutant:?} goes unnoticed in all {} states",
            explored.states
        );
    };
    let steps = actions.len();
    println!(
        "{mutant:?}: {steps} steps, {broken} ({} states seen)",
        explored.states
    );
    let expected = invariants.iter().any(|m| broken.starts_with(m));
    assert!(expected, "{mutant:?} breaks {broken} by {actions:?}");
    assert!(steps <= 30, "{mutant:?} needs {steps} steps");
}

#[test]
fn names_used_once_are_mirrored_so_that_every_instant_restores() {
    assert!(holds(&UUID_NAMES).all_applied);
}

#[test]
fn names_used_again_are_mirrored_so_that_every_instant_restores() {
    assert!(holds(&REUSED_NAMES).all_applied);
}

#[test]
fn two_targets_follow_one_journal() {
    assert!(holds(&TWO_TARGETS).all_applied);
}

#[test]
fn a_promoted_target_is_not_changed_by_its_old_applier() {
    assert!(holds(&PROMOTED).all_applied);
}

#[test]
fn an_entry_that_cannot_be_copied_stops_the_mirror_at_a_root_that_restores() {
    let explored = holds(&POISONED);
    assert_eq!(explored.highest_applied, 3);
}

#[test]
fn each_rule_of_the_order_is_needed() {
    breaks(Mutant::Unordered, &UUID_NAMES, &["M2", "M4"]);
    breaks(Mutant::RootFirst, &UUID_NAMES, &["M2"]);
    breaks(Mutant::RemovalsBeforeTheRoot, &UUID_NAMES, &["M2", "M3"]);
    breaks(Mutant::PointerBeforeTheRoot, &UUID_NAMES, &["M4"]);
    breaks(Mutant::PointerIsCopied, &UUID_NAMES, &["M4"]);
    breaks(Mutant::CoalescesReusedNames, &REUSED_NAMES, &["M2"]);
}

#[test]
fn each_care_of_the_applier_is_needed() {
    breaks(Mutant::AppliedWhenSent, &UUID_NAMES, &["M1"]);
    breaks(Mutant::ExistsIsTrusted, &REUSED_NAMES, &["M1", "M2"]);
    breaks(Mutant::CreationReplaces, &REUSED_NAMES, &["M1", "M2"]);
    breaks(Mutant::UnfencedReplacement, &UUID_NAMES, &["M"]);
    breaks(Mutant::NoFence, &PROMOTED, &["M21"]);
    breaks(Mutant::PoisonIsSkipped, &POISONED, &["M2", "M14"]);
}
