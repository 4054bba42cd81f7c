//! The bytes of metadata that comes in parts, until its upload ends.
//!
//! A root is judged before it is committed, and a store may not give back the parts of an upload that is not complete.
//! So what the guard will read is kept here beside the part: any node may judge the whole, also after a restart.
//! Invariant: what is kept goes with its upload. A part that came again may have other bytes than its row says: whoever
//! reads compares hashes.

use async_trait::async_trait;
use bytes::Bytes;
use policies::lock::Permit;

use super::{Result, WriteError};

#[async_trait]
pub trait PartContents {
    /// Keeps a part's bytes, in place of earlier ones of its number. [`WriteError::UploadGone`] if the upload ended.
    async fn keep_part(
        &self,
        permit: &Permit,
        upload: &str,
        number: u16,
        content: Bytes,
    ) -> Result<(), WriteError>;
    /// All that is kept of an upload, in the order of the numbers.
    async fn kept_parts(&self, upload: &str) -> Result<Vec<(u16, Bytes)>>;
}
