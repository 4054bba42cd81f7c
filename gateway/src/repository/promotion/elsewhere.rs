//! An old primary returns: was one of its mirrors promoted meanwhile?
//!
//! Anchors alone tell. A mirror's store whose newest anchor is neither the mirror's own nor that of another mirror was
//! promoted by somebody who could not reach this store; from then on this one acknowledges nothing. What it had
//! acknowledged alone stays where it is, until a fail-back keeps it aside.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::identity::{Repository, StoreName};
use policies::lock::anchor::{self, Anchor, Stored};
use policies::lock::{Lock, promotion};

use crate::repository::Door;
use crate::repository::door::OpenRepository;
use crate::repository::gate::state_failed;
use crate::repository::handover::Error;
use crate::state::LockRow;
use crate::state::mirrors::MirrorRow;
use crate::stores::{self, Store, own};

/// A mirror's store that does not answer says nothing.
const PATIENCE: Duration = Duration::from_secs(5);

impl Door {
    /// Freezes a repository whose mirror was promoted.
    pub async fn look_elsewhere(&self, open: &OpenRepository) -> Result<(), Error> {
        // A promotion of this very database moves the lock before it takes the mirror's store.
        let before = self.lock_row(open).await?;
        if open.gate.is_frozen() || matches!(before.lock, Lock::Frozen { .. }) {
            return Ok(());
        }
        let mirrors = self
            .state
            .mirrors(open.id)
            .await
            .map_err(|e| state_failed("list the mirrors", &e))?;
        let elsewhere = |mirror: &&MirrorRow| mirror.epoch.0 > 0 && mirror.store != open.plan.store;
        for mirror in mirrors.iter().filter(elsewhere) {
            let Some(store) = self.store(&mirror.store) else {
                continue;
            };
            let asked = tokio::time::timeout(PATIENCE, self.anchor_on(open, store.as_ref())).await;
            let Ok(Ok(highest)) = asked else {
                continue;
            };
            let ours = (mirror.epoch, &mirror.handover);
            if let Some(reason) =
                promotion::taken_over(mirror.store.as_str(), ours, highest.as_ref())
            {
                if self.lock_row(open).await?.version != before.version {
                    return Ok(());
                }
                tracing::error!(repository = %open.name, "frozen: {reason}");
                return self.freeze_for(open, reason).await;
            }
        }
        Ok(())
    }

    async fn lock_row(&self, open: &OpenRepository) -> Result<LockRow, Error> {
        let row = self.state.lock(open.id).await;
        Ok(row.map_err(|e| state_failed("read the lock", &e))?)
    }
}

/// Who was the last to write a repository in each of some stores, mirrors left out; for `check-config`.
pub async fn writers_in<'a>(
    repository: &Repository,
    stores: impl IntoIterator<Item = (&'a StoreName, &'a dyn Store)>,
) -> BTreeMap<StoreName, Anchor> {
    let mut writers = BTreeMap::new();
    for (name, store) in stores {
        let asked = tokio::time::timeout(PATIENCE, highest(repository, store)).await;
        if let Ok(Ok(Some(anchor))) = asked
            && !promotion::is_mirror(&anchor)
        {
            writers.insert(name.clone(), anchor);
        }
    }
    writers
}

pub(super) async fn highest(
    repository: &Repository,
    store: &dyn Store,
) -> stores::Result<Option<Anchor>> {
    let there = own::all(store, &anchor::prefix(repository)).await?;
    let stored = there.iter().map(|own| Stored {
        name: own.name.as_str(),
        bytes: &own.bytes,
    });
    Ok(anchor::verify_chain(repository, stored).ok().flatten())
}
