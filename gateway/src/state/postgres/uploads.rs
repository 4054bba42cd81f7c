//! Clients' multipart uploads, their parts, and how completed ones were answered.

use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use policies::identity::{Cluster, Epoch};

use super::lock;
use super::rows::{column, count, execute, first, hash, int, key, object, object_columns, query};
use super::writer::{Fault, Tx};
use crate::state::leave::Leave;
use crate::state::paging::after_all_of;
use crate::state::{
    BucketId, Error, MultipartUpload, NewUpload, Object, PartRow, Put, RepositoryId, Result,
    UploadListing, UploadQuery, WriteError, stored,
};
use crate::stores::{StoredPart, UploadId};

pub(super) const AGE: &str = "
-- The gateway's uptime when it was begun.
ALTER TABLE uploads ADD COLUMN at_uptime_ms BIGINT NOT NULL DEFAULT 0;
UPDATE uploads SET at_uptime_ms = (SELECT uptime_ms FROM database);
CREATE INDEX uploads_by_age ON uploads (repository, at_uptime_ms);
";

macro_rules! upload_columns {
    () => {
        "id, repository, bucket, key, store_upload, epoch, cluster, details, checksum, checksum_whole, initiated_ms"
    };
}

pub(super) async fn create(tx: &Tx, leave: &Leave, upload: &NewUpload) -> Result<(), Fault> {
    lock::check(tx, leave, upload.repository)?;
    execute(
        tx.db(),
        concat!(
            "INSERT INTO uploads (",
            upload_columns!(),
            ", at_uptime_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        ),
        &[
            &upload.id,
            &upload.repository.0,
            &upload.bucket.0,
            &upload.key.as_str().as_bytes(),
            &&*upload.store_upload.0,
            &leave.upload_epoch().map(|e| int(e.0)),
            &leave.cluster.as_str(),
            &stored::details_text(upload.details.as_deref()),
            &upload.checksum.as_ref().map(|(algorithm, _)| algorithm),
            &upload.checksum.as_ref().map(|(_, whole)| *whole),
            &upload.now_ms,
            &int(tx.uptime_ms),
        ],
    )
    .await?;
    Ok(())
}

fn upload(row: &Row) -> Result<MultipartUpload> {
    let details: Option<&str> = column(row, 7)?;
    let algorithm: Option<String> = column(row, 8)?;
    let epoch: Option<i64> = column(row, 5)?;
    Ok(MultipartUpload {
        id: column(row, 0)?,
        repository: RepositoryId(column(row, 1)?),
        bucket: BucketId(column(row, 2)?),
        key: key(row, 3)?,
        store_upload: UploadId(column::<&str>(row, 4)?.into()),
        epoch: epoch.map(|_| count(row, 5).map(Epoch)).transpose()?,
        cluster: Cluster::new(column::<&str>(row, 6)?),
        details: details.map(stored::details_from).transpose()?,
        checksum: algorithm.zip(column(row, 9)?),
        initiated_ms: column(row, 10)?,
    })
}

pub(super) async fn find(
    db: &ClientWrapper,
    bucket: BucketId,
    id: &str,
) -> Result<Option<MultipartUpload>> {
    let row = first(
        db,
        concat!(
            "SELECT ",
            upload_columns!(),
            " FROM uploads WHERE id = $1 AND bucket = $2"
        ),
        &[&id, &bucket.0],
    )
    .await?;
    row.map(|row| upload(&row)).transpose()
}

/// By key, and by id among those of one key.
pub(super) async fn list(db: &ClientWrapper, wanted: &UploadQuery) -> Result<UploadListing> {
    let mut listing = UploadListing::default();
    if wanted.limit == 0 || wanted.repositories.is_empty() {
        return Ok(listing);
    }
    let (from, id) = match &wanted.after {
        // Without an id all uploads of that key are passed over.
        Some((key, id)) if id.is_empty() => ([key.as_bytes(), &[0]].concat(), ""),
        Some((key, id)) => (key.as_bytes().to_vec(), id.as_str()),
        None => (Vec::new(), ""),
    };
    let seen: Vec<i64> = wanted.repositories.iter().map(|r| r.0).collect();
    let rows = query(
        db,
        concat!(
            "SELECT ",
            upload_columns!(),
            " FROM uploads WHERE bucket = $1 AND (key, id COLLATE \"C\") > ($2, $3) AND key >= $4 AND key < $5
              AND repository = ANY ($6) ORDER BY key, id COLLATE \"C\" LIMIT $7"
        ),
        &[
            &wanted.bucket.0,
            &from,
            &id,
            &wanted.prefix.as_bytes(),
            &after_all_of(&wanted.prefix),
            &seen,
            &int(wanted.limit as u64 + 1),
        ],
    )
    .await?;
    listing.truncated = rows.len() > wanted.limit;
    listing.uploads = rows
        .iter()
        .take(wanted.limit)
        .map(upload)
        .collect::<Result<_>>()?;
    Ok(listing)
}

pub(super) async fn begun_before(
    db: &ClientWrapper,
    repository: RepositoryId,
    uptime_ms: u64,
    limit: usize,
) -> Result<Vec<MultipartUpload>> {
    let rows = query(
        db,
        concat!(
            "SELECT ",
            upload_columns!(),
            " FROM uploads WHERE repository = $1 AND at_uptime_ms < $2 ORDER BY at_uptime_ms, id COLLATE \"C\" LIMIT $3"
        ),
        &[&repository.0, &int(uptime_ms), &int(limit as u64)],
    )
    .await?;
    rows.iter().map(upload).collect()
}

/// The stores' ids of uploads and open intents.
pub(super) async fn store_uploads(
    db: &ClientWrapper,
    repository: RepositoryId,
) -> Result<Vec<UploadId>> {
    let rows = query(
        db,
        "SELECT store_upload FROM uploads WHERE repository = $1
         UNION SELECT upload FROM intents WHERE repository = $1",
        &[&repository.0],
    )
    .await?;
    rows.iter()
        .map(|row| Ok(UploadId(column::<&str>(row, 0)?.into())))
        .collect()
}

pub(super) async fn repository(
    db: &ClientWrapper,
    id: &str,
) -> Result<Option<RepositoryId>, Fault> {
    let row = first(db, "SELECT repository FROM uploads WHERE id = $1", &[&id]).await?;
    Ok(row
        .map(|row| column(&row, 0).map(RepositoryId))
        .transpose()?)
}

pub(super) async fn put_part(
    tx: &Tx,
    leave: &Leave,
    id: &str,
    part: &PartRow,
) -> Result<Option<PartRow>, Fault> {
    let repository = repository(tx.db(), id)
        .await?
        .ok_or(WriteError::UploadGone)?;
    lock::check(tx, leave, repository)?;
    let number = part.stored.number;
    let replaced = parts(tx.db(), id, number.saturating_sub(1), 1)
        .await?
        .pop()
        .filter(|earlier| earlier.stored.number == number);
    execute(
        tx.db(),
        "INSERT INTO parts (upload, number, size, locator, etag, checksums, hash, modified_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (upload, number) DO UPDATE SET size = excluded.size, locator = excluded.locator,
         etag = excluded.etag, checksums = excluded.checksums, hash = excluded.hash, modified_ms = excluded.modified_ms",
        &[
            &id,
            &i32::from(number),
            &int(part.stored.size),
            &&*part.stored.locator,
            &&*part.etag,
            &stored::checksums_text(&part.checksums),
            &part.hash.as_ref().map(<[u8; 32]>::as_slice),
            &part.modified_ms,
        ],
    )
    .await?;
    Ok(replaced)
}

pub(super) async fn parts(
    db: &ClientWrapper,
    id: &str,
    after: u16,
    limit: usize,
) -> Result<Vec<PartRow>> {
    let rows = query(
        db,
        "SELECT number, size, locator, etag, checksums, hash, modified_ms FROM parts
         WHERE upload = $1 AND number > $2 ORDER BY number LIMIT $3",
        &[&id, &i32::from(after), &int(limit as u64)],
    )
    .await?;
    rows.iter()
        .map(|row| {
            let number: i32 = column(row, 0)?;
            let checksums: Option<&str> = column(row, 4)?;
            Ok(PartRow {
                stored: StoredPart {
                    number: u16::try_from(number)
                        .map_err(|e| stored::unreadable(&e.to_string()))?,
                    size: count(row, 1)?,
                    locator: column::<&str>(row, 2)?.into(),
                },
                etag: column::<&str>(row, 3)?.into(),
                checksums: checksums.map_or(Ok(Vec::new()), stored::checksums_from)?,
                hash: hash(row, 5)?,
                modified_ms: column(row, 6)?,
            })
        })
        .collect()
}

pub(super) async fn drop_upload(tx: &Tx, leave: &Leave, id: &str) -> Result<bool, Fault> {
    let Some(repository) = repository(tx.db(), id).await? else {
        return Ok(false);
    };
    lock::check(tx, leave, repository)?;
    if being_completed(tx.db(), id).await? {
        return Err(WriteError::KeyBusy.into());
    }
    forget(tx.db(), id).await?;
    Ok(true)
}

/// An open intent is about to complete this upload.
async fn being_completed(db: &ClientWrapper, id: &str) -> Result<bool, Fault> {
    let row = first(
        db,
        "SELECT i.put FROM uploads u JOIN intents i ON i.bucket = u.bucket AND i.key = u.key WHERE u.id = $1",
        &[&id],
    )
    .await?;
    match row {
        Some(row) => {
            let put = stored::put_from(column(&row, 0)?)?;
            Ok(put.completes.as_deref() == Some(id))
        }
        None => Ok(false),
    }
}

async fn forget(db: &ClientWrapper, id: &str) -> Result<(), Fault> {
    execute(db, "DELETE FROM uploads WHERE id = $1", &[&id]).await?;
    Ok(())
}

/// The upload that a put says it completes is there.
pub(super) async fn require_completed_one(db: &ClientWrapper, put: &Put) -> Result<(), Fault> {
    let Some(id) = &put.completes else {
        return Ok(());
    };
    match repository(db, id).await? {
        Some(repository) if repository == put.repository => Ok(()),
        Some(_) => Err(Error::Failed("the upload belongs to another repository".into()).into()),
        None => Err(WriteError::UploadGone.into()),
    }
}

/// Forgets a completed upload and remembers its answer.
pub(super) async fn complete(tx: &Tx, put: &Put, id: &str, sequence: u64) -> Result<(), Fault> {
    forget(tx.db(), id).await?;
    execute(
        tx.db(),
        concat!(
            "INSERT INTO completed (bucket, upload, at_uptime_ms, ",
            object_columns!(),
            ") SELECT bucket, $3, $4, ",
            object_columns!(),
            " FROM objects WHERE bucket = $1 AND key = $2 AND sequence = $5
             ON CONFLICT (bucket, upload) DO NOTHING"
        ),
        &[
            &put.bucket.0,
            &put.key.as_str().as_bytes(),
            &id,
            &int(tx.uptime_ms),
            &int(sequence),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn completed(
    db: &ClientWrapper,
    bucket: BucketId,
    id: &str,
) -> Result<Option<Object>> {
    let row = first(
        db,
        concat!(
            "SELECT ",
            object_columns!(),
            " FROM completed WHERE bucket = $1 AND upload = $2"
        ),
        &[&bucket.0, &id],
    )
    .await?;
    row.map(|row| object(&row, 0)).transpose()
}
