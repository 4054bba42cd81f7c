//! Makes the catalog what the new store has.
//!
//! First what is said of it (this database as of what the mirror applied, or the store's checkpoint), then one
//! listing of the store against that: an object that is not there goes, one that nobody spoke of is adopted, one of
//! another size is adopted anew. Names whose content may change are told apart by their bytes where the size does
//! not tell. Everything may be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use md5::Digest;
use policies::key::{Class, ObjectKey, Place, Writing};

use super::BATCH;
use crate::checkpoint::{self, Row, Stored};
use crate::digest::Whole;
use crate::repository::adoption::adopted_etag;
use crate::repository::door::OpenRepository;
use crate::repository::gate::state_failed;
use crate::repository::handover::Error;
use crate::repository::ingest::store_failed;
use crate::repository::{Door, unavailable};
use crate::state::{
    Basis, CommittedRoot, Imported, ImportedObject, Object, Pin, Promotion, RestorePoint,
};
use crate::stores::{Identity, Listed, Store};

const PAGE: usize = 1000;
/// Larger content under a name that may change is adopted anew instead of being read.
const LARGEST_READ: u64 = 64 << 20;

/// How a row that the store may have come to after it is looked at.
#[derive(Clone, Copy)]
struct Doubt {
    /// Rows after this sequence may not have been applied yet.
    after: u64,
}

impl Door {
    /// Returns the sequence that the catalog describes then.
    pub(super) async fn make_catalog(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        promotion: &Promotion,
    ) -> Result<u64, Error> {
        let (kept, doubt) = match promotion.basis {
            Basis::Catalog { sequence } => (sequence, sequence),
            Basis::Checkpoint { sequence } => {
                match self.load_checkpoint(open, target, promotion).await {
                    Ok(described) => (described, self.newest_applied(open, target).await?),
                    Err(checkpoint::Error::Store(e)) => {
                        return Err(store_failed("read the checkpoint", &e).into());
                    }
                    Err(checkpoint::Error::State(e)) => {
                        return Err(state_failed("load the checkpoint", &e).into());
                    }
                    Err(e @ checkpoint::Error::Damaged(_)) => {
                        tracing::error!(repository = %open.name, cause = %e, "the store itself is read instead: ETags and hashes of its objects are not known any more");
                        self.forget_catalog(open, promotion).await?;
                        (sequence, 0)
                    }
                }
            }
            Basis::Listing => {
                self.forget_catalog(open, promotion).await?;
                (0, 0)
            }
        };
        self.compare_with_listing(open, target, promotion, kept, Doubt { after: doubt })
            .await?;
        Ok(kept)
    }

    async fn forget_catalog(
        &self,
        open: &OpenRepository,
        promotion: &Promotion,
    ) -> Result<(), Error> {
        loop {
            let done = self
                .state
                .forget_catalog(open.id, &promotion.handover, BATCH)
                .await
                .map_err(|e| state_failed("forget the old catalog", &e))?;
            if done {
                return Ok(());
            }
        }
    }

    async fn load_checkpoint(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        promotion: &Promotion,
    ) -> checkpoint::Result<u64> {
        let Some(found) = checkpoint::find(target, &open.name).await? else {
            return Err(checkpoint::Error::Damaged(
                "it is not there any more".into(),
            ));
        };
        while !self
            .state
            .forget_catalog(open.id, &promotion.handover, BATCH)
            .await?
        {}
        let mut position = checkpoint::Position::default();
        while let Some(rows) = found.rows(target, &mut position).await? {
            let mut batch = Vec::with_capacity(BATCH);
            for row in rows {
                batch.push(imported(row)?);
                if batch.len() == BATCH {
                    self.state
                        .import(open.id, &promotion.handover, std::mem::take(&mut batch))
                        .await?;
                }
            }
            self.state
                .import(open.id, &promotion.handover, batch)
                .await?;
        }
        Ok(found.sequence)
    }

    /// The sequence of the newest root that the target has: everything up to it was applied there.
    async fn newest_applied(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
    ) -> Result<u64, Error> {
        let root = super::look::newest_root(target, open)
            .await
            .map_err(|e| store_failed("read the target's newest root", &e))?;
        let Some(Ok(root)) = root else {
            return Ok(0);
        };
        let point = self
            .state
            .restore_point(open.id, root.generation)
            .await
            .map_err(|e| state_failed("look up the restore point", &e))?;
        Ok(point.map_or(0, |point| point.sequence))
    }

    async fn compare_with_listing(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        promotion: &Promotion,
        kept: u64,
        doubt: Doubt,
    ) -> Result<(), Error> {
        let mut page = self.page(open, target, None, kept, doubt).await?;
        // While one page is recorded the next one is looked at.
        while let Some(after) = page.next.take() {
            let (next, recorded) = tokio::join!(
                self.page(open, target, Some(&after), kept, doubt),
                self.record(open, promotion, &page.changes),
            );
            recorded?;
            page = next?;
        }
        self.record(open, promotion, &page.changes).await
    }

    async fn record(
        &self,
        open: &OpenRepository,
        promotion: &Promotion,
        changes: &[Imported],
    ) -> Result<(), Error> {
        for batch in changes.chunks(BATCH) {
            self.state
                .import(open.id, &promotion.handover, batch.to_vec())
                .await
                .map_err(|e| state_failed("record what the target holds", &e))?;
        }
        Ok(())
    }

    /// One page of the listing: what changes in the catalog.
    async fn page(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        after: Option<&str>,
        kept: u64,
        doubt: Doubt,
    ) -> Result<Page, Error> {
        let listed = target
            .list("", after, PAGE)
            .await
            .map_err(|e| store_failed("list the target", &e))?;
        let full = listed.len() == PAGE;
        let next = listed.last().filter(|_| full);
        let next = next.map(|last| last.name.as_str().to_owned());
        let there: BTreeMap<ObjectKey, Listed> = listed
            .into_iter()
            .filter(|listed| self.class_here(open, &listed.name).is_some())
            .map(|listed| (listed.name.clone(), listed))
            .collect();
        let stretch = Stretch {
            after,
            until: next.as_deref(),
        };
        let changes = self
            .stretch(open, target, stretch, there, kept, doubt)
            .await?;
        Ok(Page { changes, next })
    }

    /// One stretch of names: what changes in the catalog.
    async fn stretch(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        stretch: Stretch<'_>,
        mut there: BTreeMap<ObjectKey, Listed>,
        kept: u64,
        doubt: Doubt,
    ) -> Result<Vec<Imported>, Error> {
        let mut changes = Vec::new();
        for visible in self.visible_between(open, stretch).await? {
            let key = visible.key.clone();
            let known = if visible.sequence <= kept {
                Some(visible)
            } else {
                self.as_of(open, &key, kept).await?
            };
            changes.push(match there.remove(&key) {
                None => Imported::Gone(key),
                Some(listed) => self.settled(open, target, known, listed, doubt).await?,
            });
        }
        for (key, listed) in there {
            let known = self.as_of(open, &key, kept).await?;
            changes.push(self.settled(open, target, known, listed, doubt).await?);
        }
        Ok(changes)
    }

    /// The row of an object that lies in the target.
    async fn settled(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        known: Option<Object>,
        listed: Listed,
        doubt: Doubt,
    ) -> Result<Imported, Error> {
        if let Some(row) = known
            && row.size == listed.stat.size
            && self.same_content(open, target, &row, doubt).await?
        {
            return Ok(Imported::Object(ImportedObject {
                key: row.key,
                size: row.size,
                etag: row.etag,
                hash: row.hash,
                identity: listed.stat.identity,
                modified_ms: row.modified_ms,
                sequence: row.sequence,
                details: row.details,
            }));
        }
        if self.class_of(open, &listed.name) == Class::Pointer {
            return pointer(target, listed).await;
        }
        Ok(Imported::Object(ImportedObject {
            etag: adopted_etag(&listed).into(),
            key: listed.name,
            size: listed.stat.size,
            hash: None,
            identity: listed.stat.identity,
            modified_ms: listed.stat.modified_ms,
            sequence: 0,
            details: None,
        }))
    }

    /// The sizes are the same. A name that is written once has one content; for others the bytes tell, where the
    /// target may not have come to this row.
    async fn same_content(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        row: &Object,
        doubt: Doubt,
    ) -> Result<bool, Error> {
        let class = self.class_of(open, &row.key);
        if class != Class::Pointer && row.sequence <= doubt.after {
            return Ok(true);
        }
        self.holds_content(target, row, &class).await
    }

    /// A store has this row's content, where it has something of its size under the name.
    pub(super) async fn holds_content(
        &self,
        target: &dyn Store,
        row: &Object,
        class: &Class,
    ) -> Result<bool, Error> {
        if class.writing() == Writing::Once {
            return Ok(true);
        }
        let Some(hash) = row.hash.filter(|_| row.size <= LARGEST_READ) else {
            return Ok(false);
        };
        let read = target
            .read(&row.key, None, None)
            .await
            .map_err(|e| store_failed("read an object of the target", &e))?;
        let Some(mut content) = read else {
            return Ok(false);
        };
        let parts = row.details.as_ref().map_or(&[][..], |d| &d.parts);
        let mut hasher = Whole::of_parts(parts.iter().map(|p| p.size));
        while let Some(chunk) = content
            .bytes
            .try_next()
            .await
            .map_err(|e| store_failed("read an object of the target", &e))?
        {
            hasher.update(&chunk);
        }
        Ok(hasher.finish() == hash)
    }

    pub(in crate::repository) fn class_of(&self, open: &OpenRepository, key: &ObjectKey) -> Class {
        match self.layout.locate(&open.plan.bucket, key) {
            Place::In { class, .. } => class,
            Place::NestedRoot { .. }
            | Place::View(_)
            | Place::Outside { .. }
            | Place::Reserved
            | Place::NoSuchBucket => Class::Unknown,
        }
    }

    async fn visible_between(
        &self,
        open: &OpenRepository,
        stretch: Stretch<'_>,
    ) -> Result<Vec<Object>, Error> {
        let mut found = Vec::new();
        let mut after = stretch
            .after
            .map(ObjectKey::parse)
            .transpose()
            .map_err(|e| unavailable("read its catalog", &e))?;
        loop {
            let page = self
                .state
                .objects_after(open.bucket_id, open.id, after.as_ref(), PAGE)
                .await
                .map_err(|e| state_failed("list its catalog", &e))?;
            let full = page.len() == PAGE;
            for object in page {
                if stretch
                    .until
                    .is_some_and(|until| object.key.as_str() > until)
                {
                    return Ok(found);
                }
                found.push(object);
            }
            if !full {
                return Ok(found);
            }
            after = found.last().map(|o| o.key.clone());
        }
    }

    async fn as_of(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        sequence: u64,
    ) -> Result<Option<Object>, Error> {
        let past = self
            .state
            .object_at(open.bucket_id, open.id, key, sequence)
            .await
            .map_err(|e| state_failed("look up an older object", &e))?;
        Ok(past.map(|past| past.object))
    }
}

/// A mirror makes its own pointer, so no catalog row speaks of it: it is read.
async fn pointer(target: &dyn Store, listed: Listed) -> Result<Imported, Error> {
    let body = super::read_whole(target, &listed.name, LARGEST_READ)
        .await
        .map_err(|e| store_failed("read the target's pointer", &e))?
        .unwrap_or_default();
    Ok(Imported::Object(ImportedObject {
        key: listed.name,
        size: listed.stat.size,
        etag: hex::encode(md5::Md5::digest(&body)).into(),
        hash: Some(*blake3::hash(&body).as_bytes()),
        identity: listed.stat.identity,
        modified_ms: listed.stat.modified_ms,
        sequence: 0,
        details: None,
    }))
}

struct Page {
    changes: Vec<Imported>,
    /// After which name the next one begins; None: this is the last.
    next: Option<String>,
}

/// Names after one and up to another.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    after: Option<&'a str>,
    until: Option<&'a str>,
}

fn imported(row: Row) -> checkpoint::Result<Imported> {
    Ok(match row {
        Row::Put(stored) => Imported::Object(object(stored)?),
        Row::Delete(key) => Imported::Gone(ObjectKey::parse(&key)?),
        Row::Point(point) => Imported::Point(RestorePoint {
            root: CommittedRoot {
                generation: point.generation,
                cluster: point.cluster.map(policies::identity::Cluster::new),
                epoch: policies::identity::Epoch(point.epoch),
                snapshots: point.snapshots.into_iter().map(Into::into).collect(),
                newest: point.newest.map(Into::into),
                complete: point.complete,
            },
            sequence: point.sequence,
            committed_ms: point.committed_ms,
            uptime_ms: 0,
        }),
        Row::Pins(pins) => Imported::Pins(pins.into_iter().map(Pin::from).collect()),
    })
}

fn object(stored: Stored) -> checkpoint::Result<ImportedObject> {
    Ok(ImportedObject {
        key: stored.object_key()?,
        hash: stored.content_hash()?,
        size: stored.size,
        etag: stored.etag.into(),
        identity: Identity("".into()),
        modified_ms: stored.modified_ms,
        sequence: stored.sequence,
        details: stored.details.map(Arc::new),
    })
}
