//! How far a source is known to have gone, noted on its mirror: what a takeover lacks at least when the source is gone.
//!
//! One small object per repository and epoch of the mirror, written anew when the source commits a root, ahead of the
//! objects that the root needs. Invariant: it never says more than was committed. It promises nothing beyond: the
//! source may have gone on without a way to say so.

use policies::identity::{Epoch, Repository};
use policies::key::{ObjectKey, RESERVED};
use serde::{Deserialize, Serialize};

use crate::state::{Millis, RestorePoint};
use crate::stores::{self, Store, own};

const VERSION: u32 = 1;
/// Names of snapshots that are told, the newest; all of them need not fit into a small object.
const MOST_NAMES: usize = 500;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Horizon {
    snapgate_horizon: u32,
    /// Of the newest root that the source had.
    pub generation: u64,
    pub sequence: u64,
    pub committed_ms: Millis,
    /// Its snapshots, the last of them in the order of the root.
    pub snapshots: Vec<String>,
}

impl From<&RestorePoint> for Horizon {
    fn from(point: &RestorePoint) -> Self {
        let all = &point.root.snapshots;
        let last = &all[all.len().saturating_sub(MOST_NAMES)..];
        Self {
            snapgate_horizon: VERSION,
            generation: point.root.generation,
            sequence: point.sequence,
            committed_ms: point.committed_ms,
            snapshots: last.iter().map(|s| s.name.to_string()).collect(),
        }
    }
}

impl Horizon {
    /// Where the one of an epoch lies.
    pub fn key(repository: &Repository, epoch: Epoch) -> stores::Result<ObjectKey> {
        own::key(&format!("{RESERVED}horizons/{repository}/{:020}", epoch.0))
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and text are JSON")
    }

    /// What the mirror of this epoch noted; None = nothing, or nothing that this version reads.
    pub async fn read(
        store: &dyn Store,
        repository: &Repository,
        epoch: Epoch,
    ) -> stores::Result<Option<Self>> {
        let bytes = own::read(store, &Self::key(repository, epoch)?).await?;
        let read = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Ok(read.filter(|horizon| horizon.snapgate_horizon == VERSION))
    }
}
