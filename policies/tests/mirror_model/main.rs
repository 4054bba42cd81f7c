//! The mirror's protocol as a model: every state that a scenario can reach is visited, and the invariants M1-M4,
//! M7, M8, M11, M14, M18 and M21 hold in each. Then each rule is left out, and the search must find how that breaks it: a
//! model that cannot fail proves nothing.
//!
//! State counts and lengths of counterexamples are printed: `cargo test --test mirror_model -- --nocapture`.
#![allow(clippy::unwrap_used)] // a test that fails may panic

mod invariants;
mod mutant;
mod resync;
#[path = "../search/mod.rs"]
mod search;
mod steps;
mod world;

use mutant::Mutant;
use search::{Explored, Model, explore};
use world::Op::{Delete, Put};
use world::{Action, FOREIGN, Scenario, World};

/// What some state reached.
#[derive(Debug, Default)]
pub struct Reached {
    /// The target had everything.
    all_applied: bool,
    highest_applied: u64,
}

impl Model for World {
    type Action = Action;
    type Reached = Reached;

    fn actions(&self) -> Vec<Action> {
        World::actions(self)
    }

    fn act(&mut self, action: &Action) {
        World::act(self, *action);
    }

    fn broken(&self) -> Option<String> {
        World::broken(self)
    }

    fn note(&self, reached: &mut Reached) {
        reached.all_applied |= self.all_applied();
        reached.highest_applied = reached.highest_applied.max(self.highest_applied());
    }
}

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
    before: 0,
    there: &[],
    aside: false,
    lost_journals: 0,
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

/// The mirror is made when two snapshots are there, one of them partly deleted; the journal is lost once more.
static NEW_MIRROR: Scenario = Scenario {
    name: "a new mirror of an old repository",
    before: 8,
    lost_journals: 1,
    crashes: 1,
    lost_answers: 0,
    duplicates: 0,
    ..UUID_NAMES
};

/// The journal is lost while the mirror follows it.
static LOST_JOURNAL: Scenario = Scenario {
    name: "a lost journal",
    lost_journals: 1,
    crashes: 0,
    lost_answers: 0,
    duplicates: 0,
    ..UUID_NAMES
};

/// The same with failures, of a shorter history.
static LOST_JOURNAL_AND_FAILURES: Scenario = Scenario {
    name: "a lost journal, a crash, a lost answer",
    lost_journals: 1,
    crashes: 1,
    lost_answers: 1,
    ..UUID_NAMES_ONCE
};

/// A promoted target is not touched by its old applier's reconciliation either.
static PROMOTED_MEANWHILE: Scenario = Scenario {
    name: "promotion during a reconciliation",
    before: 6,
    promotions: 1,
    lost_answers: 1,
    ..UUID_NAMES_ONCE
};

/// An old primary returns as a mirror. It has a root of its own, `index-1`, which needs what root 0 needs.
static RETURNED: Scenario = Scenario {
    name: "the old primary returns",
    before: 6,
    there: &[(DATA_A, 1), (LATEST, 2), (ROOT_0, 2), (ROOT_1, FOREIGN)],
    aside: true,
    lost_answers: 1,
    ..UUID_NAMES_ONCE
};

fn holds(scenario: &'static Scenario) -> Explored<World> {
    let started = std::time::Instant::now();
    let explored = explore(World::new(scenario, None));
    let (states, took) = (explored.states, started.elapsed());
    println!("{}: {states} states in {took:?}", scenario.name);
    if let Some(found) = &explored.counterexample {
        let (broken, actions) = (&found.broken, &found.actions);
        panic!("{}: {broken} after {actions:#?}", scenario.name);
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
    let (broken, actions) = (found.broken, found.actions);
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
    assert!(holds(&UUID_NAMES).reached.all_applied);
}

#[test]
fn names_used_again_are_mirrored_so_that_every_instant_restores() {
    assert!(holds(&REUSED_NAMES).reached.all_applied);
}

#[test]
fn two_targets_follow_one_journal() {
    assert!(holds(&TWO_TARGETS).reached.all_applied);
}

#[test]
fn a_promoted_target_is_not_changed_by_its_old_applier() {
    assert!(holds(&PROMOTED).reached.all_applied);
}

#[test]
fn an_entry_that_cannot_be_copied_stops_the_mirror_at_a_root_that_restores() {
    let explored = holds(&POISONED);
    assert_eq!(explored.reached.highest_applied, 3);
}

#[test]
fn a_new_mirror_and_a_lost_journal_are_reconciled_so_that_every_instant_restores() {
    assert!(holds(&NEW_MIRROR).reached.all_applied);
    assert!(holds(&LOST_JOURNAL).reached.all_applied);
    assert!(holds(&LOST_JOURNAL_AND_FAILURES).reached.all_applied);
}

#[test]
fn a_target_that_is_promoted_while_it_is_reconciled_is_not_changed_any_more() {
    assert!(holds(&PROMOTED_MEANWHILE).reached.all_applied);
}

#[test]
fn an_old_primary_is_brought_back_and_its_own_root_kept_aside() {
    assert!(holds(&RETURNED).reached.all_applied);
}

#[test]
fn each_rule_of_reconciling_is_needed() {
    breaks(Mutant::ResyncRootFirst, &NEW_MIRROR, &["M2"]);
    breaks(Mutant::ResyncDoesNotFollow, &NEW_MIRROR, &["M1", "M2"]);
    breaks(Mutant::ResyncRemovesAtOnce, &NEW_MIRROR, &["M2"]);
    breaks(Mutant::ResyncSkipsWhatCameMeanwhile, &NEW_MIRROR, &["M1"]);
    breaks(Mutant::TransfersAreNotSettled, &LOST_JOURNAL, &["M1", "M2"]);
    breaks(Mutant::JournalIsAppliedMeanwhile, &NEW_MIRROR, &["M2"]);
    breaks(Mutant::NoFence, &PROMOTED_MEANWHILE, &["M3", "M21"]);
    breaks(Mutant::OlderRootsComeLate, &NEW_MIRROR, &["M1"]);
    breaks(Mutant::PointerIsLeftBehind, &RETURNED, &["M4"]);
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
