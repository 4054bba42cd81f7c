//! The writer lock as stories: what happens, where the lock stands, what is to be done, what is read.
#![allow(clippy::unwrap_used)] // a test that fails may panic

use std::fmt::Write;

use policies::identity::{Cluster, Epoch, Handover, Repository};
use policies::key::Class;
use policies::lock::anchor::Anchor;
use policies::lock::{
    Effect, Event, Findings, Freeze, Lock, Mode, Next, Outcome, Patience, Request, Term, Verdict,
    admit, resume, step,
};

const SINCE: &str = "2026-11-20T10:00:00Z";

struct Story {
    lock: Lock,
    mode: Mode,
    ids: u32,
    /// The anchors in the store, highest last.
    anchors: Vec<Anchor>,
    text: String,
}

fn cluster(name: &str) -> Cluster {
    Cluster::new(name)
}

fn prod() -> Repository {
    Repository::new("prod")
}

impl Story {
    fn new(mode: Mode) -> Self {
        let mut story = Self {
            lock: Lock::Vacant { epoch: Epoch(0) },
            mode,
            ids: 0,
            anchors: vec![],
            text: String::new(),
        };
        story.stands();
        story
    }

    /// Epoch 7, held by prod-eu.
    fn held() -> Self {
        let mut story = Self::new(Mode::Auto);
        story.lock = Lock::Held {
            epoch: Epoch(7),
            holder: cluster("prod-eu"),
        };
        story.anchors.push(anchor(7, Some("prod-eu"), "h-old"));
        story.text.clear();
        story.stands();
        story
    }

    fn stands(&mut self) {
        writeln!(self.text, "{}", shown(&self.lock)).unwrap();
    }

    fn id(&mut self) -> Handover {
        self.ids += 1;
        Handover::new(format!("h{}", self.ids))
    }

    fn says(&mut self, what: &str) -> &mut Self {
        writeln!(self.text, "\n# {what}").unwrap();
        self
    }

    fn writes(&mut self, caller: &str, key: &str) -> &mut Self {
        self.writes_as(caller, key, true)
    }

    fn writes_as(&mut self, caller: &str, key: &str, may_write: bool) -> &mut Self {
        let repository = prod();
        let verdict = admit(
            &self.lock,
            Request {
                repository: &repository,
                caller: &cluster(caller),
                may_write,
                writing: Class::parse(key).writing(),
                mode: self.mode,
            },
        );
        let told = match verdict {
            Verdict::Admit(permit) => match permit.term() {
                Term::Held(epoch) => format!("yes, under epoch {epoch}"),
                Term::Free => "yes, without the lock".to_owned(),
                Term::Settle(_) => unreachable!("no client gets leave to settle"),
            },
            Verdict::Take => "take the lock first".to_owned(),
            Verdict::Wait => "wait for the hand-over".to_owned(),
            Verdict::Refuse(refusal) => format!("no: {}", refusal.sentence(SINCE)),
        };
        writeln!(self.text, "{caller} writes {key}: {told}").unwrap();
        self
    }

    fn reads(&mut self) -> &mut Self {
        let answer = if self.lock.catalog_is_current() {
            "served"
        } else {
            "refused: the list could be too short"
        };
        writeln!(self.text, "reads: {answer}").unwrap();
        self
    }

    fn happens(&mut self, what: &str, event: Event) -> &mut Self {
        let outcome = step(&self.lock, event);
        self.tells(what, outcome)
    }

    fn starts(&mut self, what: &str, intents_open: bool) -> &mut Self {
        let handover = self.id();
        let outcome = resume(
            &self.lock,
            Findings {
                anchors: Ok(self.anchors.last().cloned()),
                intents_open,
                handover,
            },
        );
        self.tells(what, outcome)
    }

    fn tells(&mut self, what: &str, outcome: Outcome) -> &mut Self {
        writeln!(self.text, "{what}").unwrap();
        let effects = match outcome {
            Outcome::Move(step) => {
                self.lock = step.lock;
                writeln!(
                    self.text,
                    "  -> {}   [audit: {}]",
                    shown(&self.lock),
                    step.action.as_str()
                )
                .unwrap();
                step.effects
            }
            Outcome::Stay(effects) => {
                writeln!(self.text, "  -> as before").unwrap();
                effects
            }
            Outcome::Deny(denied) => {
                writeln!(self.text, "  -> denied: {}", denied.sentence(&prod())).unwrap();
                vec![]
            }
        };
        for effect in effects {
            writeln!(self.text, "     to do: {}", to_do(&effect)).unwrap();
        }
        self
    }

    fn operator_locks(&mut self, writer: &str, patience: Patience) -> &mut Self {
        let handover = self.id();
        let force = if patience == Patience::None {
            " --force"
        } else {
            ""
        };
        self.happens(
            &format!("operator: lock --writer {writer}{force}"),
            Event::OperatorLock {
                writer: cluster(writer),
                patience,
                handover,
            },
        )
    }

    fn takes(&mut self, writer: &str) -> &mut Self {
        let handover = self.id();
        self.happens(
            &format!("{writer} takes the lock"),
            Event::Take {
                writer: cluster(writer),
                handover,
            },
        )
    }

    fn drained(&mut self) -> &mut Self {
        let handover = self.id();
        self.happens("no intent is open", Event::Drained { handover })
    }

    fn thaws(&mut self, recover: bool, drained: bool) -> &mut Self {
        let handover = self.id();
        let anchor = self.anchors.last().map_or(Epoch(0), |a| a.epoch);
        let flag = if recover { " --recover" } else { "" };
        self.happens(
            &format!("operator: thaw{flag} (the store's anchor is {anchor})"),
            Event::Thaw {
                recover,
                anchor,
                drained,
                handover,
            },
        )
    }

    /// The store creates the anchor that the fenced lock asks for, and the gateway hears of it.
    fn anchored(&mut self) -> &mut Self {
        let Lock::Fenced {
            epoch,
            next,
            handover,
        } = &self.lock
        else {
            panic!("only a fenced lock creates an anchor");
        };
        let holder = match next {
            Next::Hold(heir) => Some(heir.as_str()),
            Next::Release | Next::Freeze(_) | Next::Recover => None,
        };
        self.anchors
            .push(anchor(epoch.0 + 1, holder, handover.as_str()));
        self.hears("the store has the anchor")
    }

    fn foreign_anchor(&mut self, epoch: u64) -> &mut Self {
        self.anchors.push(anchor(epoch, Some("dr-us"), "foreign"));
        self
    }

    fn hears(&mut self, what: &str) -> &mut Self {
        let highest = self.anchors.last().cloned();
        self.happens(what, Event::Anchors { highest })
    }
}

fn anchor(epoch: u64, holder: Option<&str>, handover: &str) -> Anchor {
    Anchor {
        repository: prod(),
        epoch: Epoch(epoch),
        holder: holder.map(Cluster::new),
        handover: Handover::new(handover),
        previous: None,
    }
}

fn shown(lock: &Lock) -> String {
    match lock {
        Lock::Vacant { epoch } => format!("VACANT({epoch})"),
        Lock::Held { epoch, holder } => format!("HELD({epoch}, {holder})"),
        Lock::Draining {
            epoch,
            holder,
            next,
        } => format!("DRAINING({epoch}, {holder} -> {})", goal(next)),
        Lock::Fenced {
            epoch,
            next,
            handover,
        } => format!("FENCED({epoch} -> {}, hand-over {handover})", goal(next)),
        Lock::Frozen { epoch, reason } => format!("FROZEN({epoch}, {reason})"),
    }
}

fn goal(next: &Next) -> String {
    match next {
        Next::Hold(heir) => heir.to_string(),
        Next::Release => "nobody".to_owned(),
        Next::Freeze(reason) => format!("freeze, {reason}"),
        Next::Recover => "recovery".to_owned(),
    }
}

fn to_do(effect: &Effect) -> String {
    match effect {
        Effect::EndIntents {
            patience: Patience::Owners,
        } => "end the open intents, their owners have time".to_owned(),
        Effect::EndIntents {
            patience: Patience::None,
        } => "end the open intents, now".to_owned(),
        Effect::AbortUploads { up_to } => format!("abort uploads of epochs up to {up_to}"),
        Effect::CreateAnchor {
            epoch,
            holder,
            handover,
        } => format!(
            "create anchor {epoch} for {} with hand-over {handover}",
            holder.as_ref().map_or("nobody", Cluster::as_str)
        ),
        Effect::RebuildCatalog => "rebuild the catalog from the store".to_owned(),
    }
}

#[test]
fn auto_mode_gives_a_vacant_lock_to_the_first_writer() {
    let mut story = Story::new(Mode::Auto);
    story
        .says("registering is not yet writing: both clusters may")
        .writes("prod-eu", "tests-abc/master.dat")
        .writes("dr-us", "tests-def/master.dat")
        .says("the first write takes the lock")
        .writes("prod-eu", "indices/i/0/__Ky-_w7kBq3Zl0aTtXjVA")
        .takes("prod-eu")
        .writes("prod-eu", "indices/i/0/__Ky-_w7kBq3Zl0aTtXjVA")
        .anchored()
        .writes("prod-eu", "indices/i/0/__Ky-_w7kBq3Zl0aTtXjVA")
        .writes("prod-eu", "index-0")
        .says("from now on the other may not even register as a writer")
        .writes("dr-us", "tests-ghi/master.dat")
        .writes("dr-us", "index-1")
        .writes_as("backup-reader", "index-1", false);
    insta::assert_snapshot!(story.text);
}

#[test]
fn two_writers_who_take_at_once_get_one_lock() {
    let mut story = Story::new(Mode::Auto);
    story
        .takes("prod-eu")
        .takes("dr-us")
        .anchored()
        .takes("dr-us")
        .writes("dr-us", "index-0");
    insta::assert_snapshot!(story.text);
}

#[test]
fn manual_mode_waits_for_an_operator() {
    let mut story = Story::new(Mode::Manual);
    story
        .writes("prod-eu", "tests-abc/master.dat")
        .writes("prod-eu", "index-0")
        .writes_as("stranger", "index-0", false)
        .operator_locks("prod-eu", Patience::Owners)
        .anchored()
        .writes("prod-eu", "index-0");
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_hand_over_drains_fences_and_mints_an_epoch() {
    let mut story = Story::held();
    story
        .operator_locks("dr-us", Patience::Owners)
        .says("both wait, a third does not")
        .writes("prod-eu", "index-4")
        .writes("dr-us", "index-4")
        .writes("third", "index-4")
        .says("asking again changes nothing; force only takes the patience away")
        .operator_locks("dr-us", Patience::Owners)
        .operator_locks("dr-us", Patience::None)
        .drained()
        .says("a repeated report, a repeated wish and another wish")
        .drained()
        .operator_locks("dr-us", Patience::Owners)
        .operator_locks("third", Patience::Owners)
        .writes("prod-eu", "index-4")
        .anchored()
        .writes("prod-eu", "index-4")
        .writes("dr-us", "index-4");
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_hand_over_may_change_its_goal_until_it_is_fenced() {
    let mut story = Story::held();
    story
        .operator_locks("dr-us", Patience::Owners)
        .operator_locks("third", Patience::Owners)
        .happens("operator: unlock", Event::Unlock)
        .operator_locks("prod-eu", Patience::Owners)
        .happens(
            "operator: freeze",
            Event::Freeze {
                reason: "audit".into(),
            },
        )
        .operator_locks("dr-us", Patience::Owners)
        .happens("operator: unlock", Event::Unlock)
        .drained();
    insta::assert_snapshot!(story.text);
}

#[test]
fn force_is_the_same_path_without_waiting_for_the_owners() {
    let mut story = Story::held();
    story
        .operator_locks("dr-us", Patience::None)
        .writes("dr-us", "index-4")
        .drained()
        .anchored();
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_rebuilt_cluster_with_the_old_keys_gets_a_new_epoch() {
    let mut story = Story::held();
    story
        .operator_locks("prod-eu", Patience::Owners)
        .drained()
        .anchored();
    insta::assert_snapshot!(story.text);
}

#[test]
fn unlock_leaves_the_lock_vacant() {
    let mut story = Story::held();
    story
        .happens("operator: unlock", Event::Unlock)
        .happens("operator: unlock", Event::Unlock)
        .drained()
        .happens("operator: unlock", Event::Unlock)
        .says("the next hold has an epoch of its own")
        .takes("prod-eu")
        .happens("operator: unlock", Event::Unlock)
        .anchored();
    insta::assert_snapshot!(story.text);
}

#[test]
fn freeze_and_thaw() {
    let mut story = Story::held();
    story
        .happens(
            "operator: freeze",
            Event::Freeze {
                reason: "moving the disks".into(),
            },
        )
        .writes("prod-eu", "index-4")
        .drained()
        .happens(
            "operator: freeze",
            Event::Freeze {
                reason: "again".into(),
            },
        )
        .writes("prod-eu", "index-4")
        .operator_locks("dr-us", Patience::None)
        .happens("operator: unlock", Event::Unlock)
        .thaws(false, true)
        .thaws(false, true)
        .says("a vacant lock freezes at once; the store may not have moved meanwhile")
        .happens(
            "operator: freeze",
            Event::Freeze {
                reason: String::new(),
            },
        )
        .foreign_anchor(8)
        .thaws(false, true)
        .thaws(false, true);
    insta::assert_snapshot!(story.text);
}

#[test]
fn recovery_fences_first_then_reads_the_store() {
    let mut story = Story::held();
    story
        .foreign_anchor(9)
        .starts("the gateway starts on yesterday's database", true)
        .writes("prod-eu", "index-4")
        .thaws(false, true)
        .thaws(true, false)
        .reads()
        .says("the process dies and starts again")
        .starts("the gateway starts", true)
        .anchored()
        .starts("the gateway starts", true)
        .happens(
            "the store is read, but an intent is open",
            Event::Rebuilt { drained: false },
        )
        .happens(
            "the catalog fits the store",
            Event::Rebuilt { drained: true },
        )
        .takes("prod-eu")
        .anchored();
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_crash_at_each_step_of_a_hand_over_is_carried_on() {
    let mut story = Story::held();
    story
        .starts("start while held, intents open", true)
        .starts("start while held", false)
        .operator_locks("dr-us", Patience::Owners)
        .starts("start while draining, intents open", true)
        .starts("start while draining", false)
        .starts("start while fenced, no anchor yet", false);
    // the crash came between the anchor and the row
    let Lock::Fenced { handover, .. } = &story.lock else {
        panic!("the story got lost");
    };
    let ours = anchor(8, Some("dr-us"), handover.as_str());
    story.anchors.push(ours);
    story
        .starts("start while fenced, our anchor is there", false)
        .starts("start while held", false);
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_anchor_of_somebody_else_freezes() {
    let mut story = Story::held();
    story
        .says("while held")
        .foreign_anchor(8)
        .hears("an anchor is found");
    let mut fenced = Story::held();
    fenced
        .says("in the middle of a hand-over")
        .operator_locks("third", Patience::Owners)
        .drained()
        .foreign_anchor(8)
        .hears("create-only refused; the anchor that is there was read");
    let mut stolen = Story::held();
    stolen.anchors = vec![anchor(7, Some("dr-us"), "foreign")];
    stolen
        .says("the same epoch, another holder")
        .hears("the anchors are read");
    let mut older = Story::held();
    older.anchors = vec![anchor(5, Some("prod-eu"), "h5")];
    older
        .says("the store was restored from an older copy")
        .hears("the anchors are read")
        .thaws(false, true)
        .thaws(true, true)
        .anchored();
    insta::assert_snapshot!([story.text, fenced.text, stolen.text, older.text].join("\n---\n"));
}

#[test]
fn every_doubt_freezes_with_its_sentence() {
    let reasons = [
        Freeze::Operator("moving the disks".into()),
        Freeze::Unadopted,
        Freeze::AnchorAhead { anchor: Epoch(9) },
        Freeze::OtherGateway,
        Freeze::DatabaseMoved,
        Freeze::StoreUnreachable,
        Freeze::AnchorBehind { anchor: Epoch(3) },
        Freeze::AnchorBroken("'x' does not follow from the anchor before it".into()),
        Freeze::RootAppeared("index-12".into()),
        Freeze::Recovering,
        Freeze::UnadoptedMirror("us".into()),
        Freeze::Promoting("us".into()),
        Freeze::Promoted {
            store: "us".into(),
            epoch: Epoch(9),
        },
    ];
    let mut text = String::new();
    for reason in reasons {
        let mut story = Story::held();
        story.text.clear();
        story
            .happens("doubt", Event::Doubt(reason))
            .writes("prod-eu", "index-4")
            .reads()
            .thaws(false, true);
        text.push_str(&story.text);
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_doubt_that_needs_recovery_outlives_weaker_reasons() {
    let mut story = Story::held();
    story
        .happens("doubt", Event::Doubt(Freeze::StoreUnreachable))
        .happens("doubt", Event::Doubt(Freeze::OtherGateway))
        .happens("doubt", Event::Doubt(Freeze::StoreUnreachable))
        .happens(
            "doubt",
            Event::Doubt(Freeze::RootAppeared("index-9".into())),
        );
    insta::assert_snapshot!(story.text);
}

#[test]
fn an_unknown_store_is_adopted_before_it_is_written() {
    let mut story = Story::new(Mode::Auto);
    story
        .happens("the store holds objects", Event::Doubt(Freeze::Unadopted))
        .writes("prod-eu", "index-0")
        .thaws(false, true)
        .happens("adopted", Event::Adopted { anchor: Epoch(0) })
        .happens("adopted", Event::Adopted { anchor: Epoch(0) })
        .says("a database that was lost: the store has anchors")
        .happens("the store holds objects", Event::Doubt(Freeze::Unadopted))
        .foreign_anchor(4)
        .starts("the gateway starts", false);
    insta::assert_snapshot!(story.text);
}

#[test]
fn a_mirror_is_not_adopted_over_its_epochs() {
    let mut story = Story::new(Mode::Auto);
    let mirror = Freeze::UnadoptedMirror("us".into());
    story
        .happens("the store holds a mirror", Event::Doubt(mirror))
        .happens("adopted", Event::Adopted { anchor: Epoch(4) })
        .happens(
            "adopted, a copy without anchors",
            Event::Adopted { anchor: Epoch(0) },
        );
    insta::assert_snapshot!(story.text);
}
