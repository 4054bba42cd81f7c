//! What an object's key says about it: the repository it belongs to and the part it plays there.
//!
//! Decides: key bytes -> [`ObjectKey`]; bucket and key -> [`Place`] (repository and [`Class`]).
//! Invariant: one decoding, one answer. Authorisation, guard, catalog and store all use this value.
//! Names are those that Elasticsearch 2-9 and OpenSearch 1-3 write (`BlobStoreRepository` and
//! `S3BlobContainer` of both, read back from repositories that real clusters made). A name is never
//! split on `_` or `-`: both occur inside their base64 identifiers, also as first character.

use std::fmt;
use std::sync::Arc;

use crate::identity::{Bucket, Repository};

/// The gateway's own objects in a store lie below this prefix; clients neither see nor touch it.
pub const RESERVED: &str = ".snapgate/";

/// Longest key in bytes, as S3.
pub const MAX_KEY: usize = 1024;

/// An object's name: 1 to 1,024 bytes of UTF-8 without NUL, otherwise opaque (no path cleaning).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("the key is empty")]
    Empty,
    #[error("the key is longer than 1,024 bytes")]
    TooLong,
    #[error("the key is not UTF-8 or contains NUL")]
    NotText,
}

impl ObjectKey {
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.len() > MAX_KEY {
            return Err(InvalidKey::TooLong);
        }
        if text.contains('\0') {
            return Err(InvalidKey::NotText);
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One shard's directory: the index id and the shard number, wherever its path type puts it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Shard {
    pub index: Arc<str>,
    pub number: u32,
}

/// The part an object plays in its repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Class {
    /// `index-N`: the commit point.
    Root(u64),
    /// `index.latest`
    Pointer,
    /// `index`: the list of snapshots of 1.x and 2.x.
    LegacyList,
    /// `incompatible-snapshots`
    Incompatible,
    /// `snap-<uuid>.dat` at the root level.
    SnapshotInfo(Arc<str>),
    /// `meta-<uuid>.dat` at the root level.
    GlobalMetadata(Arc<str>),
    /// `snapshot-<name>` and `metadata-<name>` of 1.x.
    LegacySnapshot,
    /// `pending-*`: written, copied to its name and deleted by 2.x to 6.1.
    Pending,
    /// `tests-*`: registering and verifying.
    Registration,
    /// `temp-analysis-*`
    Analysis,
    /// `snapshot_shard_paths/*` and `snapshot_path_*` of OpenSearch.
    ShardPaths,
    /// `indices/<index>/meta-<id>.dat`
    IndexMetadata { index: Arc<str>, id: Arc<str> },
    /// A data blob or one of its parts; `blob` is the name without `.partN`.
    Data {
        shard: Shard,
        blob: Arc<str>,
        part: Option<u32>,
    },
    /// Shard level `index-<generation>`.
    ShardIndex {
        shard: Shard,
        generation: ShardGeneration,
    },
    /// Shard level `snap-<uuid>.dat`; `shallow-snap-<uuid>.dat` has its data in another repository.
    ShardSnapshot {
        shard: Shard,
        uuid: Arc<str>,
        shallow: bool,
    },
    /// Shard level `snapshot-<name>` of 1.x.
    LegacyShardSnapshot { shard: Shard },
    /// Of no known kind: plain S3 rules, kept and mirrored.
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShardGeneration {
    Number(u64),
    Uuid(Arc<str>),
}

/// How a class may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writing {
    /// The name is used once; its content never changes.
    Once,
    /// Bytes under the name may change, or the name commits something: written under an intent.
    Commit,
    /// Registration and analysis: plain S3 rules, not guarded, not mirrored.
    Free,
}

impl Class {
    #[must_use]
    pub fn writing(&self) -> Writing {
        match self {
            Self::Registration | Self::Analysis => Writing::Free,
            Self::Data { blob, .. } if !is_reused_name(blob) => Writing::Once,
            Self::ShardIndex {
                generation: ShardGeneration::Uuid(_),
                ..
            } => Writing::Once,
            Self::Root(_)
            | Self::Pointer
            | Self::LegacyList
            | Self::Incompatible
            | Self::SnapshotInfo(_)
            | Self::GlobalMetadata(_)
            | Self::LegacySnapshot
            | Self::Pending
            | Self::ShardPaths
            | Self::IndexMetadata { .. }
            | Self::Data { .. }
            | Self::ShardIndex { .. }
            | Self::ShardSnapshot { .. }
            | Self::LegacyShardSnapshot { .. }
            | Self::Unknown => Writing::Commit,
        }
    }

    /// The label of metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Root(_) => "root",
            Self::Pointer => "pointer",
            Self::LegacyList => "legacy_list",
            Self::Incompatible => "incompatible",
            Self::SnapshotInfo(_) => "snapshot_info",
            Self::GlobalMetadata(_) => "global_metadata",
            Self::LegacySnapshot => "legacy_snapshot",
            Self::Pending => "pending",
            Self::Registration => "registration",
            Self::Analysis => "analysis",
            Self::ShardPaths => "shard_paths",
            Self::IndexMetadata { .. } => "index_metadata",
            Self::Data { .. } => "data",
            Self::ShardIndex { .. } => "shard_index",
            Self::ShardSnapshot { .. } => "shard_snapshot",
            Self::LegacyShardSnapshot { .. } => "legacy_shard_snapshot",
            Self::Unknown => "unknown",
        }
    }
}

/// Names `__<base36 number>` of writers before UUID naming are used again with other content;
/// a UUID is 20 or 22 characters long, a number in base 36 of 64 bits at most 13.
fn is_reused_name(blob: &str) -> bool {
    blob.strip_prefix("__").is_some_and(|name| {
        name.len() <= 13
            && name
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {}
