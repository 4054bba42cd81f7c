//! Durable forms of what a state database keeps as text: locks, puts of open intents, checksums.
//!
//! Durable and in-memory types are two: a change of the latter never silently changes what is on disk.
//! Each form is JSON; a field that is added later has a default, a meaning is never changed.

use std::sync::Arc;

use policies::format::closure::NewestSnapshot;
use policies::identity::{Cluster, Epoch, Handover, StoreName};
use policies::key::ObjectKey;
use policies::lock::{Freeze, Lock, Next};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    AnswerKey, Basis, BucketId, Checksum, CommittedRoot, Details, Error, Kept, Millis, Promotion,
    PromotionStep, Put, RepositoryId, Result, SnapshotName,
};
use crate::stores::Identity;

#[derive(Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum StoredLock {
    Vacant {
        epoch: u64,
    },
    Held {
        epoch: u64,
        holder: String,
    },
    Draining {
        epoch: u64,
        holder: String,
        next: StoredNext,
    },
    Fenced {
        epoch: u64,
        next: StoredNext,
        handover: String,
    },
    Frozen {
        epoch: u64,
        reason: StoredFreeze,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredNext {
    Hold(String),
    Release,
    Freeze(String),
    Recover,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredFreeze {
    Operator(String),
    Unadopted,
    AnchorAhead { anchor: u64 },
    AnchorBehind { anchor: u64 },
    AnchorBroken(String),
    OtherGateway,
    DatabaseMoved,
    RootAppeared(String),
    StoreUnreachable,
    Recovering,
    UnadoptedMirror(String),
    Promoting(String),
    Promoted { store: String, epoch: u64 },
}

#[derive(Serialize, Deserialize)]
struct StoredPut {
    repository: i64,
    bucket: i64,
    key: String,
    size: u64,
    etag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    identity: String,
    now_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<StoredKept>,
    journalled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<StoredRoot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<StoredAnswerKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredRoot {
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    epoch: u64,
    snapshots: Vec<StoredSnapshot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest: Option<StoredNewest>,
    complete: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredNewest {
    name: String,
    ended_ms: Millis,
}

#[derive(Serialize, Deserialize)]
struct StoredSnapshot {
    name: String,
    uuid: String,
}

#[derive(Serialize, Deserialize)]
struct StoredKept {
    name: String,
    retain_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredAnswerKey {
    cluster: String,
    operation: String,
    bucket: i64,
    key: String,
    invocation: String,
    hash: String,
}

/// The text of a lock.
pub fn lock_text(lock: &Lock) -> String {
    text(&store_lock(lock))
}

/// A lock from its text.
pub fn lock_from(stored: &str) -> Result<Lock> {
    parse(stored).map(load_lock)
}

/// A lock as a part of a larger text.
pub fn lock_value(lock: &Lock) -> serde_json::Value {
    serde_json::to_value(store_lock(lock)).unwrap_or_default()
}

/// A lock from a part of a larger text. None = it is no lock.
pub fn lock_from_value(stored: &serde_json::Value) -> Option<Lock> {
    StoredLock::deserialize(stored).ok().map(load_lock)
}

fn store_lock(lock: &Lock) -> StoredLock {
    match lock {
        Lock::Vacant { epoch } => StoredLock::Vacant { epoch: epoch.0 },
        Lock::Held { epoch, holder } => StoredLock::Held {
            epoch: epoch.0,
            holder: holder.to_string(),
        },
        Lock::Draining {
            epoch,
            holder,
            next,
        } => StoredLock::Draining {
            epoch: epoch.0,
            holder: holder.to_string(),
            next: store_next(next),
        },
        Lock::Fenced {
            epoch,
            next,
            handover,
        } => StoredLock::Fenced {
            epoch: epoch.0,
            next: store_next(next),
            handover: handover.to_string(),
        },
        Lock::Frozen { epoch, reason } => StoredLock::Frozen {
            epoch: epoch.0,
            reason: store_freeze(reason),
        },
    }
}

fn load_lock(stored: StoredLock) -> Lock {
    match stored {
        StoredLock::Vacant { epoch } => Lock::Vacant {
            epoch: Epoch(epoch),
        },
        StoredLock::Held { epoch, holder } => Lock::Held {
            epoch: Epoch(epoch),
            holder: Cluster::new(holder),
        },
        StoredLock::Draining {
            epoch,
            holder,
            next,
        } => Lock::Draining {
            epoch: Epoch(epoch),
            holder: Cluster::new(holder),
            next: load_next(next),
        },
        StoredLock::Fenced {
            epoch,
            next,
            handover,
        } => Lock::Fenced {
            epoch: Epoch(epoch),
            next: load_next(next),
            handover: Handover::new(handover),
        },
        StoredLock::Frozen { epoch, reason } => Lock::Frozen {
            epoch: Epoch(epoch),
            reason: load_freeze(reason),
        },
    }
}

fn store_next(next: &Next) -> StoredNext {
    match next {
        Next::Hold(cluster) => StoredNext::Hold(cluster.to_string()),
        Next::Release => StoredNext::Release,
        Next::Freeze(reason) => StoredNext::Freeze(reason.clone()),
        Next::Recover => StoredNext::Recover,
    }
}

fn load_next(next: StoredNext) -> Next {
    match next {
        StoredNext::Hold(cluster) => Next::Hold(Cluster::new(cluster)),
        StoredNext::Release => Next::Release,
        StoredNext::Freeze(reason) => Next::Freeze(reason),
        StoredNext::Recover => Next::Recover,
    }
}

fn store_freeze(reason: &Freeze) -> StoredFreeze {
    match reason {
        Freeze::Operator(text) => StoredFreeze::Operator(text.clone()),
        Freeze::Unadopted => StoredFreeze::Unadopted,
        Freeze::AnchorAhead { anchor } => StoredFreeze::AnchorAhead { anchor: anchor.0 },
        Freeze::AnchorBehind { anchor } => StoredFreeze::AnchorBehind { anchor: anchor.0 },
        Freeze::AnchorBroken(place) => StoredFreeze::AnchorBroken(place.clone()),
        Freeze::RootAppeared(root) => StoredFreeze::RootAppeared(root.clone()),
        Freeze::Recovering => StoredFreeze::Recovering,
        Freeze::OtherGateway => StoredFreeze::OtherGateway,
        Freeze::DatabaseMoved => StoredFreeze::DatabaseMoved,
        Freeze::StoreUnreachable => StoredFreeze::StoreUnreachable,
        Freeze::UnadoptedMirror(store) => StoredFreeze::UnadoptedMirror(store.clone()),
        Freeze::Promoting(store) => StoredFreeze::Promoting(store.clone()),
        Freeze::Promoted { store, epoch } => StoredFreeze::Promoted {
            store: store.clone(),
            epoch: epoch.0,
        },
    }
}

fn load_freeze(reason: StoredFreeze) -> Freeze {
    match reason {
        StoredFreeze::Operator(text) => Freeze::Operator(text),
        StoredFreeze::Unadopted => Freeze::Unadopted,
        StoredFreeze::AnchorAhead { anchor } => Freeze::AnchorAhead {
            anchor: Epoch(anchor),
        },
        StoredFreeze::AnchorBehind { anchor } => Freeze::AnchorBehind {
            anchor: Epoch(anchor),
        },
        StoredFreeze::AnchorBroken(place) => Freeze::AnchorBroken(place),
        StoredFreeze::RootAppeared(root) => Freeze::RootAppeared(root),
        StoredFreeze::Recovering => Freeze::Recovering,
        StoredFreeze::OtherGateway => Freeze::OtherGateway,
        StoredFreeze::DatabaseMoved => Freeze::DatabaseMoved,
        StoredFreeze::StoreUnreachable => Freeze::StoreUnreachable,
        StoredFreeze::UnadoptedMirror(store) => Freeze::UnadoptedMirror(store),
        StoredFreeze::Promoting(store) => Freeze::Promoting(store),
        StoredFreeze::Promoted { store, epoch } => Freeze::Promoted {
            store,
            epoch: Epoch(epoch),
        },
    }
}

/// The text of a put that an intent carries.
pub fn put_text(put: &Put) -> String {
    text(&StoredPut {
        repository: put.repository.0,
        bucket: put.bucket.0,
        key: put.key.as_str().to_owned(),
        size: put.size,
        etag: put.etag.to_string(),
        hash: put.hash.map(hex::encode),
        identity: put.identity.0.to_string(),
        now_ms: put.now_ms,
        details: put.details.as_deref().cloned(),
        replaces: put.replaces,
        kept: put.kept.as_ref().map(|kept| StoredKept {
            name: kept.name.as_str().to_owned(),
            retain_ms: kept.retain_ms,
        }),
        journalled: put.journalled,
        completes: put.completes.clone(),
        root: put.root.as_ref().map(|root| StoredRoot {
            generation: root.generation,
            cluster: root.cluster.as_ref().map(ToString::to_string),
            epoch: root.epoch.0,
            snapshots: store_snapshots(&root.snapshots),
            newest: root.newest.as_ref().map(store_newest),
            complete: root.complete,
        }),
        answer: put.answer.as_ref().map(|answer| StoredAnswerKey {
            cluster: answer.cluster.to_string(),
            operation: answer.operation.to_string(),
            bucket: answer.bucket.0,
            key: answer.key.as_str().to_owned(),
            invocation: answer.invocation.clone(),
            hash: hex::encode(answer.hash),
        }),
    })
}

/// The put of an intent from its text.
pub fn put_from(stored: &str) -> Result<Put> {
    let stored: StoredPut = parse(stored)?;
    let kept = stored.kept.map(|kept| {
        Ok::<_, Error>(Kept {
            name: key(&kept.name)?,
            retain_ms: kept.retain_ms,
        })
    });
    let answer = stored.answer.map(|answer| {
        Ok::<_, Error>(AnswerKey {
            cluster: Cluster::new(answer.cluster),
            operation: answer.operation.into(),
            bucket: BucketId(answer.bucket),
            key: key(&answer.key)?,
            invocation: answer.invocation,
            hash: hash(&answer.hash)?,
        })
    });
    Ok(Put {
        repository: RepositoryId(stored.repository),
        bucket: BucketId(stored.bucket),
        key: key(&stored.key)?,
        size: stored.size,
        etag: stored.etag.into(),
        hash: stored.hash.as_deref().map(hash).transpose()?,
        identity: Identity(stored.identity.into()),
        now_ms: stored.now_ms,
        details: stored.details.map(Arc::new),
        replaces: stored.replaces,
        kept: kept.transpose()?,
        journalled: stored.journalled,
        completes: stored.completes,
        root: stored.root.map(|root| CommittedRoot {
            generation: root.generation,
            cluster: root.cluster.map(Cluster::new),
            epoch: Epoch(root.epoch),
            snapshots: load_snapshots(root.snapshots),
            newest: root.newest.map(load_newest),
            complete: root.complete,
        }),
        answer: answer.transpose()?,
    })
}

#[derive(Serialize, Deserialize)]
struct StoredPromotion {
    handover: String,
    from: String,
    to: String,
    writer: String,
    epoch: u64,
    before: StoredLock,
    basis: Basis,
    step: PromotionStep,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The text of a promotion.
pub fn promotion_text(promotion: &Promotion) -> String {
    text(&StoredPromotion {
        handover: promotion.handover.to_string(),
        from: promotion.from.to_string(),
        to: promotion.to.to_string(),
        writer: promotion.writer.to_string(),
        epoch: promotion.epoch.0,
        before: store_lock(&promotion.before),
        basis: promotion.basis,
        step: promotion.step,
        reason: promotion.reason.clone(),
    })
}

/// A promotion from its text.
pub fn promotion_from(stored: &str) -> Result<Promotion> {
    let stored: StoredPromotion = parse(stored)?;
    Ok(Promotion {
        handover: Handover::new(stored.handover),
        from: StoreName::new(stored.from),
        to: StoreName::new(stored.to),
        writer: Cluster::new(stored.writer),
        epoch: Epoch(stored.epoch),
        before: load_lock(stored.before),
        basis: stored.basis,
        step: stored.step,
        reason: stored.reason,
    })
}

/// What makes two requests the same. Each field with its length: no two requests have the same bytes.
pub fn request(answer: &AnswerKey) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let texts = [
        answer.cluster.as_str(),
        answer.operation.as_ref(),
        answer.key.as_str(),
        &answer.invocation,
    ];
    for text in texts {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.update(answer.bucket.0.to_be_bytes());
    hasher.update(answer.hash);
    hasher.finalize().into()
}

/// None for no details, the common case.
pub fn details_text(details: Option<&Details>) -> Option<String> {
    details.map(text)
}

pub fn details_from(stored: &str) -> Result<Arc<Details>> {
    parse(stored).map(Arc::new)
}

/// The names of a restore point's snapshots.
pub fn snapshots_text(snapshots: &[SnapshotName]) -> String {
    text(&store_snapshots(snapshots))
}

pub fn snapshots_from(stored: &str) -> Result<Arc<[SnapshotName]>> {
    parse(stored).map(load_snapshots)
}

fn store_snapshots(snapshots: &[SnapshotName]) -> Vec<StoredSnapshot> {
    let store = |snapshot: &SnapshotName| StoredSnapshot {
        name: snapshot.name.to_string(),
        uuid: snapshot.uuid.to_string(),
    };
    snapshots.iter().map(store).collect()
}

fn load_snapshots(stored: Vec<StoredSnapshot>) -> Arc<[SnapshotName]> {
    let load = |snapshot: StoredSnapshot| SnapshotName {
        name: snapshot.name.into(),
        uuid: snapshot.uuid.into(),
    };
    stored.into_iter().map(load).collect()
}

/// The newest snapshot of a restore point.
pub fn newest_text(newest: Option<&NewestSnapshot>) -> Option<String> {
    newest.map(|newest| text(&store_newest(newest)))
}

pub fn newest_from(stored: Option<&str>) -> Result<Option<NewestSnapshot>> {
    stored
        .map(|stored| parse(stored).map(load_newest))
        .transpose()
}

fn store_newest(newest: &NewestSnapshot) -> StoredNewest {
    StoredNewest {
        name: newest.name.to_string(),
        ended_ms: newest.ended_ms,
    }
}

fn load_newest(stored: StoredNewest) -> NewestSnapshot {
    NewestSnapshot {
        name: stored.name.into(),
        ended_ms: stored.ended_ms,
    }
}

/// None for no checksums.
pub fn checksums_text(checksums: &[Checksum]) -> Option<String> {
    (!checksums.is_empty()).then(|| text(&checksums))
}

pub fn checksums_from(stored: &str) -> Result<Vec<Checksum>> {
    parse(stored)
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain structs of text and numbers are JSON")
}

fn parse<'a, T: Deserialize<'a>>(stored: &'a str) -> Result<T> {
    serde_json::from_str(stored).map_err(|e| unreadable(&e.to_string()))
}

fn key(text: &str) -> Result<ObjectKey> {
    ObjectKey::parse(text).map_err(|e| unreadable(&e.to_string()))
}

fn hash(text: &str) -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|e| unreadable(&e.to_string()))?;
    Ok(bytes)
}

/// A row that this program cannot have written.
pub fn unreadable(what: &str) -> Error {
    Error::Failed(format!("a row of the state database is unreadable: {what}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lock_survives_its_text() {
        let (epoch, holder) = (Epoch(7), Cluster::new("prod"));
        let nexts = [
            Next::Hold(Cluster::new("other")),
            Next::Release,
            Next::Freeze("moving".into()),
            Next::Recover,
        ];
        let reasons = [
            Freeze::Operator("why \"so\"".into()),
            Freeze::Unadopted,
            Freeze::AnchorAhead { anchor: Epoch(9) },
            Freeze::AnchorBehind { anchor: Epoch(6) },
            Freeze::AnchorBroken("at 3".into()),
            Freeze::RootAppeared("index-4".into()),
            Freeze::OtherGateway,
            Freeze::DatabaseMoved,
            Freeze::StoreUnreachable,
            Freeze::Recovering,
            Freeze::UnadoptedMirror("us".into()),
            Freeze::Promoting("us".into()),
            Freeze::Promoted {
                store: "us".into(),
                epoch: Epoch(9),
            },
        ];
        let mut locks = vec![
            Lock::Vacant { epoch },
            Lock::Held {
                epoch,
                holder: holder.clone(),
            },
        ];
        for next in nexts {
            locks.push(Lock::Draining {
                epoch,
                holder: holder.clone(),
                next: next.clone(),
            });
            locks.push(Lock::Fenced {
                epoch,
                next,
                handover: Handover::new("h-1"),
            });
        }
        locks.extend(reasons.map(|reason| Lock::Frozen { epoch, reason }));
        for lock in locks {
            assert_eq!(lock_from(&lock_text(&lock)).unwrap(), lock);
        }
    }

    #[test]
    fn text_that_is_no_lock_is_an_error() {
        assert!(lock_from("{\"state\":\"asleep\"}").is_err());
    }
}
