//! The repository that is mirrored: its journal, its catalog, and the bytes of what an entry committed.
//!
//! Content that was overwritten or removed since lies where its tombstone says; the state database keeps it until
//! every mirror has passed that point. What is read is checked against the catalog by whoever reads it.

use std::fmt;
use std::sync::Arc;

use policies::identity::{Bucket, Repository, StoreName};
use policies::key::{Class, Layout, ObjectKey, Place};
use policies::mirror_order::{Change, Entry};

use super::Trouble;
use crate::state::{self, BucketId, JournalEntry, Object, RepositoryId, State, Walk};
use crate::stores::{Identity, Store};

#[derive(Clone)]
pub struct Source {
    pub name: Repository,
    pub id: RepositoryId,
    pub bucket: Bucket,
    pub bucket_id: BucketId,
    /// Of every key below the base path: empty, or the path with its slash.
    pub prefix: String,
    pub store_name: StoreName,
    pub store: Arc<dyn Store>,
    pub state: Arc<dyn State>,
    pub layout: Layout,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("store", &self.store_name)
            .finish_non_exhaustive()
    }
}

/// Content, and where it is.
#[derive(Clone, Debug)]
pub struct Located {
    pub object: Object,
    pub location: ObjectKey,
    /// What the store called the content when it was written there; a second name may have another.
    pub expect: Option<Identity>,
}

impl Located {
    pub fn of(object: Object) -> Self {
        Self {
            location: object.key.clone(),
            expect: Some(object.identity.clone()),
            object,
        }
    }

    /// Sizes of the parts over whose hashes the content is hashed; none: as a whole.
    pub fn parts(&self) -> impl Iterator<Item = u64> + '_ {
        let details = self.object.details.as_deref();
        details.into_iter().flat_map(|d| &d.parts).map(|p| p.size)
    }
}

impl Source {
    /// All that its catalog knows of it.
    pub fn catalog(&self) -> Walk<'_> {
        Walk::of(self.state.as_ref(), self.bucket_id, self.id)
    }

    /// The class of one of this repository's keys; None: it belongs elsewhere.
    pub fn class(&self, key: &ObjectKey) -> Option<Class> {
        match self.layout.locate(&self.bucket, key) {
            Place::In { repository, class } if repository == self.name => Some(class),
            Place::In { .. }
            | Place::View(_)
            | Place::NestedRoot { .. }
            | Place::Outside { .. }
            | Place::Reserved
            | Place::NoSuchBucket => None,
        }
    }

    pub fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::parse(&format!("{}{name}", self.prefix))
            .expect("a base path and a short name are a key")
    }

    pub async fn entries(&self, after: u64, limit: usize) -> state::Result<Vec<Entry>> {
        let journal = self.state.journal(self.id, after, limit).await?;
        Ok(journal.into_iter().map(|entry| self.entry(entry)).collect())
    }

    fn entry(&self, entry: JournalEntry) -> Entry {
        Entry {
            sequence: entry.sequence,
            class: self.class(&entry.key).unwrap_or(Class::Unknown),
            key: entry.key,
            change: match entry.change {
                state::Change::Put { .. } => Change::Put,
                state::Change::Delete => Change::Delete,
            },
        }
    }

    /// The content that the entry of this sequence committed.
    pub async fn find(&self, key: &ObjectKey, sequence: u64) -> Result<Located, Trouble> {
        let visible = self.state.object(self.bucket_id, key).await?.object;
        if let Some(object) = &visible
            && object.sequence == sequence
        {
            return Ok(Located::of(object.clone()));
        }
        let hidden = self.state.tombstone(self.id, key).await?;
        if let Some(kept) = hidden.into_iter().find(|t| t.object.sequence == sequence) {
            let expect = (kept.location == *key).then(|| kept.object.identity.clone());
            return Ok(Located {
                object: kept.object,
                location: kept.location,
                expect,
            });
        }
        match visible {
            Some(object) if object.sequence > sequence => Err(Trouble::Superseded),
            Some(_) | None => Err(Trouble::Gone),
        }
    }
}
