//! Uploads that a process which died left hidden on a target.
//!
//! Decides which of them may be ended. Invariant: never one that somebody may still finish. Where a store tells the key
//! of an upload, those of the mirrored repository are ended once its epoch is ours: whoever wrote the target before is
//! fenced. Where it does not (a directory), all are, before anything of this process writes there, and only in a store
//! in which no gateway ever was primary: there nobody but mirrors makes any, and a mirror tries again.

use std::time::Duration;

use policies::identity::Epoch;
use policies::key::RESERVED;
use policies::lock;

use super::{Link, Source};
use crate::stores::{self, Store, own};

/// A target that does not answer is swept at the next start.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends what has no key.
pub async fn nameless(source: &Source, target: &dyn Store) {
    let swept = tokio::time::timeout(PATIENCE, end_nameless(source, target)).await;
    if let Err(e) = swept.unwrap_or(Err(stores::Error::Unknown)) {
        tracing::warn!(repository = %source.name, cause = %e, "what was left hidden on a mirror stays until the next start");
    }
}

async fn end_nameless(source: &Source, target: &dyn Store) -> stores::Result<()> {
    let primaries = own::names(target, &format!("{RESERVED}incarnation-")).await?;
    if !primaries.is_empty() {
        return Ok(());
    }
    let permit = lock::upkeep(&source.name, Epoch(0));
    for (key, upload) in target.uploads().await? {
        if key.as_str().starts_with(RESERVED) {
            target.abort(&permit, &key, &upload).await?;
        }
    }
    Ok(())
}

impl Link {
    /// Ends uploads of this repository's keys. The epoch is ours, and no transfer is under way.
    pub async fn sweep_uploads(&self, epoch: Epoch) -> stores::Result<()> {
        let permit = self.permit(epoch);
        for (key, upload) in self.target.uploads().await? {
            if self.source.class(&key).is_some() {
                self.target.abort(&permit, &key, &upload).await?;
            }
        }
        Ok(())
    }
}
