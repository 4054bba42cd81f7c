//! The root `index-N`: the commit point, plain JSON without a checksum.
//!
//! Decides: JSON -> [`Root`], in every form from 5.0 to today. Invariant: a root that parses is closed in
//! itself (every index names only snapshots of the root) and its names make valid keys. Fields no known version
//! writes are reported, never refused: newer clusters must keep working. A root is never written from here,
//! because one field too many makes every cluster reject it.
//!
//! Source: `RepositoryData` of both clusters; forms read back from 5.6-9.5 and OpenSearch 1.3-3.8.

mod json;

use std::collections::HashMap;
use std::sync::Arc;

use super::paths::{PathType, is_name};
use super::snapshot::SnapshotInfo;

/// What `index-N` says.
#[derive(Debug, Clone)]
pub struct Root {
    pub generation: u64,
    /// Oldest version that can read it. 7.6+; OpenSearch 3.x leaves it out, so its absence says nothing.
    pub min_version: Option<Arc<str>>,
    /// The repository's own id, made once. Elasticsearch 7.12+.
    pub uuid: Option<Arc<str>>,
    /// The cluster that wrote this root. Elasticsearch 7.12+.
    pub cluster_id: Option<Arc<str>>,
    pub snapshots: Vec<Snapshot>,
    pub indices: Vec<Index>,
    /// Index metadata identifier -> id of its blob. 7.9+.
    identifiers: Option<HashMap<Arc<str>, Arc<str>>>,
    /// Names of fields that no known version writes.
    pub unknown_fields: Vec<String>,
    /// Made from the list of snapshots of a 2.x repository; no `index-N` exists.
    pub of_list: bool,
    positions: HashMap<Arc<str>, u32>,
    directories: HashMap<Arc<str>, u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub name: Arc<str>,
    /// Equals the name for snapshots made by 2.x.
    pub uuid: Arc<str>,
    /// Absent for snapshots of 2.x until a 7.x cluster writes the root.
    pub state: Option<State>,
    pub version: Option<Arc<str>>,
    pub index_version: Option<i64>,
    /// Milliseconds since 1970.
    pub start_time_millis: Option<i64>,
    pub end_time_millis: Option<i64>,
    pub slm_policy: Option<Arc<str>>,
    /// (index id, identifier), sorted. 7.9+.
    pub lookup: Option<Vec<(Arc<str>, Arc<str>)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    InProgress,
    Success,
    Failed,
    Partial,
    Incompatible,
    Other(i64),
}

impl From<i64> for State {
    fn from(code: i64) -> Self {
        match code {
            0 => Self::InProgress,
            1 => Self::Success,
            2 => Self::Failed,
            3 => Self::Partial,
            4 => Self::Incompatible,
            other => Self::Other(other),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub name: Arc<str>,
    /// The directory; equals the name for data written before 5.0.
    pub id: Arc<str>,
    pub path_type: PathType,
    /// Positions in [`Root::snapshots`], ascending.
    pub snapshots: Vec<u32>,
    /// The metadata id in each of `snapshots`.
    metadata: Vec<Arc<str>>,
    /// May be shorter than the number of shards. `None` in the legacy form.
    pub generations: Option<Vec<Generation>>,
}

/// One shard's entry in `shard_generations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generation {
    /// Null, absent, or digits (which Elasticsearch distrusts too, `fixShardGeneration`): the highest `index-<int>` that is there.
    Unknown,
    /// `_new`: no snapshot of this shard ever succeeded, so there is no shard index.
    New,
    Uuid(Arc<str>),
}

impl Index {
    /// The generation of a shard; beyond the end of the list it is unknown.
    #[must_use]
    pub fn generation(&self, shard: u32) -> &Generation {
        let listed = self
            .generations
            .as_ref()
            .and_then(|all| all.get(shard as usize));
        listed.unwrap_or(&Generation::Unknown)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    #[error("it is not the JSON of a repository root: {0}")]
    Json(String),
    #[error("it has no '{0}'")]
    Lacks(&'static str),
    #[error("'{0}' cannot be part of a key")]
    Name(String),
    #[error("it lists snapshot '{0}' twice")]
    Twice(Arc<str>),
    #[error("index '{index}' names snapshot '{snapshot}', which the root does not have")]
    UnknownSnapshot { index: Arc<str>, snapshot: String },
    #[error("it lists the index directory '{0}' twice")]
    IndexTwice(Arc<str>),
}

impl Root {
    /// Reads the body of `index-<generation>`.
    pub fn parse(generation: u64, json: &[u8]) -> Result<Self, RootError> {
        json::parse(generation, json)
    }

    /// This root with its first indices only, then with more, at last whole: what is read for one step can be forgotten
    /// before the next. `step` is how many indices each adds.
    #[must_use]
    pub fn in_steps(self: &Arc<Self>, step: usize) -> Vec<Arc<Self>> {
        let ends = (0..self.indices.len()).step_by(step.max(1)).skip(1);
        ends.map(|end| Arc::new(self.with_first_indices(end)))
            .chain([Arc::clone(self)])
            .collect()
    }

    fn with_first_indices(&self, count: usize) -> Self {
        let mut part = self.clone();
        part.indices.truncate(count);
        part.directories.retain(|_, at| (*at as usize) < count);
        part
    }

    /// The root a 2.x repository would have: there the truth is the list of `snap-<name>.dat`, and index
    /// directories are named like the indices (`BlobStoreRepository` 2.4, read back).
    pub fn of_snapshots(infos: &[SnapshotInfo]) -> Result<Self, RootError> {
        let mut list = Self {
            generation: 0,
            min_version: None,
            uuid: None,
            cluster_id: None,
            snapshots: Vec::new(),
            indices: Vec::new(),
            identifiers: None,
            unknown_fields: Vec::new(),
            of_list: true,
            positions: HashMap::new(),
            directories: HashMap::new(),
        };
        for info in infos {
            list.add(info);
        }
        list.checked()
    }

    /// This list of a 2.x repository with one snapshot more, or described anew.
    pub fn with_snapshot(&self, info: &SnapshotInfo) -> Result<Self, RootError> {
        let mut list = self.without_snapshot(&info.uuid);
        list.add(info);
        list.checked()
    }

    /// This list of a 2.x repository without a snapshot; the others keep their order.
    #[must_use]
    pub fn without_snapshot(&self, uuid: &str) -> Self {
        let mut list = self.clone();
        let Some(gone) = self.position(uuid) else {
            return list;
        };
        list.snapshots.remove(gone as usize);
        for index in &mut list.indices {
            index.snapshots.retain(|at| *at != gone);
            for at in &mut index.snapshots {
                *at -= u32::from(*at > gone);
            }
        }
        list.indices.retain(|index| !index.snapshots.is_empty());
        list.checked()
            .expect("what is left of a list that was checked")
    }

    fn add(&mut self, info: &SnapshotInfo) {
        let position = self.snapshots.len() as u32;
        self.snapshots.push(Snapshot {
            name: info.name.clone(),
            uuid: info.uuid.clone(),
            state: None,
            version: None,
            index_version: None,
            start_time_millis: info.start_time,
            end_time_millis: info.end_time,
            slm_policy: None,
            lookup: None,
        });
        for name in &info.indices {
            let at = *self.directories.entry(name.clone()).or_insert_with(|| {
                self.indices.push(Index {
                    name: name.clone(),
                    id: name.clone(),
                    path_type: PathType::Fixed,
                    snapshots: Vec::new(),
                    metadata: Vec::new(),
                    generations: None,
                });
                self.indices.len() as u32 - 1
            });
            let snapshots = &mut self.indices[at as usize].snapshots;
            if snapshots.last() != Some(&position) {
                snapshots.push(position);
            }
        }
    }

    /// Whether this root drives clusters by the protocol of before 7.6: numbered shard indices, root written first.
    /// Decided by content, because a cluster of any version keeps this form while the repository holds a snapshot
    /// older than 7.6. The legacy form has nothing but `snapshots` and `indices`.
    #[must_use]
    pub fn is_legacy_form(&self) -> bool {
        self.min_version.is_none()
            && self.uuid.is_none()
            && self.cluster_id.is_none()
            && self.identifiers.is_none()
            && self.indices.iter().all(|index| index.generations.is_none())
    }

    /// The snapshot's place in [`Root::snapshots`].
    #[must_use]
    pub fn position(&self, uuid: &str) -> Option<u32> {
        self.positions.get(uuid).copied()
    }

    #[must_use]
    pub fn snapshot(&self, uuid: &str) -> Option<&Snapshot> {
        self.position(uuid)
            .map(|position| &self.snapshots[position as usize])
    }

    /// The index whose directory is `id`.
    #[must_use]
    pub fn index(&self, id: &str) -> Option<&Index> {
        self.directories
            .get(id)
            .map(|position| &self.indices[*position as usize])
    }

    /// The id in `indices/<index>/meta-<id>.dat` for one snapshot of an index: by identifier since 7.9, else the
    /// snapshot's uuid.
    #[must_use]
    pub fn index_metadata_id<'a>(&'a self, index: &'a Index, snapshot: u32) -> &'a Arc<str> {
        match index.snapshots.binary_search(&snapshot) {
            Ok(at) => &index.metadata[at],
            Err(_) => &self.snapshots[snapshot as usize].uuid,
        }
    }

    /// Looks up once what every judgement of the root asks for.
    fn resolve_metadata(&mut self) {
        for index in &mut self.indices {
            let resolve = |at: &u32| {
                let snapshot = &self.snapshots[*at as usize];
                let identifier = snapshot.identifier(&index.id);
                let id =
                    identifier.and_then(|identifier| self.identifiers.as_ref()?.get(identifier));
                id.unwrap_or(&snapshot.uuid).clone()
            };
            index.metadata = index.snapshots.iter().map(resolve).collect();
        }
    }

    /// Sorts, fills the positions, and checks what [`Root`] promises.
    fn checked(mut self) -> Result<Self, RootError> {
        self.positions.clear();
        self.directories.clear();
        for (position, snapshot) in self.snapshots.iter().enumerate() {
            if !is_name(&snapshot.uuid) || snapshot.name.len() > 1024 {
                return Err(RootError::Name(snapshot.uuid.to_string()));
            }
            if self
                .positions
                .insert(snapshot.uuid.clone(), position as u32)
                .is_some()
            {
                return Err(RootError::Twice(snapshot.uuid.clone()));
            }
        }
        for (position, index) in self.indices.iter().enumerate() {
            let generations =
                index
                    .generations
                    .iter()
                    .flatten()
                    .filter_map(|generation| match generation {
                        Generation::Uuid(uuid) => Some(uuid),
                        Generation::Unknown | Generation::New => None,
                    });
            if let Some(name) = generations.chain([&index.id]).find(|name| !is_name(name)) {
                return Err(RootError::Name(name.to_string()));
            }
            if self
                .directories
                .insert(index.id.clone(), position as u32)
                .is_some()
            {
                return Err(RootError::IndexTwice(index.id.clone()));
            }
        }
        if let Some(id) = self
            .identifiers
            .iter()
            .flat_map(HashMap::values)
            .find(|id| !is_name(id))
        {
            return Err(RootError::Name(id.to_string()));
        }
        self.resolve_metadata();
        Ok(self)
    }
}

impl Snapshot {
    /// The identifier of an index's metadata in this snapshot.
    #[must_use]
    pub fn identifier(&self, index: &str) -> Option<&Arc<str>> {
        let lookup = self.lookup.as_ref()?;
        let at = lookup.binary_search_by(|(id, _)| (**id).cmp(index)).ok()?;
        Some(&lookup[at].1)
    }
}

#[cfg(test)]
mod tests;
