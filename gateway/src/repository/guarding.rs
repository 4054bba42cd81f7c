//! The guard at work: asks `policies::guard` about roots, overwrites and deletes, and fetches the facts it wants.
//!
//! The guard of a repository lives in memory and is made anew at start from the newest root and the metadata it
//! names. Invariants: roots are committed one at a time, and no delete takes effect between a root's admission and
//! its commit; what the guard is told happened, happened durably.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use policies::format::closure::{Needs, NewestSnapshot, Observed};
use policies::format::digest;
use policies::format::frame::Limits;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::guard::{
    Admitted, Candidate, Deletion, Explanation, Guard, Incoming, Overwrite, Report, Rules, Scope,
};
use policies::identity::{Cluster, Epoch, Repository};
use policies::key::{Class, ObjectKey};
use policies::lock::Permit;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::kept::{Keeping, Recent};
use super::{Door, Error, Refusal};
use crate::state::{CommittedRoot, SnapshotName};

mod facts;
mod reading;
#[cfg(test)]
mod tests;

/// Larger metadata is not kept while it passes; it is read from the store when it is asked for.
const LARGEST_METADATA: usize = 32 << 20;
/// A root must be judged before it is visible, so it is always kept.
pub(super) const LARGEST_ROOT: usize = 256 << 20;

/// What one repository's guard needs around it.
pub struct Guarding {
    guard: Mutex<Guard>,
    /// Held for writing while a root is committed, for reading while objects are hidden.
    pub(super) commits: tokio::sync::RwLock<()>,
    recent: Mutex<Recent>,
    pub(super) keeping: Arc<Keeping>,
    /// Where several nodes write: the journal's entry up to which the guard knows what they wrote.
    followed: Mutex<u64>,
}

impl std::fmt::Debug for Guarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarding").finish_non_exhaustive()
    }
}

/// A root that may be committed.
pub(super) struct AdmittedRoot {
    admitted: Admitted,
    /// The cluster id that the root is the first of its epoch to name.
    pub(super) bind: Option<Arc<str>>,
}

impl AdmittedRoot {
    pub(super) fn snapshots(&self) -> usize {
        self.admitted.root().snapshots.len()
    }

    /// What its commit writes down beside it.
    pub(super) fn restore_point(&self, cluster: Option<&Cluster>, epoch: Epoch) -> CommittedRoot {
        let damaged = |report: &Report| matches!(report, Report::Damage(_));
        CommittedRoot {
            cluster: cluster.cloned(),
            epoch,
            complete: !self.admitted.reports().iter().any(damaged),
            ..committed_root(self.admitted.root(), self.admitted.newest_snapshot())
        }
    }
}

/// Of a root whose writer is not known.
pub(super) fn committed_root(root: &Root, newest: Option<NewestSnapshot>) -> CommittedRoot {
    let name = |s: &policies::format::root::Snapshot| SnapshotName {
        name: s.name.clone(),
        uuid: s.uuid.clone(),
    };
    CommittedRoot {
        generation: root.generation,
        cluster: None,
        epoch: Epoch(0),
        snapshots: root.snapshots.iter().map(name).collect(),
        newest,
        complete: true,
    }
}

impl Guarding {
    pub(super) fn followed(&self) -> u64 {
        *self.followed.lock()
    }

    pub(super) fn follows(&self, sequence: u64) {
        let mut followed = self.followed.lock();
        *followed = sequence.max(*followed);
    }

    pub(super) fn new(name: &Repository, layout: Layout) -> Self {
        Self {
            guard: Mutex::new(Guard::new(name.clone(), layout, Scope::Observing)),
            commits: tokio::sync::RwLock::new(()),
            recent: Mutex::default(),
            keeping: Arc::default(),
            followed: Mutex::new(0),
        }
    }

    /// Looks at the guard's knowledge for a moment.
    pub fn with<T>(&self, look: impl FnOnce(&Guard) -> T) -> T {
        look(&self.guard.lock())
    }

    pub(super) fn delete(&self, key: &ObjectKey, class: &Class) -> Result<Deletion, Error> {
        self.guard
            .lock()
            .delete(key, class)
            .map_err(|refusal| refused(&refusal))
    }

    pub(super) fn overwrite(
        &self,
        key: &ObjectKey,
        class: &Class,
        same_bytes: bool,
        digest: Option<&digest::Read>,
    ) -> Result<Overwrite, Error> {
        self.guard
            .lock()
            .overwrite(key, class, Incoming { same_bytes, digest })
            .map_err(|refusal| refused(&refusal))
    }

    pub(super) fn pointer(&self, body: &[u8]) -> Result<(), Error> {
        self.guard
            .lock()
            .pointer(body)
            .map_err(|refusal| refused(&refusal))
    }

    pub fn explain(&self, key: &ObjectKey, class: &Class) -> Explanation {
        self.guard.lock().explain(key, class)
    }

    pub(super) fn deleted(&self, key: &ObjectKey, class: &Class) {
        self.recent.lock().forget(key);
        self.guard.lock().deleted(key, class);
    }

    pub(super) fn written(&self, key: &ObjectKey, class: &Class, digest: Option<digest::Read>) {
        self.guard.lock().written(key, class, digest.as_ref());
        let mut recent = self.recent.lock();
        recent.forget(key);
        if let Some(digest) = digest {
            recent.add(key, digest);
        }
    }

    /// What is known is this now, and nothing else.
    pub(super) fn starts_as(&self, guard: Guard) {
        *self.guard.lock() = guard;
        *self.recent.lock() = Recent::default();
    }

    pub(super) fn announced(
        &self,
        key: &ObjectKey,
        class: &Class,
        digest: Option<&digest::Read>,
    ) -> Option<Candidate> {
        self.guard.lock().announced(key, class, digest)
    }

    pub(super) fn committed(&self, root: AdmittedRoot) {
        self.guard.lock().committed(root.admitted);
        *self.recent.lock() = Recent::default();
    }
}

/// Bytes of a body of this class that must be at hand when it is complete.
pub(super) fn wanted_bytes(class: &Class) -> usize {
    match class {
        Class::Root(_) => LARGEST_ROOT,
        Class::Pointer
        | Class::SnapshotInfo(_)
        | Class::GlobalMetadata(_)
        | Class::IndexMetadata { .. }
        | Class::ShardSnapshot { .. }
        | Class::ShardIndex { .. } => LARGEST_METADATA,
        Class::LegacyList
        | Class::Incompatible
        | Class::LegacySnapshot
        | Class::Pending
        | Class::Registration
        | Class::Analysis
        | Class::ShardPaths
        | Class::Data { .. }
        | Class::LegacyShardSnapshot { .. }
        | Class::Unknown => 0,
    }
}

/// What the guard keeps of a body; large ones are parsed off the I/O threads.
pub(super) async fn read_digest(class: &Class, body: Bytes) -> Option<digest::Read> {
    const SMALL: usize = 64 << 10;
    if body.len() <= SMALL {
        return digest::read(class, &body, Limits::default());
    }
    let class = class.clone();
    tokio::task::spawn_blocking(move || digest::read(&class, &body, Limits::default()))
        .await
        .ok()
        .flatten()
}

impl Door {
    /// May this root be committed? The caller holds `commits` for writing until it is, or is not.
    pub(super) async fn admit_root(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        generation: u64,
        body: &[u8],
    ) -> Result<AdmittedRoot, Error> {
        let read = open.guarding.guard.lock().candidate(generation, body);
        let candidate = match read {
            Ok(candidate) => candidate,
            Err(refusal) => {
                self.refused_root(open, &refusal).await;
                return Err(refused(&refusal));
            }
        };
        self.admit(open, permit, &candidate, Observed::default())
            .await
    }

    /// As [`Self::admit_root`]; `facts` are what is known of it already.
    pub(super) async fn admit(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        candidate: &Candidate,
        mut facts: Observed,
    ) -> Result<AdmittedRoot, Error> {
        let generation = candidate.root().generation;
        let bound = self
            .state
            .bound_cluster(open.id)
            .await
            .map_err(|e| state_failed("look up its cluster", &e))?
            .filter(|(epoch, _)| *epoch == super::write::epoch_of(permit));
        let pins = self.pins(open).await?;
        let pinned: Vec<_> = pins.into_iter().map(|pin| pin.snapshot.uuid).collect();
        let rules = Rules {
            bound_cluster: bound.as_ref().map(|(_, id)| &**id),
            pinned: &pinned,
        };
        let admitted = loop {
            match judge(&open.guarding, candidate, rules, &facts) {
                Ok(Ok(admitted)) => break admitted,
                Ok(Err(refusal)) => {
                    self.refused_root(open, &refusal).await;
                    return Err(refused(&refusal));
                }
                Err(needs) => self.fetch(open, needs, &mut facts).await?,
            }
        };
        self.revive(open, permit, admitted.revived()).await?;
        self.reported(open, generation, admitted.reports()).await;
        let bind = admitted.reports().iter().find_map(|report| match report {
            Report::BindCluster(id) => Some(Arc::clone(id)),
            other => {
                tracing::warn!(repository = %open.name, generation, report = ?other, "about a root that is being committed");
                None
            }
        });
        Ok(AdmittedRoot { admitted, bind })
    }

    /// Shows hidden objects again that a root needs, and says how many.
    pub(super) async fn revive(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        keys: &[ObjectKey],
    ) -> Result<usize, Error> {
        let mut shown = 0;
        for key in keys {
            let hidden = self
                .state
                .tombstone(open.id, key)
                .await
                .map_err(|e| state_failed("look up deleted objects", &e))?;
            let Some(tombstone) = hidden
                .into_iter()
                .filter(|t| t.location == *key)
                .max_by_key(|t| t.removed)
            else {
                continue;
            };
            self.state
                .revive(permit, open.bucket_id, vec![tombstone.id])
                .await
                .map_err(|e| super::unavailable("show a deleted object again", &e))?;
            tracing::info!(repository = %open.name, key = %key, "shown again: a root needs it");
            shown += 1;
        }
        Ok(shown)
    }
}

type Judged = Result<Result<Admitted, policies::guard::Refusal>, Needs>;

fn judge(guarding: &Guarding, candidate: &Candidate, rules: Rules<'_>, facts: &Observed) -> Judged {
    guarding.guard.lock().admit(candidate, rules, facts)
}

pub(super) fn refused(refusal: &policies::guard::Refusal) -> Error {
    Refusal::Guard {
        label: refusal.reason.label(),
        sentence: refusal.to_string(),
    }
    .into()
}

fn layout(base_path: &str) -> Result<Layout, Error> {
    Layout::new(base_path).map_err(|e| Error::InvalidArgument(e.to_string()))
}

/// An empty guard for a repository that is about to be opened.
pub(super) fn unread(name: &Repository, base_path: &str) -> Guarding {
    Guarding::new(name, Layout::new(base_path).unwrap_or_default())
}
