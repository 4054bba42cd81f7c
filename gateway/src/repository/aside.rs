//! What lies at a name that a write is about to replace, and where it is kept aside.
//!
//! Deleted content keeps its bytes at its own name until that is written again: then it moves to a second name below
//! `.snapgate/kept/`, as does content that a write replaces. Invariants: what the retention keeps is at the name that its tombstone
//! says, whatever becomes of the write; a second name is one write's alone and never used again, and goes with
//! the write if that does not take effect.

use futures::TryStreamExt;
use policies::key::{ObjectKey, RESERVED};
use policies::lock::Permit;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::{Door, Error};
use crate::state::{Intent, Kept, Object, PartDetail, Tombstone};
use crate::stores::{Identity, UploadId};

#[cfg(test)]
mod tests;

/// What a store holds under a name, hashed.
pub(super) struct Held {
    pub size: u64,
    pub hash: [u8; 32],
    pub identity: Identity,
}

/// Where a write keeps the content that it replaces.
pub(super) fn replaced(open: &OpenRepository, object: &Object) -> Kept {
    let name = format!("{:020}-{}", object.sequence, crate::random::text(12));
    Kept {
        name: name_in_kept(open, &name),
        retain_ms: open.retain_ms(),
    }
}

/// Where a write keeps deleted content: told from its upload, so that whoever resolves the write finds it.
fn second_name(open: &OpenRepository, removed: u64, upload: &UploadId) -> ObjectKey {
    let hash = blake3::hash(upload.0.as_bytes());
    name_in_kept(open, &format!("{removed:020}-{}", &hash.to_hex()[..24]))
}

fn name_in_kept(open: &OpenRepository, name: &str) -> ObjectKey {
    ObjectKey::parse(&format!("{RESERVED}kept/{}/{name}", open.name))
        .expect("a prefix, a short name and a number are a key")
}

impl Door {
    /// What lies at a name in the store, read and hashed.
    pub(super) async fn content_at(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Option<Held>, Error> {
        self.content_hashed_as(open, key, &[]).await
    }

    /// As [`Self::content_at`], hashed the way an object made of these parts is.
    pub(super) async fn content_hashed_as(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        parts: &[PartDetail],
    ) -> Result<Option<Held>, Error> {
        let Some(mut content) = open
            .store
            .read(key, None, None)
            .await
            .map_err(|e| store_failed("read the object", &e))?
        else {
            return Ok(None);
        };
        let mut hasher = crate::digest::Whole::of_parts(parts.iter().map(|p| p.size));
        while let Some(chunk) = content
            .bytes
            .try_next()
            .await
            .map_err(|e| store_failed("read the object", &e))?
        {
            hasher.update(&chunk);
        }
        Ok(Some(Held {
            size: content.size,
            hash: hasher.finish(),
            identity: content.identity,
        }))
    }

    /// Before a name is replaced that the catalog does not show: deleted content that lies there gets the name
    /// under which the retention keeps it, an orphan one where a person can look at it. True = something lies there.
    /// Nothing is removed: a removal that is late could not be told from one of what comes next. The caller has
    /// the turn at the key and an open intent.
    pub(super) async fn keep_unlisted(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        key: &ObjectKey,
        upload: &UploadId,
    ) -> Result<bool, Error> {
        let there = open
            .store
            .stat(key)
            .await
            .map_err(|e| store_failed("look at the name", &e))?;
        let Some(there) = there else {
            return Ok(false);
        };
        let tombstones = self.tombstones_at(open, key).await?;
        let deleted = tombstones
            .iter()
            .find(|t| t.object.identity == there.identity);
        let kept = match deleted {
            Some(tombstone) => second_name(open, tombstone.removed, upload),
            None => name_in_kept(open, &format!("orphan-{}", crate::random::text(12))),
        };
        tracing::info!(repository = %open.name, key = %key, kept = %kept, "kept aside before it is replaced");
        open.store
            .set_aside(permit, key, &kept)
            .await
            .map_err(|e| store_failed("keep older content aside", &e))?;
        if deleted.is_some() {
            for tombstone in tombstones {
                self.state
                    .move_tombstone(permit, tombstone.id, &kept)
                    .await
                    .map_err(|e| state_failed("note where deleted content is kept", &e))?;
            }
        }
        Ok(true)
    }

    /// A write that was to replace deleted content did not take effect: that content lies at its name still, and is
    /// looked for there again, by the reaper and by a recovery. The caller has the turn at the key.
    pub(super) async fn keep_in_place(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        key: &ObjectKey,
    ) -> Result<(), Error> {
        let deleted = self.tombstones_of(open, key).await?;
        let in_place = deleted.iter().any(|t| t.location == *key);
        if deleted.is_empty() || in_place || self.lookup(open, key).await?.object.is_some() {
            return Ok(());
        }
        let there = open
            .store
            .stat(key)
            .await
            .map_err(|e| store_failed("look at the name", &e))?;
        let left = there.and_then(|there| {
            let mut newest = deleted.into_iter().rev();
            newest.find(|t| t.object.identity == there.identity)
        });
        if let Some(left) = left {
            self.state
                .move_tombstone(permit, left.id, key)
                .await
                .map_err(|e| state_failed("note where deleted content lies", &e))?;
        }
        Ok(())
    }

    /// What got a second name for a write that did not take effect loses it, before the write's intent ends: as long as that is
    /// open, whoever comes next does this again. Nothing else ever gets these names, so a removal that is late hits
    /// nothing. The caller has the turn at the key.
    pub(super) async fn drop_second_names(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        intent: &Intent,
    ) -> Result<(), Error> {
        let deleted = self.tombstones_of(open, &intent.put.key).await?;
        let mut names: Vec<ObjectKey> = deleted
            .iter()
            .map(|t| second_name(open, t.removed, &intent.upload))
            .chain(intent.put.kept.iter().map(|kept| kept.name.clone()))
            .collect();
        names.retain(|name| deleted.iter().all(|t| t.location != *name));
        for result in open.store.delete(permit, &names).await {
            result.map_err(|e| store_failed("remove a second name", &e))?;
        }
        Ok(())
    }

    /// Deleted content lies at the name, or did.
    pub(super) async fn is_deleted_here(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<bool, Error> {
        Ok(!self.tombstones_at(open, key).await?.is_empty())
    }

    async fn tombstones_at(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Vec<Tombstone>, Error> {
        let mut all = self.tombstones_of(open, key).await?;
        all.retain(|t| t.location == *key);
        Ok(all)
    }

    /// Of all that was deleted under this name, wherever its bytes lie.
    pub(super) async fn tombstones_of(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Vec<Tombstone>, Error> {
        self.state
            .tombstone(open.id, key)
            .await
            .map_err(|e| state_failed("look up deleted objects", &e))
    }
}
