//! What the gateway keeps of a metadata object when it passes through.
//!
//! Decides: class and bytes -> [`Digest`]. Invariant: the digests of a repository's metadata are all that closure and guard
//! ever ask of bodies, so a commit is judged without reading the store. A body that cannot be read is a fact
//! too ([`Unreadable`]): the object is stored as it is, and the guard then decides conservatively.

pub mod kept;

use std::sync::Arc;

use super::frame::{self, Codec, FrameError, Limits};
use super::shard::{BodyError, ShardIndex, ShardSnapshot};
use super::snapshot::{IndexMetadata, SnapshotInfo};
use crate::key::Class;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    SnapshotInfo(SnapshotInfo),
    /// Its frame is good; nothing of it is needed.
    GlobalMetadata,
    IndexMetadata(IndexMetadata),
    ShardSnapshot(ShardSnapshot),
    /// `shallow-snap-*`: its data is in another repository.
    ShallowShardSnapshot,
    ShardIndex(ShardIndex),
}

impl Digest {
    /// The description of a snapshot, if it is one.
    #[must_use]
    pub fn snapshot_info(&self) -> Option<&SnapshotInfo> {
        match self {
            Self::SnapshotInfo(info) => Some(info),
            Self::GlobalMetadata
            | Self::IndexMetadata(_)
            | Self::ShardSnapshot(_)
            | Self::ShallowShardSnapshot
            | Self::ShardIndex(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// The digest of one object, shared because facts and proposals both hold it.
pub type Read = Result<Arc<Digest>, Unreadable>;

/// Reads the body of an object of `class`; `None` for classes that have no digest.
#[must_use]
pub fn read(class: &Class, blob: &[u8], limits: Limits) -> Option<Read> {
    let digest = match class {
        Class::SnapshotInfo(_) => read_snapshot_info(blob, limits),
        Class::GlobalMetadata(_) => frame::open_as(blob, Codec::Metadata)
            .map(|_| Digest::GlobalMetadata)
            .map_err(Into::into),
        Class::IndexMetadata { .. } => read_index_metadata(blob, limits),
        Class::ShardSnapshot { shallow: true, .. } => frame::open_as(blob, Codec::Snapshot)
            .map(|_| Digest::ShallowShardSnapshot)
            .map_err(Into::into),
        Class::ShardSnapshot { shallow: false, .. } => read_shard_snapshot(blob, limits),
        Class::ShardIndex { .. } => read_shard_index(blob, limits),
        Class::Root(_)
        | Class::Pointer
        | Class::LegacyList
        | Class::Incompatible
        | Class::LegacySnapshot
        | Class::Pending
        | Class::Registration
        | Class::Analysis
        | Class::ShardPaths
        | Class::Data { .. }
        | Class::LegacyShardSnapshot { .. }
        | Class::Unknown => return None,
    };
    Some(digest.map(Arc::new))
}

fn read_snapshot_info(blob: &[u8], limits: Limits) -> Result<Digest, Unreadable> {
    let document = frame::open_as(blob, Codec::Snapshot)?.document(limits)?;
    Ok(Digest::SnapshotInfo(SnapshotInfo::parse(&document)?))
}

fn read_index_metadata(blob: &[u8], limits: Limits) -> Result<Digest, Unreadable> {
    let document = frame::open_as(blob, Codec::IndexMetadata)?.document(limits)?;
    Ok(Digest::IndexMetadata(IndexMetadata::parse(&document)?))
}

fn read_shard_snapshot(blob: &[u8], limits: Limits) -> Result<Digest, Unreadable> {
    let document = frame::open_as(blob, Codec::Snapshot)?.document(limits)?;
    Ok(Digest::ShardSnapshot(ShardSnapshot::parse(&document)?))
}

fn read_shard_index(blob: &[u8], limits: Limits) -> Result<Digest, Unreadable> {
    let document = frame::open_as(blob, Codec::Snapshots)?.document(limits)?;
    Ok(Digest::ShardIndex(ShardIndex::parse(&document)?))
}
