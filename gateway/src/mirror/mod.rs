//! Follows a repository's journal onto another store, so that the other store restores at every instant.
//!
//! One applier per (repository, target), of all nodes on one database: `policies::mirror_order` says what may be done
//! now, the applier does it and reports what the target confirmed. A target that is slow, away or broken is waited for and never slows
//! the source: nothing of a client's request waits here, except for roots in `barrier` mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use policies::identity::StoreName;
use policies::key::ObjectKey;

use crate::checkpoint;
use crate::state;
use crate::stores::{self, Store};

mod applier;
mod barrier;
mod control;
mod fence;
mod horizon;
pub mod lookout;
mod pace;
pub mod plan;
mod remote;
mod resync;
mod scrub;
pub mod source;
pub mod status;
mod sweep;
mod throttle;
mod transfer;
pub mod verify;
mod work;

#[cfg(test)]
mod tests;

pub use control::{Asleep, Mirror, Mirrors};
pub use source::Source;

use plan::TargetPlan;
use throttle::Throttle;

/// One repository, one target, and what lies between them.
#[derive(Debug)]
pub struct Link {
    pub source: Source,
    pub target_name: StoreName,
    pub target: Arc<dyn Store>,
    pub plan: RwLock<TargetPlan>,
    pub journal_limit: u64,
    pub throttle: Throttle,
    /// Transfers under way give up at their next chunk.
    interrupted: AtomicBool,
}

impl Link {
    fn check_interrupted(&self) -> Result<(), Trouble> {
        if self.interrupted.load(Ordering::Acquire) {
            Err(Trouble::Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Why something could not be done on a mirror.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Trouble {
    /// What the source holds must not be copied.
    #[error("{0}")]
    Poison(String),
    #[error("the content was replaced meanwhile")]
    Superseded,
    #[error("the source has no bytes of it any more")]
    Gone,
    #[error("the source's store: {0}")]
    Source(stores::Error),
    #[error("the target: {0}")]
    Target(stores::Error),
    #[error(transparent)]
    State(#[from] state::Error),
    /// For good.
    #[error("{0}")]
    Fenced(String),
    /// Another node of the same database applies by now.
    #[error("another node has taken over")]
    Relieved,
    /// It was paused, stopped or told something else.
    #[error("interrupted")]
    Interrupted,
    #[error("'{key}': {why}")]
    Stuck {
        key: ObjectKey,
        why: policies::mirror_order::Stuck,
    },
}

impl Trouble {
    fn target(e: stores::Error) -> Self {
        Self::Target(e)
    }

    fn checkpoint(e: checkpoint::Error) -> Self {
        match e {
            checkpoint::Error::Store(e) => Self::Target(e),
            checkpoint::Error::State(e) => Self::State(e),
            checkpoint::Error::Damaged(why) => Self::Target(stores::Error::Failed(why)),
        }
    }

    fn source(e: stores::Error) -> Self {
        Self::Source(e)
    }
}
