//! The durable side of mirrors: how far each has applied the journal, what it waits for, what was counted.
//!
//! Invariants: a mirror's position never runs ahead of what its target confirmed (only its applier moves it) and
//! never moves while a reconciliation is recorded; the journal is shortened only after every mirror that still
//! needed the removed part was told to reconcile, in the same transaction; what an applier reports has no effect once
//! another one took a higher epoch.

use async_trait::async_trait;
use policies::identity::{Epoch, Handover, StoreName};
use policies::key::ObjectKey;
use policies::lock::Permit;
use policies::mirror_order::Mode;
use serde::{Deserialize, Serialize};

use super::{BucketId, Millis, RepositoryId, Result, WriteError};
use crate::stores::Identity;

#[async_trait]
pub trait Mirrors {
    /// Finds or makes the row of a configured mirror. A new one begins with a reconciliation; nothing needs
    /// to be copied twice, so that costs little where both sides are empty.
    async fn open_mirror(&self, mirror: NewMirror) -> Result<MirrorRow>;
    /// Forgets the mirrors of a repository that are not configured any more.
    async fn keep_mirrors(&self, repository: RepositoryId, stores: &[StoreName]) -> Result<()>;
    async fn mirrors(&self, repository: RepositoryId) -> Result<Vec<MirrorRow>>;
    async fn mirror(
        &self,
        repository: RepositoryId,
        store: &StoreName,
    ) -> Result<Option<MirrorRow>>;
    /// Applies the changes in order, in one transaction; the row as it is then. `by`: the epoch of the applier that
    /// reports; None for everybody else. None is returned if there is no such mirror, or it has another epoch by now.
    async fn change_mirror(
        &self,
        repository: RepositoryId,
        store: &StoreName,
        by: Option<Epoch>,
        changes: Vec<MirrorChange>,
    ) -> Result<Option<MirrorRow>>;
    /// What the journal holds above a position.
    async fn backlog(&self, repository: RepositoryId, after: u64) -> Result<Backlog>;
    /// Keeps the newest `keep` entries of the journal (and for a while some more: at most a few thousand rows
    /// go per call). Mirrors that still needed an older one are told to reconcile. True = there is more to cut.
    async fn bound_journal(
        &self,
        repository: RepositoryId,
        keep: u64,
        now_ms: Millis,
    ) -> Result<bool>;
    /// The bytes of an object were written anew with the same content: the store names them otherwise now.
    /// False = the row is not that of `sequence` any more.
    async fn healed(
        &self,
        permit: &Permit,
        bucket: BucketId,
        key: &ObjectKey,
        sequence: u64,
        identity: Identity,
    ) -> Result<bool, WriteError>;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMirror {
    pub repository: RepositoryId,
    pub store: StoreName,
    pub mode: Mode,
    /// Kept in the target's anchor, so that an anchor found after a crash tells whose it is.
    pub handover: Handover,
    pub now_ms: Millis,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorRow {
    pub repository: RepositoryId,
    pub store: StoreName,
    pub mode: Mode,
    /// The epoch under which the target is written; 0 = none was taken yet.
    pub epoch: Epoch,
    pub handover: Handover,
    /// Every entry of the journal up to this one is on the target.
    pub applied: u64,
    /// The newest root that the target is known to have is at least of this sequence; 0 = not known.
    pub rooted: u64,
    pub paused: bool,
    /// Orders so far: whoever has followed fewer looks at the row anew.
    pub orders: u64,
    /// The node that applies, of several on one database; it may have died since.
    pub applier: Option<String>,
    pub resync: Option<Resync>,
    pub stalled: Option<Stalled>,
    /// Transfers that failed and were tried again.
    pub failed: u64,
    /// Objects that were copied, and their bytes.
    pub transferred: u64,
    pub bytes: u64,
}

/// Why a mirror does not go on: an entry that can neither be applied nor skipped, or a target that is not its
/// own any more (then there is no key).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stalled {
    pub key: Option<String>,
    pub reason: String,
    pub since_ms: Millis,
    /// The target is not this gateway's to write any more.
    #[serde(default)]
    pub fenced: bool,
}

/// A reconciliation under way: until it is done nothing of the journal is applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resync {
    pub reason: String,
    pub since_ms: Millis,
    /// When the oldest was committed that the target may lack, if that is longer ago.
    #[serde(default)]
    pub behind_ms: Option<Millis>,
    pub phase: Phase,
    /// Objects looked at, of about so many.
    pub done: u64,
    pub total: u64,
    /// Roots that the target has and the source does not know are kept aside instead of stopping it.
    #[serde(default)]
    pub aside: bool,
    /// The target is known to hold this repository: the mirror was reconciled before, or its root is there now.
    #[serde(default)]
    pub ours: bool,
}

/// Where a reconciliation is. It begins at a position of the journal, which is the mirror's `applied`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Objects of the catalog that the target lacks are copied, in the order of keys.
    Copy { after: Option<String> },
    /// What changed meanwhile is copied: journal entries up to `position` are seen to.
    Follow { position: u64 },
    /// Everything as of `upto` is there but its root and pointer.
    Root { upto: u64 },
    /// What the catalog did not show as of `upto` is removed, in the order of keys.
    Remove { upto: u64, after: Option<String> },
}

impl Resync {
    #[must_use]
    pub fn begin(reason: impl Into<String>, now_ms: Millis) -> Self {
        Self {
            reason: reason.into(),
            since_ms: now_ms,
            behind_ms: None,
            phase: Phase::Copy { after: None },
            done: 0,
            total: 0,
            aside: false,
            ours: false,
        }
    }
}

impl Resync {
    /// Since when the target may lack something.
    #[must_use]
    pub fn behind_since(&self) -> Millis {
        self.behind_ms
            .map_or(self.since_ms, |ms| ms.min(self.since_ms))
    }
}

impl MirrorRow {
    /// A mirror that nothing is known of yet; `newest` is the newest sequence of the journal.
    #[must_use]
    pub fn new(new: &NewMirror, newest: u64) -> Self {
        Self {
            repository: new.repository,
            store: new.store.clone(),
            mode: new.mode,
            epoch: Epoch(0),
            handover: new.handover.clone(),
            applied: newest,
            rooted: 0,
            paused: false,
            orders: 0,
            applier: None,
            resync: Some(Resync::begin("a new mirror", new.now_ms)),
            stalled: None,
            failed: 0,
            transferred: 0,
            bytes: 0,
        }
    }

    pub fn apply(&mut self, newest: u64, change: MirrorChange) {
        match change {
            MirrorChange::Applied(upto) => {
                if self.resync.is_none() {
                    self.applied = self.applied.max(upto);
                }
            }
            MirrorChange::Counted {
                transferred,
                bytes,
                failed,
            } => {
                self.transferred += transferred;
                self.bytes += bytes;
                self.failed += failed;
            }
            MirrorChange::Rooted(sequence) => self.rooted = self.rooted.max(sequence),
            MirrorChange::Paused(paused) => {
                self.paused = paused;
                self.orders += 1;
            }
            MirrorChange::Mode(mode) => self.mode = mode,
            MirrorChange::Stalled(stalled) => self.stalled = stalled,
            MirrorChange::Epoch { epoch, applier } => {
                if epoch >= self.epoch {
                    self.epoch = epoch;
                    self.applier = applier;
                }
            }
            MirrorChange::BeginResync(resync) => {
                self.reconcile(newest, resync);
                self.orders += 1;
            }
            MirrorChange::Resync(resync) => {
                if self.reconciles(resync.since_ms) {
                    self.resync = Some(resync);
                }
            }
            MirrorChange::Resynced { since_ms, upto } => {
                if self.reconciles(since_ms) {
                    self.resync = None;
                    self.applied = self.applied.max(upto);
                }
            }
        }
    }

    /// What it needed next of the journal is being cut off.
    pub fn lost_its_place(&mut self, newest: u64, now_ms: Millis) {
        let mut resync = Resync::begin("the journal went over its bound", now_ms);
        resync.aside = self.resync.as_ref().is_some_and(|before| before.aside);
        self.reconcile(newest, resync);
    }

    fn reconcile(&mut self, newest: u64, mut resync: Resync) {
        resync.ours |= self.resync.as_ref().is_none_or(|before| before.ours);
        let before = self.resync.as_ref().map(Resync::behind_since);
        resync.behind_ms = resync.behind_ms.into_iter().chain(before).min();
        self.applied = newest;
        self.rooted = 0;
        self.resync = Some(resync);
    }

    /// The target has the root of this sequence, or a newer one.
    #[must_use]
    pub fn has(&self, sequence: u64) -> bool {
        self.rooted >= sequence || (self.resync.is_none() && self.applied >= sequence)
    }

    /// The target is known to have the newest root of up to this sequence. None = nothing is known of its roots.
    #[must_use]
    pub fn has_roots_to(&self) -> Option<u64> {
        match &self.resync {
            Some(_) => (self.rooted > 0).then_some(self.rooted),
            None => Some(self.rooted.max(self.applied)),
        }
    }

    fn reconciles(&self, since_ms: Millis) -> bool {
        self.resync
            .as_ref()
            .is_some_and(|known| known.since_ms == since_ms)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MirrorChange {
    /// Without effect while a reconciliation is recorded; never goes back.
    Applied(u64),
    /// The target confirmed the root of this sequence.
    Rooted(u64),
    Counted {
        transferred: u64,
        bytes: u64,
        failed: u64,
    },
    Paused(bool),
    Mode(Mode),
    Stalled(Option<Stalled>),
    /// Without effect if a higher one is known.
    Epoch {
        epoch: Epoch,
        applier: Option<String>,
    },
    /// From here on the target is reconciled; `applied` becomes the newest sequence.
    BeginResync(Resync),
    /// Progress of a reconciliation; without effect if none is recorded or another one was begun.
    Resync(Resync),
    /// The reconciliation is done: the target is as the source was at this sequence.
    Resynced {
        since_ms: Millis,
        upto: u64,
    },
}

/// What of the journal lies above a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// The newest sequence of the journal.
    pub source: u64,
    pub operations: u64,
    pub bytes: u64,
    /// When the oldest of them was committed.
    pub oldest_ms: Option<Millis>,
}
