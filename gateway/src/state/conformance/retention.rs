//! Tombstones and the uptime that they count in.

use super::*;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

async fn names(state: &dyn State, world: &World, uptime_ms: u64) -> Vec<String> {
    let due = state
        .reapable(world.row.id, uptime_ms, None, 10)
        .await
        .unwrap();
    due.iter().map(|t| t.object.key.to_string()).collect()
}

pub async fn hidden_content_is_reapable_when_its_retention_has_passed_and_not_before(
    state: &dyn State,
) {
    let world = World::held(state, "logs").await;
    world.record(state, "long").await;
    world.record(state, "short").await;
    let uptime = state.uptime(DAY_MS).await.unwrap();
    let removals = vec![
        world.removal("long", Some(2 * DAY_MS)),
        world.removal("short", Some(DAY_MS)),
    ];
    let removed = state.remove(&world.permit(), removals).await.unwrap();
    assert_eq!(world.object(state, "short").await, None);
    assert!(names(state, &world, uptime + DAY_MS - 1).await.is_empty());
    let hour = DAY_MS / 24;
    assert_eq!(
        names(state, &world, uptime + DAY_MS + hour).await,
        ["short"]
    );
    let all = names(state, &world, uptime + 2 * DAY_MS + hour).await;
    assert_eq!(all, ["short", "long"], "oldest first");
    let tombstones = state.tombstone(world.row.id, &key("short")).await.unwrap();
    let [tombstone] = &tombstones[..] else {
        panic!("{tombstones:?}");
    };
    assert_eq!(Some(&tombstone.object), removed[1].as_ref());
    assert_eq!(
        (tombstone.location.as_str(), tombstone.removed),
        ("short", 4)
    );
}

pub async fn what_is_due_is_told_on_from_where_an_answer_ended(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        world.record(state, name).await;
        // Two of them are due at once.
        let due_ms = if name < "c" { 1 } else { 2 };
        let removals = vec![world.removal(name, Some(due_ms))];
        state.remove(&world.permit(), removals).await.unwrap();
    }
    let (mut told, mut after) = (Vec::new(), None);
    for expected in [2, 2, 1, 0] {
        let page = state.reapable(world.row.id, DAY_MS, after, 2).await;
        let page = page.unwrap();
        assert_eq!(page.len(), expected);
        after = page.last().map(crate::state::Tombstone::due).or(after);
        told.extend(page.iter().map(|t| t.object.key.to_string()));
    }
    assert_eq!(told, names);
}

/// Whether it is due or not, and of this repository only.
pub async fn every_tombstone_is_told_page_by_page(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let foreign = World::held(state, "metrics").await;
    for (at, name) in ["c", "a", "b"].into_iter().enumerate() {
        for (world, name) in [(&world, name), (&foreign, &*format!("not-{name}"))] {
            world.record(state, name).await;
            let removals = vec![world.removal(name, Some(at as u64 * DAY_MS))];
            state.remove(&world.permit(), removals).await.unwrap();
        }
    }
    let (mut told, mut after) = (Vec::new(), 0);
    for expected in [2, 1, 0] {
        let page = state.tombstones(world.row.id, after, 2).await.unwrap();
        assert_eq!(page.len(), expected);
        after = page.last().map_or(after, |t| t.id);
        told.extend(page.iter().map(|t| t.object.key.to_string()));
    }
    assert_eq!(told, ["c", "a", "b"]);
}

pub async fn replaced_content_is_kept_under_its_other_name(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let first = world.record(state, "a").await;
    let old = world.object(state, "a").await.unwrap();
    let mut put = world.put("a");
    put.replaces = Some(first);
    put.kept = Some(Kept {
        name: key(".snapgate/kept/logs/1"),
        retain_ms: 0,
    });
    let second = state.record(&world.permit(), put).await.unwrap();
    let tombstones = state.tombstone(world.row.id, &key("a")).await.unwrap();
    let [tombstone] = &tombstones[..] else {
        panic!("{tombstones:?}");
    };
    assert_eq!(tombstone.object, old);
    assert_eq!(tombstone.location.as_str(), ".snapgate/kept/logs/1");
    assert_eq!(tombstone.removed, second.sequence);
    assert!(world.object(state, "a").await.is_some());
}

pub async fn a_removal_without_retention_leaves_no_tombstone(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let removals = vec![world.removal("a", None)];
    state.remove(&world.permit(), removals).await.unwrap();
    assert_eq!(state.tombstone(world.row.id, &key("a")).await.unwrap(), []);
}

pub async fn a_tombstone_moves_and_is_forgotten(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let removals = vec![world.removal("a", Some(1))];
    state.remove(&world.permit(), removals).await.unwrap();
    let before = state.tombstone(world.row.id, &key("a")).await.unwrap();
    let id = before[0].id;
    let kept = key(".snapgate/kept/logs/2");
    state
        .move_tombstone(&world.permit(), id, &kept)
        .await
        .unwrap();
    let after = state.tombstone(world.row.id, &key("a")).await.unwrap();
    assert_eq!(after[0].location, kept);
    assert_eq!(after[0].object, before[0].object);
    let foreign = World::held(state, "metrics").await;
    assert!(state.reaped(&foreign.permit(), vec![id], 0).await.is_err());
    state
        .reaped(&world.permit(), vec![id, 999], 0)
        .await
        .unwrap();
    assert_eq!(state.tombstone(world.row.id, &key("a")).await.unwrap(), []);
}

pub async fn answers_are_forgotten_after_a_day_of_uptime(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let mut put = world.put("index-1");
    put.answer = Some(world.answer_key("invocation"));
    put.completes = Some("upload-1".into());
    let new = uploads::new(&world, "upload-1", "index-1");
    state.create_upload(&world.permit(), new).await.unwrap();
    state.record(&world.permit(), put.clone()).await.unwrap();
    let answer = put.answer.unwrap();
    let completed = || state.completed_upload(world.row.bucket, "upload-1");
    assert_eq!(state.uptime(DAY_MS).await.unwrap(), DAY_MS);
    assert!(state.answer(&answer).await.unwrap().is_some());
    assert!(completed().await.unwrap().is_some());
    assert_eq!(state.uptime(0).await.unwrap(), DAY_MS);
    assert_eq!(state.uptime(1).await.unwrap(), DAY_MS + 1);
    assert_eq!(state.answer(&answer).await.unwrap(), None);
    assert_eq!(completed().await.unwrap(), None);
}
