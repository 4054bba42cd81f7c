//! Reserved journal numbers, and the cluster bound to an epoch.
//!
//! What is reserved is a column of the repository's turn: each transaction that takes numbers has read it there.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use policies::identity::Epoch;

use super::rows::{Sql, column, count, execute, first, int, maybe_count};
use super::writer::{Fault, Tx};
use super::{Database, read, unrefusable};
use crate::state::leave::unknown;
use crate::state::{Claim, Lineage, RepositoryId, Result, Sequences};

pub(super) const TABLES: &str = "
-- NULL: nothing is reserved yet.
ALTER TABLE turns ADD COLUMN reserved BIGINT;

-- Noted, perhaps in the store already.
CREATE TABLE claims (
    repository BIGINT PRIMARY KEY REFERENCES repositories,
    \"limit\" BIGINT NOT NULL,
    token TEXT NOT NULL
);

CREATE TABLE bindings (
    repository BIGINT PRIMARY KEY REFERENCES repositories,
    epoch BIGINT NOT NULL,
    cluster_id TEXT NOT NULL
);

ALTER TABLE intents ADD COLUMN binds TEXT;
";

#[async_trait]
impl Lineage for Database {
    async fn sequences(&self, repository: RepositoryId) -> Result<Sequences> {
        read!(self, db => sequences(db, repository))
    }

    async fn claim_sequences(&self, repository: RepositoryId, wanted: Claim) -> Result<Claim> {
        self.writers
            .write(repository.0, move |tx| {
                let wanted = wanted.clone();
                Box::pin(async move { claim(tx, repository, wanted).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn reserve_sequences(
        &self,
        repository: RepositoryId,
        claim: Claim,
        skip: u64,
    ) -> Result<()> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { reserve(tx, repository, &claim, skip).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn bound_cluster(&self, repository: RepositoryId) -> Result<Option<(Epoch, Arc<str>)>> {
        read!(self, db => bound(db, repository))
    }
}

async fn sequences(db: &ClientWrapper, repository: RepositoryId) -> Result<Sequences> {
    let row = first(
        db,
        "SELECT t.sequence, t.reserved, c.\"limit\", c.token
         FROM turns t LEFT JOIN claims c ON c.repository = t.id WHERE t.id = $1",
        &[&repository.0],
    )
    .await?
    .ok_or_else(unknown)?;
    let token: Option<String> = column(&row, 3)?;
    Ok(Sequences {
        used: count(&row, 0)?,
        reserved: maybe_count(&row, 1)?,
        claim: maybe_count(&row, 2)?
            .zip(token)
            .map(|(limit, token)| Claim { limit, token }),
    })
}

/// At the repository's turn: of two nodes that claim at once, the second is given the first one's.
async fn claim(tx: &Tx, repository: RepositoryId, claim: Claim) -> Result<Claim, Fault> {
    if let Some(noted) = sequences(tx.db(), repository).await?.claim {
        return Ok(noted);
    }
    execute(
        tx.db(),
        "INSERT INTO claims (repository, \"limit\", token) VALUES ($1, $2, $3)",
        &[&repository.0, &int(claim.limit), &claim.token],
    )
    .await?;
    Ok(claim)
}

async fn reserve(
    tx: &mut Tx,
    repository: RepositoryId,
    claim: &Claim,
    skip: u64,
) -> Result<(), Fault> {
    execute(
        tx.db(),
        "UPDATE turns SET reserved = greatest(coalesce(reserved, 0), $2) WHERE id = $1",
        &[&repository.0, &int(claim.limit)],
    )
    .await?;
    execute(
        tx.db(),
        "DELETE FROM claims WHERE repository = $1 AND token = $2",
        &[&repository.0, &claim.token],
    )
    .await?;
    tx.known_mut()?.reserve(claim.limit, skip);
    Ok(())
}

pub(super) async fn bind(
    db: &ClientWrapper,
    repository: RepositoryId,
    epoch: Epoch,
    cluster_id: &str,
) -> Result<(), Sql> {
    execute(
        db,
        "INSERT INTO bindings (repository, epoch, cluster_id) VALUES ($1, $2, $3)
         ON CONFLICT (repository) DO UPDATE SET epoch = excluded.epoch, cluster_id = excluded.cluster_id",
        &[&repository.0, &int(epoch.0), &cluster_id],
    )
    .await
    .map(|_| ())
}

async fn bound(db: &ClientWrapper, repository: RepositoryId) -> Result<Option<(Epoch, Arc<str>)>> {
    let row = first(
        db,
        "SELECT epoch, cluster_id FROM bindings WHERE repository = $1",
        &[&repository.0],
    )
    .await?;
    row.map(|row| Ok((Epoch(count(&row, 0)?), column::<&str>(&row, 1)?.into())))
        .transpose()
}
