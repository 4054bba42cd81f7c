//! Positions of long work.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::{Database, unrefusable};
use crate::state::positions::Positions;
use crate::state::{RepositoryId, Result};

pub(super) const TABLE: &str = "
CREATE TABLE positions (
    repository INTEGER NOT NULL REFERENCES repositories,
    work TEXT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (repository, work)
) STRICT, WITHOUT ROWID;
";

#[async_trait]
impl Positions for Database {
    async fn position(&self, repository: RepositoryId, work: &str) -> Result<Option<String>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT position FROM positions WHERE repository = ?1 AND work = ?2",
            )?;
            let found = statement.query_row(params![repository.0, work], |row| row.get(0));
            Ok(found.optional()?)
        })
    }

    async fn keep_position(
        &self,
        repository: RepositoryId,
        work: &'static str,
        position: Option<String>,
    ) -> Result<()> {
        self.writer
            .write(move |tx| {
                match position {
                    Some(position) => tx
                        .db
                        .prepare_cached(
                            "INSERT OR REPLACE INTO positions (repository, work, position) VALUES (?1, ?2, ?3)",
                        )?
                        .execute(params![repository.0, work, position])?,
                    None => tx
                        .db
                        .prepare_cached("DELETE FROM positions WHERE repository = ?1 AND work = ?2")?
                        .execute(params![repository.0, work])?,
                };
                Ok(())
            })
            .await
            .map_err(unrefusable)
    }
}
