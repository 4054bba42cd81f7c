//! A state database and its copy, started in turn on one store.

use std::collections::BTreeSet;

use super::*;
use crate::repository::Error;
use crate::repository::handover::Ask;
use crate::repository::miniature::{DATABASE, World};

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
