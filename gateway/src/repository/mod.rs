//! The one door to a repository: gather facts, ask `policies`, act, record.
//!
//! Everything that reads or changes an object comes through [`Door`], whatever front it came from. Each
//! operation is planned completely before it acts; the order of the steps of a write is in `write`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub mod adoption;
mod aside;
mod copy;
mod door;
pub mod drill;
mod etag;
pub mod explain;
mod fallback;
mod gate;
mod guarding;
pub mod handover;
pub mod history;
pub mod incarnation;
mod ingest;
pub mod keeper;
mod kept;
mod list;
mod listed;
mod lookout;
#[cfg(test)]
pub mod miniature;
mod multipart;
pub mod nodes;
mod once;
#[cfg(test)]
pub mod opened;
#[cfg(test)]
mod pair;
mod pins;
pub mod plan;
pub mod promotion;
mod read;
pub mod reaper;
pub mod recovery;
mod remove;
mod sequences;
pub mod sweep;
mod uploads;
pub mod verify;
mod view;
pub mod witness;
mod write;

pub use door::{Door, OpenRepository};

use bytes::Bytes;
use futures::stream::BoxStream;
use policies::identity::{Bucket, Cluster};
use policies::key::ObjectKey;

use crate::digest::Algorithm;
use crate::state::{Checksum, MultipartUpload, Object};
use crate::stores::{ByteStream, FileRange};

/// Who asks, and how the request can be recognised again.
#[derive(Clone, Debug)]
pub struct Caller {
    pub cluster: Cluster,
    pub request_id: Arc<str>,
    /// `amz-sdk-invocation-id`: the same across the retries of one logical request.
    pub invocation: Option<Arc<str>>,
    /// Signed in the query: could be replayed for days, so never good for commit-class keys.
    pub presigned: bool,
}

/// An object's address as a client names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub bucket: Bucket,
    pub key: ObjectKey,
}

/// Reads the checksums that came after the last byte.
pub type Trailer = Box<dyn FnOnce() -> Result<Vec<Expected>, BodyError> + Send>;

/// Bytes on their way in. Every error means: nothing may become visible.
pub struct Body {
    pub bytes: BoxStream<'static, Result<Bytes, BodyError>>,
    /// Decoded length in bytes; a body that is shorter or longer is refused.
    pub size: Option<u64>,
    /// Called once after the last byte: the checksums that came as trailers.
    pub trailer: Option<Trailer>,
    /// Hex MD5 that the client sent as Content-MD5.
    pub md5: Option<[u8; 16]>,
    /// Checksums that came as headers.
    pub expected: Vec<Expected>,
    /// Compute and keep this one even if the client sent no value.
    pub compute: Option<Algorithm>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    pub algorithm: Algorithm,
    pub value: Box<[u8]>,
}

/// What is wrong with a body, in S3's own terms.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    #[error("a chunk's signature does not match")]
    Signature,
    #[error("the SHA-256 of the body is not the signed one")]
    Sha256Mismatch,
    #[error("the body is shorter or longer than announced")]
    Incomplete,
    #[error("the framing of the body is wrong: {0}")]
    Malformed(&'static str),
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the source of the copy could not be read to its end")]
    SourceFailed,
    #[error("the client went away")]
    Gone,
    #[error("Content-MD5 does not match the body")]
    BadMd5,
    #[error("{0} of the body is not what the client sent")]
    BadChecksum(&'static str),
}

pub enum WriteCondition {
    Always,
    /// `If-None-Match: *`
    IfAbsent,
    /// `If-Match: <etag>`, without quotes.
    IfMatch(String),
}

/// Conditions of reads, RFC 9110 order of precedence; ETags without quotes, `*` allowed; times in seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct ReadCondition {
    pub if_match: Option<Vec<String>>,
    pub if_none_match: Option<Vec<String>>,
    pub if_modified_since: Option<i64>,
    pub if_unmodified_since: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeSpec {
    /// Inclusive on both ends, as in the header.
    FromTo(u64, u64),
    From(u64),
    Last(u64),
    /// `?partNumber=n`
    Part(u16),
}

/// An object with the bytes to send.
pub struct Retrieved {
    pub object: Object,
    /// Half-open; None = the whole object (200).
    pub range: Option<Range<u64>>,
    pub bytes: ByteStream,
    /// The same bytes, where they are a file's.
    pub file: Option<FileRange>,
}

impl fmt::Debug for Retrieved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrieved")
            .field("object", &self.object)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Written {
    pub etag: Arc<str>,
    pub checksums: Vec<Checksum>,
    pub modified_ms: i64,
}

#[derive(Clone, Debug)]
pub struct CompletedPart {
    pub number: u16,
    pub etag: String,
    pub checksum: Option<Checksum>,
}

#[derive(Clone, Debug)]
pub struct ListRequest {
    pub bucket: Bucket,
    pub prefix: String,
    pub delimiter: Option<String>,
    pub after: Option<String>,
    pub limit: usize,
}

#[derive(Clone, Debug)]
pub struct UploadsRequest {
    pub prefix: String,
    pub delimiter: Option<String>,
    /// (key, upload id) of the last upload, or the last common prefix, of the page before.
    pub after: Option<(String, String)>,
    pub limit: usize,
}

/// One page of uploads under way.
#[derive(Debug, Default)]
pub struct UploadsPage {
    pub uploads: Vec<MultipartUpload>,
    pub prefixes: Vec<String>,
    /// Where the next page begins, if there is one.
    pub next: Option<(String, String)>,
}

/// What the door cannot do for a client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A policy says no; the reason is the sentence.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("no such bucket")]
    NoSuchBucket,
    #[error("no such key")]
    NoSuchKey,
    #[error("no such upload")]
    NoSuchUpload,
    #[error("a condition of the request does not hold")]
    PreconditionFailed,
    /// 304
    #[error("not modified")]
    NotModified { etag: Arc<str>, modified_ms: i64 },
    #[error("the range lies outside of the object's {size} bytes")]
    RangeNotSatisfiable { size: u64 },
    #[error("a part is unknown or its ETag differs")]
    InvalidPart,
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    #[error("a part other than the last is smaller than 5 MiB")]
    EntityTooSmall,
    #[error("{0}")]
    InvalidArgument(String),
    #[error(transparent)]
    Body(#[from] BodyError),
    /// 503 SlowDown: ask again.
    #[error("{0}")]
    SlowDown(String),
    /// 503 ServiceUnavailable: we failed, nothing was acknowledged.
    #[error("{0}")]
    Unavailable(String),
}

/// A refusal by policy: 403 `AccessDenied` with this sentence, except where noted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Lock(String),
    #[error(
        "'{cluster}' may not read repository '{repository}'; add it to readers of [repositories.{repository}]."
    )]
    NotAReader {
        cluster: Cluster,
        repository: policies::identity::Repository,
    },
    #[error(
        "Key '{key}' of bucket '{bucket}' belongs to no repository. Base paths configured here: {base_paths}."
    )]
    OutsideRepositories {
        bucket: Bucket,
        key: ObjectKey,
        base_paths: String,
    },
    #[error(
        "Key '{key}' is the root of a repository inside repository '{repository}'; configure base_path '{base_path}' as a repository of its own."
    )]
    NestedRoot {
        key: ObjectKey,
        repository: policies::identity::Repository,
        base_path: String,
    },
    #[error("Keys below '.snapgate/' belong to the gateway.")]
    Reserved,
    #[error(
        "'{spelt}' is a read-only view of restore point {generation} of repository '{repository}'; register it with readonly: true."
    )]
    ReadOnlyView {
        repository: policies::identity::Repository,
        generation: u64,
        spelt: String,
    },
    #[error(
        "Restore point {generation} of repository '{repository}' {}; see: snapgate restore-points {repository}",
        if *.gone { "is not complete any more" } else { "does not exist" }
    )]
    NoView {
        repository: policies::identity::Repository,
        generation: u64,
        gone: bool,
    },
    #[error(
        "A presigned URL cannot write '{key}': it could be replayed for days; sign the request's headers instead."
    )]
    PresignedCommit { key: ObjectKey },
    #[error("The upload to '{key}' was begun by '{owner}'; '{caller}' may not touch it.")]
    ForeignUpload {
        key: ObjectKey,
        owner: Cluster,
        caller: Cluster,
    },
    /// What `policies::guard` says.
    #[error("{sentence}")]
    Guard {
        label: &'static str,
        sentence: String,
    },
}

impl Refusal {
    /// The label of `snapgate_denied_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Lock(_) => "lock",
            Self::NotAReader { .. } => "not_a_reader",
            Self::OutsideRepositories { .. } => "outside_repositories",
            Self::NestedRoot { .. } => "nested_root",
            Self::Reserved => "reserved",
            Self::ReadOnlyView { .. } => "read_only_view",
            Self::NoView { .. } => "no_view",
            Self::PresignedCommit { .. } => "presigned_commit",
            Self::ForeignUpload { .. } => "foreign_upload",
            Self::Guard { label, .. } => label,
        }
    }
}

impl From<policies::key::InvalidKey> for Error {
    fn from(e: policies::key::InvalidKey) -> Self {
        Self::InvalidArgument(e.to_string())
    }
}

/// "We failed": never absent, never refused. The cause goes to the log, not to the client.
pub(crate) fn unavailable(doing: &str, cause: &dyn std::error::Error) -> Error {
    tracing::error!(doing, cause = %cause, "failed");
    Error::Unavailable(format!(
        "The gateway could not {doing}; nothing was acknowledged. Try again."
    ))
}
