//! The mirror's order as stories: what the source committed, what the target has, what is done and in which order.
#![allow(clippy::unwrap_used)] // a test that fails may panic

use std::collections::HashMap;
use std::fmt::Write;

use policies::key::{Class, ObjectKey};
use policies::mirror_order::{Change, Entry, Facts, Known, Next, Pointer, Put, Step, ahead};

const A: &str = "indices/i/0/__AAAAAAAAAAAAAAAAAAAAAA";
const B: &str = "indices/i/0/__BBBBBBBBBBBBBBBBBBBBBB";
const C: &str = "indices/i/0/__CCCCCCCCCCCCCCCCCCCCCC";

#[derive(Default)]
struct Story {
    journal: Vec<Entry>,
    applied: u64,
    facts: Facts,
    /// Sequence of what the target holds under a name.
    there: HashMap<ObjectKey, u64>,
    text: String,
}

impl Story {
    fn tells(&mut self, what: &str) -> &mut Self {
        writeln!(self.text, "# {what}").unwrap();
        self
    }

    fn commit(&mut self, name: &str, change: Change) -> &mut Self {
        let sequence = self.journal.len() as u64 + 1;
        let verb = match change {
            Change::Put => "put",
            Change::Delete => "delete",
        };
        writeln!(self.text, "{sequence:>3} {verb} {name}").unwrap();
        self.journal.push(Entry {
            sequence,
            key: key(name),
            class: Class::parse(name),
            change,
        });
        self
    }

    fn put(&mut self, names: &[&str]) -> &mut Self {
        for name in names {
            self.commit(name, Change::Put);
        }
        self
    }

    fn delete(&mut self, names: &[&str]) -> &mut Self {
        for name in names {
            self.commit(name, Change::Delete);
        }
        self
    }

    /// Something that this mirror did not put there.
    fn found(&mut self, name: &str, known: Known) -> &mut Self {
        writeln!(self.text, "    on the target: {name}: {known:?}").unwrap();
        self.facts.keys.insert(key(name), known);
        let content = match known {
            Known::Content(sequence) => sequence,
            Known::Other => 1000,
            Known::Absent => return self,
        };
        self.there.insert(key(name), content);
        self
    }

    /// Does what is to be done until nothing is, or nothing can be.
    fn follow(&mut self) -> &mut Self {
        loop {
            let after = usize::try_from(self.applied).unwrap();
            let Some(step) = Step::cut(self.applied, &self.journal[after..]).unwrap() else {
                return self;
            };
            let later = usize::try_from(step.upto()).unwrap();
            for put in ahead(&step, &self.journal[later..], &self.facts, 10) {
                writeln!(
                    self.text,
                    " ~> {} may be copied before its turn",
                    shown(&put)
                )
                .unwrap();
            }
            loop {
                let next = step.next(&self.facts);
                writeln!(self.text, " -> {}", said(&next)).unwrap();
                match next {
                    Next::Applied(upto) => {
                        self.applied = upto;
                        self.facts.keys.clear();
                        break;
                    }
                    Next::Stuck { .. } => return self,
                    next => self.done(next),
                }
            }
        }
    }

    /// The target confirms.
    fn done(&mut self, next: Next) {
        match next {
            // What lies there is compared, never overwritten by a copy.
            Next::Copy(puts) => {
                for put in puts {
                    let there = *self.there.entry(put.key.clone()).or_insert(put.sequence);
                    let known = if there == put.sequence {
                        Known::Content(there)
                    } else {
                        Known::Other
                    };
                    self.facts.keys.insert(put.key, known);
                }
            }
            Next::Replace(puts) => {
                for put in puts {
                    self.there.insert(put.key.clone(), put.sequence);
                    self.facts
                        .keys
                        .insert(put.key, Known::Content(put.sequence));
                }
            }
            Next::Root { put, generation } => {
                self.there.insert(put.key.clone(), put.sequence);
                self.facts
                    .keys
                    .insert(put.key, Known::Content(put.sequence));
                self.facts.root = self.facts.root.max(Some(generation));
            }
            Next::Point { generation, .. } => self.facts.pointer = Pointer::Names(generation),
            Next::Remove(keys) => {
                for key in keys {
                    self.there.remove(&key);
                    self.facts.keys.insert(key, Known::Absent);
                }
            }
            Next::Applied(_) | Next::Stuck { .. } => {}
        }
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::parse(name).unwrap()
}

fn shown(put: &Put) -> String {
    format!("{} of {}", put.key, put.sequence)
}

fn said(next: &Next) -> String {
    let puts = |puts: &[Put]| puts.iter().map(shown).collect::<Vec<_>>().join(", ");
    match next {
        Next::Copy(all) => format!("in parallel, where the name is free: {}", puts(all)),
        Next::Replace(all) => format!("one after the other, in place: {}", puts(all)),
        Next::Root { put, generation } => format!("root {generation}: {}", shown(put)),
        Next::Point { key, generation } => format!("{key} names root {generation}"),
        Next::Remove(keys) => {
            let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
            format!("remove {}", keys.join(", "))
        }
        Next::Applied(upto) => format!("applied up to {upto}"),
        Next::Stuck { key, why } => format!("stuck at {key}: {why}"),
    }
}

#[test]
fn a_snapshot_is_copied_before_its_root_and_the_pointer_comes_last() {
    let mut story = Story::default();
    story
        .put(&[A, B, "snap-s1.dat", "index-0", "index.latest"])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn what_a_root_dropped_is_removed_after_it() {
    let mut story = Story::default();
    story
        .put(&[A, "snap-s1.dat", "index-0", "index.latest"])
        .follow()
        .tells("the snapshot is deleted")
        .put(&["index-1", "index.latest"])
        .delete(&["index-0", "snap-s1.dat", A])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_mirror_that_is_behind_skips_roots_and_what_was_made_and_removed_again() {
    let mut story = Story::default();
    story
        .put(&[A, "index-0", "index.latest", B, "index-1", "index.latest"])
        .delete(&["index-0"])
        .put(&["index-2", "index.latest"])
        .delete(&[B, "index-1"])
        .put(&[C, "index-3", "index.latest"])
        .delete(&["index-2"])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_name_that_is_used_again_ends_the_step_before_it() {
    let mut story = Story::default();
    story
        .put(&[
            "indices/i/0/__1",
            "index-0",
            "index.latest",
            "index-1",
            "index.latest",
        ])
        .delete(&["index-0", "indices/i/0/__1"])
        .put(&["indices/i/0/__1", A, "index-2", "index.latest"])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn other_content_under_a_name_is_replaced_in_the_order_of_the_journal() {
    let mut story = Story::default();
    story
        .found("snap-s1.dat", Known::Other)
        .found("indices/i/0/snap-s1.dat", Known::Content(1))
        .put(&[
            "indices/i/0/snap-s1.dat",
            A,
            "snap-s1.dat",
            "index-0",
            "index.latest",
        ])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn the_two_newest_roots_of_5_x_come_the_newest_first() {
    let mut story = Story::default();
    story
        .put(&[A, "index-3", "index.latest", B, "index-4", "index.latest"])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_pointer_that_the_source_did_not_write_anew_follows_the_root_all_the_same() {
    let mut story = Story::default();
    story
        .put(&["index-0", "index.latest"])
        .follow()
        .tells("the cluster failed to write the pointer, and took it lightly")
        .put(&["index-1"])
        .delete(&["index-0"])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn where_there_are_no_roots_the_files_that_announce_a_snapshot_come_last_and_go_first() {
    let mut story = Story::default();
    story
        .put(&[
            "metadata-s1",
            "indices/i/0/__0",
            "indices/i/0/snapshot-s1",
            "snapshot-s1",
            "index",
        ])
        .follow()
        .tells("it is deleted")
        .put(&["index"])
        .delete(&["indices/i/0/__0", "snapshot-s1", "metadata-s1"])
        .follow();
    insta::assert_snapshot!(story.text);
}

#[test]
fn what_can_never_be_done_says_why() {
    let mut story = Story::default();
    story
        .tells("the target has another root of the generation")
        .found("index-0", Known::Other)
        .put(&[A, "index-0"])
        .follow();
    let mut ahead = Story::default();
    ahead.tells("the target has a root that the source does not know");
    ahead.facts.root = Some(7);
    ahead.put(&[A, "index-0"]).follow();
    let mut removed = Story::default();
    removed
        .put(&["index-0", "index.latest"])
        .follow()
        .tells("somebody removes the newest root")
        .delete(&["index-0"])
        .follow();
    insta::assert_snapshot!([story.text, ahead.text, removed.text].join("\n"));
}

#[test]
fn a_journal_with_a_gap_is_no_journal() {
    let entry = |sequence| Entry {
        sequence,
        key: key(A),
        class: Class::parse(A),
        change: Change::Put,
    };
    let gap = Step::cut(3, &[entry(4), entry(6)]).unwrap_err();
    assert_eq!(gap.to_string(), "the journal lacks entry 5");
    let cut = Step::cut(3, &[entry(5)]).unwrap_err();
    assert_eq!(cut.missing, 4);
}
