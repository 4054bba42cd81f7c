//! The checker bites: each step of the protocol that is left out, or done wrongly by the store, is a failure that it
//! names, within a bounded number of schedules.

use super::campaign::{campaign, number};
use crate::state::sqlite::simulated::mutant::LeftOut;

/// A step of the gateway or its store done wrongly, which the checker must notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The resolver's fence: the store says that the upload is gone, and keeps it.
    AbortDoesNothing,
    /// The lock row is not looked at in transactions.
    NoLockCheck,
    /// Anchors replace each other.
    AnchorsReplace,
    /// Who runs does not see that another gateway started.
    BlindToOthers,
    /// A recovery does not see which journal numbers were reserved.
    BlindToNumbers,
    /// A start does not look whether a copy of its database worked in the store since.
    NoStrangerCheck,
    /// The store answers before it has the bytes, and loses some.
    LosesWrites,
}

impl Mutant {
    /// What the state database leaves out; the other steps are the store's.
    pub fn left_out(self) -> Option<LeftOut> {
        match self {
            Self::NoLockCheck => Some(LeftOut::LockCheck),
            Self::NoStrangerCheck => Some(LeftOut::StrangerCheck),
            Self::AbortDoesNothing
            | Self::AnchorsReplace
            | Self::BlindToOthers
            | Self::BlindToNumbers
            | Self::LosesWrites => None,
        }
    }
}

/// The checker finds each of them, by the invariants that are given.
fn caught(mutant: Mutant, invariants: &[&str]) {
    const MOST: u64 = 500;
    let from = number("SNAPGATE_SCHEDULES_FROM").unwrap_or(1);
    let (met, found) = campaign(from, MOST, Some(mutant));
    let Some(found) = found else {
        panic!("{mutant:?} goes unnoticed in {MOST} schedules");
    };
    let verdict = found.lines().last().unwrap_or_default();
    println!("{mutant:?}: {verdict} ({} schedules)", met.schedules);
    let named = invariants
        .iter()
        .any(|w| verdict.contains(&format!(": {w}:")));
    assert!(named, "{mutant:?} is noticed as {verdict}");
}

#[test]
fn a_resolver_that_does_not_fence_is_caught() {
    caught(
        Mutant::AbortDoesNothing,
        &["W4", "W6", "W7", "W9", "W10", "W13", "W21"],
    );
}

#[test]
fn a_write_that_does_not_look_at_the_lock_is_caught() {
    // W9: a late write of an older epoch may also bring back what was deleted since.
    caught(Mutant::NoLockCheck, &["W3", "W4", "W9", "W13"]);
}

#[test]
fn anchors_that_replace_each_other_are_caught() {
    caught(Mutant::AnchorsReplace, &["W1", "W2", "W19"]);
}

#[test]
fn a_gateway_that_does_not_see_another_one_is_caught() {
    caught(Mutant::BlindToOthers, &["W13", "W10", "W4", "W19"]);
}

#[test]
fn a_start_that_does_not_look_who_worked_there_since_is_caught() {
    caught(Mutant::NoStrangerCheck, &["W19", "W13", "W5", "W16", "W6"]);
}

#[test]
fn a_recovery_that_does_not_see_reserved_numbers_is_caught() {
    caught(Mutant::BlindToNumbers, &["W19"]);
}

#[test]
fn a_store_that_loses_writes_is_caught() {
    caught(Mutant::LosesWrites, &["W5", "W6", "W16"]);
}
