//! Making the catalog fit what a store holds: adopting a repository that was there before, and recovering
//! after the state database was lost or restored.
//!
//! Decides, before anything listens, whether the store is known: one that holds objects the catalog does not
//! know is frozen until it is adopted. A scan only adds rows
//! for what lies there and takes out rows for what does not; it changes no object. A listing that fails changes nothing.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use policies::key::{Class, ObjectKey, Place, RESERVED, Writing};
use policies::lock::{Freeze, Lock, Permit};
use serde::{Deserialize, Serialize};

mod older;
mod rebuild;
#[cfg(test)]
mod tests;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::list::next_page;
use super::verify::Progress;
use super::{Door, Error, unavailable};
use crate::checkpoint;
use crate::state::{Object, Put, Removal, Usage, WriteError};
use crate::stores::listing::Listing;
use crate::stores::{Listed, Stat};
use crate::telemetry::clock;

const PAGE: usize = 1000;
/// Unknown keys that are named.
const NAMED: usize = 100;
/// The name under which the state database keeps where an adoption stands.
const WORK: &str = "adopt";
const VERSION: u32 = 1;

/// How far a scan of the store is, and what it found; kept in the state database as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    version: u32,
    /// Names up to this one are in the catalog.
    after: Option<String>,
    done: bool,
    pub objects: u64,
    pub bytes: u64,
    /// Of no kind that a cluster writes.
    pub unknown: u64,
    /// The first of them.
    pub unknown_keys: Vec<String>,
    /// Objects that an earlier try had read before it was cut short.
    #[serde(skip)]
    pub resumed_at: u64,
}

impl Scan {
    fn count(&mut self, listed: &Listed, class: &Class) {
        self.version = VERSION;
        self.objects += 1;
        self.bytes += listed.stat.size;
        if *class == Class::Unknown {
            self.unknown += 1;
            if self.unknown_keys.len() < NAMED {
                self.unknown_keys.push(listed.name.as_str().to_owned());
            }
        }
    }
}

impl Door {
    /// Looks at the store once, before anything listens: one that holds what the catalog does not know freezes.
    pub(super) async fn check_known(&self, open: &OpenRepository) -> Result<(), Error> {
        let Lock::Vacant { .. } = open.gate.told().lock else {
            return Ok(());
        };
        if !self.holds_a_repository(open).await? {
            return Ok(());
        }
        let usage = self.state.usage(open.id).await;
        if usage.map_err(|e| state_failed("count its catalog", &e))? != Usage::default() {
            return Ok(());
        }
        let reason = self.unadopted(open).await?;
        tracing::error!(
            repository = %open.name,
            "frozen: {reason}; nothing is served until {}",
            reason.remedy(&open.name)
        );
        self.freeze_for(open, reason)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))
    }

    /// What registrations and analyses leave is none: it is written without the lock, and lies there before the catalog
    /// knows it, if its gateway died or another node is writing it just now.
    async fn holds_a_repository(&self, open: &OpenRepository) -> Result<bool, Error> {
        let prefix = open.plan.prefix();
        let mut there = Listing::of(open.store.as_ref(), &prefix);
        while let Some(listed) = there
            .next()
            .await
            .map_err(|e| store_failed("list the store", &e))?
        {
            let class = self.class_here(open, &listed.name);
            if class.is_none_or(|class| class.writing() != Writing::Free) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A store with a checkpoint can be taken over with all that its catalog said.
    async fn unadopted(&self, open: &OpenRepository) -> Result<Freeze, Error> {
        match checkpoint::find(open.store.as_ref(), &open.name).await {
            Ok(Some(_)) => Ok(Freeze::UnadoptedMirror(open.plan.store.to_string())),
            Ok(None) => Ok(Freeze::Unadopted),
            Err(e) if e.is_damage() => {
                tracing::warn!(repository = %open.name, cause = %e, "its checkpoint cannot be used");
                Ok(Freeze::Unadopted)
            }
            Err(e) => Err(unavailable("look for a checkpoint", &e)),
        }
    }

    /// Reads the whole store and makes this repository's part of the catalog fit. Returns the objects found.
    pub(super) async fn scan(&self, open: &OpenRepository) -> Result<u64, Error> {
        let mut scan = Scan::default();
        while !scan.done {
            self.scan_page(open, &mut scan).await?;
            tracing::info!(repository = %open.name, objects = scan.objects, "reading the store");
        }
        Ok(scan.objects)
    }

    /// As [`Self::scan`], from where the last try stopped; where it stands is written down after each page.
    pub(super) async fn scan_on(
        &self,
        open: &OpenRepository,
        progress: &Progress<'_>,
    ) -> Result<Scan, Error> {
        let kept = self.state.position(open.id, WORK).await;
        let kept = kept.map_err(|e| state_failed("read where the adoption stands", &e))?;
        let mut scan = kept
            .and_then(|text| serde_json::from_str::<Scan>(&text).ok())
            .filter(|scan| scan.version == VERSION)
            .unwrap_or_default();
        scan.resumed_at = scan.objects;
        while !scan.done {
            self.scan_page(open, &mut scan).await?;
            progress(scan.objects, scan.bytes);
            let text = serde_json::to_string(&scan).expect("numbers and texts are JSON");
            self.state
                .keep_position(open.id, WORK, Some(text))
                .await
                .map_err(|e| state_failed("note where the adoption stands", &e))?;
        }
        Ok(scan)
    }

    /// The adoption is over, or must begin anew.
    pub(super) async fn forget_scan(&self, open: &OpenRepository) -> Result<(), Error> {
        self.state
            .keep_position(open.id, WORK, None)
            .await
            .map_err(|e| state_failed("forget where the adoption stood", &e))
    }

    /// Whether an adoption was begun and not finished: a start carries it on.
    pub async fn is_half_adopted(&self, open: &OpenRepository) -> bool {
        let unadopted = matches!(
            open.gate.row().lock,
            Lock::Frozen {
                reason: Freeze::Unadopted | Freeze::UnadoptedMirror(_),
                ..
            }
        );
        unadopted && matches!(self.state.position(open.id, WORK).await, Ok(Some(_)))
    }

    async fn scan_page(&self, open: &OpenRepository, scan: &mut Scan) -> Result<(), Error> {
        let page = open
            .store
            .list("", scan.after.as_deref(), PAGE)
            .await
            .map_err(|e| store_failed("list the store", &e))?;
        let last = page.len() < PAGE;
        let until = page.last().map(|l| l.name.as_str().to_owned());
        let mut ours = BTreeMap::new();
        for listed in page {
            if let Some(class) = self.class_here(open, &listed.name) {
                scan.count(&listed, &class);
                ours.insert(listed.name, listed.stat);
            }
        }
        let after = scan.after.take();
        self.fit(open, after, until.clone().filter(|_| !last), ours)
            .await?;
        scan.after = until;
        scan.done = last;
        Ok(())
    }

    /// The part that a name plays in this repository, if it belongs to it.
    pub(super) fn class_here(&self, open: &OpenRepository, name: &ObjectKey) -> Option<Class> {
        if name.as_str().starts_with(RESERVED) {
            return None;
        }
        match self.layout.locate(&open.plan.bucket, name) {
            Place::In { repository, class } if repository == open.name => Some(class),
            Place::In { .. }
            | Place::NestedRoot { .. }
            | Place::View(_)
            | Place::Outside { .. }
            | Place::Reserved
            | Place::NoSuchBucket => None,
        }
    }

    /// One stretch of names, after `after` and up to `until`: the catalog gets to say what the store holds. The catalog
    /// is read in pages too: of what the store lost there may be more than memory holds.
    async fn fit(
        &self,
        open: &OpenRepository,
        after: Option<String>,
        until: Option<String>,
        mut there: BTreeMap<ObjectKey, Stat>,
    ) -> Result<(), Error> {
        let permit = open.upkeep();
        let mut walk = self.walk(open).between(after, until);
        while let Some(known) = next_page(&mut walk).await? {
            let mut replaced = Vec::new();
            let mut gone = Vec::new();
            for object in known {
                match there.remove(&object.key) {
                    Some(stat) if fits(&object, &stat) => {}
                    Some(stat) => replaced.push((object.key, stat)),
                    None => gone.push(object.key),
                }
            }
            // The content of before is held nowhere: restore points that needed it are not complete any more.
            let lost = replaced.iter().map(|(key, _)| key.clone()).collect();
            self.take_out(open, &permit, lost, true).await?;
            self.take_in(open, &permit, replaced).await?;
            self.take_out(open, &permit, gone, false).await?;
        }
        self.take_in(open, &permit, there.into_iter().collect())
            .await
    }

    async fn take_in(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        found: Vec<(ObjectKey, Stat)>,
    ) -> Result<(), Error> {
        let mut puts = Vec::with_capacity(found.len());
        for (name, stat) in found {
            let listed = Listed { name, stat };
            if !self.is_deleted(open, &listed).await? {
                puts.push(adopted(open, listed));
            }
        }
        try_join_all(puts.into_iter().map(|put| self.state.record(permit, put)))
            .await
            .map(|_| ())
            .map_err(|e| write_failed(&e))
    }

    /// What is replaced is a change of the name's content, which the journal tells when the new one is recorded.
    async fn take_out(
        &self,
        open: &OpenRepository,
        permit: &Permit,
        gone: Vec<ObjectKey>,
        replaced: bool,
    ) -> Result<(), Error> {
        if gone.is_empty() {
            return Ok(());
        }
        let now_ms = clock::now_ms();
        let removals = gone
            .into_iter()
            .map(|key| {
                tracing::warn!(repository = %open.name, key = %key, replaced, "the catalog knew content that the store does not hold");
                Removal { bucket: open.bucket_id, repository: open.id, key, retain_ms: None, journalled: !replaced, now_ms }
            })
            .collect();
        self.state
            .remove(permit, removals)
            .await
            .map(|_| ())
            .map_err(|e| write_failed(&e))
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

pub(super) fn fits(object: &Object, stat: &Stat) -> bool {
    object.size == stat.size && object.identity == stat.identity
}

/// The ETag of an object whose MD5 is unknown: it contains a `-`.
pub(super) fn adopted_etag(listed: &Listed) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(listed.name.as_str().as_bytes());
    hasher.update(listed.stat.identity.0.as_bytes());
    format!("{}-1", hex::encode(&hasher.finalize().as_bytes()[..16]))
}

/// A row for an object that came into the store without the gateway.
fn adopted(open: &OpenRepository, listed: Listed) -> Put {
    let etag = adopted_etag(&listed);
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
        replaces: None,
        kept: None,
        journalled: true,
        completes: None,
        root: None,
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
        | WriteError::UploadGone
        | WriteError::Pinned(_) => unavailable("record what the store holds", e),
    }
}
