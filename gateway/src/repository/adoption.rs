//! What is known of a store before its first use under a repository.
//!
//! A store that holds objects which the catalog does not know is frozen until it is adopted; one that cannot
//! be reached is frozen until the next start. Doubt freezes.

use std::sync::Arc;

use policies::identity::Epoch;
use policies::key::RESERVED;
use policies::lock::{Freeze, Lock};

use super::door::OpenRepository;
use crate::state::{self, AuditEntry, NewLock, State, Usage, WriteError};
use crate::telemetry::clock;

/// Looks at the store once, before anything listens.
pub async fn check(state: &Arc<dyn State>, open: &OpenRepository) -> state::Result<()> {
    let row = open.gate.row();
    let usage = state.usage(open.id).await?;
    let wanted = match store_holds_objects(open).await {
        Err(e) => {
            tracing::error!(repository = %open.name, cause = %e, "frozen: the store cannot be reached");
            Some(Freeze::StoreUnreachable)
        }
        Ok(true) if usage == Usage::default() => {
            tracing::error!(repository = %open.name, "frozen: the store holds objects that this gateway does not know; adopt them with: snapgate adopt {}", open.name);
            Some(Freeze::Unadopted)
        }
        Ok(_) => None,
    };
    match (wanted, &row.lock) {
        (Some(Freeze::StoreUnreachable), _) => {
            open.gate.doubt(Freeze::StoreUnreachable);
            Ok(())
        }
        (Some(reason), Lock::Vacant { epoch }) => freeze(state, open, *epoch, reason).await,
        (Some(_) | None, _) => Ok(()),
    }
}

async fn store_holds_objects(open: &OpenRepository) -> crate::stores::Result<bool> {
    let prefix = if open.plan.base_path.is_empty() { String::new() } else { format!("{}/", open.plan.base_path) };
    let first = open.store.list(&prefix, None, 1).await?;
    Ok(first.iter().any(|listed| !listed.name.as_str().starts_with(RESERVED)))
}

async fn freeze(state: &Arc<dyn State>, open: &OpenRepository, epoch: Epoch, reason: Freeze) -> state::Result<()> {
    let row = open.gate.row();
    let to = NewLock { lock: Lock::Frozen { epoch, reason }, now_ms: clock::now_ms(), reason: None };
    let audit = AuditEntry {
        at_ms: clock::now_ms(),
        principal: "snapgate".into(),
        action: "freeze".into(),
        repository: Some(open.name.clone()),
        epoch: Some(epoch),
        detail: serde_json::json!({ "why": "the store holds objects that the catalog does not know" }),
    };
    match state.move_lock(open.id, row.version, to, audit).await {
        Ok(row) => {
            open.gate.saw(row);
            Ok(())
        }
        Err(WriteError::Failed(e)) => Err(e),
        Err(e) => Err(state::Error::Mismatch(e.to_string())),
    }
}
