//! Two writers of one write-once name, in one gateway and on two nodes, stopped at every step.

use tokio::task::JoinHandle;

use super::*;
use crate::repository::miniature::caller;
use crate::repository::pair::{self, Pair, Place, Put, Side};
use crate::repository::{Body, WriteCondition};
use crate::state::Details;
use crate::stores::faults::{Fault, Gate};
use crate::stores::metrics::Operation;

const KEY: &str = "base/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__Zq3sGkWcTfSf6Y1nC3mBvw";
const FIRST: &str = "what the first writer sent";
const SECOND: &str = "and the second";

fn at() -> Address {
    pair::at(KEY)
}

impl Pair {
    /// A writer that published and does not go on.
    async fn paused(&self) -> (JoinHandle<Put>, Arc<Gate>) {
        let gate = Gate::closed();
        let fault = Fault::HoldAfter(Arc::clone(&gate));
        self.first.store.plan(Operation::Publish, fault);
        let put = self.first.put(KEY, FIRST, WriteCondition::Always);
        gate.reached().await;
        (put, gate)
    }

    /// Whoever was told that its write is done reads it.
    async fn judge(&self, first: &Put, second: &Put) {
        let there = self.second.content(KEY).await;
        assert_eq!(there, self.first.content(KEY).await);
        assert!(
            first.is_err() || there.as_deref() == Some(FIRST),
            "{there:?}"
        );
        assert!(
            second.is_err() || there.as_deref() == Some(SECOND),
            "{there:?}"
        );
    }
}

#[tokio::test]
async fn of_two_writes_of_one_name_the_acknowledged_one_is_there() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        for condition in [WriteCondition::Always, WriteCondition::IfAbsent] {
            let world = Pair::new(place).await;
            let (first, gate) = world.paused().await;
            let second = match condition {
                WriteCondition::IfAbsent => world.second.put(KEY, SECOND, condition).await.unwrap(),
                WriteCondition::Always | WriteCondition::IfMatch(_) => {
                    world.second.write(KEY, SECOND).await
                }
            };
            second.as_ref().unwrap();
            gate.open();
            let first = first.await.unwrap();
            assert!(first.is_err(), "{place:?}");
            world.judge(&first, &second).await;
            assert_eq!(world.first.content(KEY).await.as_deref(), Some(SECOND));
        }
    }
}

#[tokio::test]
async fn a_writer_that_was_paused_over_a_removal_is_not_acknowledged() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        for text in [FIRST, SECOND] {
            let world = Pair::new(place).await;
            let (first, gate) = world.paused().await;
            world.second.write(KEY, text).await.unwrap();
            world.second.delete(KEY).await;
            gate.open();
            let first = first.await.unwrap();
            assert!(matches!(first, Err(Error::SlowDown(_))), "{place:?}");
            assert_eq!(world.first.content(KEY).await, None);
            world.first.write(KEY, FIRST).await.unwrap();
            assert_eq!(world.second.content(KEY).await.as_deref(), Some(FIRST));
        }
    }
}

/// The second writer's process ends at this step; another one resolves its intent, and the first writer goes on.
#[tokio::test]
async fn a_second_writer_that_dies_at_any_step_takes_nothing_from_the_first() {
    let steps = || {
        let held: fn(Arc<Gate>) -> Fault = Fault::Hold;
        [
            (Operation::SetAside, held, FIRST),
            (Operation::SetAside, Fault::HoldAfter, FIRST),
            (Operation::Publish, held, FIRST),
            (Operation::Publish, Fault::HoldAfter, SECOND),
        ]
    };
    for place in [Place::OneGateway, Place::TwoNodes] {
        for (operation, fault, remains) in steps() {
            let world = Pair::new(place).await;
            let (first, gate) = world.paused().await;
            world.second.open.contest(&at().key);
            let dead = Gate::closed();
            world.second.store.plan(operation, fault(Arc::clone(&dead)));
            let second = world.second.put(KEY, SECOND, WriteCondition::Always);
            dead.reached().await;
            second.abort();
            assert!(second.await.unwrap_err().is_cancelled());
            let Side { door, open, .. } = &world.first;
            door.resolve_all(open).await.unwrap();
            gate.open();
            let first = first.await.unwrap();
            assert_eq!(first.is_ok(), remains == FIRST, "{place:?} {operation:?}");
            assert_eq!(world.first.content(KEY).await.as_deref(), Some(remains));
            assert_eq!(world.second.content(KEY).await.as_deref(), Some(remains));
        }
    }
}

/// The second writer's node is only slow: what it does after another one resolved its intent has no effect.
#[tokio::test]
async fn a_second_writer_that_wakes_up_late_takes_nothing_from_the_first() {
    for operation in [Operation::SetAside, Operation::Publish] {
        let world = Pair::new(Place::TwoNodes).await;
        let (first, gate) = world.paused().await;
        world.second.open.contest(&at().key);
        let asleep = Gate::closed();
        let fault = Fault::Hold(Arc::clone(&asleep));
        world.second.store.plan(operation, fault);
        let second = world.second.put(KEY, SECOND, WriteCondition::Always);
        asleep.reached().await;
        let Side { door, open, .. } = &world.first;
        door.resolve_all(open).await.unwrap();
        gate.open();
        let first = first.await.unwrap();
        assert!(first.is_ok(), "{operation:?}");
        asleep.open();
        let second = second.await.unwrap();
        assert!(second.is_err(), "{operation:?}");
        world.judge(&first, &second).await;
    }
}

#[tokio::test]
async fn a_completed_upload_takes_nothing_from_a_writer_that_is_paused() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        let world = Pair::new(place).await;
        let (first, gate) = world.paused().await;
        let (door, caller) = (&world.second.door, caller());
        let details = Details::default();
        let upload = door
            .create_upload(&caller, &at(), details, None)
            .await
            .unwrap();
        let body = Body {
            size: Some(SECOND.len() as u64),
            bytes: Box::pin(futures::stream::iter([Ok(Bytes::from(SECOND))])),
            trailer: None,
            md5: None,
            expected: Vec::new(),
            compute: None,
        };
        let part = door
            .put_part(&caller, &at(), &upload.id, 1, body)
            .await
            .unwrap();
        let parts = vec![crate::repository::CompletedPart {
            number: 1,
            etag: part.etag.to_string(),
            checksum: None,
        }];
        let second = door
            .complete(
                &caller,
                &at(),
                &upload.id,
                parts,
                None,
                WriteCondition::Always,
            )
            .await;
        second.as_ref().unwrap();
        gate.open();
        let first = first.await.unwrap();
        assert!(first.is_err(), "{place:?}");
        world.judge(&first, &second).await;
    }
}

/// The write that was to replace deleted content dies before it takes effect; a recovery reads the store anew.
#[tokio::test]
async fn what_was_deleted_stays_deleted_when_the_write_that_was_to_replace_it_dies() {
    for place in [Place::OneGateway, Place::TwoNodes] {
        let world = Pair::new(place).await;
        world.first.write(KEY, FIRST).await.unwrap();
        world.first.delete(KEY).await;
        world.second.open.contest(&at().key);
        let dead = Gate::closed();
        let fault = Fault::Hold(Arc::clone(&dead));
        world.second.store.plan(Operation::Publish, fault);
        let second = world.second.put(KEY, SECOND, WriteCondition::Always);
        dead.reached().await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        let Side { door, open, .. } = &world.first;
        door.resolve_all(open).await.unwrap();
        door.scan(open).await.unwrap();
        assert_eq!(world.first.content(KEY).await, None, "{place:?}");
        world.second.write(KEY, SECOND).await.unwrap();
        assert_eq!(world.first.content(KEY).await.as_deref(), Some(SECOND));
    }
}
