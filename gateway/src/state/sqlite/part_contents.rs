//! The bytes of metadata that comes in parts.

use async_trait::async_trait;
use bytes::Bytes;
use policies::lock::Permit;
use rusqlite::params;

use super::writer::{Fault, Tx};
use super::{Database, lock, uploads};
use crate::state::leave::Leave;
use crate::state::part_contents::PartContents;
use crate::state::{Result, WriteError};

pub(super) const TABLE: &str = "
CREATE TABLE part_contents (
    upload TEXT NOT NULL REFERENCES uploads ON DELETE CASCADE,
    number INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT;
";

#[async_trait]
impl PartContents for Database {
    async fn keep_part(
        &self,
        permit: &Permit,
        upload: &str,
        number: u16,
        content: Bytes,
    ) -> Result<(), WriteError> {
        let (leave, upload) = (Leave::from(permit), upload.to_owned());
        self.writer
            .write(move |tx| keep(tx, &leave, &upload, number, &content))
            .await
    }

    async fn kept_parts(&self, upload: &str) -> Result<Vec<(u16, Bytes)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT number, content FROM part_contents WHERE upload = ?1 ORDER BY number",
            )?;
            let mut rows = statement.query([upload])?;
            let mut kept = Vec::new();
            while let Some(row) = rows.next()? {
                kept.push((row.get(0)?, row.get::<_, Vec<u8>>(1)?.into()));
            }
            Ok(kept)
        })
    }
}

fn keep(
    tx: &Tx<'_>,
    leave: &Leave,
    upload: &str,
    number: u16,
    content: &[u8],
) -> Result<(), Fault> {
    let repository = uploads::repository(tx.db, upload)?.ok_or(WriteError::UploadGone)?;
    lock::check(tx, leave, repository)?;
    tx.db
        .prepare_cached(
            "INSERT OR REPLACE INTO part_contents (upload, number, content) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![upload, number, content])?;
    Ok(())
}
