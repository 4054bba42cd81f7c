//! Deletes: hidden at once, in one transaction for the whole batch; the bytes go later ([`super::reaper`]).
//!
//! Every deleted object leaves a tombstone. Registration and analysis have no retention, all else keeps its
//! bytes for the repository's retention, so that a delete can be undone.

use std::collections::BTreeMap;
use std::sync::Arc;

use policies::identity::{Bucket, Repository};
use policies::key::{Class, ObjectKey, Writing};
use policies::lock::Permit;

use super::door::OpenRepository;
use super::{Address, Caller, Door, Error};
use crate::state::Removal;
use crate::telemetry::clock;

/// Keys of one batch that one permit covers: the same repository, and free of the lock or not.
struct Group {
    open: Arc<OpenRepository>,
    permit: Permit,
    positions: Vec<usize>,
    removals: Vec<Removal>,
}

impl Door {
    /// Per-key verdicts, in the order of the keys; a missing key is success. The outer error concerns the whole request.
    pub async fn delete(&self, caller: &Caller, bucket: &Bucket, keys: Vec<ObjectKey>) -> Result<Vec<Result<(), Error>>, Error> {
        if !self.buckets.contains_key(bucket) {
            return Err(Error::NoSuchBucket);
        }
        let mut verdicts: Vec<Result<(), Error>> = Vec::with_capacity(keys.len());
        let mut groups: BTreeMap<(Repository, bool), Group> = BTreeMap::new();
        let now_ms = clock::now_ms();
        for (position, key) in keys.into_iter().enumerate() {
            let verdict = self.sort_in(caller, Address { bucket: bucket.clone(), key }, position, now_ms, &mut groups).await;
            verdicts.push(verdict);
        }
        for (_, group) in groups {
            self.remove_group(caller, group, &mut verdicts).await;
        }
        Ok(verdicts)
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
        if pointer_stays(&found.class) {
            return self.permit(&found, caller, &at.key).await.map(|_| ());
        }
        let removal = Removal {
            bucket: found.open.bucket_id,
            repository: found.open.id,
            key: at.key.clone(),
            retain_ms: Some(if free { 0 } else { found.open.retain_ms() }),
            journalled: !free,
            now_ms,
        };
        let slot = (found.open.name.clone(), free);
        if let Some(group) = groups.get_mut(&slot) {
            group.positions.push(position);
            group.removals.push(removal);
            return Ok(());
        }
        let permit = self.permit(&found, caller, &at.key).await?;
        groups.insert(slot, Group { open: found.open, permit, positions: vec![position], removals: vec![removal] });
        Ok(())
    }

    async fn remove_group(&self, caller: &Caller, group: Group, verdicts: &mut [Result<(), Error>]) {
        let Group { open, permit, positions, removals } = group;
        match self.state.remove(&permit, removals).await {
            Ok(_) => open.reap.notify_one(),
            Err(e) => {
                let error = open.write_failed(caller, e);
                for position in positions {
                    verdicts[position] = Err(error.clone());
                }
            }
        }
    }
}

/// Elasticsearch 5 deletes `index.latest` (2.x: `index`) just before it writes it anew; readers of the pointer
/// must never find it missing, so the old value stays until the new one replaces it.
fn pointer_stays(class: &Class) -> bool {
    matches!(class, Class::Pointer | Class::LegacyList)
}
