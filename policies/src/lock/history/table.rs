//! How a lock can move, as what is left of it in records: smaller than the state machine, and apart from it.

use super::Wrong;
use crate::lock::{Freeze, Lock, Next};

pub(super) fn possible(is: bool, before: &Lock, after: &Lock) -> Result<(), Wrong> {
    if is {
        return Ok(());
    }
    Err(Wrong::Impossible {
        before: before.clone(),
        after: after.clone(),
    })
}

/// From these a repository becomes writable only when its catalog was read anew, or moved to another store.
pub(super) fn unforgotten(before: &Lock) -> Result<(), Wrong> {
    let Lock::Frozen { reason, .. } = before else {
        return Ok(());
    };
    match reason {
        Freeze::Operator(_)
        | Freeze::Unadopted
        | Freeze::UnadoptedMirror(_)
        | Freeze::StoreUnreachable
        | Freeze::Recovering => Ok(()),
        Freeze::AnchorAhead { .. }
        | Freeze::AnchorBehind { .. }
        | Freeze::AnchorBroken(_)
        | Freeze::OtherGateway
        | Freeze::DatabaseMoved
        | Freeze::RootAppeared(_)
        | Freeze::Promoting(_)
        | Freeze::Promoted { .. } => Err(Wrong::DoubtForgotten {
            reason: reason.clone(),
        }),
    }
}

/// Drained and released, a release whose anchor is there, or thawed.
pub(super) fn becomes_vacant(before: &Lock, after: &Lock) -> bool {
    let (from, to) = (before.epoch(), after.epoch());
    match before {
        Lock::Draining {
            next: Next::Release,
            ..
        }
        | Lock::Frozen { .. } => from == to,
        Lock::Fenced {
            next: Next::Release,
            ..
        } => from.next() == to,
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } | Lock::Fenced { .. } => {
            false
        }
    }
}

/// A vacant lock is taken, a drained one goes on to who it was drained for, a frozen one is recovered.
pub(super) fn becomes_fenced(before: &Lock, next: &Next, after: &Lock) -> bool {
    let same = before.epoch() == after.epoch();
    match before {
        Lock::Vacant { .. } => same && matches!(next, Next::Hold(_)),
        Lock::Draining { next: towards, .. } => {
            same && towards == next && matches!(next, Next::Hold(_) | Next::Recover)
        }
        // The store may know epochs that this database does not.
        Lock::Frozen { .. } => matches!(next, Next::Recover),
        Lock::Held { .. } | Lock::Fenced { .. } => false,
    }
}

/// From anywhere by a doubt; with the fence's own epoch once its anchor is there.
pub(super) fn becomes_frozen(before: &Lock, reason: &Freeze, after: &Lock) -> bool {
    let (from, to) = (before.epoch(), after.epoch());
    match (before, reason) {
        (
            Lock::Fenced {
                next: Next::Recover,
                ..
            },
            Freeze::Recovering,
        )
        | (
            Lock::Fenced {
                next: Next::Freeze(_),
                ..
            },
            Freeze::Operator(_),
        ) => from.next() == to,
        (_, Freeze::Recovering) => false,
        (
            _,
            Freeze::Operator(_)
            | Freeze::Unadopted
            | Freeze::UnadoptedMirror(_)
            | Freeze::StoreUnreachable
            | Freeze::AnchorAhead { .. }
            | Freeze::AnchorBehind { .. }
            | Freeze::AnchorBroken(_)
            | Freeze::OtherGateway
            | Freeze::DatabaseMoved
            | Freeze::RootAppeared(_)
            | Freeze::Promoting(_)
            | Freeze::Promoted { .. },
        ) => from == to,
    }
}
