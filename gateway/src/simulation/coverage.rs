//! What the schedules met, counted from their histories: a campaign that meets nothing proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use policies::key::{Class, Writing};

use super::history::{Asked, Event, Life, Lineage, Told};
use super::node::BASE;

/// How far a commit was when its gateway died, as seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// Its upload may exist.
    Asked,
    IntentOpen,
    InStore,
    /// Catalog and journal have it; only the answer is missing.
    Recorded,
}

const STAGES: usize = 4;

#[derive(Clone, Default, Debug)]
pub struct Coverage {
    pub schedules: u64,
    events: u64,
    pub acknowledged: u64,
    /// Rows that became held.
    epochs: u64,
    kills: u64,
    freezes: u64,
    /// Effects of gateways that had died before.
    late: u64,
    /// Commits whose cluster held the lock when it asked, and which were under way when another one came to hold it.
    overtaken: u64,
    /// Commits under way when their gateway died, by stage.
    cut: [u64; STAGES],
}

impl Coverage {
    pub fn add(&mut self, history: &[Event]) {
        self.schedules += 1;
        self.events += history.len() as u64;
        let mut seen = Seen::default();
        for event in history {
            self.count(event, &mut seen);
        }
    }

    fn count(&mut self, event: &Event, seen: &mut Seen) {
        match event {
            Event::Started { life, lineage } => {
                seen.lineage_of.insert(*life, *lineage);
            }
            Event::Asked {
                operation,
                cluster,
                life,
                asked: Asked::Put { key, .. },
            } if commits(key) => {
                let write = Write {
                    cluster,
                    life: *life,
                    key: key.clone(),
                    of_holder: seen.holder_of(*life) == Some(*cluster),
                    stage: Stage::Asked,
                };
                seen.writes.insert(*operation, write);
            }
            Event::Told { operation, told } => {
                self.acknowledged += u64::from(*told == Told::Ok);
                seen.writes.remove(operation);
            }
            Event::IntentOpened { lineage, key, .. } => {
                seen.reached(*lineage, key, Stage::IntentOpen);
            }
            Event::Journal { lineage, key, .. } => seen.reached(*lineage, key, Stage::Recorded),
            Event::Effect { life, name, .. } => {
                self.late += u64::from(seen.ended.contains(life));
                if let Some(lineage) = seen.lineage_of.get(life).copied() {
                    seen.reached(lineage, name, Stage::InStore);
                }
            }
            Event::Lock {
                lineage,
                state,
                holder,
                ..
            } => {
                if let (Some(holder), "held") = (holder, state.as_str()) {
                    self.overtaken += seen.overtaken_by(*lineage, holder);
                    seen.holders.insert(*lineage, holder.clone());
                }
                self.epochs += u64::from(state == "held");
                self.freezes += u64::from(state.contains("frozen"));
            }
            Event::Ended { life } => {
                self.kills += 1;
                seen.ended.push(*life);
                for write in seen.writes.values().filter(|write| write.life == *life) {
                    self.cut[write.stage as usize] += 1;
                }
                seen.writes.retain(|_, write| write.life != *life);
            }
            Event::Asked { .. }
            | Event::IntentEnded { .. }
            | Event::Copied { .. }
            | Event::Listens { .. }
            | Event::Rest { .. }
            | Event::Broken(_)
            | Event::Note(_) => {}
        }
    }

    /// Gateways died at every stage of a commit, what they had sent came later, and hand-overs overtook writes.
    pub fn is_whole(&self) -> bool {
        self.acknowledged > self.schedules
            && self.late > 0
            && self.overtaken > self.schedules / 20
            && self.cut.iter().all(|n| *n > 0)
    }
}

#[derive(Default)]
struct Seen {
    lineage_of: BTreeMap<Life, Lineage>,
    /// Who holds the lock, or held it last.
    holders: BTreeMap<Lineage, String>,
    ended: Vec<Life>,
    /// By operation.
    writes: BTreeMap<usize, Write>,
}

/// A commit under way.
struct Write {
    cluster: &'static str,
    life: Life,
    key: String,
    of_holder: bool,
    stage: Stage,
}

impl Seen {
    fn holder_of(&self, life: Life) -> Option<&str> {
        let lineage = self.lineage_of.get(&life)?;
        self.holders.get(lineage).map(String::as_str)
    }

    fn on(&mut self, lineage: Lineage) -> impl Iterator<Item = &mut Write> {
        let lineage_of = &self.lineage_of;
        self.writes
            .values_mut()
            .filter(move |write| lineage_of.get(&write.life) == Some(&lineage))
    }

    fn reached(&mut self, lineage: Lineage, key: &str, stage: Stage) {
        for write in self.on(lineage).filter(|write| write.key == key) {
            write.stage = stage.max(write.stage);
        }
    }

    /// Each write counts once.
    fn overtaken_by(&mut self, lineage: Lineage, holder: &str) -> u64 {
        let mut overtaken = 0;
        for write in self.on(lineage) {
            if write.of_holder && write.cluster != holder {
                write.of_holder = false;
                overtaken += 1;
            }
        }
        overtaken
    }
}

fn commits(key: &str) -> bool {
    key.strip_prefix(BASE)
        .is_some_and(|key| Class::parse(key).writing() == Writing::Commit)
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [asked, open, stored, recorded] = self.cut;
        write!(
            f,
            "{} events, {} acknowledged, {} epochs held, {} freezes, {} gateways killed, {} effects after their gateway's death, \
             {} commits overtaken by a hand-over; commits cut off before their intent {asked}, before their effect {open}, before their record {stored}, before their answer {recorded}",
            self.events,
            self.acknowledged,
            self.epochs,
            self.freezes,
            self.kills,
            self.late,
            self.overtaken,
        )
    }
}
