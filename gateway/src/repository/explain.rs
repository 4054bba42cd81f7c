//! What is known of one object beyond what the guard says of it.
//!
//! Decides nothing: it compares what the catalog knows with the store, and finds what the retention still holds of a name.

use policies::guard::{Guard, Scope};
use policies::key::ObjectKey;

use super::adoption::fits;
use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::{Door, Error};
use crate::state::{Object, Tombstone};

/// Restore points looked through at once.
const PAGE: usize = 1000;

/// What lies in the store under the name of an object of the catalog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InStore {
    AsRecorded,
    Missing,
    Changed,
}

impl InStore {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsRecorded => "as_recorded",
            Self::Missing => "missing",
            Self::Changed => "changed",
        }
    }
}

/// Content that was deleted or replaced, whose bytes are still there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Bytes.
    pub size: u64,
    /// Those that it was visible at, newest first.
    pub restore_points: Vec<u64>,
    /// Milliseconds of the gateway's uptime until its own retention ends; restore points and mirrors may hold it longer.
    pub left_ms: u64,
}

impl Door {
    /// Refuses to speak of a repository whose store nobody has read: nothing told would look like nothing there.
    pub fn check_store_read(&self, open: &OpenRepository) -> Result<(), Error> {
        open.gate.check_store_known(&open.name)
    }

    /// As [`Self::check_store_read`], and its newest root is known.
    pub fn check_contents_known(&self, open: &OpenRepository) -> Result<(), Error> {
        self.check_store_read(open)?;
        if open.guarding.with(Guard::scope) == Scope::Observing {
            return Err(Error::Unavailable(format!(
                "The newest root of repository '{}' cannot be read; see the gateway's log.",
                open.name
            )));
        }
        Ok(())
    }

    pub async fn look_in_store(
        &self,
        open: &OpenRepository,
        object: &Object,
    ) -> Result<InStore, Error> {
        let there = open.store.stat(&object.key).await;
        Ok(
            match there.map_err(|e| store_failed("look at an object", &e))? {
                None => InStore::Missing,
                Some(stat) if fits(object, &stat) => InStore::AsRecorded,
                Some(_) => InStore::Changed,
            },
        )
    }

    /// What is still held of a name, newest first.
    pub async fn held(&self, open: &OpenRepository, key: &ObjectKey) -> Result<Vec<Held>, Error> {
        let tombstones = self.state.tombstone(open.id, key).await;
        let mut tombstones = tombstones.map_err(|e| state_failed("look up deleted objects", &e))?;
        tombstones.sort_by_key(|tombstone| std::cmp::Reverse(tombstone.removed));
        if tombstones.is_empty() {
            return Ok(Vec::new());
        }
        let uptime = self.state.uptime(0).await;
        let uptime = uptime.map_err(|e| state_failed("read its uptime", &e))?;
        let held = |tombstone: &Tombstone| Held {
            size: tombstone.object.size,
            restore_points: Vec::new(),
            left_ms: tombstone.due_ms.saturating_sub(uptime),
        };
        let mut all: Vec<Held> = tombstones.iter().map(held).collect();
        let mut before = None;
        loop {
            let points = self.restore_points(open, before, PAGE).await?;
            for point in &points {
                for (tombstone, held) in tombstones.iter().zip(&mut all) {
                    if (tombstone.object.sequence..tombstone.removed).contains(&point.sequence) {
                        held.restore_points.push(point.root.generation);
                    }
                }
            }
            before = points.last().map(|point| point.root.generation);
            if points.len() < PAGE {
                return Ok(all);
            }
        }
    }
}
