//! Judges a history by the invariants W of the protocol. It knows nothing of the code that made the history: it
//! reads effects, rows and answers only.
//!
//! A gateway that another one has overtaken may go on for 5 s with what is no root (that is what the protocol
//! promises): such effects are not judged by epoch, and what it acknowledged meanwhile need not be in the
//! other one's catalog. Its roots are judged all the same. The same holds for what a gateway acknowledged after its
//! database was copied while it ran.

mod answers;
mod rest;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use policies::identity::Epoch;
use policies::key::{Class, Writing};
use policies::lock::Term;

use super::history::{Asked, Event, Life, Lineage, Told};
use super::node::BASE;

/// What is broken, by the name of its invariant; None = all is well.
pub fn judge(history: &[Event]) -> Option<String> {
    let mut judge = Judge::default();
    for event in history {
        judge.sees(event);
        if judge.broken.is_some() {
            break;
        }
    }
    judge.broken
}

#[derive(Default)]
struct Judge {
    broken: Option<String>,
    lineage_of: HashMap<Life, Lineage>,
    /// Number in the store -> who claimed it.
    incarnations: BTreeMap<u64, Life>,
    number_of: HashMap<Life, u64>,
    listening: BTreeSet<Life>,
    /// Also those that ended since.
    listened: BTreeSet<Life>,
    /// The numbers of those that were not frozen, at their start or after a thaw.
    served: BTreeSet<u64>,
    /// Epoch -> holder and how its anchor reads.
    anchors: BTreeMap<u64, Bytes>,
    held: BTreeMap<u64, String>,
    /// Each lineage's row, as far as it is held.
    rows: BTreeMap<Lineage, Option<u64>>,
    highest_held: u64,
    /// Open and ended intents of each lineage.
    intents: BTreeMap<(Lineage, i64), bool>,
    /// Numbers of the journal, with what they name.
    numbers: BTreeMap<u64, (Lineage, String, Option<Vec<u8>>)>,
    journal: BTreeMap<(Lineage, String), Vec<Option<Vec<u8>>>>,
    /// What was copied -> from which, with the journal up to which number.
    copies: BTreeMap<Lineage, (Lineage, u64)>,
    /// Copied while it ran: what it acknowledges from then on, its copy need not know.
    copied_running: BTreeSet<Lineage>,
    /// The newest epoch of all when an overtaken gateway took a new number, to recover: what it still changes under an epoch
    /// up to this one it began before its look.
    recovers_after: BTreeMap<Life, u64>,
    effects: BTreeMap<String, Vec<(usize, Option<Bytes>)>>,
    asked: BTreeMap<usize, Operation>,
    at: usize,
}

struct Operation {
    cluster: &'static str,
    life: Life,
    asked: Asked,
    began: usize,
    ended: Option<(usize, Told)>,
    /// When it was acknowledged, another gateway was serving already.
    overtaken: bool,
}

fn class(key: &str) -> Option<Class> {
    key.strip_prefix(BASE).map(Class::parse)
}

impl Judge {
    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn number(&self, life: Life) -> u64 {
        self.number_of.get(&life).copied().unwrap_or(0)
    }

    /// Another gateway that came later listens, or did.
    fn is_overtaken(&self, life: Life) -> bool {
        self.incarnations
            .range(self.number(life) + 1..)
            .any(|(_, other)| self.listened.contains(other))
    }

    /// Another gateway serves by a later number, or did. One that has a number and is still frozen does not: it has not
    /// yet ended the uploads that others began before, or has given up on its number.
    fn is_replaced(&self, life: Life) -> bool {
        self.served.range(self.number(life) + 1..).next().is_some()
    }

    /// What it tells is not judged: another gateway serves, or a copy of its database may do so from now on.
    fn is_doubtful(&self, life: Life) -> bool {
        let lineage = self.lineage_of.get(&life);
        self.is_overtaken(life)
            || lineage.is_some_and(|lineage| self.copied_running.contains(lineage))
    }

    fn serves(&self, lineage: Lineage) -> Option<Life> {
        let newest = self
            .incarnations
            .values()
            .rev()
            .find(|life| self.listening.contains(life))?;
        (self.lineage_of.get(newest) == Some(&lineage)).then_some(*newest)
    }

    /// The newest number in the store is its own: a start that takes one meets every epoch that came before, and what an
    /// overtaken gateway holds from then on it holds until its next look.
    fn leads(&self, lineage: Lineage) -> bool {
        let newest = self.incarnations.values().next_back();
        newest.is_none_or(|life| self.lineage_of.get(life) == Some(&lineage))
    }

    fn sees(&mut self, event: &Event) {
        self.at += 1;
        match event {
            Event::Started { life, lineage } => {
                self.lineage_of.insert(*life, *lineage);
            }
            Event::Listens { life, frozen } => self.listens(*life, *frozen),
            Event::Ended { life } => {
                self.listening.remove(life);
            }
            Event::Asked {
                operation,
                cluster,
                life,
                asked,
            } => self.asks(*operation, cluster, *life, asked),
            Event::Told { operation, told } => self.told(*operation, told),
            Event::Effect {
                life,
                term,
                name,
                content,
            } => self.effect(*life, *term, name, content.as_ref()),
            Event::Lock {
                lineage,
                epoch,
                state,
                holder,
                ..
            } => self.lock(*lineage, *epoch, state, holder.as_deref()),
            Event::IntentOpened {
                lineage,
                intent,
                epoch,
                cluster,
                row_epoch,
                row_holder,
                ..
            } => {
                let row = (*row_epoch, row_holder.as_deref());
                self.intent_opened((*lineage, *intent), (*epoch, cluster), row);
            }
            Event::IntentEnded { lineage, intent } => self.intent_ended(*lineage, *intent),
            Event::Journal {
                lineage,
                sequence,
                key,
                hash,
            } => self.journal(*lineage, *sequence, key, hash.as_ref()),
            Event::Copied {
                from,
                to,
                sequence,
                running,
            } => self.copied(*from, *to, *sequence, *running),
            Event::Rest {
                lineage,
                store,
                catalog,
                kept,
                intents,
            } => self.rest(*lineage, store, catalog, kept, *intents),
            Event::Broken(what) => self.breaks(what.clone()),
            Event::Note(_) => {}
        }
    }

    fn listens(&mut self, life: Life, frozen: bool) {
        self.listening.insert(life);
        self.listened.insert(life);
        if !frozen {
            self.served.insert(self.number(life));
        }
        let lineage = self.lineage_of.get(&life).copied();
        if let Some(lineage) = lineage.filter(|lineage| self.serves(*lineage).is_some()) {
            let held = self.rows.get(&lineage).copied().flatten();
            self.highest_held = self.highest_held.max(held.unwrap_or(0));
        }
    }

    fn asks(&mut self, number: usize, cluster: &'static str, life: Life, asked: &Asked) {
        let operation = Operation {
            cluster,
            life,
            asked: asked.clone(),
            began: self.at,
            ended: None,
            overtaken: false,
        };
        self.asked.insert(number, operation);
    }

    /// Free keys have intents too, while nobody holds the lock.
    fn intent_opened(
        &mut self,
        (lineage, intent): (Lineage, i64),
        (epoch, cluster): (u64, &str),
        (row_epoch, row_holder): (u64, Option<&str>),
    ) {
        if epoch != row_epoch || row_holder.is_some_and(|holder| holder != cluster) {
            self.breaks(format!("W3: intent {intent} of {cluster} at epoch {epoch} while the row said {row_holder:?} at {row_epoch}"));
        }
        if self.intents.insert((lineage, intent), true).is_some() {
            self.breaks(format!("W8: intent {intent} was opened twice"));
        }
    }

    fn intent_ended(&mut self, lineage: Lineage, intent: i64) {
        if self.intents.insert((lineage, intent), false) == Some(false) {
            self.breaks(format!("W8: intent {intent} ended twice"));
        }
    }

    /// The copy's journal is the original's up to here.
    fn copied(&mut self, from: Lineage, to: Lineage, sequence: u64, running: bool) {
        self.copies.insert(to, (from, sequence));
        if running {
            self.copied_running.insert(from);
        }
        if sequence > 0 {
            let copied: Vec<_> = self
                .journal
                .iter()
                .filter(|((lineage, _), _)| *lineage == from)
                .map(|((_, key), hashes)| ((to, key.clone()), hashes.clone()))
                .collect();
            self.journal.extend(copied);
        }
        let row = self.rows.get(&from).copied().flatten();
        self.rows.insert(to, row);
    }

    fn lock(&mut self, lineage: Lineage, epoch: u64, state: &str, holder: Option<&str>) {
        let holder = holder.filter(|_| state == "held");
        self.rows.insert(lineage, holder.map(|_| epoch));
        let Some(holder) = holder else {
            return;
        };
        let anchored = self.anchors.get(&epoch).is_some_and(|bytes| {
            serde_json::from_slice::<serde_json::Value>(bytes)
                .is_ok_and(|anchor| anchor["holder"] == holder)
        });
        if !anchored {
            self.breaks(format!(
                "W2: epoch {epoch} is held by {holder} without its anchor"
            ));
        }
        let first = self
            .held
            .entry(epoch)
            .or_insert_with(|| holder.to_owned())
            .clone();
        if first != holder {
            self.breaks(format!("W1: epoch {epoch} is held by {holder} and {first}"));
        }
        if self.leads(lineage) {
            self.highest_held = self.highest_held.max(epoch);
        }
    }

    fn effect(&mut self, life: Life, term: Term, name: &str, content: Option<&Bytes>) {
        let own = name.strip_prefix(".snapgate/");
        if let Some(number) = own.and_then(|own| own.strip_prefix("incarnation-")) {
            let number: u64 = number.parse().unwrap();
            // one that comes late, when there are higher ones, says nothing any more
            let highest = self.incarnations.last_key_value().map_or(0, |(n, _)| *n);
            if content.is_some() && number > highest {
                if self.is_overtaken(life) {
                    let newest = self.anchors.last_key_value().map_or(0, |(epoch, _)| *epoch);
                    self.recovers_after.insert(life, newest);
                }
                self.incarnations.insert(number, life);
                self.number_of.insert(life, number);
            }
            return;
        }
        if let Some(epoch) = own.and_then(|own| own.strip_prefix("anchors/prod/")) {
            let epoch: u64 = epoch.parse().unwrap();
            let anchor = content.cloned().unwrap_or_default();
            if self.anchors.insert(epoch, anchor).is_some() {
                self.breaks(format!("W19: the anchor of epoch {epoch} was replaced"));
            }
            return;
        }
        if own.is_some() {
            return;
        }
        let Some(class) = class(name) else {
            return self.breaks(format!("W20: something was written to '{name}'"));
        };
        self.effect_on_a_key(life, term, name, &class, content);
        self.effects
            .entry(name.to_owned())
            .or_default()
            .push((self.at, content.cloned()));
    }

    fn effect_on_a_key(
        &mut self,
        life: Life,
        term: Term,
        name: &str,
        class: &Class,
        content: Option<&Bytes>,
    ) {
        let is_root = matches!(class, Class::Root(_));
        let overtaken = self.is_overtaken(life);
        if is_root && self.is_replaced(life) {
            self.breaks(format!(
                "W13: {life:?} changed root '{name}' although a later gateway served"
            ));
        }
        let commits = class.writing() == Writing::Commit;
        let begun_overtaken = |epoch| {
            self.recovers_after
                .get(&life)
                .is_some_and(|newest| epoch <= *newest)
        };
        if let Term::Held(Epoch(epoch)) = term
            && commits
            && !overtaken
            && !begun_overtaken(epoch)
            && epoch < self.highest_held
        {
            self.breaks(format!(
                "W4: '{name}' changed under epoch {epoch} after {} was held",
                self.highest_held
            ));
        }
        let before = self.effects.get(name).and_then(|all| all.last());
        let replaced = before.and_then(|(_, bytes)| bytes.as_ref());
        if let (Some(old), Some(new)) = (replaced, content)
            && old != new
        {
            if is_root {
                self.breaks(format!("W10: root '{name}' got other bytes"));
            } else if class.writing() == Writing::Once {
                self.breaks(format!("W11: write-once '{name}' got other bytes"));
            }
        }
    }

    fn journal(&mut self, lineage: Lineage, sequence: u64, key: &str, hash: Option<&Vec<u8>>) {
        let history = self.journal.entry((lineage, key.to_owned())).or_default();
        history.push(hash.cloned());
        // numbers that an overtaken gateway used in its last seconds die with its database
        if self.serves(lineage).is_none() || self.copied_running.contains(&lineage) {
            return;
        }
        let names = (lineage, key.to_owned(), hash.cloned());
        if let Some(before) = self.numbers.insert(sequence, names.clone())
            && before != names
        {
            self.breaks(format!(
                "W19: journal number {sequence} names '{key}' and named '{}'",
                before.1
            ));
        }
    }
}
