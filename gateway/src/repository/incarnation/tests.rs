//! A state database and its copy, started in turn on one store.

use std::collections::BTreeSet;

use policies::identity::Cluster;

use super::*;
use crate::repository::handover::Ask;
use crate::repository::miniature::{DATABASE, World, cut};
use crate::repository::{Error, keeper};
use crate::state::postgres::tests::nodes;
use crate::stores::faults::{Fault, Faulty, Gate};
use crate::stores::metrics::Operation;

const COPY: &str = "copy.db";

/// Journal numbers that this database used.
async fn numbers(world: &World) -> BTreeSet<u64> {
    let journal = world.door.state().journal(world.open.id, 0, 10_000).await;
    journal.unwrap().iter().map(|e| e.sequence).collect()
}

async fn starts_in(world: &World) -> usize {
    let names = own::names(world.store.as_ref(), &format!("{RESERVED}incarnation-")).await;
    names.unwrap().len()
}

fn frozen(world: &World) -> Option<Freeze> {
    match world.open.gate.row().lock {
        Lock::Frozen { reason, .. } => Some(reason),
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } | Lock::Fenced { .. } => {
            None
        }
    }
}

async fn recover(world: &World) {
    let ask = Ask::Thaw { recover: true };
    let row = world.door.hand_over(&world.open, ask, None).await.unwrap();
    assert!(matches!(row.lock, Lock::Held { .. } | Lock::Vacant { .. }));
}

#[tokio::test]
async fn a_start_knows_the_starts_before_it() {
    let mut world = World::new().await;
    for name in ["one", "two", "three"] {
        world.snapshot(name).await;
        keeper::finish(&world.door).await;
        world = world.restart().await;
        assert_eq!(frozen(&world), None);
    }
}

#[tokio::test]
async fn a_database_whose_copy_worked_since_freezes_until_it_is_recovered() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let before = numbers(&world).await;
    let mut world = world.copy_database(COPY).await.restart_on(DATABASE).await;
    world.snapshot("by the original").await;
    let original: BTreeSet<u64> = &numbers(&world).await - &before;

    // The copy, started in its turn, does nothing in the store.
    let world = world.restart_on(COPY).await;
    let starts = starts_in(&world).await;
    assert_eq!(frozen(&world), Some(Freeze::OtherGateway));
    let key = "base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__Zq3sGkWcTfSf6Y1nC3mBvw";
    let refused = world.put(key, b"by the copy".to_vec()).await;
    assert!(matches!(refused, Err(Error::SlowDown(_))), "{refused:?}");
    let world = world.restart_on(COPY).await;
    assert_eq!(frozen(&world), Some(Freeze::OtherGateway));
    assert_eq!(starts_in(&world).await, starts);

    // Recovered, it goes on above all that the original used.
    recover(&world).await;
    world.put(key, b"by the copy".to_vec()).await.unwrap();
    let copied: BTreeSet<u64> = &numbers(&world).await - &before;
    let newest = *original.last().unwrap();
    assert!(copied.iter().all(|used| *used > newest), "{copied:?}");

    // And now it is the original that knows nothing of the store.
    let world = world.restart_on(DATABASE).await;
    assert_eq!(frozen(&world), Some(Freeze::OtherGateway));
    recover(&world).await;
    // What it adopted has no hash: the same bytes are known by reading them.
    world.put(key, b"by the copy".to_vec()).await.unwrap();
    world
        .put(&format!("{key}z"), b"by the original".to_vec())
        .await
        .unwrap();
    let again: BTreeSet<u64> = &(&numbers(&world).await - &before) - &original;
    assert!(again.is_disjoint(&copied), "{again:?} and {copied:?}");
}

/// A data file's name, which no root needs.
fn data(n: usize) -> String {
    format!("base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__Zq3sGkWcTfSf6Y1nC3mB{n:02}")
}

async fn write(world: &World, names: std::ops::Range<usize>) {
    for n in names {
        let written = world.put(&data(n), b"by the original".to_vec()).await;
        written.unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_was_made_while_its_original_ran_freezes_when_the_original_wrote_more() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.copy_database_while_it_runs(COPY);
    // Objects and no root, and then it stops for good.
    write(&world, 0..3).await;
    let original = numbers(&world).await;
    keeper::finish(&world.door).await;

    let world = world.restart_on(COPY).await;
    assert_eq!(frozen(&world), Some(Freeze::OtherGateway));
    let refused = world.put(&data(4), b"by the copy".to_vec()).await;
    assert!(matches!(refused, Err(Error::SlowDown(_))), "{refused:?}");
    recover(&world).await;
    let written = world.put(&data(4), b"by the copy".to_vec()).await;
    written.unwrap();
    let copied: BTreeSet<u64> = &numbers(&world).await - &original;
    let newest = *original.last().unwrap();
    assert!(copied.iter().all(|used| *used > newest), "{copied:?}");
    let same = world.put(&data(0), b"by the original".to_vec()).await;
    same.unwrap();
}

#[tokio::test]
async fn a_copy_that_was_made_in_the_middle_of_a_hand_over_freezes_when_its_original_finished_it_and_wrote()
 {
    let asleep = Gate::closed();
    let (world, faulty) = World::new().await.restart_faulty().await;
    // The first write takes the lock; of that, the anchor is the first thing that is created.
    let hold = Fault::Hold(Arc::clone(&asleep));
    faulty.plan(Operation::Begin, hold);
    let copying = async {
        asleep.reached().await;
        world.copy_database_while_it_runs(COPY);
        asleep.open();
    };
    tokio::join!(write(&world, 0..3), copying);
    keeper::finish(&world.door).await;
    let world = world.restart_on(COPY).await;
    assert_eq!(frozen(&world), Some(Freeze::OtherGateway));
    recover(&world).await;
}

#[tokio::test]
async fn a_copy_whose_original_wrote_nothing_more_goes_on() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.copy_database_while_it_runs(COPY);
    keeper::finish(&world.door).await;
    let world = world.restart_on(COPY).await;
    assert_eq!(frozen(&world), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_at_any_time_knows_the_checkpoint_that_it_left() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    for round in 0..20 {
        let polls = 1 + 7 * round;
        let written = async {
            let names = 4 * round..4 * round + 4;
            tokio::join!(write(&world, names), keeper::finish(&world.door));
            keeper::finish(&world.door).await;
        };
        let _killed_before_its_end = cut(polls, written).await;
        world = world.restart().await;
        assert_eq!(frozen(&world), None, "killed after {polls} polls");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_does_not_meet_the_checkpoint_of_who_was_there_before() {
    let (mut carried_on, mut done) = (0, false);
    for polls in (1..).step_by(6) {
        let mut world = World::new().await;
        world.snapshot("one").await;
        world.copy_database_while_it_runs(COPY);
        write(&world, 0..40).await;
        keeper::finish(&world.door).await;
        let world = world.restart_on(COPY).await;
        assert_eq!(frozen(&world), Some(Freeze::OtherGateway));
        done = cut(polls, recover(&world)).await.is_some();
        let row = world.door.state().lock(world.open.id).await.unwrap();
        let begun = !matches!(
            row.lock,
            Lock::Frozen {
                reason: Freeze::OtherGateway,
                ..
            }
        );
        // Nothing was written since.
        let world = world.restart_on(COPY).await;
        let expected = (!begun).then_some(Freeze::OtherGateway);
        assert_eq!(frozen(&world), expected, "killed after {polls} polls");
        if done {
            write(&world, 50..51).await;
            break;
        }
        carried_on += usize::from(begun);
    }
    assert!(done && carried_on > 0, "{carried_on} recoveries were cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_beside_one_that_writes_knows_its_checkpoint() {
    let [one, two, three] = nodes().await;
    let [mut one, two] = World::nodes([one, two]).await;
    one.snapshot("one").await;
    let (_, (), (), three) = tokio::join!(
        write(&one, 0..20),
        keeper::finish(&one.door),
        keeper::finish(&two.door),
        one.another_node(three)
    );
    for node in [&one, &two, &three] {
        assert_eq!(frozen(node), None);
    }
    write(&three, 20..21).await;
}

#[tokio::test]
async fn a_number_that_another_database_takes_at_the_same_time_is_noticed() {
    let world = World::new().await.copy_database(COPY).await;
    let world = world.restart_on(COPY).await;
    let at = world.open.plan.store.clone();
    // The copy's number came between this start's look and its own.
    let original = World::new().await;
    let state = original.door.state().as_ref();
    let late = begin_after_ours(state, &at, world.store.as_ref()).await;
    assert_eq!(late.unwrap(), None);
}

#[tokio::test]
async fn an_epoch_that_came_between_a_starts_look_and_its_number_freezes_it() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    world.copy_database_while_it_runs(COPY);
    let asleep = Gate::closed();
    // What a start creates first comes after its look at the epochs.
    let behind = |store: Arc<dyn Store>| {
        let store = Faulty::new(store);
        store.plan(Operation::Begin, Fault::Hold(Arc::clone(&asleep)));
        Arc::new(store) as Arc<dyn Store>
    };
    let handed_over = async {
        asleep.reached().await;
        let ask = Ask::Lock {
            writer: Cluster::new("a"),
            force: true,
            wait_mirror: None,
        };
        let row = world.door.hand_over(&world.open, ask, None).await.unwrap();
        asleep.open();
        row.lock.epoch()
    };
    let (copy, anchor) = tokio::join!(world.another_gateway(COPY, behind), handed_over);
    assert_eq!(frozen(&copy), Some(Freeze::AnchorAhead { anchor }));
}

#[tokio::test]
async fn a_database_that_was_emptied_is_not_taken_for_a_first_start() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let world = world.empty_database().await;
    let reason = frozen(&world);
    assert!(
        matches!(reason, Some(Freeze::AnchorAhead { .. })),
        "{reason:?}"
    );
}
