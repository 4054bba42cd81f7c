//! Keeps the checkpoint of a repository's own store current, some seconds behind its commits; and looks whether one of
//! its mirrors was promoted by somebody else.
//!
//! Never on the way of a write: whoever takes the store over from its checkpoint compares it with the store's listing,
//! so being behind costs the ETags of the newest objects and nothing else.

use std::sync::Arc;
use std::time::Duration;

use policies::identity::{Epoch, Repository, StoreName};

use super::{Door, OpenRepository};
use crate::checkpoint::{self, Follower};

const INTERVAL: Duration = Duration::from_secs(5);
/// At the end of the process.
const PATIENCE: Duration = Duration::from_secs(2);

/// One repository's checkpoint on its own store, whichever that is.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    following: Option<(StoreName, Follower)>,
}

/// Runs until the process ends: one task per repository, whichever store it is in.
pub async fn run(door: Arc<Door>, name: Repository) {
    let mut keeper = Keeper::default();
    while let Some(open) = door.repository(&name) {
        tokio::time::sleep(INTERVAL).await;
        if let Err(e) = door.look_elsewhere(&open).await {
            tracing::warn!(repository = %name, cause = %e, "whether a mirror was promoted could not be looked up; trying again");
        }
        keeper.keep_if_leading(&door, &open).await;
    }
}

/// At the end of the process: what was written since the last look.
pub async fn finish(door: &Door) {
    let repositories = door.repositories();
    let kept = repositories.values().map(async |open| {
        let mut keeper = Keeper::default();
        keeper.keep_if_leading(door, open).await;
    });
    if tokio::time::timeout(PATIENCE, futures::future::join_all(kept))
        .await
        .is_err()
    {
        tracing::warn!(
            "the stores' checkpoints stay some seconds behind: not all answered in time"
        );
    }
}

impl Keeper {
    async fn keep_if_leading(&mut self, door: &Door, open: &OpenRepository) {
        let name = &open.name;
        match door.leads().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => {
                tracing::warn!(repository = %name, cause = %e, "which node leads could not be asked");
                return;
            }
        }
        if let Err(e) = self.keep(door, open).await {
            tracing::warn!(repository = %name, cause = %e, "the store's checkpoint could not be brought up to date; trying again");
        }
    }

    /// Brings the checkpoint up to date, if what this gateway knows of the repository is current: also while an
    /// operator has it frozen, since pins and what a roll-back changes come to it then.
    pub(super) async fn keep(
        &mut self,
        door: &Door,
        open: &OpenRepository,
    ) -> checkpoint::Result<()> {
        let lock = open.gate.row().lock;
        if !lock.catalog_is_current() || lock.epoch() == Epoch(0) {
            return Ok(());
        }
        let same = |(store, follower): &&mut (StoreName, Follower)| {
            *store == open.plan.store && follower.epoch() == lock.epoch()
        };
        let follower = match self.following.as_mut().filter(same) {
            Some((_, follower)) => follower,
            None => {
                let follower = Follower::new(
                    Arc::clone(door.state()),
                    Arc::clone(&open.store),
                    open.name.clone(),
                    (open.id, open.bucket_id),
                    lock.epoch(),
                );
                &mut self.following.insert((open.plan.store.clone(), follower)).1
            }
        };
        let usage = door.state().usage(open.id).await?;
        follower.advance_to(usage.sequence).await
    }
}
