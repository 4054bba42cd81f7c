//! Tombstones: hidden objects whose bytes are still there; and the uptime that their retention counts in.

use policies::key::ObjectKey;
use rusqlite::types::Value;
use rusqlite::{Connection, Params};

use super::lock;
use super::rows::{self, count, int, key, object, object_columns};
use super::writer::{Fault, Tx};
use super::{answers, restore_points, uploads};
use crate::state::leave::Leave;
use crate::state::{Due, Object, RepositoryId, Result, Tombstone, UNJOURNALLED, stored};

/// An object on its way out of sight.
pub(super) struct Hidden<'a> {
    pub object: Object,
    /// Where its bytes lie.
    pub location: &'a ObjectKey,
    /// The sequence of its removal.
    pub removed: u64,
    pub retain_ms: u64,
}

pub(super) fn write_all(tx: &mut Tx<'_>, hidden: &[Hidden<'_>]) -> rusqlite::Result<()> {
    const INTO: &str = concat!(
        "INSERT INTO tombstones (location, removed, due_ms, ",
        object_columns!(),
        ") VALUES "
    );
    let memory = &*tx.memory;
    rows::insert_many(tx.db, INTO, hidden, |hidden| {
        let object = &hidden.object;
        [
            Value::Blob(hidden.location.as_str().as_bytes().to_vec()),
            Value::Integer(int(hidden.removed)),
            Value::Integer(int(memory.due(hidden.retain_ms))),
            Value::Blob(object.key.as_str().as_bytes().to_vec()),
            Value::Integer(object.repository.0),
            Value::Integer(int(object.size)),
            rows::etag_value(&object.etag),
            object
                .hash
                .map_or(Value::Null, |hash| Value::Blob(hash.to_vec())),
            Value::Text(object.identity.0.to_string()),
            Value::Integer(object.modified_ms),
            Value::Integer(int(object.sequence)),
            stored::details_text(object.details.as_deref()).map_or(Value::Null, Value::Text),
        ]
    })
}

/// What is not journalled is no mirror's concern.
pub(super) fn reapable(
    db: &Connection,
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
            " FROM tombstones WHERE repository = ?1 AND due_ms <= ?2
              AND (removed > ?4 OR removed <= coalesce((SELECT min(applied) FROM mirrors WHERE repository = ?1), ?4))
              AND (due_ms, id) > (?5, ?6)
              ORDER BY due_ms, id LIMIT ?3"
        ),
        [
            repository.0,
            int(uptime_ms),
            int(limit as u64),
            int(UNJOURNALLED),
            due_ms,
            id,
        ],
    )
}

pub(super) fn after(
    db: &Connection,
    repository: RepositoryId,
    after: u64,
    limit: usize,
) -> Result<Vec<Tombstone>> {
    read(
        db,
        concat!(
            "SELECT id, location, removed, due_ms, ",
            object_columns!(),
            " FROM tombstones WHERE repository = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
        ),
        [repository.0, int(after), int(limit as u64)],
    )
}

/// Oldest first.
pub(super) fn of_key(
    db: &Connection,
    repository: RepositoryId,
    key: &ObjectKey,
) -> Result<Vec<Tombstone>> {
    read(
        db,
        concat!(
            "SELECT id, location, removed, due_ms, ",
            object_columns!(),
            " FROM tombstones WHERE repository = ?1 AND key = ?2 ORDER BY id"
        ),
        (repository.0, key.as_str().as_bytes()),
    )
}

fn read(db: &Connection, sql: &str, parameters: impl Params) -> Result<Vec<Tombstone>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut tombstones = Vec::new();
    while let Some(row) = rows.next()? {
        tombstones.push(Tombstone {
            id: count(row, 0)?,
            location: key(row, 1)?,
            removed: count(row, 2)?,
            due_ms: count(row, 3)?,
            object: object(row, 4)?,
        });
    }
    Ok(tombstones)
}

pub(super) fn relocate(
    tx: &mut Tx<'_>,
    leave: &Leave,
    id: u64,
    location: &ObjectKey,
) -> Result<(), Fault> {
    check(tx, leave, id)?;
    tx.db
        .prepare_cached("UPDATE tombstones SET location = ?2 WHERE id = ?1")?
        .execute((int(id), location.as_str().as_bytes()))?;
    Ok(())
}

pub(super) fn forget(
    tx: &mut Tx<'_>,
    leave: &Leave,
    ids: &[u64],
    spares: u64,
) -> Result<(), Fault> {
    for id in ids {
        let Some((repository, from, until)) = check(tx, leave, *id)? else {
            continue;
        };
        tx.db
            .prepare_cached("DELETE FROM tombstones WHERE id = ?1")?
            .execute([int(*id)])?;
        restore_points::broken(tx.db, repository, from, until, spares)?;
    }
    Ok(())
}

/// The permit is good for the tombstone's repository; one that is gone needs none. Whose it is, and from which
/// sequence to which it was visible.
fn check(tx: &Tx<'_>, leave: &Leave, id: u64) -> Result<Option<(RepositoryId, u64, u64)>, Fault> {
    let mut statement = tx
        .db
        .prepare_cached("SELECT repository, sequence, removed FROM tombstones WHERE id = ?1")?;
    let mut rows = statement.query([int(id)])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let repository = RepositoryId(row.get(0)?);
    lock::check(tx, leave, repository)?;
    Ok(Some((repository, count(row, 1)?, count(row, 2)?)))
}

/// Counts uptime on, and forgets recorded answers that are older than it allows.
pub(super) fn uptime(tx: &mut Tx<'_>, add_ms: u64) -> Result<u64, Fault> {
    let uptime = tx.memory.add_uptime(add_ms);
    if add_ms > 0 {
        tx.db
            .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'uptime_ms'")?
            .execute([int(uptime)])?;
        answers::prune(tx)?;
        uploads::prune(tx)?;
    }
    Ok(uptime)
}
