//! One state database per store, proved in the store itself.
//!
//! Each start creates `.snapgate/incarnation-N` with the next N, create-only; in it is a token that its state database
//! knows, also after a restart, and with it all nodes. While it runs, a gateway looks for a higher one every few
//! seconds and before every root commit; one that its database does not know means that another state database (a
//! clone, a restored copy, a second gateway) works on this store, and the lower one freezes.
//!
//! A start looks at the newest one before it does anything in the store, and again when it takes its own number: if
//! its database does not know it, a copy of the database worked here since (or this is the copy). What that
//! one used, journal numbers above all, this one would use again, so it freezes and takes no number. Only a recovery,
//! which goes on above all that any of them used, and a promotion stand after whoever was there before. The order:
//! announced in the database, then created in the store; a copy made in between knows one token too many, and that
//! one its original is about to create.
//!
//! A copy that was made while its original ran knows the newest number too. What tells them apart is the store's
//! checkpoint, some seconds behind the original's commits: one that was written under this database's own epoch and goes
//! beyond its journal is of another one. Only who holds the lock (or takes it just now) journals anything, so a
//! database whose lock nobody holds is not compared: what its original wrote since, it wrote under a later epoch. Nor
//! are checkpoints of other epochs: those of a mirror, of who was there before a recovery or a promotion.

use std::sync::Arc;
use std::time::Duration;

use policies::identity::{Epoch, Repository, StoreName};
use policies::key::{ObjectKey, RESERVED};
use policies::lock::{self, Freeze, Lock, Next};

use super::door::OpenRepository;
use super::ingest::store_failed;
use super::sequences::Moment;
use super::{Door, Error};
use crate::checkpoint;
use crate::state::State;
use crate::stores::{self, Store, own};

#[cfg(test)]
mod tests;

/// How often a gateway looks for another one, unless its store's settings say otherwise.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Tries to be the next one; each failure means that another gateway starts right now.
const TRIES: usize = 16;

/// The number that this process has in one store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incarnation(u64);

fn name(n: u64) -> String {
    format!("{RESERVED}incarnation-{n:020}")
}

/// Takes the next number, whoever stood there before: what a recovery, a promotion, a new mirror do. What is written
/// there is known to every other node of the same state database before it can be seen in the store.
pub async fn begin(
    state: &dyn State,
    at: &StoreName,
    store: &dyn Store,
) -> stores::Result<Incarnation> {
    let begun = take_number(state, at, store, false).await?;
    begun.ok_or(stores::Error::Busy)
}

/// As [`begin`], after one that this database knows; None = the newest one there is a stranger.
async fn begin_after_ours(
    state: &dyn State,
    at: &StoreName,
    store: &dyn Store,
) -> stores::Result<Option<Incarnation>> {
    let once_here = has_stood(state, at).await?;
    take_number(state, at, store, once_here).await
}

/// A database that never stood in a store (a new one; one of a version that did not keep its tokens) can tell nothing
/// from a token: anchors, reserved numbers and unknown content stop it if it must be stopped.
async fn has_stood(state: &dyn State, at: &StoreName) -> stores::Result<bool> {
    state.has_stood(at).await.map_err(unknown)
}

/// The newest number in the store is that of a start on another state database.
async fn is_strange(
    state: &dyn State,
    at: &StoreName,
    store: &dyn Store,
    newest: Option<&ObjectKey>,
) -> stores::Result<bool> {
    let Some(newest) = newest else {
        return Ok(false);
    };
    let token = own::read(store, newest).await?.unwrap_or_default();
    let known = state
        .knows_incarnation(at, String::from_utf8_lossy(&token).trim())
        .await
        .map_err(unknown)?;
    Ok(!known)
}

async fn take_number(
    state: &dyn State,
    at: &StoreName,
    store: &dyn Store,
    only_after_ours: bool,
) -> stores::Result<Option<Incarnation>> {
    let permit = lock::upkeep(&Repository::new("snapgate"), Epoch(0));
    let token = crate::random::text(22);
    state
        .announce_incarnation(at, &token)
        .await
        .map_err(unknown)?;
    for _ in 0..TRIES {
        let known = own::names(store, &format!("{RESERVED}incarnation-")).await?;
        if only_after_ours && is_strange(state, at, store, known.last()).await? {
            return Ok(None);
        }
        let highest = known.last().and_then(number).unwrap_or(0);
        match own::create(
            store,
            &permit,
            &name(highest + 1),
            format!("{token}\n").into_bytes(),
        )
        .await
        {
            Ok(()) => {
                forget(store, &permit, &known).await;
                return Ok(Some(Incarnation(highest + 1)));
            }
            Err(stores::Error::Exists) => {}
            Err(e) => return Err(e),
        }
    }
    Err(stores::Error::Busy)
}

fn unknown(e: impl std::fmt::Display) -> stores::Error {
    stores::Error::Failed(e.to_string().into())
}

fn number(name: &ObjectKey) -> Option<u64> {
    name.as_str().rsplit('-').next()?.parse().ok()
}

/// Only the highest one says anything; a few older ones are left for people.
async fn forget(store: &dyn Store, permit: &policies::lock::Permit, known: &[ObjectKey]) {
    const KEEP: usize = 8;
    let old = &known[..known.len().saturating_sub(KEEP)];
    if !old.is_empty() {
        store.delete(permit, old).await;
    }
}

/// The number to stand with from now on: ours, or that of a node of the same state database which came later.
/// None = the latest to come has another state database.
pub async fn standing(
    state: &dyn State,
    at: &StoreName,
    store: &dyn Store,
    ours: Incarnation,
) -> stores::Result<Option<Incarnation>> {
    const MOST: usize = 1000;
    let later = store
        .list(
            &format!("{RESERVED}incarnation-"),
            Some(&name(ours.0)),
            MOST,
        )
        .await?;
    let Some(last) = later.last() else {
        return Ok(Some(ours));
    };
    let strange = is_strange(state, at, store, Some(&last.name)).await?;
    Ok(number(&last.name).filter(|_| !strange).map(Incarnation))
}

impl Door {
    /// At start: takes the next number in a store, for all its repositories. A state database that is older than
    /// the store in one of them, or lost against another gateway, takes none: it would freeze the right one. False =
    /// the store did not take it.
    pub(super) async fn stand(&self, name: &StoreName) -> bool {
        let here = self.in_store(name);
        let Some(store) = here.first().map(|open| Arc::clone(&open.store)) else {
            return true;
        };
        let lost = |open: &&Arc<OpenRepository>| match open.gate.told().lock {
            Lock::Frozen { reason, .. } => {
                matches!(
                    reason,
                    Freeze::AnchorAhead { .. } | Freeze::OtherGateway | Freeze::DatabaseMoved
                )
            }
            Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => false,
        };
        if here.iter().any(|open| lost(&open)) {
            for open in here.iter().filter(|open| !lost(open)) {
                self.doubt(open, Freeze::OtherGateway).await;
            }
            return true;
        }
        // All that was here is somewhere else now, and its new gateway may stand here again.
        let gone = |open: &Arc<OpenRepository>| {
            let lock = open.gate.told().lock;
            matches!(
                lock,
                Lock::Frozen {
                    reason: Freeze::Promoted { .. },
                    ..
                }
            )
        };
        if here.iter().all(gone) {
            return true;
        }
        match begin_after_ours(self.state.as_ref(), name, store.as_ref()).await {
            Ok(Some(ours)) => {
                here.iter().for_each(|open| open.stand_as(ours));
                true
            }
            Ok(None) => {
                for open in here.iter().filter(|open| !gone(open)) {
                    self.doubt(open, Freeze::OtherGateway).await;
                }
                true
            }
            Err(e) => {
                tracing::error!(store = %name, cause = %e, "the store does not take this start's number: its repositories are frozen");
                // Also who is frozen: a thaw makes up for the start first.
                for open in here.iter().filter(|open| open.incarnation.lock().is_none()) {
                    open.gate.doubt(Freeze::StoreUnreachable);
                }
                false
            }
        }
    }

    /// Before a start does anything in the store: another state database worked there since this one did.
    pub(super) async fn is_overtaken(&self, open: &OpenRepository) -> Result<bool, Error> {
        let (state, at) = (self.state.as_ref(), &open.plan.store);
        let looked = async {
            if !has_stood(state, at).await? {
                return Ok(false);
            }
            let store = open.store.as_ref();
            let known = own::names(store, &format!("{RESERVED}incarnation-")).await?;
            if is_strange(state, at, store, known.last()).await? {
                return Ok(true);
            }
            self.is_behind_checkpoint(open).await
        };
        looked
            .await
            .map_err(|e: stores::Error| store_failed("look who worked in the store", &e))
    }

    /// The store's checkpoint describes more than this database committed under the same epoch.
    async fn is_behind_checkpoint(&self, open: &OpenRepository) -> stores::Result<bool> {
        let state = self.state.as_ref();
        let row = state.lock(open.id).await.map_err(unknown)?;
        let ours = match row.lock {
            Lock::Held { epoch, .. } | Lock::Draining { epoch, .. } => epoch..=epoch,
            // The anchor may be there, and its original may have gone on.
            Lock::Fenced {
                epoch,
                next: Next::Hold(_) | Next::Release | Next::Freeze(_),
                ..
            } => epoch..=epoch.next(),
            Lock::Fenced {
                next: Next::Recover,
                ..
            }
            | Lock::Vacant { .. }
            | Lock::Frozen { .. } => return Ok(false),
        };
        // The checkpoint first: another node may be writing both.
        let described = checkpoint::described(open.store.as_ref(), &open.name, ours).await;
        let described = described.map_err(unknown)?;
        let journal = state.usage(open.id).await.map_err(unknown)?.sequence;
        Ok(described.is_some_and(|sequence| sequence > journal))
    }

    pub(super) fn in_store(&self, name: &StoreName) -> Vec<Arc<OpenRepository>> {
        self.repositories()
            .values()
            .filter(|open| open.plan.store == *name)
            .cloned()
            .collect()
    }

    /// One look: freezes the store's repositories if another gateway appeared, and sees to it that their journals
    /// have numbers. Each repository looks by the number it stands with now; a recovery takes a new one.
    pub async fn look_around(&self, name: &StoreName) {
        for open in self.in_store(name) {
            if open.gate.is_frozen() {
                continue;
            }
            let Some(ours) = *open.incarnation.lock() else {
                continue;
            };
            match standing(self.state.as_ref(), name, open.store.as_ref(), ours).await {
                Ok(Some(now)) => open.stand_as(now),
                Ok(None) => {
                    self.doubt(&open, Freeze::OtherGateway).await;
                    continue;
                }
                Err(e) => {
                    tracing::warn!(cause = %e, "could not look for another gateway; trying again");
                }
            }
            if let Err(e) = self.reserve_numbers(&open, Moment::Running).await {
                tracing::warn!(repository = %open.name, cause = %e, "could not reserve journal numbers; trying again");
            }
        }
    }
}

/// Looks around until the process ends.
pub async fn watch(door: Arc<Door>, store: StoreName, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        door.look_around(&store).await;
    }
}
