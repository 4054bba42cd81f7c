//! Promotions, and the catalog as the new store has it. All of it goes at the repository's turn.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use policies::identity::Handover;
use policies::key::ObjectKey;

use super::rows::{column, count, execute, first, int, object, object_columns, query};
use super::writer::{Fault, Tx};
use super::{Database, lock, mirrors, read, restore_points, unrefusable};
use crate::state::{
    AuditEntry, BucketId, Error, Finish, Imported, ImportedObject, LockRow, Millis, NewLock,
    Object, Pin, Promotion, RepositoryId, Result, Takeover, UNJOURNALLED, WriteError, stored,
};

/// A promotion that is under way, as text; and where a promoted repository was before.
pub(super) const TABLES: &str = "
ALTER TABLE repositories ADD COLUMN promoted_from TEXT;
CREATE TABLE promotions (
    repository BIGINT PRIMARY KEY REFERENCES repositories,
    promotion TEXT NOT NULL
);
";

#[async_trait]
impl Takeover for Database {
    async fn promotion(&self, repository: RepositoryId) -> Result<Option<Promotion>> {
        read!(self, db => promotion(db, repository))
    }

    async fn begin_promotion(
        &self,
        repository: RepositoryId,
        from: u64,
        to: NewLock,
        promotion: Promotion,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { begin(tx, repository, from, to, &promotion, &audit).await })
            })
            .await
    }

    async fn note_promotion(&self, repository: RepositoryId, promotion: Promotion) -> Result<()> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move {
                    under_way(tx.db(), repository, &promotion.handover).await?;
                    write(tx.db(), repository, &promotion).await
                })
            })
            .await
            .map_err(unrefusable)
    }

    async fn forget_catalog(
        &self,
        repository: RepositoryId,
        handover: &Handover,
        limit: usize,
    ) -> Result<bool> {
        let handover = handover.clone();
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { forget_catalog(tx, repository, &handover, limit).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn import(
        &self,
        repository: RepositoryId,
        handover: &Handover,
        rows: Vec<Imported>,
    ) -> Result<()> {
        let handover = handover.clone();
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { import(tx, repository, &handover, &rows).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn finish_promotion(
        &self,
        repository: RepositoryId,
        to: NewLock,
        settled: Finish,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { finish(tx, repository, to, &settled, &audit).await })
            })
            .await
    }

    async fn abandon_promotion(
        &self,
        repository: RepositoryId,
        handover: &Handover,
        now_ms: Millis,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError> {
        let handover = handover.clone();
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { abandon(tx, repository, &handover, now_ms, &audit).await })
            })
            .await
    }

    async fn objects_after(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Object>> {
        read!(self, db => objects_after(db, bucket, repository, after, limit))
    }

    async fn newer_than(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        sequence: u64,
    ) -> Result<(u64, u64)> {
        read!(self, db => newer_than(db, bucket, repository, sequence))
    }
}

async fn promotion(db: &ClientWrapper, repository: RepositoryId) -> Result<Option<Promotion>> {
    let row = first(
        db,
        "SELECT promotion FROM promotions WHERE repository = $1",
        &[&repository.0],
    )
    .await?;
    row.map(|row| stored::promotion_from(column(&row, 0)?))
        .transpose()
}

async fn write(
    db: &ClientWrapper,
    repository: RepositoryId,
    promotion: &Promotion,
) -> Result<(), Fault> {
    execute(
        db,
        "INSERT INTO promotions (repository, promotion) VALUES ($1, $2)
         ON CONFLICT (repository) DO UPDATE SET promotion = excluded.promotion",
        &[&repository.0, &stored::promotion_text(promotion)],
    )
    .await?;
    Ok(())
}

/// The promotion of this hand-over is under way: only it may change the catalog here.
async fn under_way(
    db: &ClientWrapper,
    repository: RepositoryId,
    handover: &Handover,
) -> Result<Promotion> {
    match promotion(db, repository).await? {
        Some(promotion) if promotion.handover == *handover => Ok(promotion),
        Some(_) | None => Err(Error::Failed(
            "this promotion of the repository is over".into(),
        )),
    }
}

async fn begin(
    tx: &mut Tx,
    repository: RepositoryId,
    from: u64,
    to: NewLock,
    promotion: &Promotion,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    if self::promotion(tx.db(), repository).await?.is_some() {
        return Err(Error::Failed("a promotion of the repository is under way".into()).into());
    }
    let row = lock::move_lock(tx, from, to, entry).await?;
    write(tx.db(), repository, promotion).await?;
    Ok(row)
}

/// What a repository's rows are in, with the columns that a bounded delete goes by.
const FORGOTTEN: [(&str, &str); 7] = [
    ("tombstones", "id"),
    ("journal", "repository, sequence"),
    ("restore_points", "repository, generation"),
    ("pins", "repository, uuid"),
    ("completed", "bucket, upload"),
    ("uploads", "id"),
    ("intents", "id"),
];

async fn forget_catalog(
    tx: &mut Tx,
    repository: RepositoryId,
    handover: &Handover,
    limit: usize,
) -> Result<bool, Fault> {
    under_way(tx.db(), repository, handover).await?;
    let bucket = tx.known()?.bucket;
    let mut left = limit;
    let objects = objects_after(tx.db(), bucket, repository, None, left).await?;
    left -= objects.len();
    for object in objects {
        remove(tx, bucket, &object).await?;
    }
    for (table, columns) in FORGOTTEN {
        if left == 0 {
            return Ok(false);
        }
        let sql = format!(
            "DELETE FROM {table} WHERE ({columns}) IN (SELECT {columns} FROM {table} WHERE repository = $1 LIMIT $2)"
        );
        let gone = execute(tx.db(), &sql, &[&repository.0, &int(left as u64)]).await?;
        left = left.saturating_sub(usize::try_from(gone).unwrap_or(usize::MAX));
    }
    Ok(left > 0)
}

async fn import(
    tx: &mut Tx,
    repository: RepositoryId,
    handover: &Handover,
    rows: &[Imported],
) -> Result<(), Fault> {
    under_way(tx.db(), repository, handover).await?;
    let bucket = tx.known()?.bucket;
    for row in rows {
        match row {
            Imported::Object(object) => put(tx, bucket, repository, object).await?,
            Imported::Gone(key) => {
                if let Some(old) = find(tx.db(), bucket, repository, key).await? {
                    remove(tx, bucket, &old).await?;
                }
            }
            Imported::Point(point) => {
                let (root, at) = (&point.root, point.committed_ms);
                restore_points::committed(tx, repository, root, point.sequence, at).await?;
            }
            Imported::Pins(pins) => replace_pins(tx.db(), repository, pins).await?,
        }
    }
    Ok(())
}

async fn put(
    tx: &mut Tx,
    bucket: BucketId,
    repository: RepositoryId,
    object: &ImportedObject,
) -> Result<(), Fault> {
    if let Some(old) = find(tx.db(), bucket, repository, &object.key).await? {
        remove(tx, bucket, &old).await?;
    }
    execute(
        tx.db(),
        "INSERT INTO objects (bucket, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            &bucket.0,
            &object.key.as_str().as_bytes(),
            &repository.0,
            &int(object.size),
            &&*object.etag,
            &object.hash.as_ref().map(<[u8; 32]>::as_slice),
            &&*object.identity.0,
            &object.modified_ms,
            &int(object.sequence),
            &stored::details_text(object.details.as_deref()),
        ],
    )
    .await?;
    tx.known_mut()?.gained(object.size);
    Ok(())
}

async fn remove(tx: &mut Tx, bucket: BucketId, object: &Object) -> Result<(), Fault> {
    execute(
        tx.db(),
        "DELETE FROM objects WHERE bucket = $1 AND key = $2",
        &[&bucket.0, &object.key.as_str().as_bytes()],
    )
    .await?;
    tx.known_mut()?.lost(object.size);
    Ok(())
}

async fn find(
    db: &ClientWrapper,
    bucket: BucketId,
    repository: RepositoryId,
    key: &ObjectKey,
) -> Result<Option<Object>> {
    let row = first(
        db,
        concat!(
            "SELECT ",
            object_columns!(),
            " FROM objects WHERE bucket = $1 AND key = $2"
        ),
        &[&bucket.0, &key.as_str().as_bytes()],
    )
    .await?;
    match row.map(|row| object(&row, 0)).transpose()? {
        Some(other) if other.repository != repository => Err(Error::Failed(
            "the object belongs to another repository".into(),
        )),
        found => Ok(found),
    }
}

async fn replace_pins(
    db: &ClientWrapper,
    repository: RepositoryId,
    pins: &[Pin],
) -> Result<(), Fault> {
    execute(
        db,
        "DELETE FROM pins WHERE repository = $1",
        &[&repository.0],
    )
    .await?;
    for pin in pins {
        execute(
            db,
            "INSERT INTO pins (repository, uuid, name, pinned_ms, principal, reason) VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                &repository.0,
                &&*pin.snapshot.uuid,
                &&*pin.snapshot.name,
                &pin.pinned_ms,
                &pin.by,
                &pin.reason,
            ],
        )
        .await?;
    }
    Ok(())
}

async fn finish(
    tx: &mut Tx,
    repository: RepositoryId,
    to: NewLock,
    finish: &Finish,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    let promotion = under_way(tx.db(), repository, &finish.handover).await?;
    let from = tx.known()?.lock.version;
    for sql in [
        "DELETE FROM journal WHERE repository = $1 AND sequence > $2",
        "DELETE FROM restore_points WHERE repository = $1 AND sequence > $2",
    ] {
        execute(tx.db(), sql, &[&repository.0, &int(finish.kept)]).await?;
    }
    if let Some(root) = finish.root {
        let above = "DELETE FROM restore_points WHERE repository = $1 AND generation > $2";
        execute(tx.db(), above, &[&repository.0, &int(root)]).await?;
    }
    for sql in [
        // What only retentions held is not on the new store.
        "UPDATE restore_points SET complete = false WHERE repository = $1 AND generation <
         (SELECT max(generation) FROM restore_points WHERE repository = $1)",
        // What lay in the old store says nothing of the new one.
        "DELETE FROM tombstones WHERE repository = $1",
        "DELETE FROM intents WHERE repository = $1",
        "DELETE FROM uploads WHERE repository = $1",
        "DELETE FROM completed WHERE repository = $1",
        "DELETE FROM promotions WHERE repository = $1",
    ] {
        execute(tx.db(), sql, &[&repository.0]).await?;
    }
    let broken = (finish.sequence > finish.kept).then_some(finish.sequence);
    mirrors::moved(tx, repository, &promotion.to, broken, to.now_ms).await?;
    if promotion.to != promotion.from {
        execute(
            tx.db(),
            "UPDATE repositories SET store = $2, promoted_from = $3 WHERE id = $1",
            &[
                &repository.0,
                &promotion.to.as_str(),
                &promotion.from.as_str(),
            ],
        )
        .await?;
        let known = tx.known_mut()?;
        Arc::make_mut(&mut known.identity).store = promotion.to.clone();
    }
    tx.known_mut()?.raise_sequence(finish.sequence);
    lock::move_lock(tx, from, to, entry).await
}

async fn abandon(
    tx: &mut Tx,
    repository: RepositoryId,
    handover: &Handover,
    now_ms: Millis,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    let promotion = under_way(tx.db(), repository, handover).await?;
    let from = tx.known()?.lock.version;
    execute(
        tx.db(),
        "DELETE FROM promotions WHERE repository = $1",
        &[&repository.0],
    )
    .await?;
    let to = NewLock {
        lock: promotion.before,
        now_ms,
        reason: None,
    };
    lock::move_lock(tx, from, to, entry).await
}

async fn objects_after(
    db: &ClientWrapper,
    bucket: BucketId,
    repository: RepositoryId,
    after: Option<&ObjectKey>,
    limit: usize,
) -> Result<Vec<Object>> {
    let after = after.map_or(&b""[..], |key| key.as_str().as_bytes());
    let rows = query(
        db,
        concat!(
            "SELECT ",
            object_columns!(),
            " FROM objects WHERE bucket = $1 AND key > $2 AND repository = $3 ORDER BY key LIMIT $4"
        ),
        &[&bucket.0, &after, &repository.0, &int(limit as u64)],
    )
    .await?;
    rows.iter().map(|row| object(row, 0)).collect()
}

async fn newer_than(
    db: &ClientWrapper,
    bucket: BucketId,
    repository: RepositoryId,
    sequence: u64,
) -> Result<(u64, u64)> {
    let row = first(
        db,
        "SELECT count(*), coalesce(sum(size), 0)::bigint FROM objects
         WHERE bucket = $1 AND repository = $2 AND sequence > $3 AND sequence <= $4",
        &[&bucket.0, &repository.0, &int(sequence), &int(UNJOURNALLED)],
    )
    .await?;
    row.map_or(Ok((0, 0)), |row| Ok((count(&row, 0)?, count(&row, 1)?)))
}
