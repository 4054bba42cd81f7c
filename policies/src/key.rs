//! What an object's key says about it: the repository it belongs to and the part it plays there.
//!
//! Decides: key bytes -> [`ObjectKey`]; bucket and key -> [`Place`] (repository and [`Class`]).
//! Invariant: one decoding, one answer. Authorisation, guard, catalog and store all use this value.
//! Names are those that Elasticsearch 2-9 and OpenSearch 1-3 write (`BlobStoreRepository` and
//! `S3BlobContainer` of both, read back from repositories that real clusters made). A name is never
//! split on `_` or `-`: both occur inside their base64 identifiers, also as first character.

use std::fmt;
use std::sync::Arc;

mod class;
mod layout;

pub use class::{Class, Shard, ShardGeneration, Writing};
pub use layout::{Configured, InvalidLayout, Layout, Place, View};

/// The gateway's own objects in a store lie below this prefix; clients neither see nor touch it.
pub const RESERVED: &str = ".snapgate/";

/// Longest key in bytes, as S3.
pub const MAX_KEY: usize = 1024;

/// An object's name: 1 to 1,024 bytes of UTF-8 without NUL, otherwise opaque (no path cleaning).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("the key is empty")]
    Empty,
    #[error("the key is longer than 1,024 bytes")]
    TooLong,
    #[error("the key is not UTF-8 or contains NUL")]
    NotText,
}

impl ObjectKey {
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.len() > MAX_KEY {
            return Err(InvalidKey::TooLong);
        }
        if text.contains('\0') {
            return Err(InvalidKey::NotText);
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
