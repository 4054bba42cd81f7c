//! Where long work stands, so that a restart carries it on.
//!
//! One short text per repository and piece of work; what it says is the worker's own, with a version in it.

use async_trait::async_trait;

use super::{RepositoryId, Result};

#[async_trait]
pub trait Positions {
    async fn position(&self, repository: RepositoryId, work: &str) -> Result<Option<String>>;
    /// Replaces the position, or forgets it: the work is done.
    async fn keep_position(
        &self,
        repository: RepositoryId,
        work: &'static str,
        position: Option<String>,
    ) -> Result<()>;
}
