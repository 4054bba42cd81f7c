//! What a start, a crash or a hand-over left open is brought to an end.
//!
//! An open intent is resolved by one rule: make sure that its upload can never be published any more; read
//! what lies at the name; the recorded bytes there mean that the write took effect, so it is committed; any
//! other content means that it did not, so it is aborted. Whoever resolves gets the same answer.

use std::collections::HashSet;

use policies::lock::{self, Permit};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::reaper::settle_permit;
use super::{Door, Error};
use crate::state::{Intent, WriteError};

impl Door {
    /// Before anything listens: resolves open intents and removes uploads that nothing refers to.
    pub async fn recover(&self) -> Result<(), Error> {
        for open in self.repositories.values() {
            self.resolve_all(open).await?;
        }
        self.sweep_uploads().await
    }

    /// Ends every open intent of a repository. Idempotent.
    pub async fn resolve_all(&self, open: &OpenRepository) -> Result<(), Error> {
        let intents = self.state.intents(open.id).await.map_err(|e| state_failed("list open intents", &e))?;
        for intent in intents {
            let permit = lock::settle(&open.name, &intent.cluster, intent.epoch);
            let _turn = open.turn(&intent.put.key).await;
            self.resolve(open, &permit, &intent).await?;
        }
        Ok(())
    }

    /// The caller has the turn at the key.
    pub(super) async fn resolve(&self, open: &OpenRepository, permit: &Permit, intent: &Intent) -> Result<(), Error> {
        let key = &intent.put.key;
        open.store.abort(permit, key, &intent.upload).await.map_err(|e| store_failed("abort an unfinished upload", &e))?;
        let there = self.content_of(open, intent).await?;
        let took_effect = there.is_some();
        tracing::info!(repository = %open.name, key = %key, took_effect, "resolved an open intent");
        match there {
            Some(identity) => match self.state.commit_intent(intent.id, identity).await {
                Ok(_) | Err(WriteError::IntentGone) => Ok(()),
                Err(WriteError::Failed(e)) => Err(state_failed("record a resolved write", &e)),
                Err(e @ (WriteError::LockMoved(_) | WriteError::Exists(_) | WriteError::KeyBusy | WriteError::UploadGone)) => {
                    Err(super::unavailable("record a resolved write", &e))
                }
            },
            None => self.state.abort_intent(intent.id).await.map_err(|e| state_failed("end an intent", &e)),
        }
    }

    /// The identity of the store's content if it is what the intent was to publish.
    async fn content_of(&self, open: &OpenRepository, intent: &Intent) -> Result<Option<crate::stores::Identity>, Error> {
        let Some(stat) = open.store.stat(&intent.put.key).await.map_err(|e| store_failed("look at a written object", &e))? else {
            return Ok(None);
        };
        if stat.size != intent.put.size {
            return Ok(None);
        }
        let parts = intent.put.details.as_ref().map_or(&[][..], |d| &d.parts);
        let held = self.content_hashed_as(open, &intent.put.key, parts).await?;
        Ok(held.filter(|h| Some(h.hash) == intent.put.hash && h.size == intent.put.size).map(|h| h.identity))
    }

    /// Hidden uploads that neither an intent nor a client's multipart upload refers to are left over from a crash.
    async fn sweep_uploads(&self) -> Result<(), Error> {
        let mut known = HashSet::new();
        for open in self.repositories.values() {
            let uploads = self.state.store_uploads(open.id).await.map_err(|e| state_failed("list the uploads", &e))?;
            known.extend(uploads);
        }
        let mut swept = HashSet::new();
        for open in self.repositories.values() {
            if !swept.insert(open.plan.store.clone()) {
                continue;
            }
            let Some(permit) = settle_permit(open) else {
                continue;
            };
            let left = match open.store.uploads().await {
                Ok(left) => left,
                Err(e) => {
                    tracing::warn!(store = %open.plan.store, cause = %e, "unfinished uploads cannot be listed now; they stay");
                    continue;
                }
            };
            for (key, upload) in left.into_iter().filter(|(_, upload)| !known.contains(upload)) {
                open.store.abort(&permit, &key, &upload).await.map_err(|e| store_failed("remove an unfinished upload", &e))?;
            }
        }
        Ok(())
    }
}
