//! Repositories that only Elasticsearch 2.x wrote: they have no root.
//!
//! Decides: what commits a snapshot there. The truth is which `snap-<name>.dat` are there (`BlobStoreRepository` 2.4, read
//! back): writing one commits the snapshot, deleting it deletes the snapshot, and everything else of it is written before and
//! deleted after. So the list of them plays the root's part until the first `index-N`; a description goes through
//! [`Guard::admit`] as a root does. Why not by `index`: 2.x deletes and rewrites it for readers that cannot list,
//! and decides nothing by it.

use super::admission::Candidate;
use super::{Guard, Scope};
use crate::format::digest;
use crate::format::root::Root;
use crate::key::{Class, ObjectKey};

impl Guard {
    /// The list of snapshots as it is once this object is there. `None`: its write commits nothing, because the repository
    /// has a root, or because the snapshot waits for one.
    #[must_use]
    pub fn announced(
        &self,
        key: &ObjectKey,
        class: &Class,
        digest: Option<&digest::Read>,
    ) -> Option<Candidate> {
        let (Class::SnapshotInfo(uuid), Some(Ok(digest))) = (class, digest) else {
            return None;
        };
        let info = digest.snapshot_info()?;
        let ours = info.uuid == *uuid && *key == self.knowledge.layout().snapshot_info(uuid);
        if !ours || !info.stands_for_itself() || self.scope == Scope::Observing {
            return None;
        }
        let list = match self.knowledge.newest() {
            Some(newest) if newest.root.of_list => newest.root.with_snapshot(info),
            Some(_) => return None,
            None => Root::of_snapshots(std::slice::from_ref(info)),
        };
        list.ok().map(Candidate::of)
    }
}
