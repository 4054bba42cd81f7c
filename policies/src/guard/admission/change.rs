//! How a root differs from one that it may descend from.
//!
//! Decides: is what both have the same in both? Invariant: what a newer version of a cluster adds to old entries is no difference.

use std::fmt;
use std::sync::Arc;

use crate::format::root::{Root, Snapshot};

/// How a root differs from what its parent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A field of a snapshot that both have.
    Snapshot {
        name: Arc<str>,
        field: &'static str,
    },
    /// A snapshot came into or out of an index while staying in the root.
    Membership {
        index: Arc<str>,
        name: Arc<str>,
    },
    /// Other metadata of an index in a snapshot that both have.
    Metadata {
        index: Arc<str>,
        name: Arc<str>,
    },
    PathType {
        index: Arc<str>,
    },
    /// A shard that snapshots still use lost its generation.
    GenerationLost {
        index: Arc<str>,
        shard: u32,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot { name, field } => {
                write!(f, "it changes '{field}' of snapshot '{name}'")
            }
            Self::Membership { index, name } => {
                write!(
                    f,
                    "it changes whether snapshot '{name}' contains index '{index}'"
                )
            }
            Self::Metadata { index, name } => {
                write!(
                    f,
                    "it changes the metadata of index '{index}' in snapshot '{name}'"
                )
            }
            Self::PathType { index } => write!(f, "it moves the shards of index '{index}'"),
            Self::GenerationLost { index, shard } => {
                write!(
                    f,
                    "it forgets the generation of shard {shard} of index '{index}', which snapshots use"
                )
            }
        }
    }
}

/// Whether everything that both roots have is the same in both.
pub(super) fn compare(parent: &Root, root: &Root) -> Result<(), Change> {
    // Position in the parent -> position in the root.
    let moved: Vec<Option<u32>> = parent
        .snapshots
        .iter()
        .map(|snapshot| root.position(&snapshot.uuid))
        .collect();
    for (old, new) in parent.snapshots.iter().zip(&moved) {
        let Some(new) = new else { continue };
        if let Some(field) = changed_field(old, &root.snapshots[*new as usize]) {
            return Err(Change::Snapshot {
                name: old.name.clone(),
                field,
            });
        }
    }
    for old in &parent.indices {
        let kept: Vec<(u32, u32)> = old
            .snapshots
            .iter()
            .filter_map(|&at| Some((at, moved[at as usize]?)))
            .collect();
        let Some(new) = root.index(&old.id) else {
            let Some((at, _)) = kept.first() else {
                continue;
            };
            let name = parent.snapshots[*at as usize].name.clone();
            return Err(Change::Membership {
                index: old.name.clone(),
                name,
            });
        };
        if new.path_type != old.path_type {
            return Err(Change::PathType {
                index: old.name.clone(),
            });
        }
        for (before, after) in kept {
            let name = || parent.snapshots[before as usize].name.clone();
            if new.snapshots.binary_search(&after).is_err() {
                return Err(Change::Membership {
                    index: old.name.clone(),
                    name: name(),
                });
            }
            if parent.index_metadata_id(old, before) != root.index_metadata_id(new, after) {
                return Err(Change::Metadata {
                    index: old.name.clone(),
                    name: name(),
                });
            }
        }
    }
    came_in(parent, root).map_or(Ok(()), Err)
}

/// A snapshot of both roots that is in an index of the new root only.
fn came_in(parent: &Root, root: &Root) -> Option<Change> {
    root.indices.iter().find_map(|index| {
        let old = parent.index(&index.id);
        index.snapshots.iter().find_map(|&at| {
            let snapshot = &root.snapshots[at as usize];
            let before = parent.position(&snapshot.uuid)?;
            let was = old.is_some_and(|old| old.snapshots.binary_search(&before).is_ok());
            (!was).then(|| Change::Membership {
                index: index.name.clone(),
                name: snapshot.name.clone(),
            })
        })
    })
}

/// 8.19 and 9.x write this constant beside `index_version`.
const VERSION_MARKER: &str = "8.11.0";

/// A field that both have and that differs; newer versions add fields to old snapshots when they write the root.
fn changed_field(old: &Snapshot, new: &Snapshot) -> Option<&'static str> {
    fn differ<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> bool {
        old.zip(new).is_some_and(|(old, new)| old != new)
    }
    let marked = new.index_version.is_some() && new.version.as_deref() == Some(VERSION_MARKER);
    if old.name != new.name {
        Some("name")
    } else if differ(old.state.as_ref(), new.state.as_ref()) {
        Some("state")
    } else if differ(old.version.as_ref(), new.version.as_ref()) && !marked {
        Some("version")
    } else if differ(old.index_version.as_ref(), new.index_version.as_ref()) {
        Some("index_version")
    } else if differ(
        old.start_time_millis.as_ref(),
        new.start_time_millis.as_ref(),
    ) {
        Some("start_time_millis")
    } else if differ(old.end_time_millis.as_ref(), new.end_time_millis.as_ref()) {
        Some("end_time_millis")
    } else if differ(old.slm_policy.as_ref(), new.slm_policy.as_ref()) {
        Some("slm_policy")
    } else {
        None
    }
}
