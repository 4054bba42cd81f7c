//! What a start, a crash or a hand-over left open is brought to an end.
//!
//! An open intent is resolved by one rule: make sure that its upload can never be published any more; read
//! what lies at the name; the recorded bytes there mean that the write took effect, so it is committed; any
//! other content means that it did not, so it is aborted. Whoever resolves gets the same answer.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use policies::identity::StoreName;
use policies::key::{Class, ObjectKey, Writing};
use policies::lock::{self, Found, Freeze, IntentFacts, Lock, Permit, Resolution, UploadFact};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::sequences::Moment;
use super::{Door, Error};
use crate::state::{Intent, Tombstone, WriteError};
use crate::stores::Identity;

#[cfg(test)]
mod tests;

/// Tries to recover a repository beside other nodes.
const AGAIN: usize = 4;
/// From a start that its store did not let through to the next try; then twice as long each time.
const SOON: Duration = Duration::from_secs(2);
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// What identifies content, for the resolver's rule.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Content {
    size: u64,
    hash: Option<[u8; 32]>,
}

impl Door {
    /// Before anything listens: row and anchors agree, half-done hand-overs are carried on; then this start stands
    /// in each store; and only then are open intents brought to their end and uploads removed that nothing refers
    /// to. A gateway that stood there before checks the number after its upload began: either it sees ours, or
    /// its upload is among those that are removed. A repository whose store fails is frozen.
    pub async fn recover(&self) -> Result<(), Error> {
        for open in self.repositories().values() {
            let mut prepared = self.prepare(open).await;
            for _ in 0..self.tries_again() {
                if prepared.is_ok() {
                    break;
                }
                prepared = self.prepare(open).await;
            }
            or_doubt(open, prepared);
        }
        let stores: BTreeSet<StoreName> = self
            .repositories()
            .values()
            .map(|open| open.plan.store.clone())
            .collect();
        for store in &stores {
            self.stand(store).await;
        }
        let mut swept = HashSet::new();
        for open in self.repositories().values() {
            if open.gate.doubted().is_none() {
                let mut settled = self.settle_start(open, &mut swept).await;
                for _ in 0..self.tries_again() {
                    if settled.is_ok() {
                        break;
                    }
                    settled = self.settle_start(open, &mut swept).await;
                }
                or_doubt(open, settled);
            }
        }
        Ok(())
    }

    /// Another node that starts, or moves the lock, may have come in between.
    fn tries_again(&self) -> usize {
        if self.state.shared() { AGAIN } else { 0 }
    }

    /// A start that could not be carried through, because its store did not answer, is made up for; until then
    /// nobody is let in.
    pub(super) async fn start_again(&self, open: &OpenRepository) -> Result<(), Error> {
        let _alone = self.starting.lock().await;
        let Some(open) = &self.repository(&open.name) else {
            return Ok(());
        };
        if open.gate.doubted().is_none() {
            return Ok(());
        }
        self.prepare(open).await?;
        if !self.stand(&open.plan.store).await {
            return Err(Error::Unavailable(
                "The store does not take the gateway's number; try again.".into(),
            ));
        }
        let mut swept = HashSet::new();
        let serves = |other: &Arc<OpenRepository>| !other.gate.is_frozen();
        if self.in_store(&open.plan.store).iter().any(serves) {
            // Uploads are under way there that no row names yet.
            swept.insert(open.plan.store.clone());
        }
        self.settle_start(open, &mut swept).await?;
        open.gate.trust();
        Ok(())
    }

    /// Whether a start is still to be made up for in this store, after another try.
    async fn is_still_away(&self, name: &StoreName) -> bool {
        let mut away = false;
        for open in self.in_store(name) {
            if open.gate.doubted() != Some(Freeze::StoreUnreachable) {
                continue;
            }
            match self.start_again(&open).await {
                Ok(()) => self.tell_made_up_for(&open, name),
                Err(e) => {
                    tracing::debug!(repository = %open.name, store = %name, cause = %e, "the store is still away");
                    away = true;
                }
            }
        }
        away
    }

    /// A start that is made up for may have found why the repository must stay frozen.
    fn tell_made_up_for(&self, open: &Arc<OpenRepository>, store: &StoreName) {
        let now = self.repository(&open.name);
        match now.as_ref().unwrap_or(open).gate.row().lock {
            Lock::Frozen { reason, .. } => {
                tracing::error!(repository = %open.name, store = %store, %reason, "the store answers, and the repository stays frozen");
            }
            Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => {
                tracing::warn!(repository = %open.name, store = %store, "the store answers: the start is made up for");
            }
        }
    }

    async fn prepare(&self, open: &Arc<OpenRepository>) -> Result<(), Error> {
        let promoting = self
            .resume_promotion(open)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        if promoting {
            // What follows looks at the repository where it is now.
            let Some(moved) = self.repository(&open.name) else {
                return Ok(());
            };
            if !Arc::ptr_eq(&moved, open) {
                return Ok(());
            }
        }
        if self.is_overtaken(open).await? {
            // Where it was promoted to says more than that somebody was there.
            self.look_elsewhere(open)
                .await
                .map_err(|e| Error::Unavailable(e.to_string()))?;
            tracing::error!(repository = %open.name, "frozen: another state database worked in its store since this one did");
            return self
                .freeze_for(open, Freeze::OtherGateway)
                .await
                .map_err(|e| Error::Unavailable(e.to_string()));
        }
        self.check_known(open).await?;
        self.resume_lock(open)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        self.look_elsewhere(open)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        if open.gate.told().lock.catalog_is_current() {
            self.reserve_numbers(open, Moment::Start).await?;
        }
        Ok(())
    }

    /// A state database that is older than the store, or in doubt, touches nothing.
    async fn settle_start(
        &self,
        open: &OpenRepository,
        swept: &mut HashSet<StoreName>,
    ) -> Result<(), Error> {
        if !open.gate.told().lock.catalog_is_current() {
            return Ok(());
        }
        // Whoever was here before stops at this start's number. An epoch that came before it is met now.
        self.resume_lock(open)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        if !open.gate.told().lock.catalog_is_current() {
            return Ok(());
        }
        self.look_at_journal(open).await?;
        self.resolve_abandoned(open).await?;
        if !swept.contains(&open.plan.store) {
            self.sweep_store_uploads(open).await?;
            swept.insert(open.plan.store.clone());
        }
        if let Some(root) = self.root_behind_us(open).await? {
            tracing::error!(repository = %open.name, root = %root, "frozen: the store holds a newer root than the catalog");
            let appeared = self.root_appeared(open, &root).await;
            return self
                .freeze_for(open, appeared)
                .await
                .map_err(|e| Error::Unavailable(e.to_string()));
        }
        self.resume_rest(open).await?;
        self.load_guard(open).await
    }

    /// The newest root in the store, if the catalog does not know it: the database is older than the store (anchors
    /// say nothing within one epoch), or somebody wrote past the gateway.
    pub(super) async fn root_behind_us(
        &self,
        open: &OpenRepository,
    ) -> Result<Option<ObjectKey>, Error> {
        let base = open.plan.prefix();
        let listed = crate::stores::own::names(open.store.as_ref(), &format!("{base}index-"))
            .await
            .map_err(|e| store_failed("list its roots", &e))?;
        let generation = |key: &ObjectKey| match Class::parse(key.as_str().strip_prefix(&base)?) {
            Class::Root(generation) => Some(generation),
            _other => None,
        };
        let in_store = listed
            .iter()
            .filter_map(|key| Some((generation(key)?, key)))
            .max();
        let known = self
            .newest_root(open)
            .await?
            .map(|(generation, _)| generation);
        Ok(in_store
            .filter(|(generation, _)| known.is_none_or(|known| *generation > known))
            .map(|(_, key)| key.clone()))
    }

    /// Ends every open intent of a repository. Idempotent.
    pub async fn resolve_all(&self, open: &OpenRepository) -> Result<(), Error> {
        let intents = self
            .state
            .intents(open.id)
            .await
            .map_err(|e| state_failed("list open intents", &e))?;
        self.resolve_each(open, intents).await
    }

    /// Ends this process's own open intents, and those of nodes that are presumed dead. Idempotent.
    pub(super) async fn resolve_abandoned(&self, open: &OpenRepository) -> Result<(), Error> {
        let intents = self
            .state
            .abandoned_intents(open.id)
            .await
            .map_err(|e| state_failed("list open intents", &e))?;
        self.resolve_each(open, intents).await
    }

    async fn resolve_each(&self, open: &OpenRepository, intents: Vec<Intent>) -> Result<(), Error> {
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
        let (found, identity) = self.found_at(open, intent).await?;
        let expects = Content {
            size: intent.put.size,
            hash: intent.put.hash,
        };
        let catalog = self.lookup(open, key).await?.object;
        // The store's identity tells that the catalog's content still lies there, whatever it was hashed as: in
        // parts, or not at all (adopted).
        let catalog = catalog.map(|row| match (&identity, found) {
            (Some(identity), Some(found)) if *identity == row.identity => found,
            (Some(_) | None, _) => Content {
                size: row.size,
                hash: row.hash,
            },
        });
        let facts = IntentFacts {
            upload: UploadFact::Gone,
            found: found.map_or(Found::Nothing, Found::Content),
            expects,
            catalog,
        };
        let resolution = lock::resolve(&facts);
        tracing::info!(repository = %open.name, key = %key, ?resolution, "resolved an open intent");
        match (resolution, identity) {
            (Resolution::Commit, Some(identity)) => {
                match self.state.commit_intent(intent.id, identity).await {
                    Ok(_) | Err(WriteError::IntentGone) => Ok(()),
                    Err(WriteError::Failed(e)) => Err(state_failed("record a resolved write", &e)),
                    Err(
                        e @ (WriteError::LockMoved(_)
                        | WriteError::Exists(_)
                        | WriteError::KeyBusy
                        | WriteError::UploadGone
                        | WriteError::Pinned(_)),
                    ) => Err(super::unavailable("record a resolved write", &e)),
                }
            }
            (Resolution::Abort, _) => {
                self.keep_in_place(open, permit, key).await?;
                self.drop_second_names(open, permit, intent).await?;
                self.state
                    .abort_intent(intent.id)
                    .await
                    .map_err(|e| state_failed("end an intent", &e))
            }
            // The catalog that is about to be read anew says what lies there.
            (Resolution::Freeze, _) if is_recovering(&open.gate.told().lock) => self
                .state
                .abort_intent(intent.id)
                .await
                .map_err(|e| state_failed("end an intent", &e)),
            (Resolution::Freeze, _) => {
                self.doubt(open, Freeze::RootAppeared(key.to_string()))
                    .await;
                Err(Error::Unavailable(format!(
                    "The store holds '{key}' with content that nobody wrote through this gateway."
                )))
            }
            (Resolution::AskAgain, _) | (Resolution::Commit, None) => Err(Error::SlowDown(
                "The store did not say what it holds; try again.".into(),
            )),
        }
    }

    /// What lies at the intent's name, and the store's identity of it; deleted content that is only kept counts
    /// as nothing, as does what the catalog does not show under a write-once name.
    async fn found_at(
        &self,
        open: &OpenRepository,
        intent: &Intent,
    ) -> Result<(Option<Content>, Option<Identity>), Error> {
        let key = &intent.put.key;
        let parts = intent.put.details.as_ref().map_or(&[][..], |d| &d.parts);
        let Some(held) = self.content_hashed_as(open, key, parts).await? else {
            return Ok((None, None));
        };
        let tombstones = self.tombstones_of(open, key).await?;
        let is_held = |t: &Tombstone| {
            t.object.identity == held.identity
                || (t.object.hash == Some(held.hash) && t.object.size == held.size)
        };
        // Shown again after it was deleted: the tombstone only remembers that.
        let visible = self.lookup(open, key).await?.object;
        let is_visible = visible
            .as_ref()
            .is_some_and(|object| object.identity == held.identity);
        let deleted = !is_visible && tombstones.iter().any(is_held);
        // Another write of a write-once name may have published there and not recorded it yet.
        let unlisted = visible.is_none()
            && self
                .class_here(open, key)
                .is_some_and(|class| class.writing() == Writing::Once);
        if Some(held.hash) != intent.put.hash && (deleted || unlisted) {
            return Ok((None, None));
        }
        Ok((
            Some(Content {
                size: held.size,
                hash: Some(held.hash),
            }),
            Some(held.identity),
        ))
    }

    /// Hidden uploads that neither an intent nor a client's multipart upload refers to are left over from a crash.
    /// Other nodes' uploads are theirs.
    pub(super) async fn sweep_store_uploads(&self, open: &OpenRepository) -> Result<(), Error> {
        let others = self.state.others_alive().await;
        if others.map_err(|e| state_failed("ask for other nodes", &e))? > 0 {
            tracing::info!(store = %open.plan.store, "unfinished uploads are left to a start without other nodes");
            return Ok(());
        }
        let mut known = HashSet::new();
        for other in self
            .repositories()
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
        let permit = open.upkeep();
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

/// Carries starts through that a store did not let through, as soon as it does; runs until the process ends.
pub async fn wait_for(door: Arc<Door>, store: StoreName) {
    let mut pause = SOON;
    loop {
        tokio::time::sleep(pause).await;
        let away = door.is_still_away(&store).await;
        pause = if away {
            (pause * 2).min(AT_LEAST_EVERY)
        } else {
            SOON
        };
    }
}

fn or_doubt(open: &OpenRepository, done: Result<(), Error>) {
    if let Err(e) = done {
        tracing::error!(repository = %open.name, cause = %e, "frozen: what the last run left open could not be brought to an end");
        open.gate.doubt(Freeze::StoreUnreachable);
    }
}

pub(super) fn is_recovering(lock: &Lock) -> bool {
    matches!(
        lock,
        Lock::Frozen {
            reason: Freeze::Recovering,
            ..
        }
    )
}
