//! Pins: snapshots that no commit may drop, until an operator says otherwise.

use std::sync::Arc;

use serde_json::json;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::{Door, Error};
use crate::state::{AuditEntry, Pin, SnapshotName, WriteError};
use crate::telemetry::clock;

impl Door {
    pub async fn pins(&self, open: &OpenRepository) -> Result<Vec<Pin>, Error> {
        self.state
            .pins(open.id)
            .await
            .map_err(|e| state_failed("read its pins", &e))
    }

    /// Pins a snapshot of the newest root, by name or uuid. False = it was pinned before.
    pub async fn pin(
        &self,
        open: &OpenRepository,
        snapshot: &str,
        reason: Option<String>,
        principal: &str,
    ) -> Result<(Pin, bool), Error> {
        let _no_root_now = open.guarding.commits.read().await;
        let found = open.guarding.with(|guard| {
            let newest = guard.knowledge().newest()?;
            let named = |s: &&policies::format::root::Snapshot| {
                *s.name == *snapshot || *s.uuid == *snapshot
            };
            newest
                .root
                .snapshots
                .iter()
                .find(named)
                .map(|s| SnapshotName {
                    name: Arc::clone(&s.name),
                    uuid: Arc::clone(&s.uuid),
                })
        });
        let absent = || {
            Error::InvalidArgument(format!(
                "Repository '{}' has no snapshot '{snapshot}'; one that was deleted must be brought back first: snapgate undelete {} {snapshot}",
                open.name, open.name
            ))
        };
        let pin = Pin {
            snapshot: found.ok_or_else(absent)?,
            pinned_ms: clock::now_ms(),
            by: principal.to_owned(),
            reason,
        };
        let entry = entry(open, "pin", &pin.snapshot, pin.reason.as_deref(), principal);
        match self.state.pin(open.id, pin.clone(), entry).await {
            Ok(true) => Ok((pin, true)),
            Ok(false) => {
                let same = |there: &Pin| there.snapshot.uuid == pin.snapshot.uuid;
                let there = self.pins(open).await?.into_iter().find(same);
                Ok((there.unwrap_or(pin), false))
            }
            Err(WriteError::Pinned(_)) => Err(absent()),
            Err(WriteError::KeyBusy) => Err(Error::SlowDown(
                "A root is being committed; try again.".into(),
            )),
            Err(
                e @ (WriteError::LockMoved(_)
                | WriteError::Exists(_)
                | WriteError::IntentGone
                | WriteError::UploadGone
                | WriteError::Failed(_)),
            ) => Err(super::unavailable("write the pin down", &e)),
        }
    }

    /// By name or uuid.
    pub async fn unpin(
        &self,
        open: &OpenRepository,
        snapshot: &str,
        principal: &str,
    ) -> Result<Pin, Error> {
        let pins = self.pins(open).await?;
        let named = |pin: &Pin| *pin.snapshot.name == *snapshot || *pin.snapshot.uuid == *snapshot;
        let pin = pins.into_iter().find(named).ok_or_else(|| {
            Error::InvalidArgument(format!(
                "Snapshot '{snapshot}' of repository '{}' is not pinned.",
                open.name
            ))
        })?;
        let entry = entry(open, "unpin", &pin.snapshot, None, principal);
        self.state
            .unpin(open.id, &pin.snapshot.uuid, entry)
            .await
            .map_err(|e| super::unavailable("take the pin away", &e))?;
        Ok(pin)
    }
}

fn entry(
    open: &OpenRepository,
    action: &str,
    snapshot: &SnapshotName,
    reason: Option<&str>,
    principal: &str,
) -> AuditEntry {
    AuditEntry {
        at_ms: clock::now_ms(),
        principal: principal.to_owned(),
        action: action.to_owned(),
        repository: Some(open.name.clone()),
        epoch: Some(open.gate.row().lock.epoch()),
        detail: json!({
            "snapshot": &*snapshot.name,
            "uuid": &*snapshot.uuid,
            "reason": reason,
        }),
    }
}
