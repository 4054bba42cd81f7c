//! Tombstones: hidden objects whose bytes are still there.

use deadpool_postgres::ClientWrapper;
use policies::key::ObjectKey;

use super::rows::{
    Parameters, column, count, execute, first, int, key, object, object_columns, query,
};
use super::writer::{Fault, Tx, due};
use super::{lock, restore_points};
use crate::state::leave::Leave;
use crate::state::{Due, Object, RepositoryId, Result, Tombstone, UNJOURNALLED, stored};

pub(super) async fn write(
    tx: &Tx,
    old: &Object,
    location: &ObjectKey,
    removed: u64,
    retain_ms: u64,
) -> Result<(), Fault> {
    execute(
        tx.db(),
        "INSERT INTO tombstones (location, removed, due_ms, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            &location.as_str().as_bytes(),
            &int(removed),
            &due(tx, retain_ms),
            &old.key.as_str().as_bytes(),
            &old.repository.0,
            &int(old.size),
            &&*old.etag,
            &old.hash.as_ref().map(<[u8; 32]>::as_slice),
            &&*old.identity.0,
            &old.modified_ms,
            &int(old.sequence),
            &stored::details_text(old.details.as_deref()),
        ],
    )
    .await?;
    Ok(())
}

/// What is not journalled is no mirror's concern.
pub(super) async fn reapable(
    db: &ClientWrapper,
    repository: RepositoryId,
    uptime_ms: u64,
    after: Option<Due>,
    limit: usize,
) -> Result<Vec<Tombstone>> {
    let (due_ms, id) = after.map_or((-1, -1), |after| (int(after.due_ms), int(after.id)));
    read(
        db,
        concat!(
            "SELECT id, location, removed, due_ms, ",
            object_columns!(),
            " FROM tombstones WHERE repository = $1 AND due_ms <= $2
              AND (removed > $4 OR removed <= coalesce((SELECT min(applied) FROM mirrors WHERE repository = $1), $4))
              AND (due_ms, id) > ($5, $6)
              ORDER BY due_ms, id LIMIT $3"
        ),
        &[
            &repository.0,
            &int(uptime_ms),
            &int(limit as u64),
            &int(UNJOURNALLED),
            &due_ms,
            &id,
        ],
    )
    .await
}

/// Oldest first.
pub(super) async fn of_key(
    db: &ClientWrapper,
    repository: RepositoryId,
    key: &ObjectKey,
) -> Result<Vec<Tombstone>> {
    read(
        db,
        concat!(
            "SELECT id, location, removed, due_ms, ",
            object_columns!(),
            " FROM tombstones WHERE repository = $1 AND key = $2 ORDER BY id"
        ),
        &[&repository.0, &key.as_str().as_bytes()],
    )
    .await
}

async fn read(db: &ClientWrapper, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Tombstone>> {
    query(db, sql, parameters)
        .await?
        .iter()
        .map(|row| {
            Ok(Tombstone {
                id: count(row, 0)?,
                location: key(row, 1)?,
                removed: count(row, 2)?,
                due_ms: count(row, 3)?,
                object: object(row, 4)?,
            })
        })
        .collect()
}

pub(super) async fn relocate(
    tx: &Tx,
    leave: &Leave,
    id: u64,
    location: &ObjectKey,
) -> Result<(), Fault> {
    check(tx, leave, id).await?;
    execute(
        tx.db(),
        "UPDATE tombstones SET location = $2 WHERE id = $1",
        &[&int(id), &location.as_str().as_bytes()],
    )
    .await?;
    Ok(())
}

pub(super) async fn forget(tx: &Tx, leave: &Leave, ids: &[u64], spares: u64) -> Result<(), Fault> {
    for id in ids {
        let Some((repository, from, until)) = check(tx, leave, *id).await? else {
            continue;
        };
        execute(
            tx.db(),
            "DELETE FROM tombstones WHERE id = $1",
            &[&int(*id)],
        )
        .await?;
        restore_points::broken(tx.db(), repository, from, until, spares).await?;
    }
    Ok(())
}

/// The permit is good for the tombstone's repository; one that is gone needs none. Whose it is, and from which
/// sequence to which it was visible.
async fn check(tx: &Tx, leave: &Leave, id: u64) -> Result<Option<(RepositoryId, u64, u64)>, Fault> {
    let row = first(
        tx.db(),
        "SELECT repository, sequence, removed FROM tombstones WHERE id = $1",
        &[&int(id)],
    )
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let repository = RepositoryId(column(&row, 0)?);
    lock::check(tx, leave, repository)?;
    Ok(Some((repository, count(&row, 1)?, count(&row, 2)?)))
}
