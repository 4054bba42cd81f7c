//! Changes of the catalog: what is recorded, announced, removed, and how a repeated request is recognised.

use std::borrow::Cow;
use std::sync::Arc;

use policies::identity::{Cluster, Epoch};
use policies::key::ObjectKey;

use super::{BucketId, CommittedRoot, Details, Millis, RepositoryId};
use crate::stores::{Identity, UploadId};

/// A published object to be recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct Put {
    pub repository: RepositoryId,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub size: u64,
    pub etag: Arc<str>,
    pub hash: Option<[u8; 32]>,
    pub identity: Identity,
    pub now_ms: Millis,
    pub details: Option<Arc<Details>>,
    /// The row that the caller saw and replaces: its sequence. None = the key must be free.
    pub replaces: Option<u64>,
    /// Keep the replaced content under this name for `retain_ms` of uptime (a tombstone is written).
    pub kept: Option<Kept>,
    /// Of registration and analysis: neither journal nor retention.
    pub journalled: bool,
    /// The client's upload that this completes; it is forgotten in the same transaction.
    pub completes: Option<String>,
    /// Of a root: the restore point that its commit makes.
    pub root: Option<CommittedRoot>,
    /// How to recognise a replay of this request.
    pub answer: Option<AnswerKey>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub name: ObjectKey,
    pub retain_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    pub sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IntentId(pub i64);

#[derive(Clone, PartialEq, Debug)]
pub struct NewIntent {
    /// The hidden upload that a resolver aborts.
    pub upload: UploadId,
    /// Of a root that names a cluster: the commit binds it to the epoch of the permit.
    pub binds: Option<Arc<str>>,
    /// What the commit will record (its `identity` is not known yet): everything a resolver on another
    /// node needs to finish it. Stored whole with the intent.
    pub put: Put,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Intent {
    pub id: IntentId,
    pub upload: UploadId,
    pub put: Put,
    pub epoch: Epoch,
    pub cluster: Cluster,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Removal {
    pub bucket: BucketId,
    pub repository: RepositoryId,
    pub key: ObjectKey,
    /// Keep the bytes this long (gateway uptime); None = no tombstone, the caller deletes them.
    pub retain_ms: Option<u64>,
    pub journalled: bool,
    pub now_ms: Millis,
}

/// What makes two requests the same: a client's retry carries the same invocation id and body.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AnswerKey {
    pub cluster: Cluster,
    pub operation: Cow<'static, str>,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub invocation: String,
    pub hash: [u8; 32],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub etag: Arc<str>,
    pub sequence: u64,
}
