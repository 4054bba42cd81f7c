//! Clients' multipart uploads, their parts, and how completed ones were answered.

use policies::identity::{Cluster, Epoch};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::answers::PRUNED;
use super::lock;
use super::rows::{count, etag, int, key, object, object_columns, text};
use super::writer::{Fault, Tx};
use crate::state::leave::Leave;
use crate::state::paging::after_all_of;
use crate::state::{
    ANSWERS_KEPT_MS, BucketId, Error, MultipartUpload, NewUpload, Object, PartRow, Put,
    RepositoryId, Result, UploadListing, UploadQuery, WriteError, stored,
};
use crate::stores::{StoredPart, UploadId};

pub(super) const AGE: &str = "
-- The gateway's uptime when it was begun.
ALTER TABLE uploads ADD COLUMN at_uptime_ms INTEGER NOT NULL DEFAULT 0;
UPDATE uploads SET at_uptime_ms = (SELECT value FROM meta WHERE name = 'uptime_ms');
CREATE INDEX uploads_by_age ON uploads (repository, at_uptime_ms);
";

macro_rules! upload_columns {
    () => {
        "id, repository, bucket, key, store_upload, epoch, cluster, details, checksum, checksum_whole, initiated_ms"
    };
}

pub(super) fn create(tx: &mut Tx<'_>, leave: &Leave, upload: &NewUpload) -> Result<(), Fault> {
    lock::check(tx, leave, upload.repository)?;
    let epoch = leave.upload_epoch();
    tx.db
        .prepare_cached(concat!(
            "INSERT INTO uploads (",
            upload_columns!(),
            ", at_uptime_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        ))?
        .execute(params![
            upload.id,
            upload.repository.0,
            upload.bucket.0,
            upload.key.as_str().as_bytes(),
            &*upload.store_upload.0,
            epoch.map(|e| int(e.0)),
            leave.cluster.as_str(),
            stored::details_text(upload.details.as_deref()),
            upload.checksum.as_ref().map(|(algorithm, _)| algorithm),
            upload.checksum.as_ref().map(|(_, whole)| whole),
            upload.now_ms,
            int(tx.memory.uptime()),
        ])?;
    Ok(())
}

fn upload(row: &Row<'_>) -> Result<MultipartUpload> {
    let details: Option<String> = row.get(7)?;
    let algorithm: Option<String> = row.get(8)?;
    let whole: Option<bool> = row.get(9)?;
    let epoch: Option<i64> = row.get(5)?;
    Ok(MultipartUpload {
        id: row.get(0)?,
        repository: RepositoryId(row.get(1)?),
        bucket: BucketId(row.get(2)?),
        key: key(row, 3)?,
        store_upload: UploadId(text(row.get_ref(4)?)?.into()),
        epoch: epoch.map(|_| count(row, 5).map(Epoch)).transpose()?,
        cluster: Cluster::new(text(row.get_ref(6)?)?),
        details: details.as_deref().map(stored::details_from).transpose()?,
        checksum: algorithm.zip(whole),
        initiated_ms: row.get(10)?,
    })
}

pub(super) fn find(db: &Connection, bucket: BucketId, id: &str) -> Result<Option<MultipartUpload>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        upload_columns!(),
        " FROM uploads WHERE id = ?1 AND bucket = ?2"
    ))?;
    let mut rows = statement.query((id, bucket.0))?;
    rows.next()?.map(upload).transpose()
}

/// By key, and by id among those of one key.
pub(super) fn list(db: &Connection, query: &UploadQuery) -> Result<UploadListing> {
    let mut listing = UploadListing::default();
    if query.limit == 0 || query.repositories.is_empty() {
        return Ok(listing);
    }
    let (from, id) = match &query.after {
        // Without an id all uploads of that key are passed over.
        Some((key, id)) if id.is_empty() => ([key.as_bytes(), &[0]].concat(), ""),
        Some((key, id)) => (key.as_bytes().to_vec(), id.as_str()),
        None => (Vec::new(), ""),
    };
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        upload_columns!(),
        " FROM uploads WHERE bucket = ?1 AND (key, id) > (?2, ?3) AND key >= ?4 AND key < ?5 ORDER BY key, id"
    ))?;
    let end = after_all_of(&query.prefix);
    let mut rows = statement.query(params![
        query.bucket.0,
        from,
        id,
        query.prefix.as_bytes(),
        end
    ])?;
    while let Some(row) = rows.next()? {
        let repository = RepositoryId(row.get(1)?);
        if !query.repositories.contains(&repository) {
            continue;
        }
        if listing.uploads.len() == query.limit {
            listing.truncated = true;
            break;
        }
        listing.uploads.push(upload(row)?);
    }
    Ok(listing)
}

pub(super) fn begun_before(
    db: &Connection,
    repository: RepositoryId,
    uptime_ms: u64,
    limit: usize,
) -> Result<Vec<MultipartUpload>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        upload_columns!(),
        " FROM uploads WHERE repository = ?1 AND at_uptime_ms < ?2 ORDER BY at_uptime_ms, id LIMIT ?3"
    ))?;
    let mut rows = statement.query((repository.0, int(uptime_ms), int(limit as u64)))?;
    let mut begun = Vec::new();
    while let Some(row) = rows.next()? {
        begun.push(upload(row)?);
    }
    Ok(begun)
}

/// The stores' ids of uploads and open intents.
pub(super) fn store_uploads(db: &Connection, repository: RepositoryId) -> Result<Vec<UploadId>> {
    let mut statement = db.prepare_cached(
        "SELECT store_upload FROM uploads WHERE repository = ?1
         UNION SELECT upload FROM intents WHERE repository = ?1",
    )?;
    let mut rows = statement.query([repository.0])?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(UploadId(text(row.get_ref(0)?)?.into()));
    }
    Ok(ids)
}

pub(super) fn repository(db: &Connection, id: &str) -> rusqlite::Result<Option<RepositoryId>> {
    db.prepare_cached("SELECT repository FROM uploads WHERE id = ?1")?
        .query_row([id], |row| row.get(0).map(RepositoryId))
        .optional()
}

pub(super) fn put_part(
    tx: &mut Tx<'_>,
    leave: &Leave,
    id: &str,
    part: &PartRow,
) -> Result<Option<PartRow>, Fault> {
    let repository = repository(tx.db, id)?.ok_or(WriteError::UploadGone)?;
    lock::check(tx, leave, repository)?;
    let number = part.stored.number;
    let replaced = parts(tx.db, id, number.saturating_sub(1), 1)?
        .pop()
        .filter(|earlier| earlier.stored.number == number);
    tx.db
        .prepare_cached(
            "INSERT OR REPLACE INTO parts (upload, number, size, locator, etag, checksums, hash, modified_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            number,
            int(part.stored.size),
            &*part.stored.locator,
            super::rows::Etag(&part.etag),
            stored::checksums_text(&part.checksums),
            part.hash,
            part.modified_ms,
        ])?;
    Ok(replaced)
}

pub(super) fn parts(db: &Connection, id: &str, after: u16, limit: usize) -> Result<Vec<PartRow>> {
    let mut statement = db.prepare_cached(
        "SELECT number, size, locator, etag, checksums, hash, modified_ms FROM parts
         WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let mut rows = statement.query((id, after, int(limit as u64)))?;
    let mut parts = Vec::new();
    while let Some(row) = rows.next()? {
        let checksums: Option<String> = row.get(4)?;
        parts.push(PartRow {
            stored: StoredPart {
                number: row.get(0)?,
                size: count(row, 1)?,
                locator: text(row.get_ref(2)?)?.into(),
            },
            etag: etag(row, 3)?,
            checksums: checksums
                .as_deref()
                .map_or(Ok(Vec::new()), stored::checksums_from)?,
            hash: row.get(5)?,
            modified_ms: row.get(6)?,
        });
    }
    Ok(parts)
}

pub(super) fn drop_upload(tx: &mut Tx<'_>, leave: &Leave, id: &str) -> Result<bool, Fault> {
    let Some(repository) = repository(tx.db, id)? else {
        return Ok(false);
    };
    lock::check(tx, leave, repository)?;
    if being_completed(tx.db, id)? {
        return Err(WriteError::KeyBusy.into());
    }
    forget(tx.db, id)?;
    Ok(true)
}

/// An open intent is about to complete this upload.
fn being_completed(db: &Connection, id: &str) -> Result<bool> {
    let mut statement = db.prepare_cached(
        "SELECT i.put FROM uploads u JOIN intents i ON i.bucket = u.bucket AND i.key = u.key WHERE u.id = ?1",
    )?;
    let mut rows = statement.query([id])?;
    match rows.next()? {
        Some(row) => {
            let put = stored::put_from(text(row.get_ref(0)?)?)?;
            Ok(put.completes.as_deref() == Some(id))
        }
        None => Ok(false),
    }
}

fn forget(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM uploads WHERE id = ?1")?
        .execute([id])
        .map(|_| ())
}

/// The upload that a put says it completes is there.
pub(super) fn require_completed_one(db: &Connection, put: &Put) -> Result<(), Fault> {
    let Some(id) = &put.completes else {
        return Ok(());
    };
    match repository(db, id)? {
        Some(repository) if repository == put.repository => Ok(()),
        Some(_) => Err(Error::Failed("the upload belongs to another repository".into()).into()),
        None => Err(WriteError::UploadGone.into()),
    }
}

/// Forgets a completed upload and remembers its answer.
pub(super) fn complete(
    tx: &mut Tx<'_>,
    put: &Put,
    id: &str,
    sequence: u64,
) -> rusqlite::Result<()> {
    forget(tx.db, id)?;
    tx.db
        .prepare_cached(concat!(
            "INSERT OR REPLACE INTO completed (bucket, upload, at_uptime_ms, ",
            object_columns!(),
            ") SELECT bucket, ?3, ?4, ",
            object_columns!(),
            " FROM objects WHERE bucket = ?1 AND key = ?2 AND sequence = ?5"
        ))?
        .execute(params![
            put.bucket.0,
            put.key.as_str().as_bytes(),
            id,
            int(tx.memory.uptime()),
            int(sequence)
        ])
        .map(|_| ())
}

pub(super) fn completed(db: &Connection, bucket: BucketId, id: &str) -> Result<Option<Object>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        object_columns!(),
        " FROM completed WHERE bucket = ?1 AND upload = ?2"
    ))?;
    let mut rows = statement.query((bucket.0, id))?;
    rows.next()?.map(|row| object(row, 0)).transpose()
}

pub(super) fn prune(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached(
            "DELETE FROM completed WHERE (bucket, upload) IN
             (SELECT bucket, upload FROM completed WHERE at_uptime_ms < ?1 ORDER BY at_uptime_ms LIMIT ?2)",
        )?
        .execute([int(tx.memory.uptime().saturating_sub(ANSWERS_KEPT_MS)), PRUNED])
        .map(|_| ())
}
