//! Clients' multipart uploads and their parts.

use std::sync::Arc;

use policies::identity::{Cluster, Epoch};
use policies::key::ObjectKey;

use super::{BucketId, Checksum, Details, Millis, RepositoryId};
use crate::stores::{StoredPart, UploadId};

#[derive(Clone, PartialEq, Debug)]
pub struct NewUpload {
    pub id: String,
    pub repository: RepositoryId,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub store_upload: UploadId,
    pub details: Option<Arc<Details>>,
    /// Checksum algorithm the client chose at Create, and whether it covers the full object.
    pub checksum: Option<(String, bool)>,
    pub now_ms: Millis,
}

#[derive(Clone, PartialEq, Debug)]
pub struct MultipartUpload {
    pub id: String,
    pub repository: RepositoryId,
    pub bucket: BucketId,
    pub key: ObjectKey,
    pub store_upload: UploadId,
    pub epoch: Option<Epoch>,
    pub cluster: Cluster,
    pub details: Option<Arc<Details>>,
    pub checksum: Option<(String, bool)>,
    pub initiated_ms: Millis,
}

#[derive(Clone, Debug)]
pub struct UploadQuery {
    pub bucket: BucketId,
    pub repositories: Arc<[RepositoryId]>,
    pub prefix: String,
    /// Uploads after this key, and for the same key after this upload id; without an id (empty) none of that key.
    pub after: Option<(String, String)>,
    pub limit: usize,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct UploadListing {
    pub uploads: Vec<MultipartUpload>,
    pub truncated: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct PartRow {
    pub stored: StoredPart,
    /// Hex MD5.
    pub etag: Arc<str>,
    pub checksums: Vec<Checksum>,
    pub hash: Option<[u8; 32]>,
    pub modified_ms: Millis,
}
