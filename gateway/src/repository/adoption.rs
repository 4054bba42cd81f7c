//! Making the catalog fit what a store holds: adopting a repository that was there before, and recovering
//! after the state database was lost or restored.
//!
//! Decides, before anything listens, whether the store is known: one that holds objects the catalog does not
//! know is frozen until it is adopted. A scan only adds rows
//! for what lies there and takes out rows for what does not; it changes no object. A listing that fails changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use policies::key::{ObjectKey, Place, RESERVED};
use policies::lock::{Freeze, Lock, Permit};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::{Address, Door, Error, unavailable};
use crate::state::{Entry, ListQuery, Object, Put, Removal, Usage, WriteError};
use crate::stores::{Listed, Stat};
use crate::telemetry::clock;

const PAGE: usize = 1000;

impl Door {
    /// Looks at the store once, before anything listens: one that holds what the catalog does not know freezes.
    pub(super) async fn check_known(&self, open: &Arc<OpenRepository>) -> Result<(), Error> {
        let Lock::Vacant { .. } = open.gate.row().lock else {
            return Ok(());
        };
        let first = open.store.list(&open.plan.prefix(), None, 1).await;
        if first
            .map_err(|e| store_failed("list the store", &e))?
            .is_empty()
        {
            return Ok(());
        }
        let usage = self.state.usage(open.id).await;
        if usage.map_err(|e| state_failed("count its catalog", &e))? != Usage::default() {
            return Ok(());
        }
        tracing::error!(
            repository = %open.name,
            "frozen: the store holds objects that this gateway does not know; adopt them with: snapgate adopt {}",
            open.name
        );
        self.freeze_for(open, Freeze::Unadopted)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))
    }

    /// Reads the whole store and makes this repository's part of the catalog fit. Returns the objects found.
    pub(super) async fn scan(&self, open: &OpenRepository) -> Result<u64, Error> {
        let permit = open.upkeep();
        let mut after: Option<String> = None;
        let mut found = 0;
        loop {
            let page = open
                .store
                .list("", after.as_deref(), PAGE)
                .await
                .map_err(|e| store_failed("list the store", &e))?;
            let last = page.len() < PAGE;
            let until = page.last().map(|l| l.name.as_str().to_owned());
            let ours: Vec<Listed> = page
                .into_iter()
                .filter(|listed| self.belongs(open, &listed.name))
                .collect();
            found += ours.len() as u64;
            self.fit(
                open,
                &permit,
                after.clone(),
                until.clone().filter(|_| !last),
                ours,
            )
            .await?;
            tracing::info!(repository = %open.name, objects = found, "reading the store");
            if last {
                return Ok(found);
            }
            after = until;
        }
    }

    fn belongs(&self, open: &OpenRepository, name: &ObjectKey) -> bool {
        if name.as_str().starts_with(RESERVED) {
            return false;
        }
        let at = Address {
            bucket: open.plan.bucket.clone(),
            key: name.clone(),
        };
        matches!(self.layout.locate(&at.bucket, &at.key), Place::In { repository, .. } if repository == open.name)
    }

    /// One stretch of names, after `after` and up to `until`: the catalog gets to say what the store holds.
    async fn fit(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        after: Option<String>,
        until: Option<String>,
        there: Vec<Listed>,
    ) -> Result<(), Error> {
        let mut known = self.known_between(open, after, until.as_deref()).await?;
        let mut puts = Vec::new();
        for listed in there {
            match known.remove(&listed.name) {
                Some(object) if fits(&object, &listed.stat) => {}
                replaced => {
                    if !self.is_deleted(open, &listed).await? {
                        puts.push(adopted(open, listed, replaced.map(|o| o.sequence)));
                    }
                }
            }
        }
        let recorded =
            try_join_all(puts.into_iter().map(|put| self.state.record(permit, put))).await;
        recorded.map_err(|e| write_failed(&e))?;
        let now_ms = clock::now_ms();
        let gone: Vec<Removal> = known
            .into_keys()
            .map(|key| {
                tracing::warn!(repository = %open.name, key = %key, "the catalog knew an object that the store does not hold");
                Removal { bucket: open.bucket_id, repository: open.id, key, retain_ms: None, journalled: true, now_ms }
            })
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.state
            .remove(permit, gone)
            .await
            .map(|_| ())
            .map_err(|e| write_failed(&e))
    }

    async fn known_between(
        &self,
        open: &OpenRepository,
        after: Option<String>,
        until: Option<&str>,
    ) -> Result<BTreeMap<ObjectKey, Object>, Error> {
        let mut known = BTreeMap::new();
        let mut after = after;
        loop {
            let query = ListQuery {
                bucket: open.bucket_id,
                repositories: [open.id].into(),
                prefix: String::new(),
                delimiter: None,
                after,
                limit: PAGE,
            };
            let page = self
                .state
                .list(&query)
                .await
                .map_err(|e| state_failed("list its catalog", &e))?;
            let mut last = None;
            for entry in page.entries {
                let Entry::Object(object) = entry else {
                    continue;
                };
                if until.is_some_and(|until| object.key.as_str() > until) {
                    return Ok(known);
                }
                last = Some(object.key.as_str().to_owned());
                known.insert(object.key.clone(), object);
            }
            if !page.truncated || last.is_none() {
                return Ok(known);
            }
            after = last;
        }
    }

    /// Deleted content whose retention runs lies at its name still; it stays hidden.
    async fn is_deleted(&self, open: &OpenRepository, listed: &Listed) -> Result<bool, Error> {
        let tombstones = self
            .state
            .tombstone(open.id, &listed.name)
            .await
            .map_err(|e| state_failed("look up deleted objects", &e))?;
        Ok(tombstones
            .iter()
            .any(|t| t.location == listed.name && t.object.identity == listed.stat.identity))
    }
}

fn fits(object: &Object, stat: &Stat) -> bool {
    object.size == stat.size && object.identity == stat.identity
}

/// A row for an object that came into the store without the gateway: its MD5 is unknown, so its ETag contains a `-`.
fn adopted(open: &OpenRepository, listed: Listed, replaces: Option<u64>) -> Put {
    let mut hasher = blake3::Hasher::new();
    hasher.update(listed.name.as_str().as_bytes());
    hasher.update(listed.stat.identity.0.as_bytes());
    let etag = format!("{}-1", hex::encode(&hasher.finalize().as_bytes()[..16]));
    Put {
        repository: open.id,
        bucket: open.bucket_id,
        key: listed.name,
        size: listed.stat.size,
        etag: etag.into(),
        hash: None,
        identity: listed.stat.identity,
        now_ms: listed.stat.modified_ms,
        details: None,
        replaces,
        kept: None,
        journalled: true,
        completes: None,
        answer: None,
    }
}

fn write_failed(e: &WriteError) -> Error {
    match e {
        WriteError::Failed(e) => state_failed("record what the store holds", e),
        WriteError::LockMoved(_)
        | WriteError::Exists(_)
        | WriteError::KeyBusy
        | WriteError::IntentGone
        | WriteError::UploadGone => unavailable("record what the store holds", e),
    }
}
