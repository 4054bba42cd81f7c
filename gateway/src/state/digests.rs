//! What the guard keeps of metadata objects, so that a restart reads none of them again.
//!
//! Invariants: a digest is given back only while its object is visible with the content that it was made of; it goes
//! when its object goes. A digest that is not kept costs a read of the object, nothing else.

use async_trait::async_trait;
use policies::key::ObjectKey;

use super::{BucketId, Object, Result};

#[async_trait]
pub trait Digests {
    /// Keeps digests, replacing older ones of their keys; what is not visible is passed over.
    async fn keep_digests(&self, bucket: BucketId, digests: Vec<KeptDigest>) -> Result<()>;
    /// Key and body of those of the keys whose object still has the content that the digest was made of; in any order.
    async fn digests(
        &self,
        bucket: BucketId,
        keys: &[ObjectKey],
    ) -> Result<Vec<(ObjectKey, Vec<u8>)>>;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptDigest {
    pub key: ObjectKey,
    /// What tells the content: see [`content_of`].
    pub content: Vec<u8>,
    /// As `policies` encodes it, with its version in front.
    pub body: Vec<u8>,
}

/// The content's hash; of an adopted object, which has none, the store's identity.
#[must_use]
pub fn content_of(object: &Object) -> Vec<u8> {
    match object.hash {
        Some(hash) => hash.to_vec(),
        None => object.identity.0.as_bytes().to_vec(),
    }
}
