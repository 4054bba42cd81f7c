//! The rows of a repository: which it is, where it is, who writes it.

use policies::identity::{Bucket, Repository, StoreName};
use policies::lock::Lock;

use super::Millis;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RepositoryId(pub i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BucketId(pub i64);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepositoryIdentity {
    pub name: Repository,
    pub bucket: Bucket,
    pub base_path: String,
    pub store: StoreName,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepositoryRow {
    pub id: RepositoryId,
    pub bucket: BucketId,
    pub lock: LockRow,
    /// Made by this call: nothing was known of it before.
    pub new: bool,
    /// Where it is.
    pub store: StoreName,
    /// Where it was before its last promotion.
    pub promoted_from: Option<StoreName>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRow {
    /// 1 = as it was made; every move adds one.
    pub version: u64,
    pub lock: Lock,
    /// The store that whoever holds it writes: a promotion moves both at once.
    pub store: StoreName,
    pub since_ms: Millis,
    pub reason: Option<String>,
}

impl LockRow {
    /// When the lock came into its state, RFC 3339; None = it never moved.
    #[must_use]
    pub fn since(&self) -> Option<String> {
        (self.version > 1).then(|| crate::telemetry::clock::rfc3339(self.since_ms))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewLock {
    pub lock: Lock,
    pub now_ms: Millis,
    pub reason: Option<String>,
}
