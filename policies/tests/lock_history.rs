//! A replayed history: whatever the state machine does is one writer's history, and what it never does is told.
#![allow(clippy::unwrap_used)] // a test that fails may panic

use policies::identity::{Cluster, Epoch, Handover, Repository};
use policies::lock::anchor::Anchor;
use policies::lock::history::{History, Record, Totals, Wrong};
use policies::lock::{Effect, Event, Freeze, Lock, Next, Outcome, Patience, promotion, step};

fn prod() -> Repository {
    Repository::new("prod")
}

fn eu() -> Cluster {
    Cluster::new("eu")
}

fn us() -> Cluster {
    Cluster::new("us")
}

fn vacant(epoch: u64) -> Lock {
    Lock::Vacant {
        epoch: Epoch(epoch),
    }
}

fn held(epoch: u64, holder: Cluster) -> Lock {
    Lock::Held {
        epoch: Epoch(epoch),
        holder,
    }
}

fn draining(epoch: u64, holder: Cluster, next: Next) -> Lock {
    Lock::Draining {
        epoch: Epoch(epoch),
        holder,
        next,
    }
}

fn fenced(epoch: u64, next: Next) -> Lock {
    Lock::Fenced {
        epoch: Epoch(epoch),
        next,
        handover: Handover::new("h"),
    }
}

fn frozen(epoch: u64, reason: Freeze) -> Lock {
    Lock::Frozen {
        epoch: Epoch(epoch),
        reason,
    }
}

/// The records of a lock that goes through these states, from its beginning.
fn records(states: &[Lock]) -> Vec<Record> {
    let mut before = vacant(0);
    let mut records = Vec::new();
    for (after, version) in states.iter().zip(2..) {
        records.push(Record::Moved {
            version,
            before: std::mem::replace(&mut before, after.clone()),
            after: after.clone(),
        });
    }
    records
}

fn root(generation: u64, cluster: Cluster, epoch: u64) -> Record {
    Record::Committed {
        generation,
        cluster,
        epoch: Epoch(epoch),
    }
}

fn told(sequence: u64, wrong: Wrong) -> Result<Totals, Box<(u64, Wrong)>> {
    Err(Box::new((sequence, wrong)))
}

/// What was replayed; or the first record that is wrong, and what is.
fn replay(records: Vec<Record>) -> Result<Totals, Box<(u64, Wrong)>> {
    let mut history = History::new([]);
    for (record, sequence) in records.into_iter().zip(1..) {
        history
            .follow(sequence, &prod(), record)
            .map_err(|v| Box::new((v.sequence.unwrap(), *v.wrong)))?;
    }
    Ok(history.end().unwrap())
}

fn hold(cluster: &Cluster) -> Next {
    Next::Hold(cluster.clone())
}

#[test]
fn a_hand_over_with_a_root_of_each_writer_is_a_history_of_one_writer() {
    let mut all = records(&[
        fenced(0, hold(&eu())),
        held(1, eu()),
        draining(1, eu(), hold(&us())),
        fenced(1, hold(&us())),
        held(2, us()),
    ]);
    all.insert(2, root(1, eu(), 1));
    // What was begun before the drain ends while it drains.
    all.insert(4, root(2, eu(), 1));
    all.push(root(3, us(), 2));
    let totals = Totals {
        moves: 5,
        roots: 3,
        epochs: 2,
    };
    assert_eq!(replay(all), Ok(totals));
}

#[test]
fn two_holders_of_one_epoch_are_told() {
    let all = records(&[
        fenced(0, hold(&eu())),
        held(1, eu()),
        frozen(1, Freeze::Promoting("dr".into())),
        held(1, us()),
    ]);
    let twice = Wrong::MintedTwice {
        epoch: Epoch(1),
        holder: eu(),
    };
    assert_eq!(replay(all), told(4, twice));
}

#[test]
fn an_epoch_that_goes_back_is_told() {
    let all = records(&[
        fenced(0, hold(&eu())),
        held(1, eu()),
        draining(1, eu(), hold(&us())),
        fenced(0, hold(&us())),
    ]);
    let back = Wrong::EpochWentBack {
        from: Epoch(1),
        to: Epoch(0),
    };
    assert_eq!(replay(all), told(4, back));
}

#[test]
fn a_grant_while_another_holds_is_told() {
    for between in [held(1, eu()), draining(1, eu(), hold(&us()))] {
        let mut states = vec![fenced(0, hold(&eu())), held(1, eu())];
        if between != states[1] {
            states.push(between);
        }
        states.push(held(2, us()));
        let last = states.len() as u64;
        let two = Wrong::TwoHolders {
            from: eu(),
            to: us(),
        };
        assert_eq!(replay(records(&states)), told(last, two));
    }
}

#[test]
fn a_grant_without_a_fence_or_to_another_than_it_was_for_is_told() {
    for states in [
        vec![held(1, eu())],
        vec![fenced(0, hold(&eu())), held(1, us())],
        vec![fenced(0, hold(&eu())), held(2, eu())],
        vec![frozen(0, Freeze::Operator("look".into())), held(1, eu())],
    ] {
        let (at, wrong) = *replay(records(&states)).unwrap_err();
        assert!(matches!(wrong, Wrong::Impossible { .. }), "{wrong:?}");
        assert_eq!(at, states.len() as u64);
    }
}

#[test]
fn a_root_of_who_never_held_its_epoch_or_after_a_newer_one_was_held_is_told() {
    let handed_over = records(&[
        fenced(0, hold(&eu())),
        held(1, eu()),
        draining(1, eu(), hold(&us())),
        fenced(1, hold(&us())),
        held(2, us()),
    ]);
    let cases: [(Record, Wrong); 3] = [
        (
            root(9, eu(), 1),
            Wrong::AfterNewer {
                generation: 9,
                epoch: Epoch(1),
                newest: Epoch(2),
            },
        ),
        (
            root(9, eu(), 2),
            Wrong::NotTheHolder {
                generation: 9,
                cluster: eu(),
                epoch: Epoch(2),
            },
        ),
        (
            root(9, us(), 3),
            Wrong::NotTheHolder {
                generation: 9,
                cluster: us(),
                epoch: Epoch(3),
            },
        ),
    ];
    for (late, wrong) in cases {
        let mut all = handed_over.clone();
        all.push(late);
        assert_eq!(replay(all), told(6, wrong));
    }
    // Fenced says that nothing is open any more.
    let mut all = handed_over[..4].to_vec();
    all.push(root(9, eu(), 1));
    let nobody = Wrong::NobodyWrote {
        generation: 9,
        lock: fenced(1, hold(&us())),
    };
    assert_eq!(replay(all), told(5, nobody));
}

#[test]
fn a_doubt_ends_only_by_a_recovery() {
    let doubt = frozen(1, Freeze::OtherGateway);
    let begin = [fenced(0, hold(&eu())), held(1, eu()), doubt];
    for forgotten in [vacant(1), held(2, eu()), fenced(1, hold(&eu()))] {
        let states = [&begin[..], &[forgotten]].concat();
        let reason = Freeze::OtherGateway;
        assert_eq!(
            replay(records(&states)),
            told(4, Wrong::DoubtForgotten { reason })
        );
    }
    let recovery = [
        fenced(4, Next::Recover),
        frozen(5, Freeze::Recovering),
        vacant(5),
    ];
    let states = [&begin[..], &recovery].concat();
    assert!(replay(records(&states)).is_ok());
}

#[test]
fn moves_that_are_missing_twice_or_torn_are_told() {
    let whole = records(&[
        fenced(0, hold(&eu())),
        held(1, eu()),
        draining(1, eu(), hold(&us())),
    ]);
    let skipped = |expected, version| Wrong::Skipped { expected, version };
    let without = [&whole[..1], &whole[2..]].concat();
    assert_eq!(replay(without), told(2, skipped(3, 4)));
    let twice = [&whole[..2], &whole[1..]].concat();
    assert_eq!(replay(twice), told(3, skipped(4, 3)));
    let beginning = Wrong::NoBeginning {
        version: 3,
        before: fenced(0, hold(&eu())),
    };
    assert_eq!(replay(whole[1..].to_vec()), told(1, beginning));
}

#[test]
fn records_of_an_older_program_are_passed_over_until_the_first_that_tells_all() {
    let whole = records(&[
        fenced(0, hold(&eu())),
        held(1, eu()),
        draining(1, eu(), Next::Release),
    ]);
    let mut told_late = vec![Record::Untold, root(1, eu(), 1), Record::Untold];
    told_late.push(whole[2].clone());
    told_late.push(root(2, eu(), 1));
    assert!(replay(told_late.clone()).is_ok());
    told_late.push(Record::Untold);
    assert_eq!(replay(told_late), told(6, Wrong::Untold));
}

#[test]
fn records_lead_to_the_row_that_is_there() {
    let all = records(&[fenced(0, hold(&eu())), held(1, eu())]);
    for (version, row, fits) in [
        (3, held(1, eu()), true),
        (2, fenced(0, hold(&eu())), true), // read before the last record came
        (3, held(1, us()), false),
        (4, held(1, eu()), false),
    ] {
        let mut history = History::new([(prod(), version, row)]);
        let followed: Result<Vec<_>, _> = all
            .iter()
            .zip(1..)
            .map(|(record, at)| history.follow(at, &prod(), record.clone()))
            .collect();
        assert_eq!(followed.is_ok() && history.end().is_ok(), fits);
    }
}

#[test]
fn a_promotion_that_is_taken_back_leaves_the_lock_as_it_was() {
    let before = held(1, eu());
    let begun = promotion::begin(&before, "dr");
    let begin = [fenced(0, hold(&eu())), before.clone(), begun];
    let back = [&begin[..], std::slice::from_ref(&before)].concat();
    assert!(replay(records(&back)).is_ok());
    let through = [&begin[..], &[held(2, us())]].concat();
    assert!(replay(records(&through)).is_ok());
    // Only the promotion that was under way is taken back.
    let later = [
        &through[..],
        &[draining(2, us(), Next::Release), vacant(2), before],
    ]
    .concat();
    assert!(replay(records(&later)).is_err());
}

/// The lock, the store's anchors and the records, driven by the production state machine.
#[derive(Clone)]
struct Life {
    lock: Lock,
    anchors: Vec<Anchor>,
    version: u64,
    history: History,
    foreign: bool,
}

impl Life {
    fn events(&self) -> Vec<Event> {
        let handover = || Handover::new(format!("h{}", self.version));
        let anchor = self.anchors.last().map_or(Epoch(0), |a| a.epoch);
        let mut events = vec![
            Event::Unlock,
            Event::Freeze {
                reason: "look".into(),
            },
            Event::Drained {
                handover: handover(),
            },
            Event::Anchors {
                highest: self.anchors.last().cloned(),
            },
            Event::Rebuilt { drained: true },
            Event::Adopted { anchor },
            Event::Doubt(Freeze::StoreUnreachable),
            Event::Doubt(Freeze::OtherGateway),
        ];
        for writer in [eu(), us()] {
            events.push(Event::Take {
                writer: writer.clone(),
                handover: handover(),
            });
            events.push(Event::OperatorLock {
                writer,
                patience: Patience::Owners,
                handover: handover(),
            });
        }
        for recover in [false, true] {
            events.push(Event::Thaw {
                recover,
                anchor,
                drained: true,
                handover: handover(),
            });
        }
        events
    }

    /// The same, after somebody else's gateway took the next epoch.
    fn overtaken(&self) -> Option<Self> {
        let mut other = self.clone();
        other.foreign = true;
        other.anchors.push(Anchor {
            repository: prod(),
            epoch: self.anchors.last().map_or(Epoch(0), |a| a.epoch).next(),
            holder: Some(us()),
            handover: Handover::new("foreign"),
            previous: None,
        });
        (!self.foreign).then_some(other)
    }

    /// None = the event moves nothing.
    fn after(&self, event: Event) -> Option<Self> {
        let Outcome::Move(step) = step(&self.lock, event) else {
            return None;
        };
        let mut next = self.clone();
        next.version += 1;
        let record = Record::Moved {
            version: next.version,
            before: std::mem::replace(&mut next.lock, step.lock.clone()),
            after: step.lock,
        };
        next.history
            .follow(next.version, &prod(), record)
            .unwrap_or_else(|violation| panic!("{violation}"));
        for effect in step.effects {
            if let Effect::CreateAnchor {
                epoch,
                holder,
                handover,
            } = effect
                && next.anchors.last().is_none_or(|a| a.epoch < epoch)
            {
                next.anchors.push(Anchor {
                    repository: prod(),
                    epoch,
                    holder,
                    handover,
                    previous: None,
                });
            }
        }
        Some(next)
    }
}

fn explore(life: &Life, depth: u32, seen: &mut u64) {
    *seen += 1;
    if depth == 0 {
        return;
    }
    for event in life.events() {
        if let Some(next) = life.after(event) {
            explore(&next, depth - 1, seen);
        }
    }
    if let Some(other) = life.overtaken() {
        explore(&other, depth - 1, seen);
    }
}

#[test]
fn whatever_the_state_machine_does_is_a_history_of_one_writer() {
    const DEPTH: u32 = 9;
    let life = Life {
        lock: vacant(0),
        anchors: vec![],
        version: 1,
        history: History::new([]),
        foreign: false,
    };
    let mut seen = 0;
    explore(&life, DEPTH, &mut seen);
    println!("{seen} histories of up to {DEPTH} moves");
    assert!(seen > 10_000, "{seen}");
}
