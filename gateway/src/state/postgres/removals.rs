//! Hiding objects: a batch is a few statements, however many keys it has.
//!
//! Invariant: the rows go, their journal entries, the counters and the tombstones (or, where nothing is held, the restore
//! points that needed them) are one transaction, made at the repository's turn; a batch is refused as a whole.

use std::collections::HashMap;

use policies::key::ObjectKey;

use super::rows::{execute, first, int, object, object_columns, query};
use super::writer::{Fault, Tx};
use super::{intents, lock, restore_points, tombstones};
use crate::state::leave::Leave;
use crate::state::{Error, Object, Removal, WriteError};

/// Hides objects. None for a key that had none.
pub(super) async fn remove(
    tx: &mut Tx,
    leave: &Leave,
    removals: &[Removal],
    judged: Option<u64>,
) -> Result<Vec<Option<Object>>, Fault> {
    if removals.iter().any(|removal| removal.journalled) {
        intents::require_judged(tx, judged, false).await?;
    }
    for removal in removals {
        lock::check(tx, leave, removal.repository)?;
    }
    let mut hidden = hide(tx, removals).await?;
    let mut removed = Vec::with_capacity(removals.len());
    let mut journalled = Vec::new();
    let mut kept = Vec::new();
    let mut lost = Vec::new();
    let known = tx.known_mut()?;
    for removal in removals {
        let Some(old) = hidden.remove(&removal.key) else {
            removed.push(None);
            continue;
        };
        if old.repository != removal.repository {
            return Err(Error::Failed("the object belongs to another repository".into()).into());
        }
        known.lost(old.size);
        let sequence = known.next_sequence(removal.journalled)?;
        if removal.journalled {
            known.counters.last_change = sequence;
            journalled.push((removal, sequence));
        }
        match removal.retain_ms {
            Some(retain_ms) => kept.push((old.clone(), sequence, retain_ms)),
            None => lost.push((old.sequence, sequence)),
        }
        removed.push(Some(old));
    }
    let repository = known.id;
    journal(tx, &journalled).await?;
    tombstones::write_all(tx, &kept).await?;
    restore_points::all_broken(tx.db(), repository, &lost, u64::MAX).await?;
    Ok(removed)
}

/// A refused request is taken back, so the row may be looked at after it was hidden.
pub(super) async fn remove_unchanged(
    tx: &mut Tx,
    leave: &Leave,
    removal: &Removal,
    sequence: u64,
    judged: Option<u64>,
) -> Result<Object, Fault> {
    let mut removed = remove(tx, leave, std::slice::from_ref(removal), judged).await?;
    match removed.pop().flatten() {
        Some(old) if old.sequence == sequence => Ok(old),
        other => Err(WriteError::Exists(other.map(Box::new)).into()),
    }
}

/// What was there. Nobody else is about to change any of the keys.
async fn hide(tx: &Tx, removals: &[Removal]) -> Result<HashMap<ObjectKey, Object>, Fault> {
    let bucket = tx.known()?.bucket;
    let keys: Vec<&[u8]> = removals
        .iter()
        .map(|removal| removal.key.as_str().as_bytes())
        .collect();
    let busy = first(
        tx.db(),
        "SELECT 1 FROM intents WHERE bucket = $1 AND key = ANY ($2) LIMIT 1",
        &[&bucket.0, &keys],
    )
    .await?;
    if busy.is_some() {
        return Err(WriteError::KeyBusy.into());
    }
    let rows = query(
        tx.db(),
        concat!(
            "DELETE FROM objects WHERE bucket = $1 AND key = ANY ($2) RETURNING ",
            object_columns!()
        ),
        &[&bucket.0, &keys],
    )
    .await?;
    let mut hidden = HashMap::with_capacity(rows.len());
    for row in &rows {
        let old = object(row, 0)?;
        hidden.insert(old.key.clone(), old);
    }
    Ok(hidden)
}

async fn journal(tx: &Tx, removals: &[(&Removal, u64)]) -> Result<(), Fault> {
    if removals.is_empty() {
        return Ok(());
    }
    let sequences: Vec<i64> = removals.iter().map(|(_, n)| int(*n)).collect();
    let keys: Vec<&[u8]> = removals
        .iter()
        .map(|(removal, _)| removal.key.as_str().as_bytes())
        .collect();
    let times: Vec<i64> = removals.iter().map(|(removal, _)| removal.now_ms).collect();
    execute(
        tx.db(),
        "INSERT INTO journal (repository, sequence, key, at_ms)
         SELECT $1, sequence, key, at_ms FROM unnest($2::bigint[], $3::bytea[], $4::bigint[]) AS r (sequence, key, at_ms)",
        &[&tx.known()?.id.0, &sequences, &keys, &times],
    )
    .await?;
    Ok(())
}
