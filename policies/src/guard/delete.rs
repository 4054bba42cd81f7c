//! The delete rule.
//!
//! Decides: may this key be hidden? Invariant: what the newest committed root needs stays, by the union of shard `snap-*`
//! lists and (in roots of the 7.6 form) shard indexes. What only an older live root needs may go, softly: clusters delete it in
//! parallel with the old root itself, so refusing would refuse correct clusters; its bytes are held until that
//! root is no parent any more.
//!
//! The exceptions X1-X13 of clusters' own protocols are the arms below; each delete a real cluster makes is allowed, except where
//! a known defect makes it delete live data.

use super::refusal::{Names, Reason, Refusal};
use super::{Guard, Scope};
use crate::format::closure::{Holders, LiveRoot};
use crate::key::{Class, ObjectKey};

/// How an allowed delete is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Hide it, keep the bytes for the retention.
    Soft {
        /// An older root from which the cluster may still go on needs it: the bytes stay at least until that root is no parent any more.
        held_by: Option<u64>,
    },
    /// Plain S3 rules: `tests-*`, `temp-analysis-*`.
    Free,
    /// Answer success and go on serving it: `index.latest` and `index` are deleted only to be written anew (5.x and 2.x).
    KeepServing,
}

impl Guard {
    /// Judges one key of a delete. A key that does not exist is the caller's to answer with success.
    pub fn delete(&self, key: &ObjectKey, class: &Class) -> Result<Deletion, Refusal> {
        self.judge_delete(key, class)
            .map_err(|reason| self.refusal(reason))
    }

    fn judge_delete(&self, key: &ObjectKey, class: &Class) -> Result<Deletion, Reason> {
        const SOFT: Result<Deletion, Reason> = Ok(Deletion::Soft { held_by: None });
        match class {
            // D5
            Class::Registration | Class::Analysis => return Ok(Deletion::Free),
            // X1, X2
            Class::Pointer | Class::LegacyList => return Ok(Deletion::KeepServing),
            // X1, X7: not part of any closure.
            Class::Pending | Class::ShardPaths => return SOFT,
            Class::Root(_)
            | Class::Incompatible
            | Class::SnapshotInfo(_)
            | Class::GlobalMetadata(_)
            | Class::LegacySnapshot
            | Class::IndexMetadata { .. }
            | Class::Data { .. }
            | Class::ShardIndex { .. }
            | Class::ShardSnapshot { .. }
            | Class::LegacyShardSnapshot { .. }
            | Class::Unknown => {}
        }
        if self.scope == Scope::Observing {
            return Err(Reason::StillReading { key: key.clone() });
        }
        let Some(newest) = self.knowledge.newest() else {
            return SOFT;
        };
        let Some(holders) = self.knowledge.holders(key, class) else {
            return SOFT;
        };
        if let Some(generation) = holders.root {
            // X11, X13: older roots go, the newest never does.
            return if generation == newest.root.generation {
                Err(Reason::NewestRoot {
                    generation,
                    snapshots: newest.root.snapshots.len(),
                })
            } else {
                Ok(Deletion::Soft {
                    held_by: Some(generation),
                })
            };
        }
        if newest.root.of_list && matches!(class, Class::SnapshotInfo(_)) {
            // X3: in a 2.x repository, deleting the description IS the delete of the snapshot, and all else comes after it.
            return SOFT;
        }
        self.needed_now(key, newest, &holders)?;
        Ok(Deletion::Soft {
            held_by: self.held_by(&holders),
        })
    }

    /// Refuses what the newest root needs.
    fn needed_now(
        &self,
        key: &ObjectKey,
        newest: &LiveRoot,
        holders: &Holders,
    ) -> Result<(), Reason> {
        let mut needed = holders.snapshots.clone();
        needed.keep(newest.slots());
        if !needed.is_empty() {
            let sure = needed.iter().any(|slot| !holders.unsure.contains(slot));
            let snapshots = Names::new(self.knowledge.names(&needed));
            let key = key.clone();
            return Err(if sure {
                Reason::Needed { key, snapshots }
            } else {
                Reason::MayBeNeeded { key, snapshots }
            });
        }
        // X4, X5, X6: in the legacy form shard indexes come and go before the root does, and restores need none.
        if !newest.root.is_legacy_form() && holders.indexed.contains(&newest.root.generation) {
            return Err(Reason::Indexed { key: key.clone() });
        }
        Ok(())
    }

    fn held_by(&self, holders: &Holders) -> Option<u64> {
        let older = self.knowledge.live().iter().rev().skip(1);
        let mut needing = older.filter(|live| {
            holders.snapshots.intersects(live.slots())
                || holders.indexed.contains(&live.root.generation)
        });
        needing.next().map(|live| live.root.generation)
    }
}
