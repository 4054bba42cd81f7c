//! Reserved journal numbers, and the cluster bound to an epoch.

use std::sync::Arc;

use async_trait::async_trait;
use policies::identity::Epoch;
use rusqlite::{Connection, OptionalExtension};

use super::rows::{count, int};
use super::writer::{Fault, Tx};
use super::{Database, unrefusable};
use crate::state::leave::unknown;
use crate::state::{Claim, Lineage, RepositoryId, Result, Sequences};

#[async_trait]
impl Lineage for Database {
    async fn sequences(&self, repository: RepositoryId) -> Result<Sequences> {
        self.read(|db| sequences(db, repository))
    }

    async fn claim_sequences(&self, repository: RepositoryId, wanted: Claim) -> Result<Claim> {
        self.writer
            .write(move |tx| claim(tx, repository, wanted))
            .await
            .map_err(unrefusable)
    }

    async fn reserve_sequences(
        &self,
        repository: RepositoryId,
        claim: Claim,
        skip: u64,
    ) -> Result<()> {
        self.writer
            .write(move |tx| reserve(tx, repository, &claim, skip))
            .await
            .map_err(unrefusable)
    }

    async fn bound_cluster(&self, repository: RepositoryId) -> Result<Option<(Epoch, Arc<str>)>> {
        self.read(|db| bound(db, repository))
    }
}

fn sequences(db: &Connection, repository: RepositoryId) -> Result<Sequences> {
    let mut statement = db.prepare_cached(
        "SELECT r.sequence, s.reserved, s.claim, s.token
         FROM repositories r LEFT JOIN sequences s ON s.repository = r.id WHERE r.id = ?1",
    )?;
    let mut rows = statement.query([repository.0])?;
    let row = rows.next()?.ok_or_else(unknown)?;
    let number = |column| -> rusqlite::Result<Option<u64>> {
        let there: Option<i64> = row.get(column)?;
        there.map(|_| count(row, column)).transpose()
    };
    let token: Option<String> = row.get(3)?;
    Ok(Sequences {
        used: count(row, 0)?,
        reserved: number(1)?,
        claim: number(2)?
            .zip(token)
            .map(|(limit, token)| Claim { limit, token }),
    })
}

fn claim(tx: &mut Tx<'_>, repository: RepositoryId, claim: Claim) -> Result<Claim, Fault> {
    if let Some(noted) = sequences(tx.db, repository)?.claim {
        return Ok(noted);
    }
    tx.db
        .prepare_cached(
            "INSERT INTO sequences (repository, claim, token) VALUES (?1, ?2, ?3)
             ON CONFLICT (repository) DO UPDATE SET claim = excluded.claim, token = excluded.token",
        )?
        .execute((repository.0, int(claim.limit), &claim.token))?;
    Ok(claim)
}

fn reserve(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    claim: &Claim,
    skip: u64,
) -> Result<(), Fault> {
    tx.db
        .prepare_cached(
            "INSERT INTO sequences (repository, reserved) VALUES (?1, ?2)
             ON CONFLICT (repository) DO UPDATE SET reserved = MAX(COALESCE(reserved, 0), excluded.reserved)",
        )?
        .execute((repository.0, int(claim.limit)))?;
    tx.db
        .prepare_cached(
            "UPDATE sequences SET claim = NULL, token = NULL WHERE repository = ?1 AND token = ?2",
        )?
        .execute((repository.0, &claim.token))?;
    tx.memory.reserve(repository, claim.limit, skip);
    Ok(())
}

/// The numbers that may be used, for the writer's memory.
pub(super) fn reserved(db: &Connection, repository: RepositoryId) -> Result<Option<u64>> {
    Ok(sequences(db, repository)?.reserved)
}

pub(super) fn bind(
    db: &Connection,
    repository: RepositoryId,
    epoch: Epoch,
    cluster_id: &str,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO bindings (repository, epoch, cluster_id) VALUES (?1, ?2, ?3)",
    )?
    .execute((repository.0, int(epoch.0), cluster_id))
    .map(|_| ())
}

fn bound(db: &Connection, repository: RepositoryId) -> Result<Option<(Epoch, Arc<str>)>> {
    let found = db
        .prepare_cached("SELECT epoch, cluster_id FROM bindings WHERE repository = ?1")?
        .query_row([repository.0], |row| {
            let id: String = row.get(1)?;
            Ok((Epoch(count(row, 0)?), id.into()))
        })
        .optional()?;
    Ok(found)
}
