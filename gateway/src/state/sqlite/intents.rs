//! Intents: announced writes whose bytes may take effect before they are committed.
//!
//! Invariants: one open intent per key; it is opened only while the lock allows it and the row that it replaces
//! is there; until it ends, nothing else changes the key's row, so its commit cannot fail for what others did;
//! it ends once.

use policies::identity::{Cluster, Epoch};
use policies::key::ObjectKey;
use rusqlite::Connection;

use super::lock;
use super::rows::{count, int, text};
use super::writer::{Fault, Tx};
use super::{audit, catalog, lineage, restore_points, uploads};
use crate::state::facts;
use crate::state::leave::{Leave, unknown};
use crate::state::{
    BucketId, Intent, IntentId, NewIntent, Recorded, RepositoryId, Result, WriteError, stored,
};
use crate::stores::{Identity, UploadId};

pub(super) fn is_open(
    db: &Connection,
    bucket: BucketId,
    key: &ObjectKey,
) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM intents WHERE bucket = ?1 AND key = ?2")?
        .exists((bucket.0, key.as_str().as_bytes()))
}

/// Is any intent open, of whatever repository?
pub(super) fn any_at_all(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM intents LIMIT 1")?
        .exists([])
}

/// Is any intent of the repository open?
pub(super) fn any(db: &Connection, repository: RepositoryId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM intents WHERE repository = ?1")?
        .exists([repository.0])
}

/// Is a root of the repository being committed?
pub(super) fn any_root(db: &Connection, repository: RepositoryId) -> Result<bool> {
    Ok(all(db, repository)?
        .iter()
        .any(|intent| intent.put.root.is_some()))
}

pub(super) fn open(tx: &mut Tx<'_>, leave: &Leave, intent: &NewIntent) -> Result<IntentId, Fault> {
    let put = &intent.put;
    let row_epoch = lock::check(tx, leave, put.repository)?;
    if is_open(tx.db, put.bucket, &put.key)? {
        return Err(WriteError::KeyBusy.into());
    }
    catalog::require_replaced(tx.db, put)?;
    uploads::require_completed_one(tx.db, put)?;
    if let Some(root) = &put.root {
        restore_points::require_pinned(tx.db, put.repository, root)?;
    }
    let epoch = leave.intent_epoch(row_epoch);
    tx.db
        .prepare_cached(
            "INSERT INTO intents (repository, bucket, key, upload, epoch, cluster, put, binds) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            put.repository.0,
            put.bucket.0,
            put.key.as_str().as_bytes(),
            &*intent.upload.0,
            int(epoch.0),
            leave.cluster.as_str(),
            stored::put_text(put),
            intent.binds.as_deref(),
        ))?;
    Ok(IntentId(tx.db.last_insert_rowid()))
}

pub(super) fn commit(
    tx: &mut Tx<'_>,
    intent: IntentId,
    identity: Identity,
) -> Result<Recorded, Fault> {
    let (mut put, epoch, binds, cluster) = {
        let mut statement = tx
            .db
            .prepare_cached("SELECT put, epoch, binds, cluster FROM intents WHERE id = ?1")?;
        let mut rows = statement.query([intent.0])?;
        let row = rows.next()?.ok_or(WriteError::IntentGone)?;
        let put = stored::put_from(text(row.get_ref(0)?)?)?;
        let binds: Option<String> = row.get(2)?;
        let cluster = Cluster::new(text(row.get_ref(3)?)?);
        (put, Epoch(count(row, 1)?), binds, cluster)
    };
    put.identity = identity;
    abort(tx, intent)?;
    if let Some(cluster_id) = binds {
        lineage::bind(tx.db, put.repository, epoch, &cluster_id)?;
    }
    let known = tx.memory.repository(put.repository).ok_or_else(unknown)?;
    if let Some(entry) = facts::committed(&known.identity.name, &cluster, epoch, &put) {
        audit::append(tx, &entry)?;
    }
    catalog::apply(tx, &put)
}

pub(super) fn abort(tx: &mut Tx<'_>, intent: IntentId) -> Result<(), Fault> {
    tx.db
        .prepare_cached("DELETE FROM intents WHERE id = ?1")?
        .execute([intent.0])?;
    Ok(())
}

pub(super) fn all(db: &Connection, repository: RepositoryId) -> Result<Vec<Intent>> {
    let mut statement = db.prepare_cached(
        "SELECT id, upload, epoch, cluster, put FROM intents WHERE repository = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([repository.0])?;
    let mut intents = Vec::new();
    while let Some(row) = rows.next()? {
        intents.push(Intent {
            id: IntentId(row.get(0)?),
            upload: UploadId(text(row.get_ref(1)?)?.into()),
            epoch: Epoch(count(row, 2)?),
            cluster: Cluster::new(text(row.get_ref(3)?)?),
            put: stored::put_from(text(row.get_ref(4)?)?)?,
        });
    }
    Ok(intents)
}
