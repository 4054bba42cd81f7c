//! What the writer knows without asking the database: lock rows, counters, uptime, the audit chain's end.
//!
//! Only the writer changes the database, so its memory is authoritative; whatever it holds is written in the
//! same transaction. A request that fails takes its changes back ([`Memory::undo`]), a transaction that fails
//! loads everything anew.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use policies::identity::{Bucket, Repository, StoreName};
use rusqlite::Connection;

use super::rows::{count, int};
use super::{audit, lineage, lock};
use crate::state::chain::End;
use crate::state::{
    BucketId, Error, LockRow, RepositoryId, RepositoryIdentity, Result, UNJOURNALLED, Usage,
};

#[derive(Debug)]
pub(super) struct Memory {
    repositories: HashMap<RepositoryId, Known>,
    /// Repositories whose counters are not written yet.
    changed: BTreeSet<i64>,
    uptime_ms: u64,
    /// When `uptime_ms` was told: what has passed since then is uptime as well.
    uptime_told: Instant,
    audit: End,
    undo: Vec<Undo>,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub identity: RepositoryIdentity,
    pub bucket: BucketId,
    pub lock: LockRow,
    pub promoted_from: Option<StoreName>,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    usage: Usage,
    unjournalled: u64,
    /// The journal's newest removal; after a start, where it stood then.
    last_removal: u64,
    /// The highest journal number that may be used.
    reserved: Option<u64>,
}

#[derive(Debug)]
enum Undo {
    Counters(RepositoryId, Counters),
    Lock(RepositoryId, LockRow),
    New(RepositoryId),
    Store(RepositoryId, StoreName, Option<StoreName>),
    Uptime(u64, Instant),
    Audit(End),
}

impl Memory {
    pub fn load(db: &Connection) -> Result<Self> {
        let mut memory = Self {
            repositories: HashMap::new(),
            changed: BTreeSet::new(),
            uptime_ms: load_uptime(db)?,
            uptime_told: Instant::now(),
            audit: audit::end(db)?,
            undo: Vec::new(),
        };
        let mut statement = db.prepare_cached(
            "SELECT r.id, r.name, b.name, r.base_path, r.store, r.bucket, r.sequence, r.unjournalled, r.objects, r.bytes, r.promoted_from
             FROM repositories r JOIN buckets b ON b.id = r.bucket",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = RepositoryId(row.get(0)?);
            let known = Known {
                identity: RepositoryIdentity {
                    name: Repository::new(row.get::<_, String>(1)?),
                    bucket: Bucket::new(row.get::<_, String>(2)?),
                    base_path: row.get(3)?,
                    store: StoreName::new(row.get::<_, String>(4)?),
                },
                bucket: BucketId(row.get(5)?),
                promoted_from: row.get::<_, Option<String>>(10)?.map(StoreName::new),
                lock: lock::read(db, id)?,
                counters: Counters {
                    usage: Usage {
                        sequence: count(row, 6)?,
                        objects: count(row, 8)?,
                        bytes: count(row, 9)?,
                    },
                    unjournalled: count(row, 7)?,
                    last_removal: count(row, 6)?,
                    reserved: lineage::reserved(db, id)?,
                },
            };
            memory.repositories.insert(id, known);
        }
        Ok(memory)
    }

    /// Loading anew does not make the time forgotten that passed since the uptime was told.
    pub fn keep_time_of(&mut self, earlier: &Self) {
        self.uptime_told = earlier.uptime_told;
    }

    /// Begins a request: from here on, changes can be undone.
    pub fn mark(&mut self) {
        self.undo.clear();
    }

    /// Takes back what changed since [`Self::mark`].
    pub fn undo(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Counters(id, counters) => {
                    if let Some(known) = self.repositories.get_mut(&id) {
                        known.counters = counters;
                    }
                }
                Undo::Lock(id, row) => {
                    if let Some(known) = self.repositories.get_mut(&id) {
                        known.lock = row;
                    }
                }
                Undo::Store(id, store, from) => {
                    if let Some(known) = self.repositories.get_mut(&id) {
                        known.identity.store = store;
                        known.promoted_from = from;
                    }
                }
                Undo::New(id) => {
                    self.repositories.remove(&id);
                }
                Undo::Uptime(ms, told) => (self.uptime_ms, self.uptime_told) = (ms, told),
                Undo::Audit(end) => self.audit = end,
            }
        }
    }

    /// Writes the counters that the transaction changed.
    pub fn write_counters(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for id in std::mem::take(&mut self.changed) {
            if let Some(known) = self.repositories.get(&RepositoryId(id)) {
                let Counters {
                    usage,
                    unjournalled,
                    last_removal: _,
                    reserved: _,
                } = known.counters;
                db.prepare_cached(
                    "UPDATE repositories SET sequence = ?2, unjournalled = ?3, objects = ?4, bytes = ?5 WHERE id = ?1",
                )?
                .execute([id, int(usage.sequence), int(unjournalled), int(usage.objects), int(usage.bytes)])?;
            }
        }
        Ok(())
    }

    pub fn repository(&self, id: RepositoryId) -> Option<&Known> {
        self.repositories.get(&id)
    }

    pub fn find(
        &self,
        matches: impl Fn(&RepositoryIdentity) -> bool,
    ) -> Option<(RepositoryId, &Known)> {
        self.repositories
            .iter()
            .find(|(_, known)| matches(&known.identity))
            .map(|(id, known)| (*id, known))
    }

    pub fn add_repository(
        &mut self,
        id: RepositoryId,
        identity: RepositoryIdentity,
        bucket: BucketId,
        lock: LockRow,
    ) {
        self.undo.push(Undo::New(id));
        let counters = Counters::default();
        self.repositories.insert(
            id,
            Known {
                identity,
                bucket,
                lock,
                promoted_from: None,
                counters,
            },
        );
    }

    pub fn move_to_store(&mut self, id: RepositoryId, store: StoreName, from: StoreName) {
        if let Some(known) = self.repositories.get_mut(&id) {
            let before = std::mem::replace(&mut known.identity.store, store);
            let from = known.promoted_from.replace(from);
            self.undo.push(Undo::Store(id, before, from));
        }
    }

    /// The journal goes on above this sequence.
    pub fn raise_sequence(&mut self, id: RepositoryId, sequence: u64) {
        self.count(id, |counters| {
            counters.usage.sequence = counters.usage.sequence.max(sequence);
        });
    }

    pub fn set_lock(&mut self, id: RepositoryId, row: LockRow) {
        if let Some(known) = self.repositories.get_mut(&id) {
            self.undo
                .push(Undo::Lock(id, std::mem::replace(&mut known.lock, row)));
        }
    }

    /// The next sequence: of the journal, or of what is not journalled.
    pub fn next_sequence(&mut self, id: RepositoryId, journalled: bool) -> Result<u64> {
        let used_up = self.repositories.get(&id).is_some_and(|known| {
            let Counters {
                usage, reserved, ..
            } = known.counters;
            reserved.is_some_and(|reserved| usage.sequence >= reserved)
        });
        if journalled && used_up {
            return Err(Error::NumbersUsedUp);
        }
        let mut sequence = 0;
        self.count(id, |counters| {
            let counter = if journalled {
                &mut counters.usage.sequence
            } else {
                &mut counters.unjournalled
            };
            *counter += 1;
            sequence = *counter;
        });
        Ok(if journalled {
            sequence
        } else {
            UNJOURNALLED + sequence
        })
    }

    /// Numbers up to `limit` may be used now; the next one is above `skip`.
    pub fn reserve(&mut self, id: RepositoryId, limit: u64, skip: u64) {
        self.count(id, |counters| {
            counters.reserved = Some(counters.reserved.unwrap_or(0).max(limit));
            counters.usage.sequence = counters.usage.sequence.max(skip);
        });
    }

    /// The journal's newest sequence.
    pub fn sequence(&self, id: RepositoryId) -> u64 {
        self.repositories
            .get(&id)
            .map_or(0, |known| known.counters.usage.sequence)
    }

    pub fn removed(&mut self, id: RepositoryId, sequence: u64) {
        self.count(id, |counters| counters.last_removal = sequence);
    }

    pub fn last_removal(&self, id: RepositoryId) -> u64 {
        self.repositories
            .get(&id)
            .map_or(0, |known| known.counters.last_removal)
    }

    pub fn gained(&mut self, id: RepositoryId, size: u64) {
        self.count(id, |counters| {
            counters.usage.objects += 1;
            counters.usage.bytes += size;
        });
    }

    pub fn lost(&mut self, id: RepositoryId, size: u64) {
        self.count(id, |counters| {
            counters.usage.objects -= 1;
            counters.usage.bytes -= size;
        });
    }

    fn count(&mut self, id: RepositoryId, change: impl FnOnce(&mut Counters)) {
        if let Some(known) = self.repositories.get_mut(&id) {
            self.undo.push(Undo::Counters(id, known.counters));
            change(&mut known.counters);
            self.changed.insert(id.0);
        }
    }

    pub fn add_uptime(&mut self, add_ms: u64) -> u64 {
        self.undo
            .push(Undo::Uptime(self.uptime_ms, self.uptime_told));
        self.uptime_ms = self.uptime_ms.saturating_add(add_ms);
        self.uptime_told = Instant::now();
        self.uptime_ms
    }

    /// When content that is hidden now is due. Callers tell the uptime now and then; what passed since they
    /// did so counts as well, else a retention would end early by that much.
    pub fn due(&self, retain_ms: u64) -> u64 {
        let since = u64::try_from(self.uptime_told.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.uptime_ms
            .saturating_add(since)
            .saturating_add(retain_ms)
    }

    pub fn uptime(&self) -> u64 {
        self.uptime_ms
    }

    pub fn audit_end(&self) -> &End {
        &self.audit
    }

    pub fn set_audit_end(&mut self, end: End) {
        self.undo
            .push(Undo::Audit(std::mem::replace(&mut self.audit, end)));
    }
}

fn load_uptime(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row(
        "SELECT value FROM meta WHERE name = 'uptime_ms'",
        [],
        |row| count(row, 0),
    )
}
