//! An old primary returns: was one of its mirrors promoted meanwhile?
//!
//! Anchors alone tell. A mirror's store whose newest anchor is neither the mirror's own nor that of another mirror was
//! promoted by somebody who could not reach this store; from then on this one acknowledges nothing. What it had
//! acknowledged alone stays where it is, until a fail-back keeps it aside.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::identity::{Repository, StoreName};
use policies::lock::anchor::{self, Anchor, Stored};
use policies::lock::{Freeze, Lock, promotion};

use crate::repository::Door;
use crate::repository::door::OpenRepository;
use crate::repository::gate::state_failed;
use crate::repository::handover::Error;
use crate::state::LockRow;
use crate::state::mirrors::{MirrorChange, MirrorRow};
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
        let Some(reason) = self.taken_over(open).await? else {
            return Ok(());
        };
        if self.lock_row(open).await?.version != before.version {
            return Ok(());
        }
        tracing::error!(repository = %open.name, "frozen: {reason}");
        self.freeze_for(open, reason).await
    }

    /// Which of its mirrors was promoted by somebody else. A store that does not answer says nothing.
    pub(super) async fn taken_over(&self, open: &OpenRepository) -> Result<Option<Freeze>, Error> {
        for mirror in self.mirrors_elsewhere(open).await? {
            let highest = self.highest_there(open, &mirror.store).await;
            let ours = (mirror.epoch, &mirror.handover);
            let reason = promotion::taken_over(mirror.store.as_str(), ours, highest.as_ref());
            if reason.is_some() {
                return Ok(reason);
            }
        }
        Ok(None)
    }

    /// An operator's thaw, recovery or not, does not open what is somebody else's.
    pub(in crate::repository) async fn may_be_thawed(
        &self,
        open: &OpenRepository,
    ) -> Result<(), Error> {
        let Some(Freeze::Promoted { store, epoch }) = self.taken_over(open).await? else {
            return Ok(());
        };
        Err(Error::Refused(format!(
            "Repository '{}' stays frozen: its mirror on store '{store}' was promoted (epoch {epoch}), and is the primary now. {}",
            open.name,
            ways_back(open, &store)
        )))
    }

    /// The store where the repository is was brought back from those that were promoted meanwhile, and is promoted
    /// itself: what was minted there up to now is over.
    pub(super) async fn leave_behind(&self, open: &OpenRepository) -> Result<(), Error> {
        for mirror in self.mirrors_elsewhere(open).await? {
            let highest = self.highest_there(open, &mirror.store).await;
            let ours = (mirror.epoch, &mirror.handover);
            let taken = promotion::taken_over(mirror.store.as_str(), ours, highest.as_ref());
            let Some(Freeze::Promoted { epoch, .. }) = taken else {
                continue;
            };
            let over = vec![MirrorChange::Epoch {
                epoch,
                applier: None,
            }];
            let noted = self.state.change_mirror(open.id, &mirror.store, None, over);
            noted
                .await
                .map_err(|e| state_failed("note what was left behind", &e))?;
        }
        Ok(())
    }

    /// Mirrors that were begun, in other stores than the repository's.
    async fn mirrors_elsewhere(&self, open: &OpenRepository) -> Result<Vec<MirrorRow>, Error> {
        let mut mirrors = self
            .state
            .mirrors(open.id)
            .await
            .map_err(|e| state_failed("list the mirrors", &e))?;
        mirrors.retain(|mirror| mirror.epoch.0 > 0 && mirror.store != open.plan.store);
        Ok(mirrors)
    }

    async fn highest_there(&self, open: &OpenRepository, name: &StoreName) -> Option<Anchor> {
        let store = self.store(name)?;
        let asked = tokio::time::timeout(PATIENCE, self.anchor_on(open, store.as_ref())).await;
        asked.ok()?.ok()?
    }

    async fn lock_row(&self, open: &OpenRepository) -> Result<LockRow, Error> {
        let row = self.state.lock(open.id).await;
        Ok(row.map_err(|e| state_failed("read the lock", &e))?)
    }
}

/// What an operator may do about a mirror on store `there` that was promoted by somebody else.
pub(super) fn ways_back(open: &OpenRepository, there: &str) -> String {
    let (name, own) = (&open.name, &open.plan.store);
    format!(
        "The gateway there brings this store back: snapgate failback {name} --store {own}; then it is promoted here: \
         snapgate promote {name} --store {own} --writer CLUSTER. If that gateway is gone, take its store over: \
         snapgate promote {name} --store {there} --writer CLUSTER"
    )
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
