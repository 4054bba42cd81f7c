//! Deletes: hidden at once, in one transaction for the whole batch; the bytes go later ([`super::reaper`]).
//!
//! Every deleted object leaves a tombstone. Registration and analysis have no retention, all else keeps its
//! bytes for the repository's retention, so that a delete can be undone. A delete with a condition is a
//! transaction of its own: it hides the very row whose ETag was compared, or nothing.
//!
//! The guard is asked twice: for each key as it comes, which refuses early, and once more while no root can be
//! committed. A root that came in between may need what nothing needed before.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use policies::guard::Deletion;
use policies::identity::{Bucket, Repository};
use policies::key::{Class, ObjectKey, Writing};
use policies::lock::Permit;

use super::door::OpenRepository;
use super::{Address, Caller, Door, Error};
use crate::state::{Removal, WriteError};
use crate::telemetry::clock;

#[cfg(test)]
mod tests;

/// Keys of one batch that one permit covers: the same repository, and free of the lock or not.
struct Group {
    open: Arc<OpenRepository>,
    permit: Permit,
    /// As far as the guard knew the other nodes' writes.
    judged: Option<u64>,
    positions: Vec<usize>,
    removals: Vec<Removal>,
    classes: Vec<Class>,
}

impl Group {
    /// Without what a root needs that was committed since the keys were judged. No root is committed meanwhile.
    fn judged_again(self, verdicts: &mut [Result<(), Error>]) -> Self {
        let mut left = Self {
            positions: Vec::with_capacity(self.positions.len()),
            removals: Vec::with_capacity(self.removals.len()),
            classes: Vec::with_capacity(self.classes.len()),
            ..self
        };
        let all = self.positions.into_iter().zip(self.removals);
        for ((position, removal), class) in all.zip(self.classes) {
            match left.open.guarding.delete(&removal.key, &class) {
                Ok(_) => {
                    left.positions.push(position);
                    left.removals.push(removal);
                    left.classes.push(class);
                }
                Err(refused) => verdicts[position] = Err(refused),
            }
        }
        left
    }
}

impl Door {
    /// Per-key verdicts, in the order of the keys; a missing key is success. The outer error concerns the whole request.
    pub async fn delete(
        &self,
        caller: &Caller,
        bucket: &Bucket,
        keys: Vec<ObjectKey>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        if !self.has_bucket(bucket) {
            return Err(Error::NoSuchBucket);
        }
        let mut verdicts: Vec<Result<(), Error>> = Vec::with_capacity(keys.len());
        let mut groups: BTreeMap<(Repository, bool), Group> = BTreeMap::new();
        let now_ms = clock::now_ms();
        for (position, key) in keys.into_iter().enumerate() {
            let verdict = self
                .sort_in(
                    caller,
                    Address {
                        bucket: bucket.clone(),
                        key,
                    },
                    position,
                    now_ms,
                    &mut groups,
                )
                .await;
            verdicts.push(verdict);
        }
        for (_, group) in groups {
            self.remove_group(caller, group, &mut verdicts).await;
        }
        Ok(verdicts)
    }

    /// Deletes one object if its ETag is this one, or whatever it is if `*`.
    pub async fn delete_if(&self, caller: &Caller, at: &Address, etag: &str) -> Result<(), Error> {
        let mut groups = BTreeMap::new();
        self.sort_in(caller, at.clone(), 0, clock::now_ms(), &mut groups)
            .await?;
        let found = self.find(at)?;
        let object = self.visible(&found, at).await?;
        if etag != "*" && *etag != *object.etag {
            return Err(Error::PreconditionFailed);
        }
        let Some((_, mut group)) = groups.pop_first() else {
            return Ok(());
        };
        let (open, permit) = (group.open, group.permit);
        let _no_root_now = open.guarding.commits.read().await;
        let Some(removal) = group.removals.pop() else {
            return Ok(());
        };
        // A root that was committed since it was judged may need it.
        open.guarding.delete(&at.key, &found.class)?;
        let removed = self
            .state
            .remove_unchanged(&permit, removal, object.sequence, group.judged)
            .await;
        match removed {
            Ok(_) => {
                open.guarding.deleted(&at.key, &found.class);
                open.reap.notify_one();
                Ok(())
            }
            Err(WriteError::Exists(Some(_))) => Err(Error::PreconditionFailed),
            Err(WriteError::Exists(None)) => Err(Error::NoSuchKey),
            Err(e) => Err(open.write_failed(caller, e)),
        }
    }

    async fn sort_in(
        &self,
        caller: &Caller,
        at: Address,
        position: usize,
        now_ms: i64,
        groups: &mut BTreeMap<(Repository, bool), Group>,
    ) -> Result<(), Error> {
        let found = self.find(&at)?;
        let free = found.class.writing() == Writing::Free;
        let slot = (found.open.name.clone(), free);
        let permit = match groups.contains_key(&slot) {
            true => None,
            false => {
                let permit = self.permit(&found, caller, &at.key).await?;
                Some((permit, self.follow(&found.open).await?))
            }
        };
        let retain_ms = match found.open.guarding.delete(&at.key, &found.class) {
            Ok(Deletion::KeepServing) => return Ok(()),
            Ok(Deletion::Free) => 0,
            Ok(Deletion::Soft { .. }) => found.open.retain_ms(),
            Err(refused) => {
                let absent = self.lookup(&found.open, &at.key).await?.object.is_none();
                return if absent { Ok(()) } else { Err(refused) };
            }
        };
        let removal = Removal {
            bucket: found.open.bucket_id,
            repository: found.open.id,
            key: at.key.clone(),
            retain_ms: Some(retain_ms),
            journalled: !free,
            now_ms,
        };
        let group = match (groups.entry(slot), permit) {
            (MapEntry::Occupied(entry), _) => entry.into_mut(),
            (MapEntry::Vacant(entry), Some((permit, judged))) => entry.insert(Group {
                open: found.open,
                permit,
                judged,
                positions: Vec::new(),
                removals: Vec::new(),
                classes: Vec::new(),
            }),
            (MapEntry::Vacant(_), None) => return Err(Error::SlowDown("Try again.".into())),
        };
        group.positions.push(position);
        group.removals.push(removal);
        group.classes.push(found.class);
        Ok(())
    }

    async fn remove_group(
        &self,
        caller: &Caller,
        group: Group,
        verdicts: &mut [Result<(), Error>],
    ) {
        let open = Arc::clone(&group.open);
        let _no_root_now = open.guarding.commits.read().await;
        let Group {
            permit,
            judged,
            positions,
            removals,
            classes,
            ..
        } = group.judged_again(verdicts);
        let keys: Vec<ObjectKey> = removals.iter().map(|r| r.key.clone()).collect();
        let removed = match judged {
            Some(judged) => self.state.remove_judged(&permit, removals, judged).await,
            None => self.state.remove(&permit, removals).await,
        };
        match removed {
            Ok(removed) => {
                for ((key, class), removed) in keys.iter().zip(&classes).zip(removed) {
                    if removed.is_some() {
                        open.guarding.deleted(key, class);
                    }
                }
                open.reap.notify_one();
            }
            Err(e) => {
                let error = open.write_failed(caller, e);
                for position in positions {
                    verdicts[position] = Err(error.clone());
                }
            }
        }
    }
}
