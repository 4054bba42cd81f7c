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
                life,
                asked: Asked::Put { key, .. },
                ..
            } if commits(key) => {
                let write = (*life, key.clone(), Stage::Asked);
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
            Event::Lock { state, .. } => {
                self.epochs += u64::from(state == "held");
                self.freezes += u64::from(state.contains("frozen"));
            }
            Event::Ended { life } => {
                self.kills += 1;
                seen.ended.push(*life);
                for (_, _, stage) in seen.writes.values().filter(|(of, _, _)| of == life) {
                    self.cut[*stage as usize] += 1;
                }
                seen.writes.retain(|_, (of, _, _)| of != life);
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

    /// Gateways died at every stage of a commit, and what they had sent came later.
    pub fn is_whole(&self) -> bool {
        self.acknowledged > self.schedules && self.late > 0 && self.cut.iter().all(|n| *n > 0)
    }
}

#[derive(Default)]
struct Seen {
    lineage_of: BTreeMap<Life, Lineage>,
    ended: Vec<Life>,
    /// Operation -> whose commit of which key, and how far it is.
    writes: BTreeMap<usize, (Life, String, Stage)>,
}

impl Seen {
    fn reached(&mut self, lineage: Lineage, key: &str, stage: Stage) {
        for (life, written, at) in self.writes.values_mut() {
            if written == key && self.lineage_of.get(life) == Some(&lineage) {
                *at = stage.max(*at);
            }
        }
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
            "{} events, {} acknowledged, {} epochs held, {} freezes, {} gateways killed, {} effects after their gateway's death; \
             commits cut off before their intent {asked}, before their effect {open}, before their record {stored}, before their answer {recorded}",
            self.events, self.acknowledged, self.epochs, self.freezes, self.kills, self.late,
        )
    }
}
