//! A store's own record of what it holds: enough for a gateway with an empty state database to take the repository
//! over without reading the objects' bytes.
//!
//! A checkpoint is a chain of small pieces below `.snapgate/checkpoints/<repository>/`, each created once and never
//! changed. A *series* begins with the whole catalog as of one journal sequence (the base) and goes on with what
//! changed since. Invariants:
//! - each piece names its predecessor's hash and carries its own: a missing, damaged or foreign piece is noticed,
//!   and nothing is guessed over it ([`Error::Damaged`]: the caller reads the store itself instead);
//! - a series is named after the epoch under which it is written: what a fenced gateway still writes sorts below
//!   what its successor wrote, and is never taken for the newest;
//! - pieces are bounded, so that writing and loading take memory for one of them at a time.
//!
//! A checkpoint may be ahead of its store (it is written before the root that it describes) and behind it (objects
//! run ahead of their root). Whoever loads it compares it with the store's listing.

use std::sync::Arc;

use policies::identity::{Epoch, Repository};
use policies::key::{ObjectKey, RESERVED};

mod follow;
mod horizon;
mod load;
mod piece;
#[cfg(test)]
mod tests;

pub use follow::Follower;
pub use horizon::Horizon;
pub use load::{Position, described, find};
pub use piece::{Row, Stored};

use crate::{state, stores};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The chain is not whole: what it says must not be used.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(Arc<str>),
    #[error(transparent)]
    Store(#[from] stores::Error),
    #[error(transparent)]
    State(#[from] state::Error),
}

/// Where a repository's checkpoints lie in a store.
#[must_use]
pub fn prefix(repository: &Repository) -> String {
    format!("{RESERVED}checkpoints/{repository}/")
}

/// One series of pieces. Names sort by epoch, then by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Series {
    epoch: Epoch,
    number: u32,
}

impl Series {
    fn text(self) -> String {
        format!("{:020}-{:06}", self.epoch.0, self.number)
    }

    fn parse(text: &str) -> Option<Self> {
        let (epoch, number) = text.split_once('-')?;
        let series = Self {
            epoch: Epoch(epoch.parse().ok()?),
            number: number.parse().ok()?,
        };
        (series.text() == text).then_some(series)
    }

    fn piece(self, repository: &Repository, number: u32) -> String {
        format!("{}{}/{number:08}", prefix(repository), self.text())
    }
}

/// Series and number of a piece, from its name in the store.
fn place(repository: &Repository, name: &ObjectKey) -> Option<(Series, u32)> {
    let (series, number) = name
        .as_str()
        .strip_prefix(&prefix(repository))?
        .split_once('/')?;
    Some((Series::parse(series)?, number.parse().ok()?))
}
