//! Who must have a root before its commit is acknowledged (mirrors in `barrier` mode).
//!
//! The root is committed here first; only the answer waits. A client that repeats the request waits again, until
//! the root is where it has to be. Nothing else waits: neither a hand-over nor any other write.

use std::fmt;

use async_trait::async_trait;
use policies::identity::Repository;
use policies::key::{Class, ObjectKey};

use super::door::Found;
use super::{Door, Error};

#[async_trait]
pub trait Witness: fmt::Debug + Send + Sync {
    /// Returns when everything up to this sequence of the journal is where it has to be; a sentence that says
    /// what is missing, if that takes too long.
    async fn has(&self, repository: &Repository, sequence: u64) -> Result<(), String>;
}

impl Door {
    /// Whoever reads the answer may rely on the root being on every mirror that is a barrier.
    pub(super) async fn witnessed(&self, found: &Found, key: &ObjectKey) -> Result<(), Error> {
        let (Class::Root(_), Some(witness)) = (&found.class, self.witness()) else {
            return Ok(());
        };
        let lookup = self.lookup(&found.open, key).await?;
        // Superseded and removed already: what came after it waited, or waits.
        let Some(object) = lookup.object else {
            return Ok(());
        };
        let had = witness.has(&found.open.name, object.sequence).await;
        had.map_err(|missing| {
            Error::SlowDown(format!(
                "'{key}' is committed, but not acknowledged yet: {missing}"
            ))
        })
    }
}
