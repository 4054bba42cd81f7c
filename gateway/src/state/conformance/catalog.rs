//! Objects, their journal and their recorded answers.

use super::*;

pub async fn a_recorded_object_is_seen_whole(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let mut put = world.put("base/logs/__Ünïcode \u{10ffff}");
    put.details = Some(rich_details());
    put.etag = "5d41402abc4b2a76b9719d911017c592-3".into();
    let recorded = state.record(&world.permit(), put.clone()).await.unwrap();
    let lookup = state.object(world.row.bucket, &put.key).await.unwrap();
    let expected = Object {
        key: put.key,
        repository: put.repository,
        size: put.size,
        etag: put.etag,
        hash: put.hash,
        identity: put.identity,
        modified_ms: put.now_ms,
        sequence: recorded.sequence,
        details: put.details,
    };
    assert_eq!(
        lookup,
        Lookup {
            object: Some(expected),
            busy: false
        }
    );
    for etag in [
        "5d41402abc4b2a76b9719d911017c592",
        "5D41402ABC4B2A76B9719D911017C592",
        "",
        "x",
    ] {
        let mut put = world.put(&format!("etag {etag}"));
        (put.etag, put.hash) = (etag.into(), None);
        state.record(&world.permit(), put.clone()).await.unwrap();
        let seen = world.object(state, put.key.as_str()).await.unwrap();
        assert_eq!((&*seen.etag, seen.hash), (etag, None));
    }
}

pub async fn a_taken_key_is_answered_with_the_object_that_is_there(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let there = world.object(state, "a").await.unwrap();
    match state.record(&world.permit(), world.put("a")).await {
        Err(WriteError::Exists(Some(row))) => assert_eq!(*row, there),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.object(state, "a").await, Some(there));
}

pub async fn a_replacement_names_the_row_that_it_replaces(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let first = world.record(state, "a").await;
    let mut put = world.put("a");
    (put.replaces, put.size) = (Some(first), 9);
    let second = state.record(&world.permit(), put.clone()).await.unwrap();
    match state.record(&world.permit(), put.clone()).await {
        Err(WriteError::Exists(Some(row))) => assert_eq!(row.sequence, second.sequence),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.object(state, "a").await.unwrap().size, 9);
    put.key = key("nothing here");
    let refused = state.record(&world.permit(), put).await;
    assert!(
        matches!(refused, Err(WriteError::Exists(None))),
        "{refused:?}"
    );
}

pub async fn the_journal_has_no_gaps_and_follows_the_commits(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let other = World::held(state, "metrics").await;
    assert_eq!(world.record(state, "a").await, 1);
    assert_eq!(other.record(state, "m").await, 1);
    assert_eq!(world.record(state, "b").await, 2);
    let removals = vec![world.removal("a", None), world.removal("absent", None)];
    state.remove(&world.permit(), removals).await.unwrap();
    assert_eq!(world.record(state, "c").await, 4);
    let journal = state.journal(world.row.id, 1, 2).await.unwrap();
    let put = Change::Put {
        size: 5,
        etag: world.put("b").etag,
        hash: Some([7; 32]),
    };
    let expected = [(2, "b", put), (3, "a", Change::Delete)];
    for (entry, (sequence, name, change)) in journal.iter().zip(&expected) {
        assert_eq!((entry.sequence, entry.key.as_str()), (*sequence, *name));
        assert_eq!(entry.change, *change);
    }
    assert_eq!(world.sequences(state).await, [1, 2, 3, 4]);
}

pub async fn a_refused_write_changes_nothing(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let mut put = world.put("a");
    put.answer = Some(world.answer_key("refused"));
    state
        .record(&world.permit(), put.clone())
        .await
        .unwrap_err();
    assert_eq!(world.record(state, "b").await, 2);
    assert_eq!(world.sequences(state).await, [1, 2]);
    let usage = state.usage(world.row.id).await.unwrap();
    assert_eq!((usage.objects, usage.bytes, usage.sequence), (2, 10, 2));
    let answer = put.answer.unwrap();
    assert_eq!(state.answer(&answer).await.unwrap(), None);
}

pub async fn concurrent_writers_get_one_winner_per_key_and_a_gapless_journal(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let permit = world.permit();
    let writes = (0..400).map(|n| state.record(&permit, world.put(&format!("k{:03}", n / 2))));
    let results = futures::future::join_all(writes).await;
    let won = results.iter().filter(|r| r.is_ok()).count();
    let lost = results
        .iter()
        .filter(|r| matches!(r, Err(WriteError::Exists(Some(_)))))
        .count();
    assert_eq!((won, lost), (200, 200));
    let expected: Vec<u64> = (1..=200).collect();
    assert_eq!(world.sequences(state).await, expected);
    assert_eq!(state.usage(world.row.id).await.unwrap().objects, 200);
}

pub async fn what_is_not_journalled_leaves_the_journal_alone(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let mut put = world.put("tests-x");
    put.journalled = false;
    let first = state.record(&world.permit(), put.clone()).await.unwrap();
    put.replaces = Some(first.sequence);
    let second = state.record(&world.permit(), put.clone()).await.unwrap();
    assert_ne!(
        first, second,
        "a replaced row can be told from its successor"
    );
    assert_eq!(world.record(state, "a").await, 1);
    let mut removal = world.removal("tests-x", None);
    removal.journalled = false;
    state.remove(&world.permit(), vec![removal]).await.unwrap();
    assert_eq!(world.object(state, "tests-x").await, None);
    assert_eq!(world.sequences(state).await, [1]);
}

pub async fn usage_counts_what_is_visible(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let first = world.record(state, "a").await;
    world.record(state, "b").await;
    let mut put = world.put("a");
    (put.replaces, put.size) = (Some(first), 100);
    state.record(&world.permit(), put).await.unwrap();
    let removals = vec![world.removal("b", Some(1000))];
    state.remove(&world.permit(), removals).await.unwrap();
    let expected = Usage {
        objects: 1,
        bytes: 100,
        sequence: 4,
    };
    assert_eq!(state.usage(world.row.id).await.unwrap(), expected);
}

pub async fn a_batch_of_removals_is_one_transaction(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    world.record(state, "b").await;
    let foreign = World::held(state, "metrics").await;
    let mut removals = vec![world.removal("a", None), foreign.removal("b", None)];
    let refused = state.remove(&world.permit(), removals.clone()).await;
    assert!(refused.is_err());
    assert!(
        world.object(state, "a").await.is_some(),
        "the whole batch was taken back"
    );
    removals[1] = world.removal("b", None);
    removals.insert(1, world.removal("absent", None));
    let removed = state.remove(&world.permit(), removals).await.unwrap();
    let keys: Vec<_> = removed
        .iter()
        .map(|o| o.as_ref().map(|o| o.key.as_str()))
        .collect();
    assert_eq!(keys, [Some("a"), None, Some("b")]);
}

pub async fn a_large_batch_of_removals_journals_and_hides_every_key(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let names: Vec<String> = (0..150).map(|n| format!("k{n:03}")).collect();
    for name in &names {
        world.record(state, name).await;
    }
    let removals = names
        .iter()
        .map(|name| world.removal(name, Some(0)))
        .collect();
    let removed = state.remove(&world.permit(), removals).await.unwrap();
    assert!(removed.iter().all(Option::is_some));
    let journal = state.journal(world.row.id, 150, 1000).await.unwrap();
    let keys: Vec<_> = journal.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, names);
    assert!(journal.iter().all(|entry| entry.change == Change::Delete));
    let ever = 1 << 60; // however long the test takes: the uptime goes on
    let hidden = state
        .reapable(world.row.id, ever, None, 1000)
        .await
        .unwrap();
    let mut kept: Vec<_> = hidden
        .iter()
        .map(|t| (t.removed, t.object.key.as_str(), t.location.as_str()))
        .collect();
    kept.sort_unstable();
    let expected: Vec<_> = (151..)
        .zip(&names)
        .map(|(sequence, name)| (sequence, &**name, &**name))
        .collect();
    assert_eq!(kept, expected);
}

pub async fn a_conditional_removal_hides_the_very_row_that_was_read(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let read = world.record(state, "a").await;
    let removal = || world.removal("a", Some(0));
    let refused = state
        .remove_unchanged(&world.permit(), removal(), read + 1, None)
        .await;
    assert!(
        matches!(&refused, Err(WriteError::Exists(Some(row))) if row.sequence == read),
        "{refused:?}"
    );
    assert!(world.object(state, "a").await.is_some());
    assert_eq!(world.sequences(state).await, [read]);
    let removed = state
        .remove_unchanged(&world.permit(), removal(), read, None)
        .await
        .unwrap();
    assert_eq!(removed.sequence, read);
    assert_eq!(world.object(state, "a").await, None);
    let gone = state
        .remove_unchanged(&world.permit(), removal(), read, None)
        .await;
    assert!(matches!(gone, Err(WriteError::Exists(None))), "{gone:?}");
}

pub async fn a_recorded_answer_is_found_by_the_same_request_only(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let asked = world.answer_key("invocation-1");
    let mut put = world.put("index-1");
    put.answer = Some(asked.clone());
    let recorded = state.record(&world.permit(), put.clone()).await.unwrap();
    let answer = Answer {
        etag: put.etag,
        sequence: recorded.sequence,
    };
    assert_eq!(state.answer(&asked).await.unwrap(), Some(answer));
    let others = [
        AnswerKey {
            cluster: Cluster::new("other"),
            ..asked.clone()
        },
        AnswerKey {
            operation: "CopyObject".into(),
            ..asked.clone()
        },
        AnswerKey {
            bucket: BucketId(99),
            ..asked.clone()
        },
        AnswerKey {
            key: key("index-2"),
            ..asked.clone()
        },
        AnswerKey {
            invocation: "invocation-2".into(),
            ..asked.clone()
        },
        AnswerKey {
            hash: [8; 32],
            ..asked
        },
    ];
    for other in others {
        assert_eq!(state.answer(&other).await.unwrap(), None, "{other:?}");
    }
}

pub async fn keys_of_one_bucket_are_not_those_of_another(state: &dyn State) {
    let logs = World::held(state, "logs").await;
    let mut other = World::at(state, "metrics", "elsewhere").await;
    other.hold(state, 1, "prod").await;
    assert_ne!(logs.row.bucket, other.row.bucket);
    logs.record(state, "a").await;
    assert_eq!(other.object(state, "a").await, None);
    other.record(state, "a").await;
}

pub async fn sizes_are_those_of_the_visible_objects_in_the_order_asked(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for (name, size) in [("a", 1), ("b", 2), ("c\"é\\\u{1}", 3)] {
        let put = Put {
            size,
            ..world.put(name)
        };
        state.record(&world.permit(), put).await.unwrap();
    }
    let removals = vec![world.removal("b", Some(1))];
    state.remove(&world.permit(), removals).await.unwrap();
    let keys = ["c\"é\\\u{1}", "none", "b", "a"].map(key);
    let sizes = state.sizes(world.row.bucket, &keys).await.unwrap();
    assert_eq!(sizes, [Some(3), None, None, Some(1)]);
    assert_eq!(state.sizes(world.row.bucket, &[]).await.unwrap(), []);
}

pub async fn an_object_that_was_removed_since_it_was_published_is_not_recorded(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let before = world.record(state, "b").await;
    let (slow, other) = (world.put("a"), world.put("c"));
    world.record(state, "a").await;
    let removals = vec![world.removal("a", Some(0))];
    state.remove(&world.permit(), removals).await.unwrap();
    let removed = state.usage(world.row.id).await.unwrap().sequence;
    let late = state
        .record_published(&world.permit(), slow.clone(), before)
        .await;
    assert!(matches!(late, Err(WriteError::KeyBusy)), "{late:?}");
    assert_eq!(world.object(state, "a").await, None);
    // other names, and what was published after the removal, are not touched by it
    let (permit, after) = (world.permit(), removed);
    let (unrelated, anew) = tokio::join!(
        state.record_published(&permit, other, before),
        state.record_published(&permit, slow, after),
    );
    unrelated.unwrap();
    anew.unwrap();
}

pub async fn what_the_journal_does_not_reach_back_to_is_not_recorded(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let before = world.record(state, "b").await;
    for _ in 0..3 {
        world.record(state, "a").await;
        let removals = vec![world.removal("a", None)];
        state.remove(&world.permit(), removals).await.unwrap();
    }
    while state.bound_journal(world.row.id, 2, 0).await.unwrap() {}
    let unknown = state
        .record_published(&world.permit(), world.put("z"), before)
        .await;
    assert!(matches!(unknown, Err(WriteError::KeyBusy)), "{unknown:?}");
    let reached = state.usage(world.row.id).await.unwrap().sequence;
    state
        .record_published(&world.permit(), world.put("z"), reached)
        .await
        .unwrap();
}
