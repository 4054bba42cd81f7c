//! What ties one state database to one store over time: journal numbers that the store has reserved for it, and
//! the cluster that was bound to an epoch.
//!
//! A journal number names one change for ever, also when the database is lost, rolled back or restored. So a
//! database uses only numbers up to a limit that is written down in the store (`.snapgate/sequences/…`), far
//! ahead and in large steps; whoever rebuilds the catalog from the store begins above the highest limit there.
//! Invariant: the journal never takes a number above `reserved`, once there is one.

use std::sync::Arc;

use async_trait::async_trait;
use policies::identity::Epoch;

use super::{RepositoryId, Result};

#[async_trait]
pub trait Lineage {
    async fn sequences(&self, repository: RepositoryId) -> Result<Sequences>;
    /// Notes a claim before it is made in the store, so that after a crash it is known to be ours. A claim that
    /// is noted already stays; the one that is noted then is returned.
    async fn claim_sequences(&self, repository: RepositoryId, claim: Claim) -> Result<Claim>;
    /// The store has the claim now: numbers up to its limit may be used. The next number is above `skip`; what
    /// lies between is a gap of the journal, which tells those who follow it that they missed something.
    async fn reserve_sequences(
        &self,
        repository: RepositoryId,
        claim: Claim,
        skip: u64,
    ) -> Result<()>;

    /// The last cluster id that a committed root bound, and the epoch it was bound in.
    async fn bound_cluster(&self, repository: RepositoryId) -> Result<Option<(Epoch, Arc<str>)>>;
}

/// A repository's journal numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sequences {
    /// The highest that was used.
    pub used: u64,
    /// The highest that may be used; None = nothing is reserved yet, and there is no limit.
    pub reserved: Option<u64>,
    /// Noted, perhaps in the store already.
    pub claim: Option<Claim>,
}

/// Numbers up to `limit` are for the database that wrote `token`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub limit: u64,
    pub token: String,
}
