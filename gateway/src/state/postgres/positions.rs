//! Positions of long work.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;

use super::rows::{column, execute, first};
use super::writer::{Fault, Tx};
use super::{Database, read, unrefusable};
use crate::state::positions::Positions;
use crate::state::{RepositoryId, Result};

pub(super) const TABLE: &str = "
CREATE TABLE positions (
    repository BIGINT NOT NULL REFERENCES repositories,
    work TEXT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (repository, work)
);
";

#[async_trait]
impl Positions for Database {
    async fn position(&self, repository: RepositoryId, work: &str) -> Result<Option<String>> {
        read!(self, db => position(db, repository, work))
    }

    async fn keep_position(
        &self,
        repository: RepositoryId,
        work: &'static str,
        position: Option<String>,
    ) -> Result<()> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { keep(tx, repository, work, position).await })
            })
            .await
            .map_err(unrefusable)
    }
}

async fn position(
    db: &ClientWrapper,
    repository: RepositoryId,
    work: &str,
) -> Result<Option<String>> {
    let row = first(
        db,
        "SELECT position FROM positions WHERE repository = $1 AND work = $2",
        &[&repository.0, &work],
    )
    .await?;
    row.map(|row| column(&row, 0)).transpose()
}

async fn keep(
    tx: &Tx,
    repository: RepositoryId,
    work: &str,
    position: Option<String>,
) -> Result<(), Fault> {
    match position {
        Some(position) => {
            execute(
                tx.db(),
                "INSERT INTO positions (repository, work, position) VALUES ($1, $2, $3)
                 ON CONFLICT (repository, work) DO UPDATE SET position = excluded.position",
                &[&repository.0, &work, &position],
            )
            .await?
        }
        None => {
            execute(
                tx.db(),
                "DELETE FROM positions WHERE repository = $1 AND work = $2",
                &[&repository.0, &work],
            )
            .await?
        }
    };
    Ok(())
}
