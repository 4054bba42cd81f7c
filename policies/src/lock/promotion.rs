//! A mirror becomes the primary: which epoch it is given, and what a crash on the way means.
//!
//! Invariants: the epoch of a promotion is above every epoch that the lock row and the target's anchors know, and is
//! minted by one create-only anchor on the target before anything else changes; an anchor on the target that is not
//! this promotion's ends it; a promotion whose anchor is there is carried through, one whose anchor is surely not
//! there may be taken back. Whether an old primary was taken over it learns from anchors alone: no clock, no vote.

use super::anchor::Anchor;
use super::{Freeze, Lock, Next};
use crate::identity::{Cluster, Epoch, Handover, StoreName};

const MIRROR: &str = "mirror of ";

/// The epoch under which a target is promoted.
#[must_use]
pub fn epoch(lock: &Lock, target: Option<&Anchor>) -> Epoch {
    let known = match lock {
        // The anchor of this hand-over may have been made.
        Lock::Fenced { epoch, .. } => epoch.next(),
        Lock::Draining { epoch, next, .. } => match next {
            Next::Hold(_) | Next::Recover => epoch.next(),
            Next::Release | Next::Freeze(_) => *epoch,
        },
        Lock::Frozen {
            epoch,
            reason: Freeze::AnchorAhead { anchor },
        } => (*epoch).max(*anchor),
        Lock::Vacant { epoch } | Lock::Held { epoch, .. } | Lock::Frozen { epoch, .. } => *epoch,
    };
    known
        .max(target.map_or(Epoch(0), |anchor| anchor.epoch))
        .next()
}

/// How a promotion goes on whose process ended on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Continuation {
    /// Its anchor is on the target.
    Complete,
    /// Its anchor is surely not there, and nothing else was changed.
    TakeBack,
    /// Somebody else minted an epoch on the target after it, or the target lost the anchor: an operator looks at it.
    Doubt,
}

/// `anchored`: the promotion noted that its anchor was there. `highest` is read from the target now.
#[must_use]
pub fn resume(
    epoch: Epoch,
    handover: &Handover,
    anchored: bool,
    highest: Option<&Anchor>,
) -> Continuation {
    let ours = highest.is_some_and(|a| a.epoch == epoch && a.handover == *handover);
    match (ours, anchored) {
        (true, _) => Continuation::Complete,
        (false, true) => Continuation::Doubt,
        (false, false) => Continuation::TakeBack,
    }
}

/// The lock of a repository that is on its way to another store.
#[must_use]
pub fn begin(lock: &Lock, store: &str) -> Lock {
    Lock::Frozen {
        epoch: lock.epoch(),
        reason: Freeze::Promoting(store.into()),
    }
}

/// What the highest anchor of a mirror's store tells its source. `ours` is the epoch and the hand-over under which
/// the mirror itself writes there.
#[must_use]
pub fn taken_over(
    store: &str,
    ours: (Epoch, &Handover),
    highest: Option<&Anchor>,
) -> Option<Freeze> {
    let found = highest?;
    let (epoch, handover) = ours;
    let foreign = found.epoch > epoch && found.handover != *handover && !is_mirror(found);
    foreign.then(|| Freeze::Promoted {
        store: store.into(),
        epoch: found.epoch,
    })
}

/// How the holder of a mirror's anchor is written; no cluster can have that name.
#[must_use]
pub fn mirror_of(source: &StoreName) -> Cluster {
    Cluster::new(format!("{MIRROR}{source}"))
}

#[must_use]
pub fn is_mirror(anchor: &Anchor) -> bool {
    let holder = anchor.holder.as_ref();
    holder.is_some_and(|holder| holder.as_str().starts_with(MIRROR))
}
