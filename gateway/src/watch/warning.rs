//! Every warning, what it is about, and the sentence that an operator reads.

use std::fmt;
use std::sync::Arc;

use policies::guard::Reason;
use policies::identity::{Repository, StoreName};
use policies::key::ObjectKey;

/// Something that an operator should look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// A root of another cluster than the one that is bound to this epoch was refused.
    SecondCluster {
        generation: u64,
        bound: Arc<str>,
        found: Arc<str>,
    },
    /// A root of another repository was refused.
    OtherUuid {
        generation: u64,
        expected: Arc<str>,
        found: Option<Arc<str>>,
    },
    /// Any other root that was refused; the reason's label and sentence.
    RootRefused {
        reason: &'static str,
        sentence: String,
    },
    /// A root was committed that adds snapshots and lacks some that the newest one had.
    SnapshotsLost {
        generation: u64,
        lost: Vec<Arc<str>>,
    },
    /// A client spells the base path with an empty segment.
    SlashTwin { prefix: String, key: ObjectKey },
    /// The catalog knows it, the store does not hold it.
    ObjectVanished { key: ObjectKey },
    /// The store holds other content than the catalog knows.
    ObjectChanged { key: ObjectKey },
    /// A root that was not written through this gateway.
    RootAppeared { key: ObjectKey },
    /// An object was written whose own checksum does not match its bytes.
    BadChecksum { key: ObjectKey, what: String },
    /// `verify --deep` read it, and it is not what was written.
    Rotten { key: ObjectKey, what: &'static str },
    /// Something that the newest root needs was missing or wrong before the gateway guarded it.
    Damage {
        key: ObjectKey,
        what: String,
        snapshots: Vec<Arc<str>>,
    },
    /// A promotion left the store that the configuration names, and nothing is mirrored to it.
    NotMirrored {
        repository: Repository,
        left: StoreName,
        now: StoreName,
    },
}

/// The label of metrics and events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    SecondCluster,
    OtherUuid,
    RootRefused,
    SnapshotsLost,
    SlashTwin,
    ObjectVanished,
    ObjectChanged,
    RootAppeared,
    BadChecksum,
    Rotten,
    Damage,
    NotMirrored,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::SecondCluster,
        Self::OtherUuid,
        Self::RootRefused,
        Self::SnapshotsLost,
        Self::SlashTwin,
        Self::ObjectVanished,
        Self::ObjectChanged,
        Self::RootAppeared,
        Self::BadChecksum,
        Self::Rotten,
        Self::Damage,
        Self::NotMirrored,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SecondCluster => "second_cluster",
            Self::OtherUuid => "other_uuid",
            Self::RootRefused => "root_refused",
            Self::SnapshotsLost => "snapshots_lost",
            Self::SlashTwin => "slash_twin",
            Self::ObjectVanished => "object_vanished",
            Self::ObjectChanged => "object_changed",
            Self::RootAppeared => "root_appeared",
            Self::BadChecksum => "bad_checksum",
            Self::Rotten => "rotten",
            Self::Damage => "damage",
            Self::NotMirrored => "not_mirrored",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// It is so, until it is seen to be no longer so; the others happened, and are closed by reading them.
    #[must_use]
    pub fn lasts(self) -> bool {
        match self {
            Self::SlashTwin
            | Self::ObjectVanished
            | Self::ObjectChanged
            | Self::RootAppeared
            | Self::BadChecksum
            | Self::Rotten
            | Self::Damage
            | Self::NotMirrored => true,
            Self::SecondCluster | Self::OtherUuid | Self::RootRefused | Self::SnapshotsLost => {
                false
            }
        }
    }
}

impl Warning {
    /// A refused root, by why it was refused.
    #[must_use]
    pub fn of_refused_root(refusal: &policies::guard::Refusal) -> Self {
        match &refusal.reason {
            Reason::OtherCluster {
                generation,
                bound,
                found,
            } => Self::SecondCluster {
                generation: *generation,
                bound: Arc::clone(bound),
                found: Arc::clone(found),
            },
            Reason::OtherRepository {
                generation,
                expected,
                found,
            } => Self::OtherUuid {
                generation: *generation,
                expected: Arc::clone(expected),
                found: found.clone(),
            },
            Reason::NotARoot { .. }
            | Reason::NotNewer { .. }
            | Reason::Incomplete { .. }
            | Reason::IncompleteSnapshot { .. }
            | Reason::Changed { .. }
            | Reason::Superseded { .. }
            | Reason::Pinned { .. }
            | Reason::WriteOnce { .. }
            | Reason::RootExists { .. }
            | Reason::NotTheSame { .. }
            | Reason::Needed { .. }
            | Reason::MayBeNeeded { .. }
            | Reason::Indexed { .. }
            | Reason::NewestRoot { .. }
            | Reason::PointerForm { .. }
            | Reason::PointerValue { .. }
            | Reason::StillReading { .. } => Self::RootRefused {
                reason: refusal.reason.label(),
                sentence: refusal.to_string(),
            },
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::SecondCluster { .. } => Kind::SecondCluster,
            Self::OtherUuid { .. } => Kind::OtherUuid,
            Self::RootRefused { .. } => Kind::RootRefused,
            Self::SnapshotsLost { .. } => Kind::SnapshotsLost,
            Self::SlashTwin { .. } => Kind::SlashTwin,
            Self::ObjectVanished { .. } => Kind::ObjectVanished,
            Self::ObjectChanged { .. } => Kind::ObjectChanged,
            Self::RootAppeared { .. } => Kind::RootAppeared,
            Self::BadChecksum { .. } => Kind::BadChecksum,
            Self::Rotten { .. } => Kind::Rotten,
            Self::Damage { .. } => Kind::Damage,
            Self::NotMirrored { .. } => Kind::NotMirrored,
        }
    }

    /// What tells it from others of its kind; never empty.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::SecondCluster { found, .. } => found.to_string(),
            Self::OtherUuid { found, .. } => found.as_deref().unwrap_or("none").to_owned(),
            Self::RootRefused { reason, .. } => (*reason).to_owned(),
            Self::SnapshotsLost { generation, .. } => format!("index-{generation}"),
            Self::SlashTwin { prefix, .. } => prefix.clone(),
            Self::ObjectVanished { key }
            | Self::ObjectChanged { key }
            | Self::RootAppeared { key }
            | Self::BadChecksum { key, .. }
            | Self::Rotten { key, .. }
            | Self::Damage { key, .. } => key.to_string(),
            Self::NotMirrored { left, .. } => left.to_string(),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecondCluster {
                generation,
                bound,
                found,
            } => write!(
                f,
                "A second cluster (id '{found}') tried to commit 'index-{generation}' to this repository of cluster id '{bound}' \
                 and was refused: make sure that only one cluster has it registered for writing."
            ),
            Self::OtherUuid {
                generation,
                expected,
                found,
            } => write!(
                f,
                "'index-{generation}' of repository uuid '{}' was refused; this repository has uuid '{expected}': \
                 the cluster should register the repository anew.",
                found.as_deref().unwrap_or("none")
            ),
            Self::RootRefused { sentence, .. } => write!(f, "A root was refused: {sentence}"),
            Self::SnapshotsLost { generation, lost } => write!(
                f,
                "'index-{generation}' adds snapshots but lacks {}, which the root before it had: its writer did not know that root.",
                Snapshots(lost)
            ),
            Self::SlashTwin { prefix, key } => write!(
                f,
                "'{key}' lies below '{prefix}', a twin of this repository's base path with a slash too many: \
                 some client registered the repository with a base_path that starts or ends with '/'; register it without."
            ),
            Self::ObjectVanished { key } => write!(
                f,
                "'{key}' is gone from the store although nobody deleted it here: look for a lifecycle rule or another hand, then run snapgate verify."
            ),
            Self::ObjectChanged { key } => write!(
                f,
                "'{key}' was changed in the store, not through this gateway; it is not served: look for another writer, then run snapgate verify --deep."
            ),
            Self::RootAppeared { key } => write!(
                f,
                "'{key}' is a root that was written to the store past this gateway; the repository is frozen: \
                 stop that writer, then run snapgate thaw --recover."
            ),
            Self::BadChecksum { key, what } => write!(
                f,
                "'{key}' was stored as it came, but {what}: the node that wrote it may have bad memory or a bad disk."
            ),
            Self::Rotten { key, what } => write!(
                f,
                "'{key}' does not read from the store as it was written: {what}. Look at the store's disks; the scrub of a mirror mends it, \
                 and snapgate explain says which snapshots need it."
            ),
            Self::Damage {
                key,
                what,
                snapshots,
            } => {
                write!(
                    f,
                    "'{key}' {what}; it was so before this gateway guarded it"
                )?;
                match &**snapshots {
                    [] => f.write_str("."),
                    some => write!(f, " (hits {}).", Snapshots(some)),
                }
            }
            Self::NotMirrored {
                repository,
                left,
                now,
            } => write!(
                f,
                "The repository was promoted to store '{now}', and nothing is mirrored to '{left}', where it was before: \
                 bring that one back with snapgate failback {repository} --store {left}, or name the stores as they are now in [repositories.{repository}]."
            ),
        }
    }
}

/// The first names and how many more.
struct Snapshots<'a>(&'a [Arc<str>]);

impl fmt::Display for Snapshots<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIRST: usize = 3;
        let named: Vec<String> = self
            .0
            .iter()
            .take(FIRST)
            .map(|n| format!("'{n}'"))
            .collect();
        let noun = if self.0.len() == 1 {
            "snapshot"
        } else {
            "snapshots"
        };
        write!(f, "{noun} {}", named.join(", "))?;
        match self.0.len().saturating_sub(FIRST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
