//! The bytes of metadata that comes in parts.

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use policies::lock::Permit;

use super::rows::{column, execute, query};
use super::writer::{Fault, Tx};
use super::{Database, lock, read, uploads};
use crate::state::leave::Leave;
use crate::state::part_contents::PartContents;
use crate::state::{Result, WriteError, stored};

pub(super) const TABLE: &str = "
CREATE TABLE part_contents (
    upload TEXT NOT NULL REFERENCES uploads ON DELETE CASCADE,
    number INTEGER NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (upload, number)
);
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
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { keep(tx, &leave, &upload, number, &content).await })
            })
            .await
    }

    async fn kept_parts(&self, upload: &str) -> Result<Vec<(u16, Bytes)>> {
        read!(self, db => kept(db, upload))
    }
}

async fn keep(
    tx: &Tx,
    leave: &Leave,
    upload: &str,
    number: u16,
    content: &[u8],
) -> Result<(), Fault> {
    let repository = uploads::repository(tx.db(), upload)
        .await?
        .ok_or(WriteError::UploadGone)?;
    lock::check(tx, leave, repository)?;
    execute(
        tx.db(),
        "INSERT INTO part_contents (upload, number, content) VALUES ($1, $2, $3)
         ON CONFLICT (upload, number) DO UPDATE SET content = excluded.content",
        &[&upload, &i32::from(number), &content],
    )
    .await?;
    Ok(())
}

async fn kept(db: &ClientWrapper, upload: &str) -> Result<Vec<(u16, Bytes)>> {
    let rows = query(
        db,
        "SELECT number, content FROM part_contents WHERE upload = $1 ORDER BY number",
        &[&upload],
    )
    .await?;
    let part = |row: &Row| {
        let number: i32 = column(row, 0)?;
        let number = u16::try_from(number).map_err(|e| stored::unreadable(&e.to_string()))?;
        Ok((number, column::<Vec<u8>>(row, 1)?.into()))
    };
    rows.iter().map(part).collect()
}
