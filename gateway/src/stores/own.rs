//! The gateway's own small objects in a store: anchors and incarnations.
//!
//! Created once, never changed; clients neither see nor touch the prefix they lie under.

use bytes::Bytes;
use futures::TryStreamExt;
use policies::identity::Repository;
use policies::key::ObjectKey;
use policies::lock::Permit;

use super::{Plan, Publish, Store};
use crate::stores;

/// Larger ones are not ours.
pub const LARGEST: u64 = 64 << 10;
/// More than this many are not looked at: there is one per hand-over, or per start.
const MOST: usize = 100_000;

pub struct Own {
    pub name: ObjectKey,
    pub bytes: Vec<u8>,
}

pub fn key(name: &str) -> stores::Result<ObjectKey> {
    ObjectKey::parse(name).map_err(|e| stores::Error::Failed(e.to_string().into()))
}

/// [`stores::Error::Exists`] = somebody made it before.
pub async fn create(
    store: &dyn Store,
    permit: &Permit,
    name: &str,
    bytes: Vec<u8>,
) -> stores::Result<()> {
    let plan = Plan {
        size: Some(bytes.len() as u64),
        fenced: false,
    };
    let mut upload = store.begin(permit, &key(name)?, plan).await?;
    upload.write(Bytes::from(bytes)).await?;
    upload.publish(Publish::CreateOnly).await.map(|_| ())
}

/// What the id of a hidden upload ends in where the store does not keep the upload's key.
#[must_use]
pub fn mark(repository: &Repository) -> String {
    let hash = blake3::hash(repository.as_str().as_bytes());
    hex::encode(&hash.as_bytes()[..8])
}

/// None = surely absent.
pub async fn read(store: &dyn Store, name: &ObjectKey) -> stores::Result<Option<Vec<u8>>> {
    let Some(mut content) = store.read(name, None, None).await? else {
        return Ok(None);
    };
    if content.size > LARGEST {
        return Err(stores::Error::Failed(
            format!("'{name}' is too large to be the gateway's own").into(),
        ));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = content.bytes.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// Names below a prefix, in order.
pub async fn names(store: &dyn Store, prefix: &str) -> stores::Result<Vec<ObjectKey>> {
    let listed = store.list(prefix, None, MOST).await?;
    Ok(listed.into_iter().map(|l| l.name).collect())
}

/// All objects below a prefix with their bytes, in the order of their names.
pub async fn all(store: &dyn Store, prefix: &str) -> stores::Result<Vec<Own>> {
    let mut found = Vec::new();
    for name in names(store, prefix).await? {
        if let Some(bytes) = read(store, &name).await? {
            found.push(Own { name, bytes });
        }
    }
    Ok(found)
}
