//! The overwrite rule and the rule of `index.latest`.
//!
//! Decides: may these bytes take the place of others? Invariant: content that a committed root needs never changes. The one
//! exception is X9: metadata of a snapshot whose root is not known to be final may be written anew by the
//! next master, if it still describes the same snapshot.

use std::sync::Arc;

use super::refusal::{Names, Reason, Refusal};
use super::{Guard, Scope};
use crate::format::digest::{self, Digest};
use crate::key::{Class, ObjectKey, ShardGeneration, Writing};

/// What wants to be written over an existing object.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Size and content hash are those of the existing object: the replay of a PUT whose answer was lost.
    pub same_bytes: bool,
    /// For classes that have one.
    pub digest: Option<&'a digest::Read>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Answer success, write nothing.
    Same,
    /// Replace it; the older content is kept for the retention.
    Replace,
}

impl Guard {
    /// Judges a write over an existing object. A write to a free name needs no judgement here.
    pub fn overwrite(
        &self,
        key: &ObjectKey,
        class: &Class,
        incoming: Incoming<'_>,
    ) -> Result<Overwrite, Refusal> {
        self.judge_overwrite(key, class, incoming)
            .map_err(|reason| self.refusal(reason))
    }

    fn judge_overwrite(
        &self,
        key: &ObjectKey,
        class: &Class,
        incoming: Incoming<'_>,
    ) -> Result<Overwrite, Reason> {
        if class.writing() == Writing::Free {
            return Ok(Overwrite::Replace);
        }
        if incoming.same_bytes {
            return Ok(Overwrite::Same);
        }
        match class {
            Class::Root(generation) => {
                return Err(Reason::RootExists {
                    generation: *generation,
                });
            }
            Class::Pointer
            | Class::LegacyList
            | Class::Incompatible
            | Class::LegacySnapshot
            | Class::Pending
            | Class::Registration
            | Class::Analysis
            | Class::ShardPaths
            | Class::LegacyShardSnapshot { .. }
            | Class::Unknown => return Ok(Overwrite::Replace),
            Class::SnapshotInfo(_)
            | Class::GlobalMetadata(_)
            | Class::IndexMetadata { .. }
            | Class::Data { .. }
            | Class::ShardIndex { .. }
            | Class::ShardSnapshot { .. } => {}
        }
        if self.scope == Scope::Observing {
            return Err(Reason::StillReading { key: key.clone() });
        }
        match class {
            Class::Data { .. } | Class::ShardIndex { .. } => self.replace_content(key, class),
            Class::SnapshotInfo(uuid) => self.replace_metadata(key, class, Some(uuid), incoming),
            Class::GlobalMetadata(_)
            | Class::IndexMetadata { .. }
            | Class::ShardSnapshot { .. } => self.replace_metadata(key, class, None, incoming),
            Class::Root(_)
            | Class::Pointer
            | Class::LegacyList
            | Class::Incompatible
            | Class::LegacySnapshot
            | Class::Pending
            | Class::Registration
            | Class::Analysis
            | Class::ShardPaths
            | Class::LegacyShardSnapshot { .. }
            | Class::Unknown => Ok(Overwrite::Replace),
        }
    }

    /// Data and shard indexes: no root that is live may need the old content, and only numbered names are used again.
    fn replace_content(&self, key: &ObjectKey, class: &Class) -> Result<Overwrite, Reason> {
        let key = key.clone();
        if let Some(holders) = self.knowledge.holders(&key, class) {
            return Err(if holders.snapshots.is_empty() {
                Reason::Indexed { key }
            } else {
                Reason::Needed {
                    key,
                    snapshots: Names::new(self.knowledge.names(&holders.snapshots)),
                }
            });
        }
        let numbered = matches!(
            class,
            Class::ShardIndex {
                generation: ShardGeneration::Number(_),
                ..
            }
        );
        if class.writing() == Writing::Once && !numbered {
            return Err(Reason::WriteOnce { key });
        }
        Ok(Overwrite::Replace)
    }

    /// `snap-*` and `meta-*`: no final root may need the old content, and the new one must describe the same snapshot.
    fn replace_metadata(
        &self,
        key: &ObjectKey,
        class: &Class,
        uuid: Option<&Arc<str>>,
        incoming: Incoming<'_>,
    ) -> Result<Overwrite, Reason> {
        let holders = self.knowledge.holders(key, class);
        if let Some(holders) = &holders {
            let mut fixed = holders.snapshots.clone();
            fixed.keep(&self.knowledge.final_slots());
            if !fixed.is_empty() {
                let snapshots = Names::new(self.knowledge.names(&fixed));
                return Err(Reason::Needed {
                    key: key.clone(),
                    snapshots,
                });
            }
        }
        let names = holders
            .map(|holders| self.knowledge.names(&holders.snapshots))
            .unwrap_or_default();
        let same = match incoming.digest {
            Some(Ok(digest)) => match &**digest {
                Digest::SnapshotInfo(info) => uuid.is_none_or(|uuid| info.uuid == *uuid),
                Digest::ShardSnapshot(body) => names.is_empty() || names.contains(&body.name),
                Digest::GlobalMetadata
                | Digest::IndexMetadata(_)
                | Digest::ShallowShardSnapshot
                | Digest::ShardIndex(_) => true,
            },
            Some(Err(_)) | None => false,
        };
        if same {
            Ok(Overwrite::Replace)
        } else {
            Err(Reason::NotTheSame { key: key.clone() })
        }
    }

    /// Judges the body of `index.latest`: eight bytes, big-endian, the number of the newest committed root.
    pub fn pointer(&self, body: &[u8]) -> Result<(), Refusal> {
        let Ok(value) = body.try_into().map(u64::from_be_bytes) else {
            return Err(self.refusal(Reason::PointerForm { length: body.len() }));
        };
        let highest = self
            .knowledge
            .newest()
            .filter(|newest| !newest.root.of_list)
            .map(|newest| newest.root.generation);
        if self.scope == Scope::Complete && highest != Some(value) {
            return Err(self.refusal(Reason::PointerValue { value, highest }));
        }
        Ok(())
    }
}
