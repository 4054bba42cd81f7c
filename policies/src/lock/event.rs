//! The words of the state machine: what happens to a lock, what is to be done, what is denied.

use super::anchor::Anchor;
use super::{Freeze, Lock};
use crate::identity::{Cluster, Epoch, Handover, Repository};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A writer met a vacant lock in `auto` mode.
    Take {
        writer: Cluster,
        handover: Handover,
    },
    /// `snapgate lock REPO --writer WRITER`
    OperatorLock {
        writer: Cluster,
        patience: Patience,
        handover: Handover,
    },
    Unlock,
    Freeze {
        reason: String,
    },
    /// `anchor` is the highest in the store (0 = none), read for this event; `drained`: no intent is open.
    Thaw {
        recover: bool,
        anchor: Epoch,
        drained: bool,
        handover: Handover,
    },
    /// No intent is open, seen after the lock began to drain.
    Drained {
        handover: Handover,
    },
    /// The highest anchor in the store, read or just created.
    Anchors {
        highest: Option<Anchor>,
    },
    /// The catalog was rebuilt from the store after the recovery's anchor was there.
    Rebuilt {
        drained: bool,
    },
    /// The catalog knows now what the store held. `anchor` as in `Thaw`.
    Adopted {
        anchor: Epoch,
    },
    /// Something does not fit: stop writing now.
    Doubt(Freeze),
}

/// How long a drain waits for the owners of open intents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// They get the time that held-up clients wait (25 s), then are resolved.
    Owners,
    /// `--force`: they are resolved at once. Never skipped.
    None,
}

/// What the shell has to do. All of them may be repeated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Bring every open intent to its end, then report [`Event::Drained`].
    EndIntents { patience: Patience },
    /// Abort the uploads that clients began under epochs up to this one.
    AbortUploads { up_to: Epoch },
    /// Create the anchor create-only, then report the highest one there is, whoever made it.
    CreateAnchor {
        epoch: Epoch,
        holder: Option<Cluster>,
        handover: Handover,
    },
    /// Abort every hidden upload in the store, read the store, make the catalog fit; then report
    /// [`Event::Rebuilt`].
    RebuildCatalog,
}

/// One move of the lock, or work to be done without one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub lock: Lock,
    pub effects: Vec<Effect>,
    pub action: Action,
}

/// The word in the audit log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Take,
    Lock,
    Unlock,
    Freeze,
    Thaw,
    Recover,
    Fence,
    Hold,
    Release,
    Adopt,
    Doubt,
}

impl Action {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Recover => "recover",
            Self::Fence => "fence",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Adopt => "adopt",
            Self::Doubt => "doubt",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Compare-and-set the row to `Step::lock`, with the audit record, then do the effects.
    Move(Step),
    /// The row stays; these effects are (still) to be done.
    Stay(Vec<Effect>),
    Deny(Denied),
}

/// Why an operator's wish is not granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denied {
    Frozen(Freeze),
    NotFrozen,
    Freezing,
    HandOverUnderWay,
    NeedsAdopt,
    NeedsRecover(Freeze),
}

impl Denied {
    /// What the operator reads.
    #[must_use]
    pub fn sentence(&self, repository: &Repository) -> String {
        match self {
            Self::Frozen(reason) => format!(
                "Repository '{repository}' is frozen: {reason}. The lock does not move until {}",
                reason.remedy(repository)
            ),
            Self::NotFrozen => format!("Repository '{repository}' is not frozen."),
            Self::Freezing => format!(
                "Repository '{repository}' is being frozen; when it is, run: snapgate thaw {repository}"
            ),
            Self::HandOverUnderWay => format!(
                "A hand-over of repository '{repository}' waits for its record in the store; try again \
                 when snapgate status {repository} shows the new holder."
            ),
            Self::NeedsAdopt => format!(
                "Repository '{repository}' is frozen because its store holds objects that this gateway \
                 does not know; run: snapgate adopt {repository}"
            ),
            Self::NeedsRecover(reason) => format!(
                "Repository '{repository}' is frozen: {reason}. It stays so until {}",
                reason.remedy(repository)
            ),
        }
    }
}
