//! Restore points, pins, and the catalog as it was.

use std::collections::BTreeMap;

use policies::format::closure::NewestSnapshot;
use policies::identity::Epoch;

use super::*;

pub fn root(generation: u64, snapshots: &[&str]) -> CommittedRoot {
    let name = |name: &&str| SnapshotName {
        name: (*name).into(),
        uuid: format!("uuid-{name}").into(),
    };
    CommittedRoot {
        generation,
        cluster: Some(Cluster::new("prod")),
        epoch: Epoch(1),
        snapshots: snapshots.iter().map(name).collect(),
        newest: snapshots.last().map(|name| NewestSnapshot {
            name: (*name).into(),
            ended_ms: i64::try_from(generation).unwrap() * 1000,
        }),
        complete: true,
    }
}

impl World {
    pub async fn root(
        &self,
        state: &dyn State,
        generation: u64,
        snapshots: &[&str],
    ) -> Result<u64, WriteError> {
        let intent = self.root_intent(state, generation, snapshots).await?;
        let identity = Identity("9:9".into());
        let recorded = state.commit_intent(intent, identity).await?;
        Ok(recorded.sequence)
    }

    async fn root_intent(
        &self,
        state: &dyn State,
        generation: u64,
        snapshots: &[&str],
    ) -> Result<IntentId, WriteError> {
        let mut put = self.put(&format!("index-{generation}"));
        put.root = Some(root(generation, snapshots));
        let intent = NewIntent {
            upload: UploadId(format!("upload-{generation}").into()),
            binds: None,
            put,
        };
        state.open_intent(&self.permit(), intent).await
    }

    async fn remove(&self, state: &dyn State, name: &str) {
        let removals = vec![self.removal(name, Some(1000))];
        state.remove(&self.permit(), removals).await.unwrap();
    }

    async fn past(&self, state: &dyn State, name: &str, sequence: u64) -> Option<PastObject> {
        let (bucket, repository) = (self.row.bucket, self.row.id);
        let name = key(name);
        let found = state.object_at(bucket, repository, &name, sequence).await;
        found.unwrap()
    }

    fn past_query(&self, sequence: u64) -> PastQuery {
        PastQuery {
            bucket: self.row.bucket,
            repository: self.row.id,
            sequence,
            prefix: String::new(),
            delimiter: None,
            after: None,
            limit: 100,
        }
    }

    async fn past_names(&self, state: &dyn State, query: &PastQuery) -> (Vec<String>, bool) {
        let listing = state.list_at(query).await.unwrap();
        let name = |entry: &Entry| match entry {
            Entry::Object(object) => object.key.to_string(),
            Entry::Prefix(prefix) => prefix.clone(),
        };
        let names = listing.entries.iter().map(name).collect();
        (names, listing.truncated)
    }
}

fn pin(name: &str) -> Pin {
    Pin {
        snapshot: SnapshotName {
            name: name.into(),
            uuid: format!("uuid-{name}").into(),
        },
        pinned_ms: 5,
        by: "ops".into(),
        reason: Some("audit".into()),
    }
}

pub async fn a_roots_commit_makes_its_restore_point(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    state.uptime(500).await.unwrap();
    let sequence = world.root(state, 4, &["one", "two"]).await.unwrap();
    let point = state.restore_point(world.row.id, 4).await.unwrap().unwrap();
    assert_eq!(point.root, root(4, &["one", "two"]));
    assert_eq!(
        (point.sequence, point.committed_ms),
        (sequence, 1_700_000_000_000)
    );
    assert!(point.uptime_ms >= 500, "{point:?}");
    assert_eq!(state.restore_point(world.row.id, 3).await.unwrap(), None);
    let other = World::held(state, "metrics").await;
    assert_eq!(state.restore_point(other.row.id, 4).await.unwrap(), None);
}

pub async fn a_resolved_root_makes_its_restore_point_too(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.root_intent(state, 0, &["one"]).await.unwrap();
    assert_eq!(state.restore_point(world.row.id, 0).await.unwrap(), None);
    let left = state.intents(world.row.id).await.unwrap();
    assert_eq!(left[0].put.root, Some(root(0, &["one"])));
    let identity = Identity("9:9".into());
    let sequence = state
        .commit_intent(left[0].id, identity)
        .await
        .unwrap()
        .sequence;
    let point = state.restore_point(world.row.id, 0).await.unwrap().unwrap();
    assert_eq!((point.root, point.sequence), (root(0, &["one"]), sequence));
    world.root_intent(state, 1, &["one"]).await.unwrap();
    let left = state.intents(world.row.id).await.unwrap();
    state.abort_intent(left[0].id).await.unwrap();
    assert_eq!(state.restore_point(world.row.id, 1).await.unwrap(), None);
}

pub async fn an_adopted_root_is_noted_once_at_the_journals_end(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "index-7").await;
    let last = world.record(state, "snap-a.dat").await;
    let adopted = CommittedRoot {
        cluster: None,
        ..root(7, &["a"])
    };
    for _ in 0..2 {
        state
            .note_restore_point(&world.permit(), world.row.id, adopted.clone(), 42)
            .await
            .unwrap();
    }
    let point = state.restore_point(world.row.id, 7).await.unwrap().unwrap();
    assert_eq!(
        (&point.root, point.sequence, point.committed_ms),
        (&adopted, last, 42)
    );
    world.record(state, "later").await;
    state
        .note_restore_point(&world.permit(), world.row.id, root(7, &[]), 43)
        .await
        .unwrap();
    let unchanged = state.restore_point(world.row.id, 7).await.unwrap().unwrap();
    assert_eq!(unchanged, point);
}

pub async fn restore_points_come_newest_first_and_in_pages(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for generation in [2, 5, 6, 9] {
        world.root(state, generation, &[]).await.unwrap();
    }
    let generations = |points: Vec<RestorePoint>| -> Vec<u64> {
        points.iter().map(|p| p.root.generation).collect()
    };
    let page = |before, limit| state.restore_points(world.row.id, before, limit);
    assert_eq!(generations(page(None, 3).await.unwrap()), [9, 6, 5]);
    assert_eq!(generations(page(Some(5), 3).await.unwrap()), [2]);
    state
        .forget_restore_points(&world.permit(), world.row.id, vec![5, 77])
        .await
        .unwrap();
    assert_eq!(generations(page(None, 9).await.unwrap()), [9, 6, 2]);
}

pub async fn a_restore_point_is_found_by_a_journal_position(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let first = world.root(state, 0, &[]).await.unwrap();
    world.record(state, "b").await;
    let second = world.root(state, 1, &[]).await.unwrap();
    for (position, expected) in [
        (first - 1, None),
        (first, Some(0)),
        (second - 1, Some(0)),
        (second, Some(1)),
        (second + 9, Some(1)),
    ] {
        let found = state
            .restore_point_at(world.row.id, position)
            .await
            .unwrap();
        assert_eq!(found.map(|p| p.root.generation), expected, "at {position}");
    }
}

pub async fn the_catalog_as_of_a_sequence_is_what_was_visible_then(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let a = world.record(state, "a").await;
    let b = world.record(state, "b").await;
    let mut put = world.put("b");
    (put.replaces, put.size) = (Some(b), 9);
    put.kept = Some(Kept {
        name: key(".snapgate/kept/logs/b"),
        retain_ms: 1000,
    });
    let replaced = state.record(&world.permit(), put).await.unwrap().sequence;
    world.remove(state, "a").await;
    let removed = replaced + 1;
    let free = Put {
        journalled: false,
        ..world.put("tests-x/master.dat")
    };
    state.record(&world.permit(), free).await.unwrap();

    let past = world.past(state, "a", b).await.unwrap();
    assert_eq!((past.object.sequence, past.location()), (a, &key("a")));
    assert!(past.hidden.is_some());
    assert_eq!(world.past(state, "a", removed).await, None);
    assert_eq!(world.past(state, "a", a - 1).await, None);
    let old = world.past(state, "b", replaced - 1).await.unwrap();
    assert_eq!(
        (old.object.size, old.location().as_str()),
        (5, ".snapgate/kept/logs/b")
    );
    let new = world.past(state, "b", replaced).await.unwrap();
    assert_eq!((new.object.size, new.hidden), (9, None));
    assert_eq!(world.past(state, "tests-x/master.dat", 99).await, None);
    let other = World::held(state, "metrics").await;
    let foreign = state
        .object_at(world.row.bucket, other.row.id, &key("a"), b)
        .await;
    assert_eq!(foreign.unwrap(), None);

    let names = async |sequence| {
        let query = world.past_query(sequence);
        world.past_names(state, &query).await.0
    };
    assert_eq!(names(a).await, ["a"]);
    assert_eq!(names(replaced).await, ["a", "b"]);
    assert_eq!(names(removed).await, ["b"]);
    assert!(names(0).await.is_empty());
}

pub async fn a_page_of_the_past_has_common_prefixes_and_ends(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for name in ["p/a/1", "p/a/2", "p/b", "p/c/1", "q"] {
        world.record(state, name).await;
    }
    for name in ["p/a/1", "p/a/2", "p/c/1"] {
        world.remove(state, name).await;
    }
    world.record(state, "p/d").await;
    let mut query = PastQuery {
        prefix: "p/".into(),
        delimiter: Some("/".into()),
        ..world.past_query(5)
    };
    let all = (vec!["p/a/".into(), "p/b".into(), "p/c/".into()], false);
    assert_eq!(world.past_names(state, &query).await, all);
    query.limit = 2;
    let first = (vec!["p/a/".into(), "p/b".into()], true);
    assert_eq!(world.past_names(state, &query).await, first);
    query.after = Some("p/a/1".into());
    let second = (vec!["p/b".into(), "p/c/".into()], false);
    assert_eq!(world.past_names(state, &query).await, second);
}

/// Every instant of a random history, listed in pages of two, against maps kept aside.
pub async fn pages_of_the_past_are_those_of_a_replayed_map(state: &dyn State) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = seed;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let world = World::held(state, "logs").await;
    let mut now: BTreeMap<String, u64> = BTreeMap::new();
    let mut history = vec![now.clone()];
    while history.len() < 60 {
        let name = format!("{}/{}", next(3), next(5));
        match now.get(&name).copied() {
            None => {
                now.insert(name.clone(), world.record(state, &name).await);
            }
            Some(_) if next(2) == 0 => {
                world.remove(state, &name).await;
                now.remove(&name);
            }
            Some(sequence) => {
                let mut put = world.put(&name);
                put.replaces = Some(sequence);
                let kept = key(&format!(".snapgate/kept/logs/{}", history.len()));
                put.kept = Some(Kept {
                    name: kept,
                    retain_ms: 1000,
                });
                let recorded = state.record(&world.permit(), put).await.unwrap();
                now.insert(name, recorded.sequence);
            }
        }
        history.push(now.clone());
    }
    for (sequence, expected) in history.iter().enumerate() {
        let mut query = world.past_query(sequence as u64);
        query.limit = 2;
        let mut seen = BTreeMap::new();
        loop {
            let page = state.list_at(&query).await.unwrap();
            for entry in page.entries {
                let Entry::Object(object) = entry else {
                    panic!("no delimiter was asked for")
                };
                query.after = Some(object.key.to_string());
                assert_eq!(seen.insert(object.key.to_string(), object.sequence), None);
            }
            if !page.truncated {
                break;
            }
        }
        assert_eq!(&seen, expected, "as of {sequence}");
    }
}

pub async fn an_object_shown_again_is_seen_now_and_then(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let written = world.record(state, "a").await;
    let before = world.object(state, "a").await.unwrap();
    world.remove(state, "a").await;
    let id = world
        .past(state, "a", written)
        .await
        .unwrap()
        .hidden
        .unwrap()
        .tombstone;
    let revived = state
        .revive(&world.permit(), world.row.bucket, vec![id])
        .await
        .unwrap();
    let now = world.object(state, "a").await.unwrap();
    assert_eq!(
        now,
        Object {
            sequence: revived[0].sequence,
            ..before
        }
    );
    assert_eq!(world.sequences(state).await, [1, 2, 3]);
    assert_eq!(state.usage(world.row.id).await.unwrap().objects, 1);
    let then = world.past(state, "a", written).await.unwrap();
    assert_eq!(then.object.sequence, written);
    assert_eq!(world.past(state, "a", written + 1).await, None);
    world.remove(state, "a").await;
    let tombstones = state.tombstone(world.row.id, &key("a")).await.unwrap();
    assert_eq!(tombstones.len(), 2);
}

pub async fn what_is_shown_again_must_be_free_and_lie_at_its_name(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for name in ["a", "b", "c"] {
        world.record(state, name).await;
        world.remove(state, name).await;
    }
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(state.tombstone(world.row.id, &key(name)).await.unwrap()[0].id);
    }
    world.record(state, "b").await;
    let revive = async |ids: Vec<u64>| {
        let permit = world.permit();
        state.revive(&permit, world.row.bucket, ids).await
    };
    let taken = revive(vec![ids[0], ids[1]]).await;
    assert!(
        matches!(taken, Err(WriteError::Exists(Some(_)))),
        "{taken:?}"
    );
    assert_eq!(world.object(state, "a").await, None, "one transaction");
    let moved = key(".snapgate/kept/logs/c");
    state
        .move_tombstone(&world.permit(), ids[2], &moved)
        .await
        .unwrap();
    assert!(revive(vec![ids[2]]).await.is_err());
    assert!(revive(vec![999]).await.is_err());
    revive(vec![ids[0]]).await.unwrap();
    assert!(world.object(state, "a").await.is_some());
}

pub async fn a_restore_point_is_incomplete_once_something_of_it_is_gone(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    world.root(state, 0, &["a"]).await.unwrap();
    world.remove(state, "a").await;
    world.root(state, 1, &[]).await.unwrap();
    let complete = |generation| async move {
        let point = state.restore_point(world.row.id, generation).await;
        point.unwrap().unwrap().root.complete
    };
    assert!(complete(0).await && complete(1).await);
    let tombstones = state.tombstone(world.row.id, &key("a")).await.unwrap();
    state
        .reaped(&world.permit(), vec![tombstones[0].id], u64::MAX)
        .await
        .unwrap();
    assert!(!complete(0).await && complete(1).await);
    world.record(state, "left over").await;
    let third = world.root(state, 2, &[]).await.unwrap();
    world.remove(state, "left over").await;
    let tombstones = state.tombstone(world.row.id, &key("left over")).await;
    let ids = vec![tombstones.unwrap()[0].id];
    state.reaped(&world.permit(), ids, third).await.unwrap();
    assert!(complete(2).await, "what it did not need is no loss");
    let mut world = World::at(state, "metrics", "elsewhere").await;
    world.hold(state, 1, "prod").await;
    world.record(state, "a").await;
    world.root(state, 0, &["a"]).await.unwrap();
    let lost = vec![world.removal("a", None)];
    state.remove(&world.permit(), lost).await.unwrap();
    let point = state.restore_point(world.row.id, 0).await.unwrap();
    assert!(!point.unwrap().root.complete);
}

pub async fn of_roots_noted_at_one_sequence_only_the_newest_is_spared(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let sequence = world.record(state, "index-4").await;
    for generation in [5, 4] {
        let noted = root(generation, &["a"]);
        state
            .note_restore_point(&world.permit(), world.row.id, noted, 42)
            .await
            .unwrap();
    }
    world.remove(state, "a").await;
    let tombstones = state.tombstone(world.row.id, &key("a")).await.unwrap();
    let ids = vec![tombstones[0].id];
    state.reaped(&world.permit(), ids, sequence).await.unwrap();
    for (generation, complete) in [(4, false), (5, true)] {
        let point = state.restore_point(world.row.id, generation).await;
        assert_eq!(point.unwrap().unwrap().root.complete, complete);
    }
}

pub async fn a_root_without_a_pinned_snapshot_is_not_committed(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.root(state, 0, &["a", "b"]).await.unwrap();
    assert!(
        state
            .pin(world.row.id, pin("a"), entry("pin"))
            .await
            .unwrap()
    );
    let again = state.pin(world.row.id, pin("a"), entry("pin")).await;
    assert!(!again.unwrap());
    assert_eq!(state.pins(world.row.id).await.unwrap(), [pin("a")]);
    let refused = world.root(state, 1, &["b"]).await;
    assert!(
        matches!(&refused, Err(WriteError::Pinned(name)) if **name == *"a"),
        "{refused:?}"
    );
    assert_eq!(state.intents(world.row.id).await.unwrap(), []);
    world.root(state, 1, &["a"]).await.unwrap();
    let (unpinned, audit) = (
        || state.unpin(world.row.id, "uuid-a", entry("unpin")),
        state.audit(None, 9),
    );
    let actions: Vec<String> = audit
        .await
        .unwrap()
        .into_iter()
        .map(|r| r.entry.action)
        .collect();
    assert_eq!(actions, ["commit", "pin", "commit", "lock"]);
    assert!(unpinned().await.unwrap());
    assert!(!unpinned().await.unwrap());
    world.root(state, 2, &[]).await.unwrap();
}

pub async fn only_a_snapshot_of_the_newest_root_is_pinned(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let early = state.pin(world.row.id, pin("a"), entry("pin")).await;
    assert!(matches!(early, Err(WriteError::Pinned(_))), "{early:?}");
    world.root(state, 0, &["a"]).await.unwrap();
    world.root(state, 1, &["b"]).await.unwrap();
    let dropped = state.pin(world.row.id, pin("a"), entry("pin")).await;
    assert!(matches!(dropped, Err(WriteError::Pinned(_))), "{dropped:?}");
    world.root_intent(state, 2, &["a"]).await.unwrap();
    let busy = state.pin(world.row.id, pin("b"), entry("pin")).await;
    assert!(matches!(busy, Err(WriteError::KeyBusy)), "{busy:?}");
    assert_eq!(state.pins(world.row.id).await.unwrap(), []);
}
