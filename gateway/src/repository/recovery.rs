//! What a start, a crash or a hand-over left open is brought to an end.
//!
//! An open intent is resolved by one rule: make sure that its upload can never be published any more; read
//! what lies at the name; the recorded bytes there mean that the write took effect, so it is committed; any
//! other content means that it did not, so it is aborted. Whoever resolves gets the same answer.

use std::collections::HashSet;

use policies::identity::Cluster;
use policies::lock::{self, Freeze, Lock, Permit};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::{Door, Error};
use crate::state::{Intent, WriteError};

impl Door {
    /// Before anything listens: row and anchors agree, half-done hand-overs and open intents are brought to
    /// their end, uploads that nothing refers to are removed. A repository whose store fails is frozen.
    pub async fn recover(&self) -> Result<(), Error> {
        let mut swept = HashSet::new();
        for open in self.repositories.values() {
            if matches!(
                open.gate.row().lock,
                Lock::Frozen {
                    reason: Freeze::StoreUnreachable,
                    ..
                }
            ) {
                continue;
            }
            let done = match self.resume_lock(open).await {
                Ok(()) => self.resolve_all(open).await,
                Err(e) => Err(Error::Unavailable(e.to_string())),
            };
            let done = match done {
                Ok(()) if swept.insert(open.plan.store.clone()) => {
                    self.sweep_store_uploads(open).await
                }
                other => other,
            };
            let done = match done {
                Ok(()) => self.load_guard(open).await,
                Err(e) => Err(e),
            };
            if let Err(e) = done {
                tracing::error!(repository = %open.name, cause = %e, "frozen: what the last run left open could not be brought to an end");
                open.gate.doubt(Freeze::StoreUnreachable);
            }
        }
        Ok(())
    }

    /// Ends every open intent of a repository. Idempotent.
    pub async fn resolve_all(&self, open: &OpenRepository) -> Result<(), Error> {
        let intents = self
            .state
            .intents(open.id)
            .await
            .map_err(|e| state_failed("list open intents", &e))?;
        for intent in intents {
            let permit = lock::settle(&open.name, &intent.cluster, intent.epoch);
            let _turn = open.turn(&intent.put.key).await;
            self.resolve(open, &permit, &intent).await?;
        }
        Ok(())
    }

    /// The caller has the turn at the key.
    pub(super) async fn resolve(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        intent: &Intent,
    ) -> Result<(), Error> {
        let key = &intent.put.key;
        open.store
            .abort(permit, key, &intent.upload)
            .await
            .map_err(|e| store_failed("abort an unfinished upload", &e))?;
        let there = self.content_of(open, intent).await?;
        let took_effect = there.is_some();
        tracing::info!(repository = %open.name, key = %key, took_effect, "resolved an open intent");
        match there {
            Some(identity) => match self.state.commit_intent(intent.id, identity).await {
                Ok(_) | Err(WriteError::IntentGone) => Ok(()),
                Err(WriteError::Failed(e)) => Err(state_failed("record a resolved write", &e)),
                Err(
                    e @ (WriteError::LockMoved(_)
                    | WriteError::Exists(_)
                    | WriteError::KeyBusy
                    | WriteError::UploadGone),
                ) => Err(super::unavailable("record a resolved write", &e)),
            },
            None => self
                .state
                .abort_intent(intent.id)
                .await
                .map_err(|e| state_failed("end an intent", &e)),
        }
    }

    /// The identity of the store's content if it is what the intent was to publish.
    async fn content_of(
        &self,
        open: &OpenRepository,
        intent: &Intent,
    ) -> Result<Option<crate::stores::Identity>, Error> {
        let Some(stat) = open
            .store
            .stat(&intent.put.key)
            .await
            .map_err(|e| store_failed("look at a written object", &e))?
        else {
            return Ok(None);
        };
        if stat.size != intent.put.size {
            return Ok(None);
        }
        let parts = intent.put.details.as_ref().map_or(&[][..], |d| &d.parts);
        let held = self.content_hashed_as(open, &intent.put.key, parts).await?;
        Ok(held
            .filter(|h| Some(h.hash) == intent.put.hash && h.size == intent.put.size)
            .map(|h| h.identity))
    }

    /// Hidden uploads that neither an intent nor a client's multipart upload refers to are left over from a crash.
    pub(super) async fn sweep_store_uploads(&self, open: &OpenRepository) -> Result<(), Error> {
        let mut known = HashSet::new();
        for other in self
            .repositories
            .values()
            .filter(|other| other.plan.store == open.plan.store)
        {
            known.extend(
                self.state
                    .store_uploads(other.id)
                    .await
                    .map_err(|e| state_failed("list the uploads", &e))?,
            );
        }
        let us = Cluster::new("snapgate");
        let permit = lock::settle(&open.name, &us, open.gate.row().lock.epoch());
        let left = open
            .store
            .uploads()
            .await
            .map_err(|e| store_failed("list unfinished uploads", &e))?;
        for (key, upload) in left
            .into_iter()
            .filter(|(_, upload)| !known.contains(upload))
        {
            open.store
                .abort(&permit, &key, &upload)
                .await
                .map_err(|e| store_failed("remove an unfinished upload", &e))?;
        }
        Ok(())
    }
}
