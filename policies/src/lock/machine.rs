//! The lock's state machine: state and event in, next state and what is to be done out.
//!
//! Invariants: an epoch is held only after its anchor was created create-only; the anchor is created
//! only when no intent of an older epoch is open; every doubt ends in FROZEN, from any state. An event
//! that finds its work done already changes nothing, so every one of them may be repeated: after a
//! lost answer, by another node, by a restart. Nobody carries out half of a step: the shell moves the
//! row by compare-and-set to [`Step::lock`], then does the effects, then reports what came of them.

use super::anchor::Anchor;
use super::event::{Action, Denied, Effect, Event, Outcome, Patience, Step};
use super::{Freeze, Lock, Next};
use crate::identity::{Cluster, Epoch, Handover};

/// The one transition function.
#[must_use]
pub fn step(lock: &Lock, event: Event) -> Outcome {
    match event {
        Event::Take { writer, handover } => take(lock, writer, handover),
        Event::OperatorLock {
            writer,
            patience,
            handover,
        } => operator_lock(lock, writer, patience, handover),
        Event::Unlock => unlock(lock),
        Event::Freeze { reason } => freeze(lock, reason),
        Event::Thaw {
            recover: true,
            anchor,
            handover,
            ..
        } => recover(lock, anchor, handover),
        Event::Thaw {
            recover: false,
            anchor,
            drained,
            ..
        } => thaw(lock, anchor, drained),
        Event::Drained { handover } => drained(lock, handover),
        Event::Anchors { highest } => anchors(lock, highest.as_ref()),
        Event::Rebuilt { drained } => rebuilt(lock, drained),
        Event::Adopted { anchor } => adopted(lock, anchor),
        Event::Doubt(reason) => doubt(lock, reason),
    }
}

fn moved(lock: Lock, action: Action, effects: Vec<Effect>) -> Outcome {
    Outcome::Move(Step {
        lock,
        effects,
        action,
    })
}

fn take(lock: &Lock, writer: Cluster, handover: Handover) -> Outcome {
    match lock {
        Lock::Vacant { epoch } => fence(*epoch, Next::Hold(writer), handover, Action::Take),
        Lock::Held { .. } | Lock::Draining { .. } | Lock::Fenced { .. } | Lock::Frozen { .. } => {
            Outcome::Stay(vec![])
        }
    }
}

fn operator_lock(lock: &Lock, writer: Cluster, patience: Patience, handover: Handover) -> Outcome {
    match lock {
        Lock::Vacant { epoch } => fence(*epoch, Next::Hold(writer), handover, Action::Lock),
        Lock::Held { .. } => drain(lock, Next::Hold(writer), patience, Action::Lock),
        Lock::Draining {
            next: Next::Hold(_) | Next::Release,
            ..
        } => drain(lock, Next::Hold(writer), patience, Action::Lock),
        Lock::Draining {
            next: Next::Freeze(_) | Next::Recover,
            ..
        } => Outcome::Deny(Denied::Freezing),
        Lock::Fenced {
            epoch,
            next: next @ Next::Hold(heir),
            handover,
        } if *heir == writer => Outcome::Stay(vec![create_anchor(*epoch, next, handover)]),
        Lock::Fenced { .. } => Outcome::Deny(Denied::HandOverUnderWay),
        Lock::Frozen { reason, .. } => Outcome::Deny(Denied::Frozen(reason.clone())),
    }
}

fn unlock(lock: &Lock) -> Outcome {
    match lock {
        Lock::Vacant { .. } => Outcome::Stay(vec![]),
        Lock::Held { .. } => drain(lock, Next::Release, Patience::Owners, Action::Unlock),
        Lock::Draining {
            next: Next::Hold(_) | Next::Release,
            ..
        } => drain(lock, Next::Release, Patience::Owners, Action::Unlock),
        Lock::Draining {
            next: Next::Freeze(_) | Next::Recover,
            ..
        } => Outcome::Deny(Denied::Freezing),
        Lock::Fenced { .. } => Outcome::Deny(Denied::HandOverUnderWay),
        Lock::Frozen { reason, .. } => Outcome::Deny(Denied::Frozen(reason.clone())),
    }
}

fn freeze(lock: &Lock, reason: String) -> Outcome {
    match lock {
        Lock::Vacant { epoch } => moved(
            Lock::Frozen {
                epoch: *epoch,
                reason: Freeze::Operator(reason),
            },
            Action::Freeze,
            vec![],
        ),
        Lock::Held { .. } | Lock::Draining { .. } => {
            drain(lock, Next::Freeze(reason), Patience::Owners, Action::Freeze)
        }
        Lock::Fenced { .. } => Outcome::Deny(Denied::HandOverUnderWay),
        Lock::Frozen { .. } => Outcome::Stay(vec![]),
    }
}

/// HELD or DRAINING -> DRAINING towards `next`. Until it is fenced the goal may still change.
fn drain(lock: &Lock, next: Next, patience: Patience, action: Action) -> Outcome {
    let effects = vec![Effect::EndIntents { patience }];
    match lock {
        Lock::Draining { next: already, .. } if *already == next => Outcome::Stay(effects),
        Lock::Held { epoch, holder } | Lock::Draining { epoch, holder, .. } => moved(
            Lock::Draining {
                epoch: *epoch,
                holder: holder.clone(),
                next,
            },
            action,
            effects,
        ),
        Lock::Vacant { .. } | Lock::Fenced { .. } | Lock::Frozen { .. } => Outcome::Stay(vec![]),
    }
}

fn drained(lock: &Lock, handover: Handover) -> Outcome {
    let Lock::Draining { epoch, next, .. } = lock else {
        return Outcome::Stay(vec![]);
    };
    let epoch = *epoch;
    let uploads = vec![Effect::AbortUploads { up_to: epoch }];
    match next {
        Next::Hold(_) | Next::Recover => fence(epoch, next.clone(), handover, Action::Fence),
        Next::Release => moved(Lock::Vacant { epoch }, Action::Release, uploads),
        Next::Freeze(reason) => moved(
            Lock::Frozen {
                epoch,
                reason: Freeze::Operator(reason.clone()),
            },
            Action::Freeze,
            uploads,
        ),
    }
}

fn fence(epoch: Epoch, next: Next, handover: Handover, action: Action) -> Outcome {
    let effects = vec![
        Effect::AbortUploads { up_to: epoch },
        create_anchor(epoch, &next, &handover),
    ];
    moved(
        Lock::Fenced {
            epoch,
            next,
            handover,
        },
        action,
        effects,
    )
}

pub(super) fn create_anchor(epoch: Epoch, next: &Next, handover: &Handover) -> Effect {
    Effect::CreateAnchor {
        epoch: epoch.next(),
        holder: match next {
            Next::Hold(heir) => Some(heir.clone()),
            Next::Release | Next::Freeze(_) | Next::Recover => None,
        },
        handover: handover.clone(),
    }
}

/// The store's highest anchor against the row.
fn anchors(lock: &Lock, highest: Option<&Anchor>) -> Outcome {
    let anchor = highest.map_or(Epoch(0), |a| a.epoch);
    if let (
        Lock::Fenced {
            epoch,
            next,
            handover,
        },
        Some(found),
    ) = (lock, highest)
        && found.epoch == epoch.next()
        && found.handover == *handover
    {
        return anchored(found.epoch, next);
    }
    let epoch = lock.epoch();
    if anchor > epoch {
        return doubt(lock, Freeze::AnchorAhead { anchor });
    }
    if anchor < epoch {
        return doubt(lock, Freeze::AnchorBehind { anchor });
    }
    match lock {
        Lock::Held { holder, .. } | Lock::Draining { holder, .. }
            if highest.and_then(|a| a.holder.as_ref()) != Some(holder) =>
        {
            doubt(lock, Freeze::OtherGateway)
        }
        Lock::Fenced {
            epoch,
            next,
            handover,
        } => Outcome::Stay(vec![create_anchor(*epoch, next, handover)]),
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } | Lock::Frozen { .. } => {
            Outcome::Stay(vec![])
        }
    }
}

/// Our anchor is there: the epoch is minted.
fn anchored(epoch: Epoch, next: &Next) -> Outcome {
    match next {
        Next::Hold(heir) => moved(
            Lock::Held {
                epoch,
                holder: heir.clone(),
            },
            Action::Hold,
            vec![],
        ),
        Next::Release => moved(Lock::Vacant { epoch }, Action::Release, vec![]),
        Next::Freeze(reason) => moved(
            Lock::Frozen {
                epoch,
                reason: Freeze::Operator(reason.clone()),
            },
            Action::Freeze,
            vec![],
        ),
        Next::Recover => moved(
            Lock::Frozen {
                epoch,
                reason: Freeze::Recovering,
            },
            Action::Recover,
            rebuild(epoch),
        ),
    }
}

/// What a recovery does once every other gateway is fenced by its anchor.
pub(super) fn rebuild(epoch: Epoch) -> Vec<Effect> {
    vec![
        Effect::EndIntents {
            patience: Patience::None,
        },
        Effect::AbortUploads { up_to: epoch },
        Effect::RebuildCatalog,
    ]
}

fn thaw(lock: &Lock, anchor: Epoch, drained: bool) -> Outcome {
    let Lock::Frozen { epoch, reason } = lock else {
        return Outcome::Deny(Denied::NotFrozen);
    };
    match reason {
        Freeze::Operator(_) | Freeze::StoreUnreachable if anchor > *epoch => {
            doubt(lock, Freeze::AnchorAhead { anchor })
        }
        Freeze::Operator(_) | Freeze::StoreUnreachable if anchor < *epoch => {
            doubt(lock, Freeze::AnchorBehind { anchor })
        }
        Freeze::Operator(_) | Freeze::StoreUnreachable if !drained => {
            Outcome::Stay(vec![Effect::EndIntents {
                patience: Patience::None,
            }])
        }
        Freeze::Operator(_) | Freeze::StoreUnreachable => {
            moved(Lock::Vacant { epoch: *epoch }, Action::Thaw, vec![])
        }
        Freeze::Unadopted => Outcome::Deny(Denied::NeedsAdopt),
        Freeze::AnchorAhead { .. }
        | Freeze::AnchorBehind { .. }
        | Freeze::AnchorBroken(_)
        | Freeze::OtherGateway
        | Freeze::DatabaseMoved
        | Freeze::RootAppeared(_)
        | Freeze::Recovering
        | Freeze::UnadoptedMirror(_)
        | Freeze::Promoting(_)
        | Freeze::Promoted { .. } => Outcome::Deny(Denied::NeedsRecover(reason.clone())),
    }
}

/// Fences every other gateway first, by an epoch above all that the store and the row know; only then
/// is what the store holds read. Read first, and a gateway that still writes would not be noticed.
fn recover(lock: &Lock, anchor: Epoch, handover: Handover) -> Outcome {
    match lock {
        Lock::Frozen {
            epoch,
            reason: Freeze::Recovering,
        } if *epoch == anchor => Outcome::Stay(rebuild(*epoch)),
        // Its catalog is being made what another store has.
        Lock::Frozen {
            reason: reason @ Freeze::Promoting(_),
            ..
        } => Outcome::Deny(Denied::NeedsRecover(reason.clone())),
        Lock::Frozen { epoch, .. } => {
            fence(anchor.max(*epoch), Next::Recover, handover, Action::Recover)
        }
        Lock::Fenced {
            epoch,
            next: next @ Next::Recover,
            handover,
        } => Outcome::Stay(vec![create_anchor(*epoch, next, handover)]),
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } | Lock::Fenced { .. } => {
            Outcome::Deny(Denied::NotFrozen)
        }
    }
}

fn rebuilt(lock: &Lock, drained: bool) -> Outcome {
    match lock {
        Lock::Frozen {
            epoch,
            reason: Freeze::Recovering,
        } if drained => moved(Lock::Vacant { epoch: *epoch }, Action::Thaw, vec![]),
        Lock::Frozen {
            epoch,
            reason: Freeze::Recovering,
        } => Outcome::Stay(rebuild(*epoch)),
        Lock::Vacant { .. }
        | Lock::Held { .. }
        | Lock::Draining { .. }
        | Lock::Fenced { .. }
        | Lock::Frozen { .. } => Outcome::Stay(vec![]),
    }
}

/// A store that has epochs of its own is no repository that somebody left there; a mirror's are gone on from by a promotion.
fn adopted(lock: &Lock, anchor: Epoch) -> Outcome {
    let Lock::Frozen {
        epoch,
        reason: reason @ (Freeze::Unadopted | Freeze::UnadoptedMirror(_)),
    } = lock
    else {
        return Outcome::Stay(vec![]);
    };
    if anchor == *epoch {
        moved(Lock::Vacant { epoch: *epoch }, Action::Adopt, vec![])
    } else if let Freeze::UnadoptedMirror(_) = reason {
        Outcome::Deny(Denied::NeedsRecover(reason.clone()))
    } else {
        doubt(lock, Freeze::AnchorAhead { anchor })
    }
}

/// Doubt freezes, from any state. A reason that `thaw` alone could end gives way to one that needs
/// more; the first of those stays, for it is what an operator has to look at.
fn doubt(lock: &Lock, reason: Freeze) -> Outcome {
    if let Lock::Frozen { reason: known, .. } = lock {
        let keeps = match known {
            Freeze::Operator(_) | Freeze::Unadopted | Freeze::StoreUnreachable => {
                *known == reason || reason == Freeze::StoreUnreachable
            }
            Freeze::Recovering => {
                matches!(reason, Freeze::StoreUnreachable | Freeze::RootAppeared(_))
            }
            Freeze::AnchorAhead { .. }
            | Freeze::AnchorBehind { .. }
            | Freeze::AnchorBroken(_)
            | Freeze::OtherGateway
            | Freeze::DatabaseMoved
            | Freeze::RootAppeared(_)
            | Freeze::UnadoptedMirror(_)
            | Freeze::Promoting(_)
            | Freeze::Promoted { .. } => true,
        };
        if keeps {
            return Outcome::Stay(vec![]);
        }
    }
    moved(
        Lock::Frozen {
            epoch: lock.epoch(),
            reason,
        },
        Action::Doubt,
        vec![],
    )
}
