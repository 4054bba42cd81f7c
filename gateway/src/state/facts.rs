//! What the audit log says of locks and of committed roots, so that the history of writers can be replayed.
//!
//! Invariants: written in the transaction of what it tells, by the state database itself, so that no caller forgets
//! it; it says everything that [`policies::lock::history`] asks. Both databases write the same.

use policies::identity::{Cluster, Epoch, Repository};
use policies::lock::Lock;
use policies::lock::history::Record;
use serde_json::{Value, json};

use super::{AuditEntry, Put, stored};

/// Part of the detail of every record of a move.
const LOCK: &str = "lock";
const COMMIT: &str = "commit";

/// The record of a move, with the lock before and after it. `version` is the row's after it.
pub fn moved(entry: &AuditEntry, version: u64, before: &Lock, after: &Lock) -> AuditEntry {
    let mut entry = entry.clone();
    let facts = json!({
        "version": version,
        "before": stored::lock_value(before),
        "after": stored::lock_value(after),
    });
    match &mut entry.detail {
        Value::Object(detail) => {
            detail.insert(LOCK.into(), facts);
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => {
            *other = json!({ "detail": other.take(), LOCK: facts });
        }
    }
    entry
}

/// The record of a committed root: who wrote it, under which epoch its write began. None = it is no root.
pub fn committed(
    repository: &Repository,
    cluster: &Cluster,
    epoch: Epoch,
    put: &Put,
) -> Option<AuditEntry> {
    let root = put.root.as_ref()?;
    Some(AuditEntry {
        at_ms: put.now_ms,
        principal: cluster.to_string(),
        action: COMMIT.into(),
        repository: Some(repository.clone()),
        epoch: Some(epoch),
        detail: json!({ "generation": root.generation, "cluster": cluster.as_str() }),
    })
}

/// What a record tells of the lock; None = nothing.
pub fn record(entry: &AuditEntry) -> Option<(&Repository, Record)> {
    let repository = entry.repository.as_ref()?;
    let detail = &entry.detail;
    let told = if let Some(facts) = detail.get(LOCK) {
        moved_from(facts).unwrap_or(Record::Untold)
    } else if entry.action == COMMIT {
        committed_from(entry).unwrap_or(Record::Untold)
    } else if detail.get("from").is_some() && detail.get("to").is_some() {
        Record::Untold
    } else {
        return None;
    };
    Some((repository, told))
}

fn moved_from(facts: &Value) -> Option<Record> {
    Some(Record::Moved {
        version: facts["version"].as_u64()?,
        before: stored::lock_from_value(&facts["before"])?,
        after: stored::lock_from_value(&facts["after"])?,
    })
}

fn committed_from(entry: &AuditEntry) -> Option<Record> {
    Some(Record::Committed {
        generation: entry.detail["generation"].as_u64()?,
        cluster: Cluster::new(entry.detail["cluster"].as_str()?),
        epoch: entry.epoch?,
    })
}
