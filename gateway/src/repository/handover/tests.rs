//! A node that is paused in mid-write while another one hands the lock over, and wakes up.

use std::sync::Arc;

use super::*;
use crate::repository::pair::{Pair, Place, Put, Side};
use crate::repository::{self, WriteCondition};
use crate::stores::faults::{Fault, Gate};
use crate::stores::metrics::Operation;

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
