//! Write-once keys: published create-only, then recorded in one transaction.
//!
//! Between the two the object is in the store and nobody else knows whose it is, perhaps for long: its writer may be
//! paused, or another node. Invariant: **content under a client's name goes away only by a fenced replace under an
//! intent, or by the reaper after a journalled removal.** So another write of the name that finds the object never
//! removes it: it is told to come back, and comes back as a write under an intent, which keeps the content aside and
//! replaces it. The first writer's transaction then finds that intent, or the row that it committed, or the removal
//! of that row in the journal, and is refused; or the intent ended without effect, the content is still there, and
//! the transaction is right. A turn at the key would not do: the other writer may be another node, or dead.

use std::sync::Arc;

use bytes::Bytes;
use policies::format::digest;
use policies::key::{Class, ObjectKey};
use policies::lock::Permit;

use super::door::{Found, OpenRepository};
use super::etag;
use super::gate::state_failed;
use super::guarding::read_digest;
use super::ingest::store_failed;
use super::write::{Prepared, new_row};
use super::{Address, Caller, Door, Error};
use crate::state::{Object, Put, WriteError};
use crate::stores::{self, Publish};

#[cfg(test)]
mod tests;

impl Door {
    /// From a verified upload to a recorded object; the ETag and time that the client is told.
    pub(super) async fn settle_once(
        &self,
        caller: &Caller,
        found: &Found,
        permit: &Permit,
        to: &Address,
        prepared: Prepared,
    ) -> Result<(Arc<str>, i64), Error> {
        let open = &found.open;
        let mut put = new_row(open, &to.key, &prepared, true);
        let (captured, footer) = (prepared.captured, prepared.footer);
        let hash = prepared.hash;
        let since = open.reached();
        match prepared.upload.publish(Publish::CreateOnly).await {
            Ok(published) => {
                put.etag = etag::of(prepared.etag, published.md5, &hash)?;
                put.identity = published.identity;
            }
            Err(stores::Error::Exists) => {
                let (now, etag) = (put.now_ms, Arc::clone(&put.etag));
                return match self.occupied(open, permit, &to.key, put).await? {
                    Occupied::Same(object) => Ok((object.etag, object.modified_ms)),
                    Occupied::Adopted => Ok((etag, now)),
                    Occupied::Other => Err(overwrite_refused(open, &found.class, &to.key)),
                };
            }
            Err(e) => return Err(store_failed("publish the object", &e)),
        }
        let (etag, now) = (Arc::clone(&put.etag), put.now_ms);
        match self.state.record_published(permit, put, since).await {
            Ok(recorded) => {
                open.reaches(recorded.sequence);
                let digest = open.tell_written(&to.key, &found.class, captured).await;
                self.keep_digest(open, &to.key, hash.to_vec(), hash, digest.as_ref());
                self.look_at_checksum(open, &to.key, digest.as_ref(), footer)
                    .await;
                Ok((etag, now))
            }
            Err(WriteError::Exists(Some(row))) if row.hash == Some(hash) => {
                Ok((row.etag.clone(), row.modified_ms))
            }
            Err(WriteError::Exists(_)) => Err(overwrite_refused(open, &found.class, &to.key)),
            // Its bytes are in the store, and a recovery that reads the store lists them: this is no refusal.
            Err(WriteError::LockMoved(row)) => {
                open.gate.saw(*row);
                Err(open.lock_moved())
            }
            Err(e) => {
                if matches!(e, WriteError::KeyBusy) {
                    self.look_at_journal(open).await?;
                }
                Err(open.write_failed(caller, e))
            }
        }
    }

    /// Asks how far the journal has come.
    pub(super) async fn look_at_journal(&self, open: &OpenRepository) -> Result<(), Error> {
        let usage = self.state.usage(open.id).await;
        open.reaches(
            usage
                .map_err(|e| state_failed("look at its journal", &e))?
                .sequence,
        );
        Ok(())
    }

    /// A write-once name is taken in the store: by what the catalog knows, by deleted content, or by an orphan.
    async fn occupied(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        key: &ObjectKey,
        put: Put,
    ) -> Result<Occupied, Error> {
        let _turn = open.turn(key).await;
        self.look_at_journal(open).await?;
        let since = open.reached();
        let listed = self.lookup(open, key).await?.object;
        if let Some(object) = &listed
            && object.hash.is_some()
        {
            return Ok(verdict(object, object.hash == put.hash));
        }
        let Some(there) = self.content_at(open, key).await? else {
            return Err(Error::SlowDown(
                "The name was just freed; try again.".into(),
            ));
        };
        let same = (there.hash, there.size) == (put.hash.unwrap_or_default(), put.size);
        if let Some(object) = &listed {
            // Adopted: only its bytes say what it is.
            return Ok(verdict(object, same));
        }
        // Another node may be about to remove what was deleted.
        if same && !(self.state.shared() && self.is_deleted_here(open, key).await?) {
            let put = Put {
                identity: there.identity,
                ..put
            };
            let recorded = self.state.record_published(permit, put, since).await;
            recorded.map_err(|e| match e {
                WriteError::Failed(e) => state_failed("record the write", &e),
                WriteError::LockMoved(_)
                | WriteError::Exists(_)
                | WriteError::KeyBusy
                | WriteError::IntentGone
                | WriteError::UploadGone
                | WriteError::Pinned(_) => {
                    Error::SlowDown("Another write got in between; try again.".into())
                }
            })?;
            return Ok(Occupied::Adopted);
        }
        // Whose write it is, and whether that still runs, nobody knows: only an intent may take the name from it.
        open.contest(key);
        Err(Error::SlowDown(
            "Another write left something under this name; try again.".into(),
        ))
    }
}

impl OpenRepository {
    /// Lets the guard know of a write-once object; only shard indices have something to say.
    async fn tell_written(
        &self,
        key: &ObjectKey,
        class: &Class,
        captured: Option<Bytes>,
    ) -> Option<digest::Read> {
        let digest = match captured {
            Some(bytes) => read_digest(class, bytes).await,
            None => None,
        };
        self.guarding.written(key, class, digest.clone());
        digest
    }
}

enum Occupied {
    Same(Object),
    Adopted,
    Other,
}

fn verdict(object: &Object, same: bool) -> Occupied {
    if same {
        Occupied::Same(object.clone())
    } else {
        Occupied::Other
    }
}

/// Other content under a name that is written once.
fn overwrite_refused(open: &OpenRepository, class: &Class, key: &ObjectKey) -> Error {
    match open.guarding.overwrite(key, class, false, None) {
        Err(refused) => refused,
        Ok(_) => Error::SlowDown("Another write to this key is under way; try again.".into()),
    }
}
