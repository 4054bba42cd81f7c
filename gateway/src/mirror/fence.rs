//! The applier's epoch on the target: an anchor there, in the chain that a writer's epochs form too.
//!
//! Decides whether this gateway may write the target. Invariants: an epoch is taken by creating its anchor
//! create-only; whoever finds a higher one than his own writes there under it never again; a target whose newest
//! anchor is that of a cluster is a primary, and no mirror overwrites it.
//!
//! Of several nodes on one database each mints an epoch of its own when it begins to apply, before it ends the uploads
//! of whoever applied before. What replaces anything on the target, or is a root, is begun hidden, and published after
//! a look at the anchors. So a node that was relieved and does not know it either finds the higher anchor, or had
//! begun before the new one ended all uploads, and then its publish fails. The mirror's anchors all carry the
//! hand-over of its row, which tells a relief by another node from a promotion.

use policies::identity::{Epoch, Handover, StoreName};
use policies::lock::anchor::{self, Anchor, Stored};
use policies::lock::promotion::{is_mirror, mirror_of};
use policies::lock::{self, Permit};

use super::{Link, Trouble};
use crate::state::Duty;
use crate::state::mirrors::MirrorRow;
use crate::stores::{self, own};

/// Anchors above one's own that are looked at; if there are more, the last of these says as much.
const MOST: usize = 1000;

/// Under what an applier writes its target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenure {
    pub epoch: Epoch,
    handover: Handover,
}

/// What the target's anchors say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    Ours(Epoch),
    /// Nobody's, or that of a mirror of the same store which ours takes over.
    Free(Epoch),
    /// Somebody else has it.
    Fenced(String),
}

impl Link {
    /// Finds or takes the epoch under which this gateway writes the target. `minted`: the one that this process took
    /// before; it is good as long as it is the highest.
    pub async fn take_epoch(
        &self,
        row: &MirrorRow,
        duty: &dyn Duty,
        minted: Option<Epoch>,
    ) -> Result<Tenure, Trouble> {
        let epoch = match self.standing(row).await? {
            Standing::Fenced(why) => return Err(Trouble::Fenced(why)),
            Standing::Ours(epoch) if self.source.state.shared() && minted != Some(epoch) => {
                self.mint(row, duty, epoch.next()).await?
            }
            Standing::Ours(epoch) => epoch,
            Standing::Free(last) => self.mint(row, duty, last.next()).await?,
        };
        let handover = row.handover.clone();
        Ok(Tenure { epoch, handover })
    }

    async fn mint(&self, row: &MirrorRow, duty: &dyn Duty, epoch: Epoch) -> Result<Epoch, Trouble> {
        if !duty.holds() {
            return Err(Trouble::Relieved);
        }
        let made = self.create_anchor(&row.handover, epoch).await?;
        match self.standing(row).await? {
            Standing::Ours(found) if found == epoch && (made || !self.source.state.shared()) => {
                Ok(epoch)
            }
            Standing::Fenced(why) => Err(Trouble::Fenced(why)),
            // Another node may have made it: the next one is tried.
            Standing::Ours(_) | Standing::Free(_) => Err(Trouble::target(stores::Error::Busy)),
        }
    }

    async fn standing(&self, row: &MirrorRow) -> Result<Standing, Trouble> {
        let prefix = anchor::prefix(&self.source.name);
        let there = own::all(self.target.as_ref(), &prefix).await;
        let there = there.map_err(Trouble::target)?;
        let stored = there.iter().map(|own| Stored {
            name: own.name.as_str(),
            bytes: &own.bytes,
        });
        Ok(match anchor::verify_chain(&self.source.name, stored) {
            Err(broken) => Standing::Fenced(format!("the target's anchors are broken: {broken}")),
            Ok(None) if row.epoch == Epoch(0) => Standing::Free(Epoch(0)),
            Ok(None) => Standing::Fenced(format!(
                "the target lacks the anchor of epoch {}: it is another store, or an older copy of it",
                row.epoch
            )),
            Ok(Some(highest)) => judge(&highest, row, &self.source.store_name),
        })
    }

    /// True = it was surely made here.
    async fn create_anchor(&self, handover: &Handover, epoch: Epoch) -> Result<bool, Trouble> {
        let prefix = anchor::prefix(&self.source.name);
        let there = own::all(self.target.as_ref(), &prefix).await;
        let there = there.map_err(Trouble::target)?;
        let anchor = Anchor {
            repository: self.source.name.clone(),
            epoch,
            holder: Some(mirror_of(&self.source.store_name)),
            handover: handover.clone(),
            previous: there.last().map(|last| anchor::hash(&last.bytes)),
        };
        let permit = lock::upkeep(&self.source.name, epoch);
        let name = anchor::name(&self.source.name, epoch);
        match own::create(
            self.target.as_ref(),
            &permit,
            &name,
            anchor::encode(&anchor),
        )
        .await
        {
            Ok(()) => Ok(true),
            // Whose it is, a second look tells.
            Err(stores::Error::Exists | stores::Error::Unknown) => Ok(false),
            Err(e) => Err(Trouble::target(e)),
        }
    }

    /// Before anything that cannot be undone, and now and then: nobody took a higher epoch.
    pub async fn check_fence(&self, tenure: &Tenure) -> Result<(), Trouble> {
        let prefix = anchor::prefix(&self.source.name);
        let ours = anchor::name(&self.source.name, tenure.epoch);
        let later = self.target.list(&prefix, Some(&ours), MOST).await;
        let Some(last) = later.map_err(Trouble::target)?.pop() else {
            return Ok(());
        };
        let bytes = own::read(self.target.as_ref(), &last.name).await;
        let bytes = bytes.map_err(Trouble::target)?;
        match bytes.map(|bytes| anchor::decode(last.name.as_str(), &bytes)) {
            Some(Ok(anchor)) if anchor.handover == tenure.handover => Err(Trouble::Relieved),
            Some(Ok(_) | Err(_)) | None => Err(Trouble::Fenced(format!(
                "a higher epoch was taken on the target ('{}'): it was promoted, or another gateway mirrors onto it",
                last.name
            ))),
        }
    }

    /// Leave to write the target.
    pub fn permit(&self, epoch: Epoch) -> Permit {
        lock::upkeep(&self.source.name, epoch)
    }
}

fn judge(highest: &Anchor, row: &MirrorRow, source: &StoreName) -> Standing {
    if highest.handover == row.handover {
        return Standing::Ours(highest.epoch);
    }
    let held_by = || {
        highest
            .holder
            .as_ref()
            .map_or_else(|| "a recovery".to_owned(), |h| format!("'{h}'"))
    };
    if row.epoch > Epoch(0) {
        return Standing::Fenced(format!(
            "epoch {} of the target was taken by {}: it was promoted, or another gateway mirrors onto it",
            highest.epoch,
            held_by()
        ));
    }
    if is_mirror(highest) && highest.holder.as_ref() == Some(&mirror_of(source)) {
        return Standing::Free(highest.epoch);
    }
    Standing::Fenced(format!(
        "the target is not a mirror of '{source}': its epoch {} is held by {}; a primary that was left is brought back with snapgate failback {} --store {}",
        highest.epoch,
        held_by(),
        highest.repository,
        row.store
    ))
}
