//! What the closure asks of the world, and how it says that it does not know yet.

use std::collections::HashMap;

use crate::format::digest::{self, Digest};
use crate::key::{Class, ObjectKey, Shard};

/// The catalog and the kept digests, as far as they were fetched. `None` always means "not fetched", never "absent".
pub trait Facts {
    /// Size in bytes of an object that clients can see; `Some(None)` if there is none.
    fn size(&self, key: &ObjectKey) -> Option<Option<u64>>;

    /// What the body of an object says. Asked only for objects that are there.
    fn digest(&self, key: &ObjectKey) -> Option<digest::Read>;

    /// The highest `index-<number>` in a shard directory; `Some(None)` if there is none.
    fn highest_numbered(&self, shard: &Shard, directory: &str) -> Option<Option<u64>>;
}

/// Facts to fetch before asking again.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Needs {
    pub sizes: Vec<ObjectKey>,
    /// Bodies to read with [`digest::read`], unless their digest was kept.
    pub digests: Vec<(ObjectKey, Class)>,
    /// Shard directories, whose highest numbered index is wanted.
    pub numbered: Vec<(Shard, String)>,
}

impl Needs {
    /// Enough for one round: a repository of a million blobs is asked for in pieces.
    pub const ROUND: usize = 100_000;

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len() + self.digests.len() + self.numbered.len()
    }

    pub(super) fn unique(mut self) -> Self {
        self.sizes.sort();
        self.sizes.dedup();
        self.digests.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.digests.dedup_by(|(a, _), (b, _)| a == b);
        self
    }
}

/// Facts in maps: what a shell has fetched for one question.
#[derive(Debug, Default, Clone)]
pub struct Observed {
    pub sizes: HashMap<ObjectKey, Option<u64>>,
    pub digests: HashMap<ObjectKey, digest::Read>,
    pub numbered: HashMap<Shard, Option<u64>>,
}

impl Observed {
    /// Forgets what one step of a root was judged by, but for what later steps ask again: the snapshots' own
    /// descriptions, which say what failed in them, and the numbers of shard indexes.
    pub fn keep_descriptions(&mut self) {
        self.sizes.clear();
        self.digests
            .retain(|_, digest| matches!(digest.as_deref(), Ok(Digest::SnapshotInfo(_))));
    }
}

impl Facts for Observed {
    fn size(&self, key: &ObjectKey) -> Option<Option<u64>> {
        self.sizes.get(key).copied()
    }

    fn digest(&self, key: &ObjectKey) -> Option<digest::Read> {
        self.digests.get(key).cloned()
    }

    fn highest_numbered(&self, shard: &Shard, _directory: &str) -> Option<Option<u64>> {
        self.numbered.get(shard).copied()
    }
}
