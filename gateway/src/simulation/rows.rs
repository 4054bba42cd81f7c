//! Sees a state database from outside, after each of its commits, by SQL of its own: lock row, intents, journal.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::history::{Event, History, Lineage};
use super::pulse::Pulse;
use crate::state::sqlite::simulated::{Step, Watcher};

pub struct Witness {
    lineage: Lineage,
    history: History,
    pulse: Arc<Pulse>,
    seen: Mutex<Seen>,
}

impl Witness {
    pub fn new(lineage: Lineage, history: History, pulse: Arc<Pulse>) -> Self {
        Self {
            lineage,
            history,
            pulse,
            seen: Mutex::default(),
        }
    }
}

#[derive(Default)]
struct Seen {
    version: u64,
    journal: u64,
    last_intent: i64,
    open: BTreeSet<i64>,
}

impl Watcher for Witness {
    fn opened(&self, db: &Connection) {
        *self.seen.lock() = seen_in(db);
    }

    fn before(&self) -> Step<'_> {
        Box::pin(self.pulse.beat())
    }

    fn after(&self) -> Step<'_> {
        Box::pin(self.pulse.beat())
    }

    fn committed(&self, db: &Connection) {
        let mut seen = self.seen.lock();
        let row = self.lock_row(db, &mut seen);
        self.intents(db, &mut seen, &row);
        self.journal(db, &mut seen);
    }
}

struct Row {
    epoch: u64,
    holder: Option<String>,
}

impl Witness {
    fn lock_row(&self, db: &Connection, seen: &mut Seen) -> Row {
        let found = db
            .prepare_cached("SELECT version, epoch, lock FROM locks")
            .unwrap()
            .query_row([], |row| {
                Ok((
                    row.get::<_, u32>(0)?,
                    row.get::<_, u32>(1)?,
                    row.get::<_, String>(2)?,
                ))
            });
        let Ok((version, epoch, text)) = found else {
            return Row {
                epoch: 0,
                holder: None,
            };
        };
        let lock: serde_json::Value = serde_json::from_str(&text).unwrap();
        let state = lock["state"].as_str().unwrap().to_owned();
        let holder = lock["holder"].as_str().map(str::to_owned);
        let (version, epoch) = (u64::from(version), u64::from(epoch));
        if version > seen.version {
            seen.version = version;
            self.history.add(Event::Lock {
                lineage: self.lineage,
                version,
                epoch,
                state: if state == "frozen" {
                    text.clone()
                } else {
                    state.clone()
                },
                holder: holder.clone(),
            });
        }
        Row {
            epoch,
            holder: holder.filter(|_| state == "held"),
        }
    }

    fn intents(&self, db: &Connection, seen: &mut Seen, row: &Row) {
        let mut statement = db
            .prepare_cached("SELECT id, key, epoch, cluster FROM intents ORDER BY id")
            .unwrap();
        let all: Vec<(i64, Vec<u8>, u32, String)> = statement
            .query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let now: BTreeSet<i64> = all.iter().map(|(id, ..)| *id).collect();
        for intent in seen.open.difference(&now) {
            self.history.add(Event::IntentEnded {
                lineage: self.lineage,
                intent: *intent,
            });
        }
        for (intent, key, epoch, cluster) in all {
            if intent > seen.last_intent {
                seen.last_intent = intent;
                self.history.add(Event::IntentOpened {
                    lineage: self.lineage,
                    intent,
                    key: String::from_utf8(key).unwrap(),
                    epoch: u64::from(epoch),
                    cluster,
                    row_epoch: row.epoch,
                    row_holder: row.holder.clone(),
                });
            }
        }
        seen.open = now;
    }

    fn journal(&self, db: &Connection, seen: &mut Seen) {
        let mut statement = db
            .prepare_cached(
                "SELECT sequence, key, hash FROM journal WHERE sequence > ?1 ORDER BY sequence",
            )
            .unwrap();
        let rows = statement
            .query_map([i64::try_from(seen.journal).unwrap()], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, Vec<u8>>(1)?,
                    row.get::<_, Option<Vec<u8>>>(2)?,
                ))
            })
            .unwrap();
        for row in rows {
            let (sequence, key, hash) = row.unwrap();
            seen.journal = u64::try_from(sequence).unwrap();
            self.history.add(Event::Journal {
                lineage: self.lineage,
                sequence: seen.journal,
                key: String::from_utf8(key).unwrap(),
                hash,
            });
        }
    }
}

fn seen_in(db: &Connection) -> Seen {
    let number = |sql: &str| -> i64 { db.query_row(sql, [], |row| row.get(0)).unwrap_or(0) };
    let mut open = BTreeSet::new();
    let mut statement = db.prepare("SELECT id FROM intents").unwrap();
    for id in statement.query_map([], |row| row.get(0)).unwrap() {
        open.insert(id.unwrap());
    }
    Seen {
        version: u64::try_from(number("SELECT version FROM locks")).unwrap(),
        journal: u64::try_from(number("SELECT MAX(sequence) FROM journal")).unwrap(),
        last_intent: number("SELECT seq FROM sqlite_sequence WHERE name = 'intents'"),
        open,
    }
}
