//! What is held does not hide what may go.

use std::time::Duration;

use policies::format::build::{Request, Style};

use super::*;
use crate::repository::miniature::World;

const MINUTE: u64 = 60_000;

async fn delete(world: &World, key: &str) {
    let key = ObjectKey::parse(key).unwrap();
    let class = Class::Unknown;
    world.send(Request::Delete { key, class }).await.unwrap();
}

async fn looks(world: &World, passed: u64) {
    world.door.reap(&world.open, passed).await.unwrap();
}

/// Notes that the first restore point has are deleted before the second takes its place, so that it holds them longer than their
/// own retention; another one came and went in between.
async fn held(notes: usize) -> World {
    let mut world = World::lasting(3, Style::default(), Duration::from_millis(MINUTE)).await;
    for number in 0..notes {
        let note = format!("base/notes/{number}");
        world.put(&note, b"held".to_vec()).await.unwrap();
    }
    world.snapshot("one").await;
    looks(&world, 1).await;
    for number in 0..notes {
        delete(&world, &format!("base/notes/{number}")).await;
    }
    looks(&world, MINUTE / 6).await;
    world
        .put("base/free", b"nobody needs it".to_vec())
        .await
        .unwrap();
    delete(&world, "base/free").await;
    looks(&world, 45_000).await;
    world.snapshot("two").await;
    world
}

/// Until the notes and what is free are due, and the first restore point still holds the notes.
const DUE: u64 = 55_000;

#[tokio::test]
async fn what_is_free_goes_although_more_is_held_than_one_batch_has() {
    let notes = BATCH + 1;
    let world = held(notes).await;
    looks(&world, DUE).await;
    assert!(!world.path("base/free").exists());
    let left = std::fs::read_dir(world.path("base/notes")).unwrap().count();
    assert_eq!(left, notes, "the first restore point has them");
    assert_eq!(*world.open.reaped_to.lock(), None, "it was at the end");
    looks(&world, MINUTE).await;
    let left = std::fs::read_dir(world.path("base/notes"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "its retention is over");
}

#[tokio::test]
async fn a_look_goes_on_where_the_last_one_stopped_and_at_the_end_begins_anew() {
    let world = held(3).await;
    let ever = u64::MAX >> 2;
    let due = world.door.state.reapable(world.open.id, ever, None, 10);
    let due = due.await.unwrap();
    let free = due
        .iter()
        .position(|t| t.object.key.as_str() == "base/free");
    let behind = due[free.unwrap()].due();
    *world.open.reaped_to.lock() = Some(behind);
    looks(&world, MINUTE / 3).await;
    assert!(
        world.path("base/free").exists(),
        "it lies before that place"
    );
    looks(&world, 1).await;
    assert!(!world.path("base/free").exists());
}
