//! What a snapshot repository is made of, as Elasticsearch 2-9 and OpenSearch 1-3 write it.
//!
//! Decides nothing about requests; it reads. Bytes become types here once, with bounds on memory and
//! time, and every fact of the format stands with its source: "BlobStoreRepository" means the class of
//! that name in both clusters, "read back" means seen in repositories that real clusters wrote.

pub mod closure;
pub mod digest;
pub mod footer;
pub mod frame;
pub mod merge;
pub mod name;
pub mod paths;
pub mod root;
pub mod shard;
pub mod smile;
pub mod snapshot;

#[cfg(any(test, feature = "testing"))]
pub mod build;
