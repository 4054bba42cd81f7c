//! Mirrors' rows, and the journal's bound.

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use policies::identity::{Epoch, Handover, StoreName};
use policies::key::ObjectKey;
use policies::lock::Permit;
use policies::mirror_order::Mode;

use super::rows::{Parameters, column, count, execute, first, int, query};
use super::writer::{Fault, Tx};
use super::{Database, lock, read, unrefusable};
use crate::state::leave::Leave;
use crate::state::mirrors::{
    Backlog, MirrorChange, MirrorRow, Mirrors, NewMirror, Resync, Stalled,
};
use crate::state::{BucketId, Millis, RepositoryId, Result, WriteError, stored};
use crate::stores::Identity;

/// Journal rows that one transaction removes at most.
const CUT: u64 = 4000;

/// `resync` and `stalled` are JSON, NULL for none.
pub(super) const TABLE: &str = "
CREATE TABLE mirrors (
    repository BIGINT NOT NULL REFERENCES repositories,
    store TEXT COLLATE \"C\" NOT NULL,
    mode TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    handover TEXT NOT NULL,
    applied BIGINT NOT NULL,
    paused BOOLEAN NOT NULL,
    resync TEXT,
    stalled TEXT,
    failed BIGINT NOT NULL,
    transferred BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (repository, store)
);
";

pub(super) const NODES: &str = "
ALTER TABLE mirrors ADD COLUMN rooted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE mirrors ADD COLUMN orders BIGINT NOT NULL DEFAULT 0;
ALTER TABLE mirrors ADD COLUMN applier TEXT;
";

macro_rules! mirrors_of {
    ($and:literal) => {
        concat!(
            "SELECT repository, store, mode, epoch, handover, applied, paused, resync, stalled, failed, transferred, bytes, rooted, orders, applier
             FROM mirrors WHERE repository = $1 ",
            $and
        )
    };
}

#[async_trait]
impl Mirrors for Database {
    async fn open_mirror(&self, mirror: NewMirror) -> Result<MirrorRow> {
        self.writers
            .write(mirror.repository.0, move |tx| {
                Box::pin(async move { open(tx, &mirror).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn keep_mirrors(&self, repository: RepositoryId, stores: &[StoreName]) -> Result<()> {
        let stores = stores.to_vec();
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { keep(tx, repository, &stores).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn mirrors(&self, repository: RepositoryId) -> Result<Vec<MirrorRow>> {
        read!(self, db => rows(db, mirrors_of!("ORDER BY store"), &[&repository.0]))
    }

    async fn mirror(
        &self,
        repository: RepositoryId,
        store: &StoreName,
    ) -> Result<Option<MirrorRow>> {
        read!(self, db => one(db, repository, store))
    }

    async fn change_mirror(
        &self,
        repository: RepositoryId,
        store: &StoreName,
        by: Option<Epoch>,
        changes: Vec<MirrorChange>,
    ) -> Result<Option<MirrorRow>> {
        let store = store.clone();
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { change(tx, repository, &store, by, changes).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn backlog(&self, repository: RepositoryId, after: u64) -> Result<Backlog> {
        read!(self, db => backlog(db, repository, after))
    }

    async fn bound_journal(
        &self,
        repository: RepositoryId,
        keep: u64,
        now_ms: Millis,
    ) -> Result<bool> {
        self.writers
            .write(repository.0, move |tx| {
                Box::pin(async move { bound_journal(tx, repository, keep, now_ms).await })
            })
            .await
            .map_err(unrefusable)
    }

    async fn healed(
        &self,
        permit: &Permit,
        bucket: BucketId,
        key: &ObjectKey,
        sequence: u64,
        identity: Identity,
    ) -> Result<bool, WriteError> {
        let (leave, key) = (Leave::from(permit), key.clone());
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { healed(tx, &leave, bucket, &key, sequence, &identity).await })
            })
            .await
    }
}

fn row(row: &Row) -> Result<MirrorRow> {
    let resync: Option<&str> = column(row, 7)?;
    let stalled: Option<&str> = column(row, 8)?;
    Ok(MirrorRow {
        repository: RepositoryId(column(row, 0)?),
        store: StoreName::new(column::<&str>(row, 1)?),
        mode: Mode::parse(column(row, 2)?).ok_or_else(|| stored::unreadable("a mirror's mode"))?,
        epoch: Epoch(count(row, 3)?),
        handover: Handover::new(column::<&str>(row, 4)?),
        applied: count(row, 5)?,
        rooted: count(row, 12)?,
        paused: column(row, 6)?,
        orders: count(row, 13)?,
        applier: column(row, 14)?,
        resync: resync.map(json::<Resync>).transpose()?,
        stalled: stalled.map(json::<Stalled>).transpose()?,
        failed: count(row, 9)?,
        transferred: count(row, 10)?,
        bytes: count(row, 11)?,
    })
}

fn json<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| stored::unreadable(&e.to_string()))
}

fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain structs of text and numbers are JSON")
}

async fn rows(db: &ClientWrapper, sql: &str, parameters: Parameters<'_>) -> Result<Vec<MirrorRow>> {
    query(db, sql, parameters).await?.iter().map(row).collect()
}

async fn one(
    db: &ClientWrapper,
    repository: RepositoryId,
    store: &StoreName,
) -> Result<Option<MirrorRow>> {
    let found = rows(
        db,
        mirrors_of!("AND store = $2"),
        &[&repository.0, &store.as_str()],
    )
    .await?
    .pop();
    Ok(found)
}

/// The newest of the journal, at the repository's turn.
fn newest(tx: &Tx) -> Result<u64, WriteError> {
    Ok(tx.known()?.counters.sequence)
}

async fn open(tx: &Tx, new: &NewMirror) -> Result<MirrorRow, Fault> {
    if let Some(there) = one(tx.db(), new.repository, &new.store).await? {
        return Ok(there);
    }
    let row = MirrorRow::new(new, newest(tx)?);
    write(tx, &row).await?;
    Ok(row)
}

async fn keep(tx: &Tx, repository: RepositoryId, stores: &[StoreName]) -> Result<(), Fault> {
    let kept: Vec<&str> = stores.iter().map(StoreName::as_str).collect();
    execute(
        tx.db(),
        "DELETE FROM mirrors WHERE repository = $1 AND store <> ALL ($2)",
        &[&repository.0, &kept],
    )
    .await?;
    Ok(())
}

/// The repository moved onto one of its mirrors. Where the history was broken by that, the others are compared anew;
/// `broken` is the sequence from which the journal goes on.
pub(super) async fn moved(
    tx: &Tx,
    repository: RepositoryId,
    onto: &StoreName,
    broken: Option<u64>,
    now_ms: Millis,
) -> Result<(), Fault> {
    execute(
        tx.db(),
        "DELETE FROM mirrors WHERE repository = $1 AND store = $2",
        &[&repository.0, &onto.as_str()],
    )
    .await?;
    let Some(sequence) = broken else {
        return Ok(());
    };
    for mut row in rows(tx.db(), mirrors_of!("ORDER BY store"), &[&repository.0]).await? {
        let mut resync = Resync::begin("the repository was promoted onto another mirror", now_ms);
        resync.aside = true;
        row.apply(sequence, MirrorChange::BeginResync(resync));
        write(tx, &row).await?;
    }
    Ok(())
}

async fn change(
    tx: &Tx,
    repository: RepositoryId,
    store: &StoreName,
    by: Option<Epoch>,
    changes: Vec<MirrorChange>,
) -> Result<Option<MirrorRow>, Fault> {
    let known = one(tx.db(), repository, store).await?;
    let Some(mut row) = known.filter(|row| by.is_none_or(|epoch| epoch == row.epoch)) else {
        return Ok(None);
    };
    for change in changes {
        row.apply(newest(tx)?, change);
    }
    write(tx, &row).await?;
    Ok(Some(row))
}

async fn write(tx: &Tx, row: &MirrorRow) -> Result<(), Fault> {
    execute(
        tx.db(),
        "INSERT INTO mirrors (repository, store, mode, epoch, handover, applied, paused, resync, stalled, failed, transferred, bytes, rooted, orders, applier)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (repository, store) DO UPDATE SET mode = excluded.mode, epoch = excluded.epoch,
             handover = excluded.handover, applied = excluded.applied, paused = excluded.paused,
             resync = excluded.resync, stalled = excluded.stalled, failed = excluded.failed,
             transferred = excluded.transferred, bytes = excluded.bytes,
             rooted = excluded.rooted, orders = excluded.orders, applier = excluded.applier",
        &[
            &row.repository.0,
            &row.store.as_str(),
            &row.mode.as_str(),
            &int(row.epoch.0),
            &row.handover.as_str(),
            &int(row.applied),
            &row.paused,
            &row.resync.as_ref().map(text),
            &row.stalled.as_ref().map(text),
            &int(row.failed),
            &int(row.transferred),
            &int(row.bytes),
            &int(row.rooted),
            &int(row.orders),
            &row.applier,
        ],
    )
    .await?;
    Ok(())
}

async fn backlog(db: &ClientWrapper, repository: RepositoryId, after: u64) -> Result<Backlog> {
    let row = first(
        db,
        "SELECT t.sequence,
                (SELECT coalesce(sum(size), 0)::bigint FROM journal WHERE repository = $1 AND sequence > $2),
                (SELECT at_ms FROM journal WHERE repository = $1 AND sequence > $2 ORDER BY sequence LIMIT 1)
         FROM turns t WHERE t.id = $1",
        &[&repository.0, &int(after)],
    )
    .await?
    .ok_or_else(crate::state::leave::unknown)?;
    let source = count(&row, 0)?;
    Ok(Backlog {
        source,
        operations: source.saturating_sub(after),
        bytes: count(&row, 1)?,
        oldest_ms: column(&row, 2)?,
    })
}

async fn bound_journal(
    tx: &Tx,
    repository: RepositoryId,
    keep: u64,
    now_ms: Millis,
) -> Result<bool, Fault> {
    let newest = newest(tx)?;
    let Some(cut) = newest.checked_sub(keep).filter(|cut| *cut > 0) else {
        return Ok(false);
    };
    for mut row in rows(tx.db(), mirrors_of!("ORDER BY store"), &[&repository.0]).await? {
        if row.applied < cut {
            row.lost_its_place(newest, now_ms);
            write(tx, &row).await?;
        }
    }
    let oldest = first(
        tx.db(),
        "SELECT min(sequence) FROM journal WHERE repository = $1",
        &[&repository.0],
    )
    .await?;
    let oldest: Option<i64> = oldest.map_or(Ok(None), |row| column(&row, 0))?;
    let Some(oldest) = oldest.and_then(|oldest| u64::try_from(oldest).ok()) else {
        return Ok(false);
    };
    let upto = cut.min(oldest.saturating_add(CUT));
    execute(
        tx.db(),
        "DELETE FROM journal WHERE repository = $1 AND sequence <= $2",
        &[&repository.0, &int(upto)],
    )
    .await?;
    Ok(upto < cut)
}

async fn healed(
    tx: &Tx,
    leave: &Leave,
    bucket: BucketId,
    key: &ObjectKey,
    sequence: u64,
    identity: &Identity,
) -> Result<bool, Fault> {
    lock::check(tx, leave, tx.known()?.id)?;
    let changed = execute(
        tx.db(),
        "UPDATE objects SET identity = $4 WHERE bucket = $1 AND key = $2 AND sequence = $3 AND repository = $5",
        &[
            &bucket.0,
            &key.as_str().as_bytes(),
            &int(sequence),
            &&*identity.0,
            &tx.known()?.id.0,
        ],
    )
    .await?;
    Ok(changed == 1)
}
