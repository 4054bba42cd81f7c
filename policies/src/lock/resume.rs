//! What a start finds half done, and how it goes on.
//!
//! Invariant: before a gateway listens, its row and the store's anchors agree, or the repository is
//! frozen; and every crash point of a hand-over has exactly one continuation. Anchors come first: a
//! database that is older than the store must not touch what it finds.

use super::anchor::{Anchor, BrokenChain};
use super::event::{Effect, Event, Outcome, Patience};
use super::machine::{self, step};
use super::{Freeze, Lock};
use crate::identity::Handover;

/// What was read at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Findings {
    /// The highest anchor, if they form one chain.
    pub anchors: Result<Option<Anchor>, BrokenChain>,
    pub intents_open: bool,
    /// A fresh id for a hand-over that this start carries on.
    pub handover: Handover,
}

#[must_use]
pub fn resume(lock: &Lock, findings: Findings) -> Outcome {
    let highest = match findings.anchors {
        Ok(highest) => highest,
        Err(broken) => return step(lock, Event::Doubt(Freeze::AnchorBroken(broken.to_string()))),
    };
    let told = step(lock, Event::Anchors { highest });
    if matches!(told, Outcome::Move(_)) {
        return told;
    }
    match lock {
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. }
            if findings.intents_open =>
        {
            Outcome::Stay(vec![Effect::EndIntents {
                patience: Patience::None,
            }])
        }
        Lock::Vacant { .. } | Lock::Held { .. } => Outcome::Stay(vec![]),
        Lock::Draining { .. } => step(
            lock,
            Event::Drained {
                handover: findings.handover,
            },
        ),
        Lock::Fenced {
            epoch,
            next,
            handover,
        } => Outcome::Stay(vec![
            Effect::AbortUploads { up_to: *epoch },
            machine::create_anchor(*epoch, next, handover),
        ]),
        Lock::Frozen {
            epoch,
            reason: Freeze::Recovering,
        } => Outcome::Stay(machine::rebuild(*epoch)),
        Lock::Frozen { .. } => Outcome::Stay(vec![]),
    }
}
