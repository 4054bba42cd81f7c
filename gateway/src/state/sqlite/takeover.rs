//! Promotions, and the catalog as the new store has it.

use async_trait::async_trait;
use policies::identity::Handover;
use policies::key::ObjectKey;
use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{Etag, count, int, object, object_columns};
use super::writer::{Fault, Tx};
use super::{Database, lock, mirrors, restore_points, unrefusable};
use crate::state::{
    AuditEntry, BucketId, Error, Finish, Imported, ImportedObject, LockRow, Millis, NewLock,
    Object, Pin, Promotion, RepositoryId, Result, Takeover, WriteError, stored,
};

/// A promotion that is under way, as text; and where a promoted repository was before.
pub(super) const TABLES: &str = "
ALTER TABLE repositories ADD COLUMN promoted_from TEXT;
CREATE TABLE promotions (
    repository INTEGER PRIMARY KEY REFERENCES repositories,
    promotion TEXT NOT NULL
) STRICT;
";

#[async_trait]
impl Takeover for Database {
    async fn promotion(&self, repository: RepositoryId) -> Result<Option<Promotion>> {
        self.read(|db| promotion(db, repository))
    }

    async fn begin_promotion(
        &self,
        repository: RepositoryId,
        from: u64,
        to: NewLock,
        promotion: Promotion,
        audit: AuditEntry,
    ) -> Result<LockRow, WriteError> {
        self.writer
            .write(move |tx| begin(tx, repository, from, to, &promotion, &audit))
            .await
    }

    async fn note_promotion(&self, repository: RepositoryId, promotion: Promotion) -> Result<()> {
        self.writer
            .write(move |tx| note(tx, repository, &promotion))
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
        self.writer
            .write(move |tx| forget_catalog(tx, repository, &handover, limit))
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
        self.writer
            .write(move |tx| import(tx, repository, &handover, &rows))
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
        self.writer
            .write(move |tx| finish(tx, repository, to, &settled, &audit))
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
        self.writer
            .write(move |tx| abandon(tx, repository, &handover, now_ms, &audit))
            .await
    }

    async fn objects_after(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Object>> {
        self.read(|db| objects_after(db, bucket, repository, after, limit))
    }

    async fn newer_than(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        sequence: u64,
    ) -> Result<(u64, u64)> {
        self.read(|db| newer_than(db, bucket, repository, sequence))
    }
}

fn promotion(db: &Connection, repository: RepositoryId) -> Result<Option<Promotion>> {
    let text: Option<String> = db
        .prepare_cached("SELECT promotion FROM promotions WHERE repository = ?1")?
        .query_row([repository.0], |row| row.get(0))
        .optional()?;
    text.as_deref().map(stored::promotion_from).transpose()
}

fn write(db: &Connection, repository: RepositoryId, promotion: &Promotion) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO promotions (repository, promotion) VALUES (?1, ?2)")?
        .execute((repository.0, stored::promotion_text(promotion)))
        .map(|_| ())
}

/// The promotion of this hand-over is under way: only it may change the catalog here.
fn under_way(db: &Connection, repository: RepositoryId, handover: &Handover) -> Result<Promotion> {
    match promotion(db, repository)? {
        Some(promotion) if promotion.handover == *handover => Ok(promotion),
        Some(_) | None => Err(Error::Failed(
            "this promotion of the repository is over".into(),
        )),
    }
}

fn begin(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    from: u64,
    to: NewLock,
    promotion: &Promotion,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    if self::promotion(tx.db, repository)?.is_some() {
        return Err(Error::Failed("a promotion of the repository is under way".into()).into());
    }
    let row = lock::move_lock(tx, repository, from, to, entry)?;
    write(tx.db, repository, promotion)?;
    Ok(row)
}

fn note(tx: &Tx<'_>, repository: RepositoryId, promotion: &Promotion) -> Result<(), Fault> {
    under_way(tx.db, repository, &promotion.handover)?;
    Ok(write(tx.db, repository, promotion)?)
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

fn forget_catalog(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    handover: &Handover,
    limit: usize,
) -> Result<bool, Fault> {
    under_way(tx.db, repository, handover)?;
    let bucket = bucket(tx, repository)?;
    let mut left = limit;
    let objects = objects_after(tx.db, bucket, repository, None, left)?;
    left -= objects.len();
    for object in objects {
        remove(tx, bucket, &object)?;
    }
    for (table, columns) in FORGOTTEN {
        if left == 0 {
            return Ok(false);
        }
        let sql = format!(
            "DELETE FROM {table} WHERE ({columns}) IN (SELECT {columns} FROM {table} WHERE repository = ?1 LIMIT ?2)"
        );
        left -= tx
            .db
            .prepare_cached(&sql)?
            .execute([repository.0, int(left as u64)])?
            .min(left);
    }
    Ok(left > 0)
}

fn import(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    handover: &Handover,
    rows: &[Imported],
) -> Result<(), Fault> {
    under_way(tx.db, repository, handover)?;
    let bucket = bucket(tx, repository)?;
    for row in rows {
        match row {
            Imported::Object(object) => put(tx, bucket, repository, object)?,
            Imported::Gone(key) => {
                if let Some(old) = find(tx.db, bucket, repository, key)? {
                    remove(tx, bucket, &old)?;
                }
            }
            Imported::Point(point) => {
                restore_points::committed(
                    tx,
                    repository,
                    &point.root,
                    point.sequence,
                    point.committed_ms,
                )?;
            }
            Imported::Pins(pins) => replace_pins(tx.db, repository, pins)?,
        }
    }
    Ok(())
}

fn put(
    tx: &mut Tx<'_>,
    bucket: BucketId,
    repository: RepositoryId,
    object: &ImportedObject,
) -> Result<(), Fault> {
    if let Some(old) = find(tx.db, bucket, repository, &object.key)? {
        if object.describes(&old) {
            return Ok(name(tx.db, bucket, object)?);
        }
        remove(tx, bucket, &old)?;
    }
    tx.db
        .prepare_cached(
            "INSERT INTO objects (bucket, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            bucket.0,
            object.key.as_str().as_bytes(),
            repository.0,
            int(object.size),
            Etag(&object.etag),
            object.hash,
            &*object.identity.0,
            object.modified_ms,
            int(object.sequence),
            stored::details_text(object.details.as_deref()),
        ])?;
    tx.memory.gained(repository, object.size);
    Ok(())
}

/// What the new store calls it. The common case, and the one that a promotion's length hangs on: the row stays in place.
fn name(db: &Connection, bucket: BucketId, object: &ImportedObject) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE objects SET identity = ?3 WHERE bucket = ?1 AND key = ?2")?
        .execute((
            bucket.0,
            object.key.as_str().as_bytes(),
            &*object.identity.0,
        ))
        .map(drop)
}

fn remove(tx: &mut Tx<'_>, bucket: BucketId, object: &Object) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached("DELETE FROM objects WHERE bucket = ?1 AND key = ?2")?
        .execute((bucket.0, object.key.as_str().as_bytes()))?;
    tx.memory.lost(object.repository, object.size);
    Ok(())
}

fn find(
    db: &Connection,
    bucket: BucketId,
    repository: RepositoryId,
    key: &ObjectKey,
) -> Result<Option<Object>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        object_columns!(),
        " FROM objects WHERE bucket = ?1 AND key = ?2"
    ))?;
    let mut rows = statement.query((bucket.0, key.as_str().as_bytes()))?;
    let found = rows.next()?.map(|row| object(row, 0)).transpose()?;
    match found {
        Some(other) if other.repository != repository => Err(Error::Failed(
            "the object belongs to another repository".into(),
        )),
        found => Ok(found),
    }
}

fn replace_pins(db: &Connection, repository: RepositoryId, pins: &[Pin]) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM pins WHERE repository = ?1")?
        .execute([repository.0])?;
    for pin in pins {
        db.prepare_cached(
            "INSERT INTO pins (repository, uuid, name, pinned_ms, principal, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            repository.0,
            &*pin.snapshot.uuid,
            &*pin.snapshot.name,
            pin.pinned_ms,
            &pin.by,
            &pin.reason,
        ))?;
    }
    Ok(())
}

fn finish(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    to: NewLock,
    finish: &Finish,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    let promotion = under_way(tx.db, repository, &finish.handover)?;
    let from = version(tx, repository)?;
    let kept = int(finish.kept);
    for sql in [
        "DELETE FROM journal WHERE repository = ?1 AND sequence > ?2",
        "DELETE FROM restore_points WHERE repository = ?1 AND sequence > ?2",
    ] {
        tx.db.prepare_cached(sql)?.execute([repository.0, kept])?;
    }
    if let Some(root) = finish.root {
        tx.db
            .prepare_cached("DELETE FROM restore_points WHERE repository = ?1 AND generation > ?2")?
            .execute([repository.0, int(root)])?;
    }
    // What only retentions held is not on the new store.
    tx.db
        .prepare_cached(
            "UPDATE restore_points SET complete = 0 WHERE repository = ?1 AND generation <
             (SELECT max(generation) FROM restore_points WHERE repository = ?1)",
        )?
        .execute([repository.0])?;
    // What lay in the old store says nothing of the new one.
    for table in [
        "tombstones",
        "intents",
        "uploads",
        "completed",
        "promotions",
    ] {
        tx.db
            .prepare_cached(&format!("DELETE FROM {table} WHERE repository = ?1"))?
            .execute([repository.0])?;
    }
    let broken = (finish.sequence > finish.kept).then_some(finish.sequence);
    mirrors::moved(tx, repository, &promotion.to, broken, to.now_ms)?;
    let moved = promotion.to != promotion.from;
    if moved {
        tx.db
            .prepare_cached("UPDATE repositories SET store = ?2, promoted_from = ?3 WHERE id = ?1")?
            .execute((repository.0, promotion.to.as_str(), promotion.from.as_str()))?;
        tx.memory
            .move_to_store(repository, promotion.to.clone(), promotion.from);
    }
    tx.memory.raise_sequence(repository, finish.sequence);
    lock::move_lock(tx, repository, from, to, entry)
}

fn abandon(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    handover: &Handover,
    now_ms: Millis,
    entry: &AuditEntry,
) -> Result<LockRow, Fault> {
    let promotion = under_way(tx.db, repository, handover)?;
    let from = version(tx, repository)?;
    tx.db
        .prepare_cached("DELETE FROM promotions WHERE repository = ?1")?
        .execute([repository.0])?;
    let to = NewLock {
        lock: promotion.before,
        now_ms,
        reason: None,
    };
    lock::move_lock(tx, repository, from, to, entry)
}

fn version(tx: &Tx<'_>, repository: RepositoryId) -> Result<u64> {
    let known = tx
        .memory
        .repository(repository)
        .ok_or_else(crate::state::leave::unknown)?;
    Ok(known.lock.version)
}

fn bucket(tx: &Tx<'_>, repository: RepositoryId) -> Result<BucketId> {
    let known = tx
        .memory
        .repository(repository)
        .ok_or_else(crate::state::leave::unknown)?;
    Ok(known.bucket)
}

fn objects_after(
    db: &Connection,
    bucket: BucketId,
    repository: RepositoryId,
    after: Option<&ObjectKey>,
    limit: usize,
) -> Result<Vec<Object>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        object_columns!(),
        " FROM objects WHERE bucket = ?1 AND key > ?2 AND repository = ?3 ORDER BY key LIMIT ?4"
    ))?;
    let after = after.map_or(&b""[..], |key| key.as_str().as_bytes());
    let mut rows = statement.query(params![bucket.0, after, repository.0, int(limit as u64)])?;
    let mut objects = Vec::new();
    while let Some(row) = rows.next()? {
        objects.push(object(row, 0)?);
    }
    Ok(objects)
}

fn newer_than(
    db: &Connection,
    bucket: BucketId,
    repository: RepositoryId,
    sequence: u64,
) -> Result<(u64, u64)> {
    let mut statement = db.prepare_cached(
        "SELECT count(*), coalesce(sum(size), 0) FROM objects
         WHERE bucket = ?1 AND repository = ?2 AND sequence > ?3 AND sequence <= ?4",
    )?;
    Ok(statement.query_row(
        [
            bucket.0,
            repository.0,
            int(sequence),
            int(crate::state::UNJOURNALLED),
        ],
        |row| Ok((count(row, 0)?, count(row, 1)?)),
    )?)
}
