//! Restore points and pins, and the catalog as of an earlier journal sequence.

use async_trait::async_trait;
use policies::identity::{Cluster, Epoch};
use policies::key::ObjectKey;
use policies::lock::Permit;
use rusqlite::{Connection, Params, Row, params};

use super::lock;
use super::rows::{count, int, key, object, object_columns, text};
use super::writer::{Fault, Tx};
use super::{Database, audit, catalog, intents, listing, unrefusable};
use crate::state::leave::Leave;
use crate::state::paging::after_all_of;
use crate::state::{
    AuditEntry, BucketId, CommittedRoot, Hidden, ListQuery, Listing, Millis, PastObject, PastQuery,
    Pin, Put, Recorded, RepositoryId, RestorePoint, RestorePoints, Result, SnapshotName,
    WriteError, stored,
};

/// A restore point is a committed root; `sequence` is the journal's at its commit, `cluster` NULL for adopted ones,
/// `snapshots` JSON. `uptime_ms` is the gateway's uptime at the commit, in which retentions count.
pub(super) const TABLES: &str = "
CREATE TABLE restore_points (
    repository INTEGER NOT NULL REFERENCES repositories,
    generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    committed_ms INTEGER NOT NULL,
    uptime_ms INTEGER NOT NULL,
    cluster TEXT,
    epoch INTEGER NOT NULL,
    snapshots TEXT NOT NULL,
    complete INTEGER NOT NULL,
    PRIMARY KEY (repository, generation)
) STRICT;
CREATE INDEX restore_points_by_sequence ON restore_points (repository, sequence);

CREATE TABLE pins (
    repository INTEGER NOT NULL REFERENCES repositories,
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    pinned_ms INTEGER NOT NULL,
    principal TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (repository, uuid)
) STRICT, WITHOUT ROWID;
";

/// Which of `snapshots` ended last, as JSON; NULL where that is not known.
pub(super) const NEWEST: &str = "ALTER TABLE restore_points ADD COLUMN newest TEXT;";

#[async_trait]
impl RestorePoints for Database {
    async fn restore_points(
        &self,
        repository: RepositoryId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<RestorePoint>> {
        self.read(|db| newest_first(db, repository, before, limit))
    }

    async fn restore_point(
        &self,
        repository: RepositoryId,
        generation: u64,
    ) -> Result<Option<RestorePoint>> {
        self.read(|db| one(db, repository, generation))
    }

    async fn restore_point_at(
        &self,
        repository: RepositoryId,
        sequence: u64,
    ) -> Result<Option<RestorePoint>> {
        self.read(|db| at(db, repository, sequence))
    }

    async fn note_restore_point(
        &self,
        permit: &Permit,
        repository: RepositoryId,
        root: CommittedRoot,
        committed_ms: Millis,
    ) -> Result<()> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| note(tx, &leave, repository, &root, committed_ms))
            .await
            .map_err(unrefusable)
    }

    async fn forget_restore_points(
        &self,
        permit: &Permit,
        repository: RepositoryId,
        generations: Vec<u64>,
    ) -> Result<()> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| forget(tx, &leave, repository, &generations))
            .await
            .map_err(unrefusable)
    }

    async fn object_at(
        &self,
        bucket: BucketId,
        repository: RepositoryId,
        key: &ObjectKey,
        sequence: u64,
    ) -> Result<Option<PastObject>> {
        self.read(|db| object_at(db, bucket, repository, key, sequence))
    }

    async fn list_at(&self, query: &PastQuery) -> Result<Listing> {
        self.read(|db| list_at(db, query))
    }

    async fn revive(
        &self,
        permit: &Permit,
        bucket: BucketId,
        tombstones: Vec<u64>,
    ) -> Result<Vec<Recorded>, WriteError> {
        let leave = Leave::from(permit);
        self.writer
            .write(move |tx| revive(tx, &leave, bucket, &tombstones))
            .await
    }

    async fn pins(&self, repository: RepositoryId) -> Result<Vec<Pin>> {
        self.read(|db| pins(db, repository))
    }

    async fn pin(
        &self,
        repository: RepositoryId,
        pin: Pin,
        audit: AuditEntry,
    ) -> Result<bool, WriteError> {
        self.writer
            .write(move |tx| self::pin(tx, repository, &pin, &audit))
            .await
    }

    async fn unpin(
        &self,
        repository: RepositoryId,
        uuid: &str,
        audit: AuditEntry,
    ) -> Result<bool, WriteError> {
        let uuid = uuid.to_owned();
        self.writer
            .write(move |tx| unpin(tx, repository, &uuid, &audit))
            .await
    }
}

macro_rules! point_columns {
    () => {
        "generation, sequence, committed_ms, uptime_ms, cluster, epoch, snapshots, complete, newest"
    };
}

/// Part of the transaction that commits a root.
pub(super) fn committed(
    tx: &Tx<'_>,
    repository: RepositoryId,
    root: &CommittedRoot,
    sequence: u64,
    committed_ms: Millis,
) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached(
            "INSERT OR REPLACE INTO restore_points (repository, generation, sequence, committed_ms, uptime_ms, cluster, epoch, snapshots, complete, newest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            repository.0,
            int(root.generation),
            int(sequence),
            committed_ms,
            int(tx.memory.due(0)),
            root.cluster.as_ref().map(Cluster::as_str),
            int(root.epoch.0),
            stored::snapshots_text(&root.snapshots),
            root.complete,
            stored::newest_text(root.newest.as_ref()),
        ])
        .map(|_| ())
}

fn note(
    tx: &mut Tx<'_>,
    leave: &Leave,
    repository: RepositoryId,
    root: &CommittedRoot,
    committed_ms: Millis,
) -> Result<(), Fault> {
    lock::check(tx, leave, repository)?;
    if one(tx.db, repository, root.generation)?.is_none() {
        let sequence = tx.memory.sequence(repository);
        committed(tx, repository, root, sequence, committed_ms)?;
    }
    Ok(())
}

fn forget(
    tx: &mut Tx<'_>,
    leave: &Leave,
    repository: RepositoryId,
    generations: &[u64],
) -> Result<(), Fault> {
    lock::check(tx, leave, repository)?;
    for generation in generations {
        tx.db
            .prepare_cached("DELETE FROM restore_points WHERE repository = ?1 AND generation = ?2")?
            .execute((repository.0, int(*generation)))?;
    }
    Ok(())
}

/// Something that was visible from one sequence to another is not held any more. Restore points after `spares` did not need it,
/// nor the newest of those at it: an adoption notes several roots at one sequence.
pub(super) fn broken(
    db: &Connection,
    repository: RepositoryId,
    from: u64,
    until: u64,
    spares: u64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE restore_points SET complete = 0 WHERE repository = ?1 AND sequence >= ?2 AND sequence < ?3
           AND (sequence < ?4 OR sequence = ?4 AND generation <
             (SELECT max(generation) FROM restore_points WHERE repository = ?1 AND sequence = ?4))",
    )?
    .execute((repository.0, int(from), int(until), int(spares)))
    .map(|_| ())
}

fn newest_first(
    db: &Connection,
    repository: RepositoryId,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<RestorePoint>> {
    read(
        db,
        concat!(
            "SELECT ",
            point_columns!(),
            " FROM restore_points WHERE repository = ?1 AND generation < ?2 ORDER BY generation DESC LIMIT ?3"
        ),
        [
            repository.0,
            before.map_or(i64::MAX, int),
            int(limit as u64),
        ],
    )
}

fn one(db: &Connection, repository: RepositoryId, generation: u64) -> Result<Option<RestorePoint>> {
    let found = read(
        db,
        concat!(
            "SELECT ",
            point_columns!(),
            " FROM restore_points WHERE repository = ?1 AND generation = ?2"
        ),
        [repository.0, int(generation)],
    )?;
    Ok(found.into_iter().next())
}

fn at(db: &Connection, repository: RepositoryId, sequence: u64) -> Result<Option<RestorePoint>> {
    let found = read(
        db,
        concat!(
            "SELECT ",
            point_columns!(),
            " FROM restore_points WHERE repository = ?1 AND sequence <= ?2 ORDER BY sequence DESC, generation DESC LIMIT 1"
        ),
        [repository.0, int(sequence)],
    )?;
    Ok(found.into_iter().next())
}

fn read(db: &Connection, sql: &str, parameters: impl Params) -> Result<Vec<RestorePoint>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut points = Vec::new();
    while let Some(row) = rows.next()? {
        points.push(point(row)?);
    }
    Ok(points)
}

fn point(row: &Row<'_>) -> Result<RestorePoint> {
    Ok(RestorePoint {
        root: CommittedRoot {
            generation: count(row, 0)?,
            cluster: row.get::<_, Option<String>>(4)?.map(Cluster::new),
            epoch: Epoch(count(row, 5)?),
            snapshots: stored::snapshots_from(text(row.get_ref(6)?)?)?,
            complete: row.get(7)?,
            newest: stored::newest_from(row.get::<_, Option<String>>(8)?.as_deref())?,
        },
        sequence: count(row, 1)?,
        committed_ms: row.get(2)?,
        uptime_ms: count(row, 3)?,
    })
}

fn object_at(
    db: &Connection,
    bucket: BucketId,
    repository: RepositoryId,
    wanted: &ObjectKey,
    sequence: u64,
) -> Result<Option<PastObject>> {
    let mut statement = db.prepare_cached(concat!(
        "SELECT ",
        object_columns!(),
        ", NULL, NULL FROM objects WHERE bucket = ?1 AND key = ?3 AND repository = ?2 AND sequence <= ?4
         UNION ALL SELECT ",
        object_columns!(),
        ", id, location FROM tombstones WHERE repository = ?2 AND key = ?3 AND sequence <= ?4 AND removed > ?4
         LIMIT 1"
    ))?;
    let mut rows = statement.query(params![
        bucket.0,
        repository.0,
        wanted.as_str().as_bytes(),
        int(sequence)
    ])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let hidden = match row.get::<_, Option<i64>>(9)? {
        Some(_) => Some(Hidden {
            tombstone: count(row, 9)?,
            location: key(row, 10)?,
        }),
        None => None,
    };
    Ok(Some(PastObject {
        object: object(row, 0)?,
        hidden,
    }))
}

/// From a key on, up to the end of the prefix, as of a sequence. Each half is a walk over an index in the order of
/// the keys, so that a page costs what it reads.
const WALK_AT: &str = concat!(
    "SELECT ",
    object_columns!(),
    " FROM objects WHERE bucket = ?1 AND key >= ?2 AND key < ?3 AND repository = ?4 AND sequence <= ?5
     UNION ALL SELECT ",
    object_columns!(),
    " FROM tombstones WHERE repository = ?4 AND key >= ?2 AND key < ?3 AND sequence <= ?5 AND removed > ?5
     ORDER BY key"
);

fn list_at(db: &Connection, query: &PastQuery) -> Result<Listing> {
    let wanted = ListQuery {
        bucket: query.bucket,
        repositories: [query.repository].into(),
        prefix: query.prefix.clone(),
        delimiter: query.delimiter.clone(),
        after: query.after.clone(),
        limit: query.limit,
    };
    let end = after_all_of(&query.prefix);
    listing::page(db, &wanted, WALK_AT, |from| {
        vec![
            query.bucket.0.into(),
            from.to_vec().into(),
            end.clone().into(),
            query.repository.0.into(),
            int(query.sequence).into(),
        ]
    })
}

fn revive(
    tx: &mut Tx<'_>,
    leave: &Leave,
    bucket: BucketId,
    tombstones: &[u64],
) -> Result<Vec<Recorded>, Fault> {
    tombstones
        .iter()
        .map(|id| revive_one(tx, leave, bucket, *id))
        .collect()
}

fn revive_one(
    tx: &mut Tx<'_>,
    leave: &Leave,
    bucket: BucketId,
    id: u64,
) -> Result<Recorded, Fault> {
    let found = {
        let mut statement = tx.db.prepare_cached(concat!(
            "SELECT location, ",
            object_columns!(),
            " FROM tombstones WHERE id = ?1"
        ))?;
        let mut rows = statement.query([int(id)])?;
        match rows.next()? {
            Some(row) => Some((key(row, 0)?, object(row, 1)?)),
            None => None,
        }
    };
    let Some((location, old)) = found else {
        return Err(WriteError::Exists(None).into());
    };
    if location != old.key {
        return Err(stored::unreadable(
            "hidden content under another name cannot be shown as it is",
        )
        .into());
    }
    lock::check(tx, leave, old.repository)?;
    if intents::is_open(tx.db, bucket, &old.key)? {
        return Err(WriteError::KeyBusy.into());
    }
    catalog::apply(tx, &Put::shown_again(old, bucket))
}

fn pins(db: &Connection, repository: RepositoryId) -> Result<Vec<Pin>> {
    let mut statement = db.prepare_cached(
        "SELECT name, uuid, pinned_ms, principal, reason FROM pins WHERE repository = ?1 ORDER BY pinned_ms, uuid",
    )?;
    let mut rows = statement.query([repository.0])?;
    let mut pins = Vec::new();
    while let Some(row) = rows.next()? {
        pins.push(Pin {
            snapshot: SnapshotName {
                name: row.get::<_, String>(0)?.into(),
                uuid: row.get::<_, String>(1)?.into(),
            },
            pinned_ms: row.get(2)?,
            by: row.get(3)?,
            reason: row.get(4)?,
        });
    }
    Ok(pins)
}

fn pin(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    pin: &Pin,
    entry: &AuditEntry,
) -> Result<bool, Fault> {
    if intents::any_root(tx.db, repository)? {
        return Err(WriteError::KeyBusy.into());
    }
    let newest = newest_first(tx.db, repository, None, 1)?.pop();
    pin.fits(newest.as_ref())?;
    let added = tx
        .db
        .prepare_cached(
            "INSERT INTO pins (repository, uuid, name, pinned_ms, principal, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?
        .execute((
            repository.0,
            &*pin.snapshot.uuid,
            &*pin.snapshot.name,
            pin.pinned_ms,
            &pin.by,
            &pin.reason,
        ))?;
    if added == 1 {
        audit::append(tx, entry)?;
    }
    Ok(added == 1)
}

fn unpin(
    tx: &mut Tx<'_>,
    repository: RepositoryId,
    uuid: &str,
    entry: &AuditEntry,
) -> Result<bool, Fault> {
    let removed = tx
        .db
        .prepare_cached("DELETE FROM pins WHERE repository = ?1 AND uuid = ?2")?
        .execute((repository.0, uuid))?;
    if removed == 1 {
        audit::append(tx, entry)?;
    }
    Ok(removed == 1)
}

/// Before a root's intent is opened: it holds every pinned snapshot.
pub(super) fn require_pinned(
    db: &Connection,
    repository: RepositoryId,
    root: &CommittedRoot,
) -> Result<(), Fault> {
    Ok(root.keeps(pins(db, repository)?)?)
}
