//! What a [`Cluster`] believes its repository holds: snapshots, indices, and what each shard's index lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Cluster, Form};
use crate::format::paths::PathType;
use crate::format::shard::File;
use crate::key::{Shard, ShardGeneration};

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) file: File,
    /// `v__`: the bytes are in the metadata.
    pub(super) content: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ShardState {
    pub(super) generation: Option<ShardGeneration>,
    /// `_new`: no snapshot of it ever succeeded.
    pub(super) failed: bool,
    /// Snapshot name, uuid, files: what the current shard index lists.
    pub(super) listed: Vec<(Arc<str>, Arc<str>, Vec<Stored>)>,
}

#[derive(Debug, Clone)]
pub(super) struct IndexState {
    pub(super) name: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) path_type: PathType,
    pub(super) shards: Vec<ShardState>,
}

impl IndexState {
    pub(super) fn shard(&mut self, number: u32) -> &mut ShardState {
        let number = number as usize;
        if self.shards.len() <= number {
            self.shards.resize_with(number + 1, ShardState::default);
        }
        &mut self.shards[number]
    }
}

#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) name: Arc<str>,
    pub(super) uuid: Arc<str>,
    /// Index id -> metadata.
    pub(super) indices: BTreeMap<Arc<str>, Metadata>,
    /// Index name, shard.
    pub(super) failures: Vec<(Arc<str>, u32)>,
}

#[derive(Debug, Clone)]
pub(super) struct Metadata {
    pub(super) id: Arc<str>,
    /// Absent: found under the snapshot's uuid.
    pub(super) identifier: Option<Arc<str>>,
    pub(super) shards: u32,
}

impl Cluster {
    pub(super) fn legacy(&self) -> bool {
        match self.style.form {
            Form::List | Form::Legacy { .. } => true,
            Form::Uuid { .. } => false,
        }
    }

    pub(super) fn index(&mut self, name: &str) -> usize {
        if let Some(at) = self.indices.iter().position(|index| &*index.name == name) {
            return at;
        }
        let id = if self.lists() {
            name.into()
        } else {
            self.identifier(22)
        };
        let path_type = if self.legacy() {
            PathType::Fixed
        } else {
            self.style.path_type
        };
        self.indices.push(IndexState {
            name: name.into(),
            id,
            path_type,
            shards: Vec::new(),
        });
        self.indices.len() - 1
    }

    pub(super) fn directory(&self, at: usize, number: u32) -> String {
        let index = &self.indices[at];
        self.layout.shard_directory(
            &Shard {
                index: index.id.clone(),
                number,
            },
            index.path_type,
        )
    }
}
