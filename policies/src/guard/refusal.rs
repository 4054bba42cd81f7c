//! Every refusal, its numbers and names, and the sentence that the user of a cluster reads.

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
            Self::Incomplete { .. } => "incomplete",
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

impl Refusal {
    fn sentence(&self) -> String {
        let repository = &self.repository;
        match &self.reason {
            Reason::NotARoot { generation, error } => format!(
                "'index-{generation}' is refused as the next root of repository '{repository}': {error}."
            ),
            Reason::NotNewer {
                generation,
                highest,
            } => format!(
                "'index-{generation}' is not newer than 'index-{highest}', the newest root of repository '{repository}': \
                 another cluster or an older master wrote it; make sure that one cluster writes, then register the repository anew."
            ),
            Reason::Incomplete {
                generation,
                problems,
                first,
                snapshots,
            } => format!(
                "'index-{generation}' is refused as the next root of repository '{repository}': '{}' {}, {problems} such in all, \
                 so that {snapshots} could not be restored or extended; take the snapshot again.",
                first.key, first.kind
            ),
            Reason::Changed { generation, change } => format!(
                "'index-{generation}' is refused as the next root of repository '{repository}': {change}; \
                 a writer that does not know the newest root made it, so register the repository anew."
            ),
            Reason::Superseded {
                generation,
                index,
                shard,
                shard_generation,
            } => format!(
                "'index-{generation}' is refused as the next root of repository '{repository}': it goes back to \
                 generation '{shard_generation}' of shard {shard} of index '{index}', which was replaced; \
                 a writer that does not know the newest root made it, so register the repository anew."
            ),
            Reason::OtherRepository {
                generation,
                expected,
                found,
            } => format!(
                "'index-{generation}' belongs to repository uuid '{}', but repository '{repository}' has uuid '{expected}'; \
                 register this repository anew.",
                found.as_deref().unwrap_or("none")
            ),
            Reason::OtherCluster {
                generation,
                bound,
                found,
            } => format!(
                "'index-{generation}' was written by cluster id '{found}', but repository '{repository}' is bound to cluster id \
                 '{bound}'; if the cluster was rebuilt, ask an operator for: snapgate lock {repository} --writer CLUSTER."
            ),
            Reason::Pinned {
                generation,
                snapshots,
            } => format!(
                "'index-{generation}' drops {snapshots} of repository '{repository}', pinned by an operator; \
                 ask for: snapgate unpin {repository} SNAPSHOT."
            ),
            Reason::WriteOnce { key } => format!(
                "'{key}' of repository '{repository}' exists with other bytes, and its name is never written twice; \
                 another writer is at work: make sure that one cluster writes."
            ),
            Reason::RootExists { generation } => format!(
                "'index-{generation}' of repository '{repository}' exists with other bytes: another cluster wrote it; \
                 make sure that one cluster writes, then register the repository anew."
            ),
            Reason::NotTheSame { key } => format!(
                "'{key}' of repository '{repository}' can only be replaced by metadata of the same snapshot."
            ),
            Reason::Needed { key, snapshots } => format!(
                "'{key}' is needed by {snapshots} of repository '{repository}'; delete the {} through the cluster instead.",
                plural(snapshots)
            ),
            Reason::MayBeNeeded { key, snapshots } => format!(
                "'{key}' may be needed by {snapshots} of repository '{repository}', whose metadata cannot be read; \
                 delete the {} through the cluster first.",
                plural(snapshots)
            ),
            Reason::Indexed { key } => format!(
                "'{key}' belongs to the current index of a shard of repository '{repository}', from which its next snapshot starts; \
                 delete snapshots through the cluster instead."
            ),
            Reason::NewestRoot {
                generation,
                snapshots,
            } => format!(
                "'index-{generation}' is the newest root of repository '{repository}' and holds {snapshots} snapshots; \
                 delete snapshots through the cluster instead."
            ),
            Reason::PointerForm { length } => format!(
                "'index.latest' of repository '{repository}' must be 8 bytes that name its newest root, not {length} bytes."
            ),
            Reason::PointerValue {
                value,
                highest: Some(highest),
            } => format!(
                "'index.latest' of repository '{repository}' cannot name root {value}: the newest root is 'index-{highest}'."
            ),
            Reason::PointerValue {
                value,
                highest: None,
            } => format!(
                "'index.latest' of repository '{repository}' cannot name root {value}: the repository has no root yet."
            ),
            Reason::StillReading { key } => format!(
                "'{key}' cannot be replaced or deleted yet: repository '{repository}' is still being read; try again when 'snapgate status {repository}' says that it is guarded."
            ),
        }
    }
}

fn plural(names: &Names) -> &'static str {
    if names.0.len() > 1 {
        "snapshots"
    } else {
        "snapshot"
    }
}
