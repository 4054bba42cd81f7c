//! Open intents: announced writes, one per key, each with all that another node needs to finish it.
//!
//! A commit asks for the intent's row, not for the lock: it was opened under the lock, and the lock moves past
//! DRAINING only when no intent is open. Whoever ends it first, its owner or a resolver on another node, deletes
//! the row; the other finds it gone.

use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use policies::identity::{Cluster, Epoch};
use policies::key::ObjectKey;

use super::nodes::PRESUMED_DEAD;
use super::rows::{column, count, execute, first, int, query};
use super::writer::{Fault, Tx};
use super::{audit, catalog, lineage, lock, restore_points, uploads};
use crate::state::facts;
use crate::state::leave::Leave;
use crate::state::{
    BucketId, Intent, IntentId, NewIntent, Recorded, RepositoryId, Result, WriteError, stored,
};
use crate::stores::{Identity, UploadId};

macro_rules! intent_columns {
    () => {
        "i.id, i.upload, i.epoch, i.cluster, i.put"
    };
}

pub(super) async fn is_open(
    db: &ClientWrapper,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<bool, Fault> {
    let found = first(
        db,
        "SELECT 1 FROM intents WHERE bucket = $1 AND key = $2",
        &[&bucket.0, &key.as_str().as_bytes()],
    )
    .await?;
    Ok(found.is_some())
}

/// Is any intent of the repository open?
pub(super) async fn any(db: &ClientWrapper, repository: RepositoryId) -> Result<bool, Fault> {
    let found = first(
        db,
        "SELECT 1 FROM intents WHERE repository = $1 LIMIT 1",
        &[&repository.0],
    )
    .await?;
    Ok(found.is_some())
}

/// Is a root of the repository being committed?
pub(super) async fn any_root(db: &ClientWrapper, repository: RepositoryId) -> Result<bool, Fault> {
    let found = first(
        db,
        "SELECT 1 FROM intents WHERE repository = $1 AND root LIMIT 1",
        &[&repository.0],
    )
    .await?;
    Ok(found.is_some())
}

/// Nothing was committed, and nothing is under way, that the guard did not know when it judged.
pub(super) async fn require_judged(
    tx: &Tx,
    judged: Option<u64>,
    a_root: bool,
) -> Result<(), Fault> {
    let Some(judged) = judged else {
        return Ok(());
    };
    let known = tx.known()?;
    let counters = known.counters;
    let newest = if a_root {
        counters.last_root.max(counters.last_change)
    } else {
        counters.last_root
    };
    let under_way = first(
        tx.db(),
        "SELECT 1 FROM intents WHERE repository = $1 AND (root OR ($2 AND replaces)) LIMIT 1",
        &[&known.id.0, &a_root],
    )
    .await?;
    if newest > judged || under_way.is_some() {
        return Err(WriteError::KeyBusy.into());
    }
    Ok(())
}

pub(super) async fn open(
    tx: &mut Tx,
    leave: &Leave,
    intent: &NewIntent,
    judged: Option<u64>,
) -> Result<IntentId, Fault> {
    let put = &intent.put;
    let row_epoch = lock::check(tx, leave, put.repository)?;
    if is_open(tx.db(), put.bucket, &put.key).await? {
        return Err(WriteError::KeyBusy.into());
    }
    catalog::require_replaced(tx.db(), put).await?;
    uploads::require_completed_one(tx.db(), put).await?;
    if let Some(root) = &put.root {
        restore_points::require_pinned(tx.db(), put.repository, root).await?;
    }
    let a_root = put.root.is_some() || tx.known()?.is_root(&put.key);
    require_judged(tx, judged, a_root).await?;
    let epoch = leave.intent_epoch(row_epoch);
    let row = first(
        tx.db(),
        "INSERT INTO intents (repository, bucket, key, upload, epoch, cluster, put, node, root, replaces, binds)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
        &[
            &put.repository.0,
            &put.bucket.0,
            &put.key.as_str().as_bytes(),
            &&*intent.upload.0,
            &int(epoch.0),
            &leave.cluster.as_str(),
            &stored::put_text(put),
            &tx.node,
            &a_root,
            &(put.replaces.is_some() && put.journalled),
            &intent.binds.as_deref(),
        ],
    )
    .await?
    .ok_or_else(|| stored::unreadable("an intent has no number"))?;
    Ok(IntentId(column(&row, 0)?))
}

/// The repository of an open intent.
pub(super) async fn repository(
    db: &ClientWrapper,
    intent: IntentId,
) -> Result<Option<RepositoryId>> {
    let row = first(
        db,
        "SELECT repository FROM intents WHERE id = $1",
        &[&intent.0],
    )
    .await?;
    row.map(|row| column(&row, 0).map(RepositoryId)).transpose()
}

pub(super) async fn commit(
    tx: &mut Tx,
    intent: IntentId,
    identity: Identity,
) -> Result<Recorded, Fault> {
    let row = first(
        tx.db(),
        "DELETE FROM intents WHERE id = $1 RETURNING put, epoch, binds, cluster",
        &[&intent.0],
    )
    .await?
    .ok_or(WriteError::IntentGone)?;
    let mut put = stored::put_from(column(&row, 0)?)?;
    put.identity = identity;
    let epoch = Epoch(count(&row, 1)?);
    if let Some(cluster_id) = column::<Option<&str>>(&row, 2)? {
        lineage::bind(tx.db(), put.repository, epoch, cluster_id).await?;
    }
    let cluster = Cluster::new(column::<&str>(&row, 3)?);
    let repository = &tx.known()?.identity.name;
    if let Some(entry) = facts::committed(repository, &cluster, epoch, &put) {
        audit::append(tx.db(), &entry).await?;
    }
    catalog::apply(tx, &put).await
}

pub(super) async fn abort(tx: &mut Tx, intent: IntentId) -> Result<(), Fault> {
    execute(tx.db(), "DELETE FROM intents WHERE id = $1", &[&intent.0]).await?;
    Ok(())
}

fn intent(row: &Row) -> Result<Intent> {
    Ok(Intent {
        id: IntentId(column(row, 0)?),
        upload: UploadId(column::<&str>(row, 1)?.into()),
        epoch: Epoch(count(row, 2)?),
        cluster: Cluster::new(column::<&str>(row, 3)?),
        put: stored::put_from(column(row, 4)?)?,
    })
}

pub(super) async fn all(db: &ClientWrapper, repository: RepositoryId) -> Result<Vec<Intent>> {
    let rows = query(
        db,
        concat!(
            "SELECT ",
            intent_columns!(),
            " FROM intents i WHERE i.repository = $1 ORDER BY i.id"
        ),
        &[&repository.0],
    )
    .await?;
    rows.iter().map(intent).collect()
}

/// Those of this node, and those whose node was not heard of for a while.
pub(super) async fn abandoned(
    db: &ClientWrapper,
    repository: RepositoryId,
    node: i64,
) -> Result<Vec<Intent>> {
    let rows = query(
        db,
        concat!(
            "SELECT ",
            intent_columns!(),
            " FROM intents i LEFT JOIN nodes n ON n.id = i.node
             WHERE i.repository = $1
               AND (i.node = $2 OR n.id IS NULL OR n.alive_at < clock_timestamp() - make_interval(secs => $3))
             ORDER BY i.id"
        ),
        &[&repository.0, &node, &PRESUMED_DEAD],
    ).await?;
    rows.iter().map(intent).collect()
}
