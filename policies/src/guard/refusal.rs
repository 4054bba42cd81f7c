//! Every refusal, its numbers and names.

use std::fmt;
use std::sync::Arc;

use super::admission::Change;
use crate::format::closure::Problem;
use crate::format::root::RootError;
use crate::identity::Repository;
use crate::key::ObjectKey;

/// A no, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Refusal {
    pub repository: Repository,
    pub reason: Reason,
}

/// Names of snapshots, sorted, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Vec<Arc<str>>);

impl Names {
    pub(super) fn new(names: Vec<Arc<str>>) -> Self {
        Self(names)
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Arc<str>] {
        &self.0
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            [] => f.write_str("no snapshot"),
            [one] => write!(f, "snapshot '{one}'"),
            [first, rest @ ..] => write!(f, "snapshot '{first}' and {} more", rest.len()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The body of a root cannot be read.
    NotARoot { generation: u64, error: RootError },
    /// A root's number is not above that of the newest.
    NotNewer { generation: u64, highest: u64 },
    /// Members of a root's closure are missing or wrong, and were not so before.
    Incomplete {
        generation: u64,
        /// How many.
        problems: usize,
        first: Box<Problem>,
        /// Which snapshots could not be restored.
        snapshots: Names,
    },
    /// A snapshot without a root (2.x) is not complete, and what it lacks was not missing before.
    IncompleteSnapshot {
        /// How many.
        problems: usize,
        first: Box<Problem>,
        /// Which snapshots could not be restored.
        snapshots: Names,
    },
    /// No root from which the cluster can have gone on fits.
    Changed { generation: u64, change: Change },
    /// A shard generation returns that was replaced for good.
    Superseded {
        generation: u64,
        index: Arc<str>,
        shard: u32,
        shard_generation: Arc<str>,
    },
    /// The repository's uuid changes or vanishes.
    OtherRepository {
        generation: u64,
        expected: Arc<str>,
        found: Option<Arc<str>>,
    },
    /// Another cluster than the one bound to this epoch wrote the root.
    OtherCluster {
        generation: u64,
        bound: Arc<str>,
        found: Arc<str>,
    },
    /// Pinned snapshots disappear.
    Pinned { generation: u64, snapshots: Names },
    /// Other bytes under a name that is written once.
    WriteOnce { key: ObjectKey },
    /// A root's name is taken.
    RootExists { generation: u64 },
    /// `snap-*` or `meta-*` written anew that does not belong to the same snapshot, or cannot be read.
    NotTheSame { key: ObjectKey },
    /// Snapshots need this content.
    Needed { key: ObjectKey, snapshots: Names },
    /// Snapshots whose metadata cannot be read may need it.
    MayBeNeeded { key: ObjectKey, snapshots: Names },
    /// It is a shard's current index or listed there: the next create or delete starts from it.
    Indexed { key: ObjectKey },
    /// The newest root.
    NewestRoot { generation: u64, snapshots: usize },
    /// `index.latest` is not eight bytes.
    PointerForm { length: usize },
    /// `index.latest` does not name the newest root.
    PointerValue { value: u64, highest: Option<u64> },
    /// The repository is still being read.
    StillReading { key: ObjectKey },
}

impl Reason {
    /// The label of metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotARoot { .. } => "not_a_root",
            Self::NotNewer { .. } => "not_newer",
            Self::Incomplete { .. } | Self::IncompleteSnapshot { .. } => "incomplete",
            Self::Changed { .. } => "changed",
            Self::Superseded { .. } => "superseded",
            Self::OtherRepository { .. } => "other_repository",
            Self::OtherCluster { .. } => "other_cluster",
            Self::Pinned { .. } => "pinned",
            Self::WriteOnce { .. } => "write_once",
            Self::RootExists { .. } => "root_exists",
            Self::NotTheSame { .. } => "not_the_same",
            Self::Needed { .. } => "needed",
            Self::MayBeNeeded { .. } => "may_be_needed",
            Self::Indexed { .. } => "indexed",
            Self::NewestRoot { .. } => "newest_root",
            Self::PointerForm { .. } => "pointer_form",
            Self::PointerValue { .. } => "pointer_value",
            Self::StillReading { .. } => "still_reading",
        }
    }
}
