//! What a refused client reads.
//!
//! Invariant: one sentence says what, why, and what to do. It ends in the cluster's own error message,
//! so it is the user interface of the writer lock. Times come as text: this crate has no clock.

use std::fmt;

use super::Freeze;
use crate::identity::{Cluster, Epoch, Repository};

/// Why a write is refused, with what a person needs to act on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    NotAWriter {
        repository: Repository,
        caller: Cluster,
        writers_hint: Option<Cluster>,
    },
    HeldByOther {
        repository: Repository,
        caller: Cluster,
        holder: Cluster,
        epoch: Epoch,
    },
    VacantManual {
        repository: Repository,
        caller: Cluster,
    },
    Frozen {
        repository: Repository,
        reason: Freeze,
    },
}

impl Refusal {
    /// The sentence with the time since when the lock is in its state, as RFC 3339 text.
    #[must_use]
    pub fn sentence(&self, since: &str) -> String {
        Sentence {
            refusal: self,
            since: Some(since),
        }
        .to_string()
    }

    /// The label of `snapgate_denied_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotAWriter { .. } => "not_a_writer",
            Self::HeldByOther { .. } => "held_by_other",
            Self::VacantManual { .. } => "vacant_manual",
            Self::Frozen { .. } => "frozen",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sentence {
            refusal: self,
            since: None,
        }
        .fmt(f)
    }
}

struct Sentence<'a> {
    refusal: &'a Refusal,
    since: Option<&'a str>,
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = Since(self.since);
        match self.refusal {
            Refusal::NotAWriter {
                repository,
                caller,
                writers_hint,
            } => {
                write!(
                    f,
                    "'{caller}' is not among the writers of repository '{repository}'"
                )?;
                if let Some(holder) = writers_hint {
                    write!(f, ", which '{holder}' writes{since}")?;
                }
                write!(
                    f,
                    "; '{caller}' may read only. Register the repository with readonly: true, or add \
                     '{caller}' to writers of [repositories.{repository}]"
                )
            }
            Refusal::HeldByOther {
                repository,
                caller,
                holder,
                epoch,
            } => write!(
                f,
                "Repository '{repository}' is locked by writer '{holder}' (epoch {epoch}){since}; \
                 '{caller}' may read only. Register the repository with readonly: true, or ask an \
                 operator for: snapgate lock {repository} --writer {caller}"
            ),
            Refusal::VacantManual { repository, caller } => write!(
                f,
                "Repository '{repository}' has no writer{since}, and only an operator hands its lock \
                 out (lock = \"manual\"); '{caller}' may read only. Ask an operator for: \
                 snapgate lock {repository} --writer {caller}"
            ),
            Refusal::Frozen { repository, reason } => write!(
                f,
                "Repository '{repository}' is frozen{since}: {}. Nothing is written until {}",
                Why(reason),
                Remedy { repository, reason },
            ),
        }
    }
}

struct Since<'a>(Option<&'a str>);

impl fmt::Display for Since<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(since) => write!(f, " since {since}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Why(self).fmt(f)
    }
}

impl Freeze {
    /// What ends the freeze, as the end of "nothing is written until …".
    #[must_use]
    pub fn remedy(&self, repository: &Repository) -> String {
        Remedy {
            repository,
            reason: self,
        }
        .to_string()
    }
}

struct Why<'a>(&'a Freeze);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Freeze::Operator(reason) if reason.is_empty() => f.write_str("an operator froze it"),
            Freeze::Operator(reason) => write!(f, "an operator froze it ({reason})"),
            Freeze::Unadopted => {
                f.write_str("its store holds objects that this gateway does not know")
            }
            Freeze::UnadoptedMirror(store) => write!(
                f,
                "its store '{store}' holds a mirror of it, which this gateway does not know"
            ),
            Freeze::Promoting(store) => write!(f, "it is being promoted to store '{store}'"),
            Freeze::Promoted { store, epoch } => write!(
                f,
                "its mirror on store '{store}' was promoted (epoch {epoch}): the primary is there now"
            ),
            Freeze::AnchorAhead { anchor } => write!(
                f,
                "its store knows epoch {anchor}, which this gateway's state database does not: the \
                 database is older than the store, or another gateway writes there"
            ),
            Freeze::OtherGateway => {
                f.write_str("another gateway with a state database of its own works on its store")
            }
            Freeze::DatabaseMoved => f.write_str(
                "the state database is served by another PostgreSQL server or timeline than before (a failover \
                 or a restore), so it may lack what was written last",
            ),
            Freeze::StoreUnreachable => f.write_str("its store could not be reached"),
            Freeze::AnchorBehind { anchor } => write!(
                f,
                "its store knows no epoch after {anchor}, but this gateway's state database does: the \
                 store is older than the database, or another one"
            ),
            Freeze::AnchorBroken(place) => write!(
                f,
                "the gateway's own records in its store do not fit together ({place})"
            ),
            Freeze::Recovering => f.write_str("its catalog is being rebuilt from its store"),
            Freeze::RootAppeared(root) => write!(
                f,
                "'{root}' came into its store without passing this gateway"
            ),
        }
    }
}

struct Remedy<'a> {
    repository: &'a Repository,
    reason: &'a Freeze,
}

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, reason } = self;
        match reason {
            Freeze::Operator(_) => write!(f, "an operator runs: snapgate thaw {repository}"),
            Freeze::Unadopted => write!(
                f,
                "an operator has it read what is there: snapgate adopt {repository}"
            ),
            Freeze::UnadoptedMirror(store) => write!(
                f,
                "an operator makes it the primary: snapgate promote {repository} --store {store} --writer CLUSTER"
            ),
            Freeze::Promoting(store) => write!(
                f,
                "this is done; if it stopped, an operator carries it through: snapgate promote {repository} \
                 --store {store} --writer CLUSTER"
            ),
            Freeze::Promoted { .. } => write!(
                f,
                "the gateway there brings this store back: snapgate failback {repository}"
            ),
            Freeze::DatabaseMoved => write!(
                f,
                "an operator has made sure that no gateway uses the old server any more and runs: \
                 snapgate thaw {repository} --recover"
            ),
            Freeze::AnchorAhead { .. } | Freeze::AnchorBehind { .. } | Freeze::OtherGateway => {
                write!(
                    f,
                    "an operator has made sure that no other gateway uses this store and runs: \
                 snapgate thaw {repository} --recover"
                )
            }
            Freeze::StoreUnreachable => write!(
                f,
                "the store answers again (the gateway asks at least once a minute; at once: snapgate thaw {repository})"
            ),
            Freeze::Recovering => write!(
                f,
                "this is done; if it stopped, an operator runs: snapgate thaw {repository} --recover"
            ),
            Freeze::AnchorBroken(_) => write!(
                f,
                "an operator has looked at .snapgate/anchors/{repository}/ in the store and runs: \
                 snapgate thaw {repository} --recover"
            ),
            Freeze::RootAppeared(_) => write!(
                f,
                "an operator has registered the cluster that wrote it through this gateway (or \
                 readonly: true) and runs: snapgate thaw {repository} --recover"
            ),
        }
    }
}
