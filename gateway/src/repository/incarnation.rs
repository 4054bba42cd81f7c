//! One state database per store, proved in the store itself.
//!
//! Each start creates `.snapgate/incarnation-N` with the next N, create-only; in it is a token that all nodes of its
//! state database know. While it runs, a gateway looks for a higher one every few seconds and before every root
//! commit; one that is no node of ours means that another state database (a clone, a restored copy, a second
//! gateway) works on this store, and the lower one freezes.

use std::sync::Arc;
use std::time::Duration;

use policies::identity::{Epoch, Repository, StoreName};
use policies::key::{ObjectKey, RESERVED};
use policies::lock::{self, Freeze};

use super::Door;
use super::door::OpenRepository;
use crate::state::State;
use crate::stores::{self, Store, own};

/// How often a gateway looks for another one.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Tries to be the next one; each failure means that another gateway starts right now.
const TRIES: usize = 16;

/// The number that this process has in one store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incarnation(u64);

fn name(n: u64) -> String {
    format!("{RESERVED}incarnation-{n:020}")
}

/// Takes the next number. Called once per store and process, when nothing else is in doubt. What is written there
/// is known to every other node of the same state database before it can be seen in the store.
pub async fn begin(
    state: &dyn State,
    at: &StoreName,
    store: &dyn Store,
) -> stores::Result<Incarnation> {
    let permit = lock::upkeep(&Repository::new("snapgate"), Epoch(0));
    let token = crate::random::text(22);
    state
        .announce_incarnation(at, &token)
        .await
        .map_err(|e| stores::Error::Failed(e.to_string().into()))?;
    for _ in 0..TRIES {
        let known = own::names(store, &format!("{RESERVED}incarnation-")).await?;
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
                return Ok(Incarnation(highest + 1));
            }
            Err(stores::Error::Exists) => {}
            Err(e) => return Err(e),
        }
    }
    Err(stores::Error::Busy)
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
    let token = own::read(store, &last.name).await?.unwrap_or_default();
    let token = String::from_utf8_lossy(&token);
    let one_of_us = state
        .knows_incarnation(at, token.trim())
        .await
        .map_err(|e| stores::Error::Failed(e.to_string().into()))?;
    Ok(number(&last.name).filter(|_| one_of_us).map(Incarnation))
}

/// Runs until the process ends: freezes the store's repositories when another gateway appears. Each repository
/// looks by the number it stands with now; a recovery takes a new one, and a promotion brings a repository here.
pub async fn watch(door: Arc<Door>, name: StoreName, store: Arc<dyn Store>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let repositories = door.repositories();
        let here = |open: &&Arc<OpenRepository>| open.plan.store == name && !open.gate.is_frozen();
        for open in repositories.values().filter(here) {
            let Some(ours) = *open.incarnation.lock() else {
                continue;
            };
            match standing(door.state.as_ref(), &name, store.as_ref(), ours).await {
                Ok(Some(now)) => open.stand_as(now),
                Ok(None) => {
                    tracing::error!(repository = %open.name, "frozen: another gateway with its own state database works on this store");
                    if let Err(e) = door.freeze_for(open, Freeze::OtherGateway).await {
                        tracing::error!(repository = %open.name, cause = %e, "frozen in this process only");
                        open.gate.doubt(Freeze::OtherGateway);
                    }
                }
                Err(e) => {
                    tracing::warn!(cause = %e, "could not look for another gateway; trying again");
                }
            }
        }
    }
}
