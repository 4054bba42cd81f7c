//! What the catalog knows of an object, how it is listed, and what the journal says of it.

use std::sync::Arc;

use policies::key::ObjectKey;

use super::{BucketId, Millis, RepositoryId};
use crate::stores::Identity;

/// A visible object of the catalog.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    pub key: ObjectKey,
    pub repository: RepositoryId,
    /// Bytes.
    pub size: u64,
    /// As told to clients, without quotes.
    pub etag: Arc<str>,
    /// BLAKE3 of the content; unknown for adopted objects.
    pub hash: Option<[u8; 32]>,
    /// The store's identity of the content.
    pub identity: Identity,
    pub modified_ms: Millis,
    /// Journal sequence of the write. What is not journalled has a number too, from 2^62 on: a row can be
    /// told from the one before it, and the journal has no gaps.
    pub sequence: u64,
    pub details: Option<Arc<Details>>,
}

/// What only some objects carry.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Details {
    /// Content headers and `x-amz-meta-*` as the client sent them, lower-case names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    /// Of an object made by a multipart upload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartDetail>,
}

#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Checksum {
    /// `crc32`, `crc32c`, `crc64nvme`, `sha1`, `sha256`.
    pub algorithm: String,
    /// Base64, with `-N` for a composite one.
    pub value: String,
}

#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct PartDetail {
    pub number: u16,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Lookup {
    pub object: Option<Object>,
    pub busy: bool,
}

/// One page of a bucket.
#[derive(Clone, Debug)]
pub struct ListQuery {
    pub bucket: BucketId,
    /// Only these repositories' objects are seen; empty = nothing.
    pub repositories: Arc<[RepositoryId]>,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Keys (or common prefixes) up to and including this one are passed over.
    pub after: Option<String>,
    pub limit: usize,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// There is more after the last entry.
    pub truncated: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    Object(Object),
    Prefix(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub objects: u64,
    pub bytes: u64,
    /// Highest journal sequence.
    pub sequence: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub struct JournalEntry {
    pub sequence: u64,
    pub key: ObjectKey,
    pub change: Change,
    pub at_ms: Millis,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    Put {
        size: u64,
        etag: Arc<str>,
        hash: Option<[u8; 32]>,
    },
    Delete,
}
