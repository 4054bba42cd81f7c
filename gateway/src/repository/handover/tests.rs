//! A node that is paused in mid-write while another one hands the lock over, and wakes up; one that is cut off from the state
//! database; nodes with different clocks.

use std::sync::Arc;

use super::*;
use crate::repository::pair::{Pair, Place, Put, Side};
use crate::repository::{self, WriteCondition};
use crate::state::postgres::tests::nodes_and_a_link;
use crate::stores::faults::{Fault, Gate};
use crate::stores::metrics::Operation;
use crate::telemetry::clock;

const SNAPSHOT: &str = "base/snap-Zq3sGkWcTfSf6Y1nC3mBvw.dat";
const DATA: &str = "base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__Zq3sGkWcTfSf6Y1nC3mBvw";
const TEXT: &str = "written by the node that was paused";

async fn lock_to(side: &Side, writer: &str) {
    let ask = Ask::Lock {
        writer: Cluster::new(writer),
        force: true,
        wait_mirror: None,
    };
    let row = side.door.hand_over(&side.open, ask, None).await.unwrap();
    assert!(matches!(row.lock, Lock::Held { holder, .. } if holder.as_str() == writer));
}

/// What the paused node's client was told, and what is there.
async fn over_a_hand_over(
    key: &str,
    operation: Operation,
    fault: fn(Arc<Gate>) -> Fault,
) -> (Put, Option<String>, Pair) {
    let pair = Pair::new(Place::TwoNodes).await;
    let asleep = Gate::closed();
    pair.first.store.plan(operation, fault(Arc::clone(&asleep)));
    let put = pair.first.put(key, TEXT, WriteCondition::Always);
    asleep.reached().await;
    lock_to(&pair.second, "b").await;
    let there = pair.second.content(key).await;
    asleep.open();
    let told = put.await.unwrap();
    assert_eq!(pair.second.content(key).await, there, "something came late");
    assert_eq!(
        pair.second
            .door
            .state()
            .intents(pair.second.open.id)
            .await
            .unwrap(),
        []
    );
    (told, there, pair)
}

#[tokio::test]
async fn a_write_that_was_paused_before_its_publish_has_no_effect_after_a_hand_over() {
    let (told, there, pair) = over_a_hand_over(SNAPSHOT, Operation::Publish, Fault::Hold).await;
    assert!(told.is_err());
    assert_eq!(there, None);
    assert_eq!(pair.second.in_store(SNAPSHOT).await, None);
}

#[tokio::test]
async fn a_write_that_was_paused_after_its_publish_was_committed_by_the_hand_over() {
    let (told, there, _pair) =
        over_a_hand_over(SNAPSHOT, Operation::Publish, Fault::HoldAfter).await;
    // Its own commit came late: its client is told to repeat, and a repeat by the holder finds it.
    assert!(told.is_err());
    assert_eq!(there.as_deref(), Some(TEXT));
}

#[tokio::test]
async fn a_write_once_object_that_was_published_before_a_hand_over_is_not_recorded_after_it() {
    let (told, there, pair) = over_a_hand_over(DATA, Operation::Publish, Fault::HoldAfter).await;
    // No refusal: a recovery that reads the store lists what was published. A repeat is refused.
    assert!(
        matches!(told, Err(repository::Error::SlowDown(_))),
        "{told:?}"
    );
    let again = pair.first.write(DATA, TEXT).await;
    assert!(
        matches!(again, Err(repository::Error::Refused(_))),
        "{again:?}"
    );
    assert_eq!(there, None);
    // The orphan is in nobody's way: the new holder writes the name.
    assert_eq!(pair.second.in_store(DATA).await.as_deref(), Some(TEXT));
}

/// A node that loses its way to the state database, not to the store, before or after the publish of its write; what its
/// client was told, and what was there after another node had ended that write.
async fn cut_off(fault: fn(Arc<Gate>) -> Fault) -> (Put, Option<String>, Pair) {
    let (nodes, link) = nodes_and_a_link().await;
    let pair = Pair::of_nodes(nodes).await;
    let asleep = Gate::closed();
    let store = &pair.first.store;
    store.plan(Operation::Publish, fault(Arc::clone(&asleep)));
    let put = pair.first.put(SNAPSHOT, TEXT, WriteCondition::Always);
    asleep.reached().await;
    link.cut();
    // The server's clock, an hour later.
    link.nobody_was_heard_for_an_hour().await;
    let second = &pair.second;
    second.door.state().beat().await.unwrap();
    second.door.resolve_abandoned(&second.open).await.unwrap();
    let open = second.door.state().intents(second.open.id).await;
    assert_eq!(open.unwrap(), []);
    let there = second.content(SNAPSHOT).await;
    asleep.open();
    let told = put.await.unwrap();
    assert_eq!(second.content(SNAPSHOT).await, there, "something came late");
    // Its client repeats it, at the node that goes on.
    second.write(SNAPSHOT, TEXT).await.unwrap();
    (told, there, pair)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_the_database_after_its_publish_is_not_acknowledged_and_another_decides()
 {
    let (told, there, pair) = cut_off(Fault::HoldAfter).await;
    assert!(told.is_err(), "{told:?}");
    // By its bytes: the write is committed, and the repeat found it.
    assert_eq!(there.as_deref(), Some(TEXT));
    assert_eq!(pair.kept(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_the_database_before_its_publish_publishes_nothing_late() {
    let (told, there, pair) = cut_off(Fault::Hold).await;
    assert!(told.is_err(), "{told:?}");
    assert_eq!(there, None);
    assert_eq!(pair.second.content(SNAPSHOT).await.as_deref(), Some(TEXT));
}

#[tokio::test]
async fn nodes_with_different_clocks_agree_about_the_lock_and_about_each_other() {
    let pair = Pair::new(Place::TwoNodes).await;
    let (first, second) = (&pair.first, &pair.second);
    let (now, years) = (clock::now(), time::Duration::days(365 * 30));
    let at_first = || clock::simulated::set(now + years);
    let at_second = || clock::simulated::set(now - years);
    at_first();
    first.door.state().beat().await.unwrap();
    let asleep = Gate::closed();
    let hold = Fault::Hold(Arc::clone(&asleep));
    first.store.plan(Operation::Publish, hold);
    let put = first.put(SNAPSHOT, TEXT, WriteCondition::Always);
    asleep.reached().await;
    // Sixty years apart, and in the middle of a write: it is alive, and the write is its own.
    at_second();
    let (state, id) = (second.door.state(), second.open.id);
    state.beat().await.unwrap();
    assert_eq!(state.others_alive().await.unwrap(), 1);
    assert_eq!(state.orphaned_intents(id).await.unwrap(), 0);
    second.door.resolve_abandoned(&second.open).await.unwrap();
    assert_eq!(state.intents(id).await.unwrap().len(), 1);
    at_first();
    asleep.open();
    put.await.unwrap().unwrap();
    at_second();
    assert_eq!(second.content(SNAPSHOT).await.as_deref(), Some(TEXT));
    // The lock goes to and fro, by the clock of one and of the other.
    let mut epoch = state.lock(id).await.unwrap().lock.epoch();
    for (side, writer) in [(second, "b"), (first, "a"), (second, "a"), (first, "b")] {
        if writer == "b" {
            at_first();
        } else {
            at_second();
        }
        lock_to(side, writer).await;
        let row = side.door.state().lock(id).await.unwrap();
        assert_eq!(row.lock.epoch(), epoch.next());
        epoch = row.lock.epoch();
    }
    for side in [first, second] {
        let refused = side.write(DATA, TEXT).await;
        assert!(
            matches!(refused, Err(repository::Error::Refused(_))),
            "{refused:?}"
        );
    }
    state.replay_audit().await.unwrap().unwrap();
    assert_eq!(state.verify_audit().await.unwrap(), None);
    clock::simulated::unset();
}
