//! Kept digests; a trigger lets them go with their objects, whoever removes those.

use async_trait::async_trait;
use policies::key::ObjectKey;
use rusqlite::{OptionalExtension, params};

use super::{Database, unrefusable};
use crate::state::digests::{Digests, KeptDigest};
use crate::state::{BucketId, Result};

pub(super) const TABLE: &str = "
CREATE TABLE digests (
    bucket INTEGER NOT NULL,
    key BLOB NOT NULL,
    content BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER digests_go_with_their_objects AFTER DELETE ON objects
    BEGIN DELETE FROM digests WHERE bucket = OLD.bucket AND key = OLD.key; END;
";

#[async_trait]
impl Digests for Database {
    async fn keep_digests(&self, bucket: BucketId, digests: Vec<KeptDigest>) -> Result<()> {
        self.writer
            .write(move |tx| {
                let mut statement = tx.db.prepare_cached(
                    "INSERT OR REPLACE INTO digests (bucket, key, content, body)
                     SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM objects WHERE bucket = ?1 AND key = ?2)",
                )?;
                for kept in &digests {
                    let key = kept.key.as_str().as_bytes();
                    statement.execute(params![bucket.0, key, kept.content, kept.body])?;
                }
                Ok(())
            })
            .await
            .map_err(unrefusable)
    }

    async fn digests(
        &self,
        bucket: BucketId,
        keys: &[ObjectKey],
    ) -> Result<Vec<(ObjectKey, Vec<u8>)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT d.body FROM digests d JOIN objects o ON o.bucket = d.bucket AND o.key = d.key
                 WHERE d.bucket = ?1 AND d.key = ?2 AND d.content = coalesce(o.hash, CAST(o.identity AS BLOB))",
            )?;
            let mut found = Vec::new();
            for key in keys {
                let body = statement
                    .query_row((bucket.0, key.as_str().as_bytes()), |row| row.get(0))
                    .optional()?;
                found.extend(body.map(|body| (key.clone(), body)));
            }
            Ok(found)
        })
    }
}
