//! The applier's epoch on the target: an anchor there, in the chain that a writer's epochs form too.
//!
//! Decides whether this gateway may write the target. Invariants: an epoch is taken by creating its anchor
//! create-only; whoever finds a higher one than his own writes there never again; a target whose newest anchor
//! is that of a cluster is a primary, and no mirror overwrites it.

use policies::identity::{Epoch, Handover, StoreName};
use policies::lock::anchor::{self, Anchor, Stored};
use policies::lock::promotion::{is_mirror, mirror_of};
use policies::lock::{self, Permit};

use super::{Link, Trouble};
use crate::state::mirrors::MirrorRow;
use crate::stores::{self, own};

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
    /// Finds or takes the epoch under which this gateway writes the target.
    pub async fn take_epoch(&self, row: &MirrorRow) -> Result<Epoch, Trouble> {
        match self.standing(row).await? {
            Standing::Ours(epoch) => Ok(epoch),
            Standing::Fenced(why) => Err(Trouble::Fenced(why)),
            Standing::Free(last) => {
                self.create_anchor(&row.handover, last.next()).await?;
                match self.standing(row).await? {
                    Standing::Ours(epoch) => Ok(epoch),
                    Standing::Fenced(why) => Err(Trouble::Fenced(why)),
                    Standing::Free(_) => Err(Trouble::target(stores::Error::Busy)),
                }
            }
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

    async fn create_anchor(&self, handover: &Handover, epoch: Epoch) -> Result<(), Trouble> {
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
            // Whose it is, a second look tells.
            Ok(()) | Err(stores::Error::Exists | stores::Error::Unknown) => Ok(()),
            Err(e) => Err(Trouble::target(e)),
        }
    }

    /// Before anything that cannot be undone, and now and then: nobody took a higher epoch.
    pub async fn check_fence(&self, epoch: Epoch) -> Result<(), Trouble> {
        let prefix = anchor::prefix(&self.source.name);
        let ours = anchor::name(&self.source.name, epoch);
        let later = self.target.list(&prefix, Some(&ours), 1).await;
        match later.map_err(Trouble::target)?.first() {
            None => Ok(()),
            Some(later) => Err(Trouble::Fenced(format!(
                "a higher epoch was taken on the target ('{}'): it was promoted, or another gateway mirrors onto it",
                later.name
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
        "the target is not a mirror of '{source}': its epoch {} is held by {}",
        highest.epoch,
        held_by()
    ))
}
