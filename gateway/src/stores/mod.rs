//! Where bytes rest: the narrow trait of what a snapshot gateway needs, and nothing more.
//!
//! Invariants every implementation keeps, proved by one conformance suite (`conformance`):
//! nothing is visible under a name before [`Upload::publish`] returned or may have taken effect;
//! a publish is whole or absent; an aborted upload can never be published later; a failure is never
//! reported as "absent"; listings are complete and sorted by bytes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use policies::key::ObjectKey;
use policies::lock::Permit;

pub mod directory;
pub mod late;
pub mod listing;
pub mod metrics;
pub mod own;
pub mod s3;
pub mod unreachable;

#[cfg(test)]
pub mod conformance;
#[cfg(test)]
pub mod faults;

pub type Result<T, E = Error> = std::result::Result<T, E>;
pub use directory::{FileRange, Piece};

pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// A place that keeps objects under the names clients gave them.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// What a probe found this store can do.
    fn capabilities(&self) -> &Capabilities;

    /// Begins a hidden upload. Its [`UploadId`] is durable knowledge: with it, [`Store::abort`] on any
    /// node at any later time makes sure that the upload never becomes visible.
    async fn begin(&self, permit: &Permit, name: &ObjectKey, plan: Plan)
    -> Result<Box<dyn Upload>>;

    /// Makes sure that an upload can never be published any more, and removes its bytes.
    /// Idempotent; an upload that is unknown or already published is no error.
    async fn abort(&self, permit: &Permit, name: &ObjectKey, upload: &UploadId) -> Result<()>;

    /// Puts finished parts of a client's multipart upload together as one hidden upload.
    async fn assemble(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        parts: &[StoredPart],
    ) -> Result<Box<dyn Upload>>;

    /// Begins one part of a client's multipart upload; [`Upload::seal`] makes it durable.
    async fn begin_part(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        number: u16,
        plan: Plan,
    ) -> Result<Box<dyn Upload>>;

    /// Opens a client's multipart upload in the store.
    async fn begin_multipart(&self, permit: &Permit, name: &ObjectKey) -> Result<UploadId>;

    /// `None` = surely absent. A range is half-open and within the object's size.
    /// `expect` is the store's own identity of the content as recorded at publish; another one is [`Error::Changed`].
    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>>;

    /// `None` = surely absent.
    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>>;

    /// Objects after `after` whose names start with `prefix`, at most `limit`, sorted by bytes; complete
    /// (fewer than `limit` means the end). The reserved prefix is included when asked for by `prefix`, else left out.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>>;

    /// Removes objects; a missing one is success.
    async fn delete(&self, permit: &Permit, names: &[ObjectKey]) -> Vec<Result<()>>;

    /// Gives an object's content a second name in this store (hard link, server-side copy), replacing
    /// nothing; the first name stays. Idempotent: done before with the same content is success.
    async fn set_aside(&self, permit: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()>;

    /// Hidden uploads (of this gateway's making) that the store still holds, for clean-up at start.
    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>>;
}

/// One hidden upload under way. Dropping it without publish or seal leaves bytes that `abort` removes.
#[async_trait]
pub trait Upload: Send {
    fn id(&self) -> &UploadId;

    /// The store computes the MD5 itself and tells it at publish ([`Published::md5`]): nobody else has to.
    fn tells_md5(&self) -> bool {
        false
    }

    /// Takes the next bytes; waits when the store is slower than the client.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the object durable and visible, whole, in one step.
    async fn publish(self: Box<Self>, mode: Publish) -> Result<Published>;

    /// Makes the bytes durable without making them visible: one part of a multipart upload.
    async fn seal(self: Box<Self>) -> Result<StoredPart>;

    /// Gives up: the upload can never be published any more. Best effort on bytes, sure on visibility.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// What is known of an upload before its first byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Bytes, where the client said so.
    pub size: Option<u64>,
    /// The upload must be abortable by another node until it is published (commit-class keys).
    pub fenced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Publish {
    /// Fails with [`Error::Exists`] if the name is taken.
    CreateOnly,
    Replace,
}

/// The store's own name of a hidden upload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UploadId(pub Arc<str>);

/// What the store says identifies the content it holds (an ETag, or inode and change time).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity(pub Arc<str>);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    pub identity: Identity,
    /// Hex MD5 of the content where the store itself computed it.
    pub md5: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredPart {
    pub number: u16,
    pub size: u64,
    /// What the store needs to find the part again (its ETag, or its place in a file).
    pub locator: Arc<str>,
}

pub struct Content {
    /// Size of the whole object in bytes.
    pub size: u64,
    pub identity: Identity,
    pub bytes: ByteStream,
    /// Where the bytes are a file's: the same ones, for a connection that lets the kernel send them.
    pub file: Option<FileRange>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    pub size: u64,
    pub identity: Identity,
    /// Milliseconds since 1970, as the store says; for people, never for decisions.
    pub modified_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: ObjectKey,
    pub stat: Stat,
}

/// What a store can do, found by a probe at start and printed by `check-config`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Capabilities {
    pub kind: &'static str,
    /// Publish with [`Publish::CreateOnly`] is atomic.
    pub create_only: bool,
    /// Replacing only a known version is atomic.
    pub compare_and_set: bool,
    /// After an abort the upload can never be completed.
    pub abort_beats_complete: bool,
    /// The store verifies checksums sent with the bytes.
    pub checksums: bool,
}

/// Why a store did not do what was asked. None of these means "absent".
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the name is taken")]
    Exists,
    #[error("the content is not the one that was recorded")]
    Changed,
    #[error("the upload is gone: it was aborted or published before")]
    UploadGone,
    #[error("this store cannot hold the name: {0}")]
    Unstorable(&'static str),
    #[error("the store is full")]
    Full,
    #[error("the store asks to slow down")]
    Busy,
    #[error(
        "the store refuses it: the gateway's credentials, their rights, or a rule of the store"
    )]
    Denied,
    #[error("the store did not answer in time; whether it acted is unknown")]
    Unknown,
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}
