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

/// Of objects that stay at their names: each with the sequence of its removal, and how long it is held.
pub(super) async fn write_all(tx: &Tx, hidden: &[(Object, u64, u64)]) -> Result<(), Fault> {
    if hidden.is_empty() {
        return Ok(());
    }
    let removed: Vec<i64> = hidden.iter().map(|(_, n, _)| int(*n)).collect();
    let due: Vec<i64> = hidden.iter().map(|(_, _, ms)| due(tx, *ms)).collect();
    let old = || hidden.iter().map(|(old, _, _)| old);
    let keys: Vec<&[u8]> = old().map(|o| o.key.as_str().as_bytes()).collect();
    let repositories: Vec<i64> = old().map(|o| o.repository.0).collect();
    let sizes: Vec<i64> = old().map(|o| int(o.size)).collect();
    let etags: Vec<&str> = old().map(|o| &*o.etag).collect();
    let hashes: Vec<Option<&[u8]>> = old()
        .map(|o| o.hash.as_ref().map(<[u8; 32]>::as_slice))
        .collect();
    let identities: Vec<&str> = old().map(|o| &*o.identity.0).collect();
    let times: Vec<i64> = old().map(|o| o.modified_ms).collect();
    let sequences: Vec<i64> = old().map(|o| int(o.sequence)).collect();
    let details: Vec<Option<String>> = old()
        .map(|o| stored::details_text(o.details.as_deref()))
        .collect();
    execute(
        tx.db(),
        "INSERT INTO tombstones (location, removed, due_ms, key, repository, size, etag, hash, identity, modified_ms, sequence, details)
         SELECT key, removed, due_ms, key, repository, size, etag, hash, identity, modified_ms, sequence, details
         FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[], $8::text[],
                     $9::bigint[], $10::bigint[], $11::text[])
             WITH ORDINALITY AS t (removed, due_ms, key, repository, size, etag, hash, identity, modified_ms, sequence, details, nth)
         ORDER BY nth",
        &[
            &removed,
            &due,
            &keys,
            &repositories,
            &sizes,
            &etags,
            &hashes,
            &identities,
            &times,
            &sequences,
            &details,
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

pub(super) async fn after(
    db: &ClientWrapper,
    repository: RepositoryId,
    after: u64,
    limit: usize,
) -> Result<Vec<Tombstone>> {
    read(
        db,
        concat!(
            "SELECT id, location, removed, due_ms, ",
            object_columns!(),
            " FROM tombstones WHERE repository = $1 AND id > $2 ORDER BY id LIMIT $3"
        ),
        &[&repository.0, &int(after), &int(limit as u64)],
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
    let ids: Vec<i64> = ids.iter().copied().map(int).collect();
    let rows = query(
        tx.db(),
        "DELETE FROM tombstones WHERE id = ANY ($1) RETURNING repository, sequence, removed",
        &[&ids],
    )
    .await?;
    let mut visible = Vec::with_capacity(rows.len());
    for row in &rows {
        lock::check(tx, leave, RepositoryId(column(row, 0)?))?;
        visible.push((count(row, 1)?, count(row, 2)?));
    }
    restore_points::all_broken(tx.db(), tx.known()?.id, &visible, spares).await
}

/// The permit is good for the tombstone's repository; one that is gone needs none.
async fn check(tx: &Tx, leave: &Leave, id: u64) -> Result<(), Fault> {
    let row = first(
        tx.db(),
        "SELECT repository FROM tombstones WHERE id = $1",
        &[&int(id)],
    )
    .await?;
    if let Some(row) = row {
        lock::check(tx, leave, RepositoryId(column(&row, 0)?))?;
    }
    Ok(())
}
