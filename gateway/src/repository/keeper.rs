//! Keeps the checkpoint of a repository's own store current, some seconds behind its commits; and looks whether one of
//! its mirrors was promoted by somebody else.
//!
//! Never on the way of a write: whoever takes the store over from its checkpoint compares it with the store's listing,
//! so being behind costs the ETags of the newest objects and nothing else.

use std::sync::Arc;
use std::time::Duration;

use policies::identity::{Epoch, Repository, StoreName};

use super::Door;
use crate::checkpoint::Follower;

const INTERVAL: Duration = Duration::from_secs(5);

/// Runs until the process ends: one task per repository, whichever store it is in.
pub async fn run(door: Arc<Door>, name: Repository) {
    let mut following: Option<(StoreName, Follower)> = None;
    while let Some(open) = door.repository(&name) {
        tokio::time::sleep(INTERVAL).await;
        if let Err(e) = door.look_elsewhere(&open).await {
            tracing::warn!(repository = %name, cause = %e, "whether a mirror was promoted could not be looked up; trying again");
        }
        match door.leads().await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(e) => {
                tracing::warn!(repository = %name, cause = %e, "which node leads could not be asked");
                continue;
            }
        }
        let lock = open.gate.row().lock;
        if open.gate.is_frozen() || !lock.catalog_is_current() || lock.epoch() == Epoch(0) {
            continue;
        }
        let same = |(store, follower): &&mut (StoreName, Follower)| {
            *store == open.plan.store && follower.epoch() == lock.epoch()
        };
        let follower = match following.as_mut().filter(same) {
            Some((_, follower)) => follower,
            None => {
                let follower = Follower::new(
                    Arc::clone(door.state()),
                    Arc::clone(&open.store),
                    name.clone(),
                    (open.id, open.bucket_id),
                    lock.epoch(),
                );
                &mut following.insert((open.plan.store.clone(), follower)).1
            }
        };
        let advanced = match door.state().usage(open.id).await {
            Ok(usage) => follower.advance_to(usage.sequence).await,
            Err(e) => Err(e.into()),
        };
        if let Err(e) = advanced {
            tracing::warn!(repository = %name, cause = %e, "the store's checkpoint could not be brought up to date; trying again");
        }
    }
}
