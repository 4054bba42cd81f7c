//! Restore points and pins, and the catalog as of an earlier journal sequence.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use policies::identity::{Cluster, Epoch};
use policies::key::ObjectKey;
use policies::lock::Permit;

use super::rows::{
    Parameters, column, count, execute, first, int, key, object, object_columns, query,
};
use super::writer::{Fault, Tx};
use super::{Database, audit, catalog, intents, listing, lock, read, unrefusable};
use crate::state::leave::Leave;
use crate::state::{
    AuditEntry, BucketId, CommittedRoot, Hidden, ListQuery, Listing, Millis, PastObject, PastQuery,
    Pin, Put, Recorded, RepositoryId, RestorePoint, RestorePoints, Result, SnapshotName,
    WriteError, stored,
};

/// A restore point is a committed root; `sequence` is the journal's at its commit, `cluster` NULL for adopted ones,
/// `snapshots` JSON. `uptime_ms` is the gateway's uptime at the commit, in which retentions count.
pub(super) const TABLES: &str = "
CREATE TABLE restore_points (
    repository BIGINT NOT NULL REFERENCES repositories,
    generation BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    committed_ms BIGINT NOT NULL,
    uptime_ms BIGINT NOT NULL,
    cluster TEXT,
    epoch BIGINT NOT NULL,
    snapshots TEXT NOT NULL,
    complete BOOLEAN NOT NULL,
    PRIMARY KEY (repository, generation)
);
CREATE INDEX restore_points_by_sequence ON restore_points (repository, sequence);

CREATE TABLE pins (
    repository BIGINT NOT NULL REFERENCES repositories,
    uuid TEXT COLLATE \"C\" NOT NULL,
    name TEXT NOT NULL,
    pinned_ms BIGINT NOT NULL,
    principal TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (repository, uuid)
);
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
        read!(self, db => newest_first(db, repository, before, limit))
    }

    async fn restore_point(
        &self,
        repository: RepositoryId,
        generation: u64,
    ) -> Result<Option<RestorePoint>> {
        read!(self, db => one(db, repository, generation))
    }

    async fn restore_point_at(
        &self,
        repository: RepositoryId,
        sequence: u64,
    ) -> Result<Option<RestorePoint>> {
        read!(self, db => at(db, repository, sequence))
    }

    async fn note_restore_point(
        &self,
        permit: &Permit,
        repository: RepositoryId,
        root: CommittedRoot,
        committed_ms: Millis,
    ) -> Result<()> {
        let leave = Leave::from(permit);
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { note(tx, &leave, repository, &root, committed_ms).await })
            })
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
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { forget(tx, &leave, repository, &generations).await })
            })
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
        read!(self, db => object_at(db, bucket, repository, key, sequence))
    }

    async fn list_at(&self, query: &PastQuery) -> Result<Listing> {
        let wanted = ListQuery {
            bucket: query.bucket,
            repositories: [query.repository].into(),
            prefix: query.prefix.clone(),
            delimiter: query.delimiter.clone(),
            after: query.after.clone(),
            limit: query.limit,
        };
        read!(self, db => listing::page(db, &wanted, Some(query.sequence)))
    }

    async fn revive(
        &self,
        permit: &Permit,
        bucket: BucketId,
        tombstones: Vec<u64>,
    ) -> Result<Vec<Recorded>, WriteError> {
        let leave = Leave::from(permit);
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { revive(tx, &leave, bucket, &tombstones).await })
            })
            .await
    }

    async fn pins(&self, repository: RepositoryId) -> Result<Vec<Pin>> {
        read!(self, db => pins(db, repository))
    }

    async fn pin(
        &self,
        repository: RepositoryId,
        pin: Pin,
        audit: AuditEntry,
    ) -> Result<bool, WriteError> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { self::pin(tx, repository, &pin, &audit).await })
            })
            .await
    }

    async fn unpin(
        &self,
        repository: RepositoryId,
        uuid: &str,
        audit: AuditEntry,
    ) -> Result<bool, WriteError> {
        let uuid = uuid.to_owned();
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { unpin(tx, repository, &uuid, &audit).await })
            })
            .await
    }
}

macro_rules! points {
    ($which:literal) => {
        concat!(
            "SELECT generation, sequence, committed_ms, uptime_ms, cluster, epoch, snapshots, complete, newest
             FROM restore_points WHERE repository = $1 ",
            $which
        )
    };
}

/// Part of the transaction that commits a root.
pub(super) async fn committed(
    tx: &Tx,
    repository: RepositoryId,
    root: &CommittedRoot,
    sequence: u64,
    committed_ms: Millis,
) -> Result<(), Fault> {
    execute(
        tx.db(),
        "INSERT INTO restore_points (repository, generation, sequence, committed_ms, uptime_ms, cluster, epoch, snapshots, complete, newest)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (repository, generation) DO UPDATE SET sequence = excluded.sequence,
             committed_ms = excluded.committed_ms, uptime_ms = excluded.uptime_ms, cluster = excluded.cluster,
             epoch = excluded.epoch, snapshots = excluded.snapshots, complete = excluded.complete,
             newest = excluded.newest",
        &[
            &repository.0,
            &int(root.generation),
            &int(sequence),
            &committed_ms,
            &int(tx.now_ms),
            &root.cluster.as_ref().map(Cluster::as_str),
            &int(root.epoch.0),
            &stored::snapshots_text(&root.snapshots),
            &root.complete,
            &stored::newest_text(root.newest.as_ref()),
        ],
    )
    .await?;
    Ok(())
}

async fn note(
    tx: &Tx,
    leave: &Leave,
    repository: RepositoryId,
    root: &CommittedRoot,
    committed_ms: Millis,
) -> Result<(), Fault> {
    lock::check(tx, leave, repository)?;
    if one(tx.db(), repository, root.generation).await?.is_none() {
        let newest = tx.known()?.counters.sequence;
        committed(tx, repository, root, newest, committed_ms).await?;
    }
    Ok(())
}

async fn forget(
    tx: &Tx,
    leave: &Leave,
    repository: RepositoryId,
    generations: &[u64],
) -> Result<(), Fault> {
    lock::check(tx, leave, repository)?;
    let gone: Vec<i64> = generations.iter().map(|g| int(*g)).collect();
    execute(
        tx.db(),
        "DELETE FROM restore_points WHERE repository = $1 AND generation = ANY ($2)",
        &[&repository.0, &gone],
    )
    .await?;
    Ok(())
}

/// Things that were visible from one sequence to another are not held any more. Restore points after `spares` did not need
/// them, nor the newest of those at it: an adoption notes several roots at one sequence.
pub(super) async fn all_broken(
    db: &ClientWrapper,
    repository: RepositoryId,
    visible: &[(u64, u64)],
    spares: u64,
) -> Result<(), Fault> {
    if visible.is_empty() {
        return Ok(());
    }
    let from: Vec<i64> = visible.iter().map(|(from, _)| int(*from)).collect();
    let until: Vec<i64> = visible.iter().map(|(_, until)| int(*until)).collect();
    execute(
        db,
        "UPDATE restore_points p SET complete = false WHERE repository = $1 AND complete AND EXISTS
         (SELECT 1 FROM unnest($2::bigint[], $3::bigint[]) AS v (since, until) WHERE p.sequence >= v.since AND p.sequence < v.until)
           AND (sequence < $4 OR sequence = $4 AND generation <
             (SELECT max(generation) FROM restore_points WHERE repository = $1 AND sequence = $4))",
        &[&repository.0, &from, &until, &int(spares)],
    )
    .await?;
    Ok(())
}

async fn newest_first(
    db: &ClientWrapper,
    repository: RepositoryId,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<RestorePoint>> {
    let before = before.map_or(i64::MAX, int);
    read_points(
        db,
        points!("AND generation < $2 ORDER BY generation DESC LIMIT $3"),
        &[&repository.0, &before, &int(limit as u64)],
    )
    .await
}

async fn one(
    db: &ClientWrapper,
    repository: RepositoryId,
    generation: u64,
) -> Result<Option<RestorePoint>> {
    let found = read_points(
        db,
        points!("AND generation = $2"),
        &[&repository.0, &int(generation)],
    )
    .await?;
    Ok(found.into_iter().next())
}

async fn at(
    db: &ClientWrapper,
    repository: RepositoryId,
    sequence: u64,
) -> Result<Option<RestorePoint>> {
    let found = read_points(
        db,
        points!("AND sequence <= $2 ORDER BY sequence DESC, generation DESC LIMIT 1"),
        &[&repository.0, &int(sequence)],
    )
    .await?;
    Ok(found.into_iter().next())
}

async fn read_points(
    db: &ClientWrapper,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<RestorePoint>> {
    query(db, sql, parameters)
        .await?
        .iter()
        .map(point)
        .collect()
}

fn point(row: &Row) -> Result<RestorePoint> {
    Ok(RestorePoint {
        root: CommittedRoot {
            generation: count(row, 0)?,
            cluster: column::<Option<&str>>(row, 4)?.map(Cluster::new),
            epoch: Epoch(count(row, 5)?),
            snapshots: stored::snapshots_from(column(row, 6)?)?,
            complete: column(row, 7)?,
            newest: stored::newest_from(column(row, 8)?)?,
        },
        sequence: count(row, 1)?,
        committed_ms: column(row, 2)?,
        uptime_ms: count(row, 3)?,
    })
}

async fn object_at(
    db: &ClientWrapper,
    bucket: BucketId,
    repository: RepositoryId,
    wanted: &ObjectKey,
    sequence: u64,
) -> Result<Option<PastObject>> {
    let found = first(
        db,
        concat!(
            "SELECT ",
            object_columns!(),
            ", NULL::bigint, NULL::bytea FROM objects
             WHERE bucket = $1 AND key = $3 AND repository = $2 AND sequence <= $4
             UNION ALL SELECT ",
            object_columns!(),
            ", id, location FROM tombstones WHERE repository = $2 AND key = $3 AND sequence <= $4 AND removed > $4
             LIMIT 1"
        ),
        &[
            &bucket.0,
            &repository.0,
            &wanted.as_str().as_bytes(),
            &int(sequence),
        ],
    )
    .await?;
    let Some(row) = found else {
        return Ok(None);
    };
    let hidden = match column::<Option<i64>>(&row, 9)? {
        Some(_) => Some(Hidden {
            tombstone: count(&row, 9)?,
            location: key(&row, 10)?,
        }),
        None => None,
    };
    Ok(Some(PastObject {
        object: object(&row, 0)?,
        hidden,
    }))
}

async fn revive(
    tx: &mut Tx,
    leave: &Leave,
    bucket: BucketId,
    tombstones: &[u64],
) -> Result<Vec<Recorded>, Fault> {
    let mut revived = Vec::with_capacity(tombstones.len());
    for id in tombstones {
        revived.push(revive_one(tx, leave, bucket, *id).await?);
    }
    Ok(revived)
}

async fn revive_one(
    tx: &mut Tx,
    leave: &Leave,
    bucket: BucketId,
    id: u64,
) -> Result<Recorded, Fault> {
    let row = first(
        tx.db(),
        concat!(
            "SELECT location, ",
            object_columns!(),
            " FROM tombstones WHERE id = $1"
        ),
        &[&int(id)],
    )
    .await?
    .ok_or(WriteError::Exists(None))?;
    let (location, old) = (key(&row, 0)?, object(&row, 1)?);
    if location != old.key {
        return Err(stored::unreadable(
            "hidden content under another name cannot be shown as it is",
        )
        .into());
    }
    lock::check(tx, leave, old.repository)?;
    if intents::is_open(tx.db(), bucket, &old.key).await? {
        return Err(WriteError::KeyBusy.into());
    }
    catalog::apply(tx, &Put::shown_again(old, bucket)).await
}

async fn pins(db: &ClientWrapper, repository: RepositoryId) -> Result<Vec<Pin>> {
    let rows = query(
        db,
        "SELECT name, uuid, pinned_ms, principal, reason FROM pins WHERE repository = $1 ORDER BY pinned_ms, uuid",
        &[&repository.0],
    )
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Pin {
                snapshot: SnapshotName {
                    name: column::<&str>(row, 0)?.into(),
                    uuid: column::<&str>(row, 1)?.into(),
                },
                pinned_ms: column(row, 2)?,
                by: column(row, 3)?,
                reason: column(row, 4)?,
            })
        })
        .collect()
}

async fn pin(
    tx: &Tx,
    repository: RepositoryId,
    pin: &Pin,
    entry: &AuditEntry,
) -> Result<bool, Fault> {
    if intents::any_root(tx.db(), repository).await? {
        return Err(WriteError::KeyBusy.into());
    }
    let newest = newest_first(tx.db(), repository, None, 1).await?.pop();
    pin.fits(newest.as_ref())?;
    let added = execute(
        tx.db(),
        "INSERT INTO pins (repository, uuid, name, pinned_ms, principal, reason) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT DO NOTHING",
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
    if added == 1 {
        audit::append(tx.db(), entry).await?;
    }
    Ok(added == 1)
}

async fn unpin(
    tx: &Tx,
    repository: RepositoryId,
    uuid: &str,
    entry: &AuditEntry,
) -> Result<bool, Fault> {
    let removed = execute(
        tx.db(),
        "DELETE FROM pins WHERE repository = $1 AND uuid = $2",
        &[&repository.0, &uuid],
    )
    .await?;
    if removed == 1 {
        audit::append(tx.db(), entry).await?;
    }
    Ok(removed == 1)
}

/// Before a root's intent is opened: it holds every pinned snapshot.
pub(super) async fn require_pinned(
    db: &ClientWrapper,
    repository: RepositoryId,
    root: &CommittedRoot,
) -> Result<(), Fault> {
    Ok(root.keeps(pins(db, repository).await?)?)
}
