//! What happens, told once to those who listen.

use policies::identity::Repository;
use serde_json::{Value, json};

use crate::telemetry::clock;

/// An event and when it was told.
#[derive(Debug)]
pub struct Told {
    pub at_ms: i64,
    pub event: Event,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    WarningRaised {
        repository: Repository,
        kind: String,
        subject: String,
        sentence: String,
    },
    WarningCleared {
        repository: Repository,
        kind: String,
        subject: String,
    },
    /// The writer lock has a new state; a hand-over is several of these.
    LockMoved {
        repository: Repository,
        state: &'static str,
        holder: Option<String>,
        epoch: u64,
        /// Who moved it: an operator, a cluster, the gateway itself.
        principal: String,
    },
    RootCommitted {
        repository: Repository,
        generation: u64,
        cluster: String,
        snapshots: usize,
    },
    /// Long work began or ended: `running`, `done`, `failed`.
    Job {
        repository: Repository,
        id: String,
        kind: &'static str,
        state: &'static str,
    },
}

impl Event {
    /// The `event:` field of the stream and the label of the metric.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::WarningRaised { .. } => "warning_raised",
            Self::WarningCleared { .. } => "warning_cleared",
            Self::LockMoved { .. } => "lock_moved",
            Self::RootCommitted { .. } => "root_committed",
            Self::Job { .. } => "job",
        }
    }
}

impl Told {
    /// The `data:` field of the stream.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = match &self.event {
            Event::WarningRaised {
                repository,
                kind,
                subject,
                sentence,
            } => {
                json!({ "repository": repository.as_str(), "kind": kind, "subject": subject, "sentence": sentence })
            }
            Event::WarningCleared {
                repository,
                kind,
                subject,
            } => json!({ "repository": repository.as_str(), "kind": kind, "subject": subject }),
            Event::LockMoved {
                repository,
                state,
                holder,
                epoch,
                principal,
            } => {
                json!({ "repository": repository.as_str(), "state": state, "holder": holder, "epoch": epoch, "principal": principal })
            }
            Event::RootCommitted {
                repository,
                generation,
                cluster,
                snapshots,
            } => {
                json!({ "repository": repository.as_str(), "generation": generation, "cluster": cluster, "snapshots": snapshots })
            }
            Event::Job {
                repository,
                id,
                kind,
                state,
            } => {
                json!({ "repository": repository.as_str(), "id": id, "kind": kind, "state": state })
            }
        };
        body["at"] = json!(clock::rfc3339(self.at_ms));
        body
    }
}
