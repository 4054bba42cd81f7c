//! Kept digests; they go with their objects, whoever removes those.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use policies::key::ObjectKey;

use super::rows::{column, execute, key, query};
use super::writer::{Fault, Tx, WHOLE};
use super::{Database, read, unrefusable};
use crate::state::digests::{Digests, KeptDigest};
use crate::state::{BucketId, Result};

pub(super) const TABLE: &str = "
CREATE TABLE digests (
    bucket BIGINT NOT NULL,
    key BYTEA NOT NULL,
    content BYTEA NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (bucket, key),
    FOREIGN KEY (bucket, key) REFERENCES objects ON DELETE CASCADE
);
";

#[async_trait]
impl Digests for Database {
    async fn keep_digests(&self, bucket: BucketId, digests: Vec<KeptDigest>) -> Result<()> {
        self.writers
            .write(WHOLE, move |tx| {
                Box::pin(async move { keep(tx, bucket, &digests).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn digests(
        &self,
        bucket: BucketId,
        keys: &[ObjectKey],
    ) -> Result<Vec<(ObjectKey, Vec<u8>)>> {
        read!(self, db => find(db, bucket, keys))
    }
}

/// An object that is being removed is passed over.
async fn keep(tx: &Tx, bucket: BucketId, digests: &[KeptDigest]) -> Result<(), Fault> {
    let keys: Vec<&[u8]> = digests.iter().map(|d| d.key.as_str().as_bytes()).collect();
    let contents: Vec<&[u8]> = digests.iter().map(|d| d.content.as_slice()).collect();
    let bodies: Vec<&[u8]> = digests.iter().map(|d| d.body.as_slice()).collect();
    execute(
        tx.db(),
        "INSERT INTO digests (bucket, key, content, body)
         SELECT DISTINCT ON (d.key) o.bucket, o.key, d.content, d.body
         FROM (SELECT o.bucket, o.key FROM objects o WHERE o.bucket = $1 AND o.key = ANY ($2)
               ORDER BY o.key FOR KEY SHARE SKIP LOCKED) o
              JOIN unnest($2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS d (key, content, body, n)
                ON d.key = o.key
         ORDER BY d.key, d.n DESC
         ON CONFLICT (bucket, key) DO UPDATE SET content = excluded.content, body = excluded.body",
        &[&bucket.0, &keys, &contents, &bodies],
    )
    .await?;
    Ok(())
}

async fn find(
    db: &ClientWrapper,
    bucket: BucketId,
    keys: &[ObjectKey],
) -> Result<Vec<(ObjectKey, Vec<u8>)>> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_str().as_bytes()).collect();
    let rows = query(
        db,
        "SELECT d.key, d.body FROM digests d JOIN objects o ON o.bucket = d.bucket AND o.key = d.key
         WHERE d.bucket = $1 AND d.key = ANY ($2) AND d.content = coalesce(o.hash, convert_to(o.identity, 'UTF8'))",
        &[&bucket.0, &keys],
    )
    .await?;
    rows.iter()
        .map(|row| Ok((key(row, 0)?, column(row, 1)?)))
        .collect()
}
