//! Promotions: noted with the freeze, alone in changing the catalog, ended with the move.

use policies::lock::Freeze;

use super::*;

fn promotion(world: &World) -> Promotion {
    Promotion {
        handover: Handover::new("p-1"),
        from: StoreName::new("disk"),
        to: StoreName::new("mirror"),
        writer: Cluster::new("other"),
        epoch: Epoch(3),
        before: world.row.lock.lock.clone(),
        basis: Basis::Checkpoint { sequence: 2 },
        step: PromotionStep::Planned,
        reason: Some("a test".into()),
    }
}

async fn begun(state: &dyn State, world: &World) -> Promotion {
    let promotion = promotion(world);
    let to = NewLock {
        lock: policies::lock::promotion::begin(&world.row.lock.lock, "mirror"),
        now_ms: 8,
        reason: None,
    };
    let from = world.row.lock.version;
    let row = state
        .begin_promotion(world.row.id, from, to, promotion.clone(), entry("promote"))
        .await
        .unwrap();
    let frozen = Freeze::Promoting("mirror".into());
    assert!(matches!(row.lock, Lock::Frozen { reason, .. } if reason == frozen));
    promotion
}

fn held(epoch: u64) -> NewLock {
    NewLock {
        lock: Lock::Held {
            epoch: Epoch(epoch),
            holder: Cluster::new("other"),
        },
        now_ms: 9,
        reason: None,
    }
}

fn finish(kept: u64, sequence: u64) -> Finish {
    Finish {
        handover: Handover::new("p-1"),
        kept,
        root: None,
        sequence,
    }
}

fn imported(name: &str, size: u64) -> Imported {
    Imported::Object(ImportedObject {
        key: key(name),
        size,
        etag: "5d41402abc4b2a76b9719d911017c592".into(),
        hash: Some([9; 32]),
        identity: Identity("there".into()),
        modified_ms: 4,
        sequence: 2,
        details: Some(rich_details()),
    })
}

pub async fn a_promotion_is_noted_with_its_freeze(state: &dyn State) {
    let world = World::held(state, "logs").await;
    assert_eq!(state.promotion(world.row.id).await.unwrap(), None);
    let mut promotion = begun(state, &world).await;
    let found = state.promotion(world.row.id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&promotion));
    let refused = state.record(&world.permit(), world.put("a")).await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
    promotion.step = PromotionStep::Anchored;
    promotion.basis = Basis::Catalog { sequence: 7 };
    state
        .note_promotion(world.row.id, promotion.clone())
        .await
        .unwrap();
    let found = state.promotion(world.row.id).await.unwrap();
    assert_eq!(found, Some(promotion));
}

pub async fn a_promotion_begins_only_from_the_lock_that_was_read(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let to = NewLock {
        lock: policies::lock::promotion::begin(&world.row.lock.lock, "mirror"),
        now_ms: 8,
        reason: None,
    };
    let stale = world.row.lock.version - 1;
    let refused = state
        .begin_promotion(world.row.id, stale, to, promotion(&world), entry("promote"))
        .await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
    assert_eq!(state.promotion(world.row.id).await.unwrap(), None);
}

pub async fn a_promotion_that_is_taken_back_leaves_the_lock_as_it_was(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let promotion = begun(state, &world).await;
    let row = state
        .abandon_promotion(world.row.id, &promotion.handover, 9, entry("taken_back"))
        .await
        .unwrap();
    assert_eq!(row.lock, world.row.lock.lock);
    assert_eq!(state.promotion(world.row.id).await.unwrap(), None);
    assert_eq!(world.record(state, "a").await, 1);
}

pub async fn only_the_promotion_under_way_changes_the_catalog(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let stranger = Handover::new("p-0");
    let id = world.row.id;
    assert!(
        state
            .import(id, &stranger, vec![imported("a", 5)])
            .await
            .is_err()
    );
    begun(state, &world).await;
    assert!(
        state
            .import(id, &stranger, vec![imported("a", 5)])
            .await
            .is_err()
    );
    assert!(state.forget_catalog(id, &stranger, 10).await.is_err());
    let theirs = Finish {
        handover: stranger.clone(),
        ..finish(0, 0)
    };
    let ended = state
        .finish_promotion(id, held(3), theirs, entry("promoted"))
        .await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(world.object(state, "a").await, None);
}

pub async fn an_import_may_be_repeated(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    world.record(state, "b").await;
    let promotion = begun(state, &world).await;
    for _ in 0..2 {
        let rows = vec![
            imported("a", 50),
            Imported::Gone(key("b")),
            imported("c", 7),
        ];
        state
            .import(world.row.id, &promotion.handover, rows)
            .await
            .unwrap();
    }
    let usage = state.usage(world.row.id).await.unwrap();
    assert_eq!((usage.objects, usage.bytes, usage.sequence), (2, 57, 2));
    let a = world.object(state, "a").await.unwrap();
    assert_eq!(
        (a.size, a.identity, a.details),
        (50, Identity("there".into()), Some(rich_details()))
    );
    assert_eq!(world.object(state, "b").await, None);
    let first = state
        .objects_after(world.row.bucket, world.row.id, None, 1)
        .await
        .unwrap();
    let rest = state
        .objects_after(world.row.bucket, world.row.id, Some(&first[0].key), 10)
        .await
        .unwrap();
    let keys: Vec<&str> = first.iter().chain(&rest).map(|o| o.key.as_str()).collect();
    assert_eq!(keys, ["a", "c"]);
}

pub async fn a_catalog_is_forgotten_in_bounded_batches(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for n in 0..10 {
        world.record(state, &format!("k{n}")).await;
    }
    state
        .remove(&world.permit(), vec![world.removal("k0", Some(1000))])
        .await
        .unwrap();
    let promotion = begun(state, &world).await;
    let mut rounds = 0;
    while !state
        .forget_catalog(world.row.id, &promotion.handover, 4)
        .await
        .unwrap()
    {
        rounds += 1;
        assert!(rounds < 100, "it ends");
    }
    assert!(rounds > 2, "{rounds}");
    let usage = state.usage(world.row.id).await.unwrap();
    assert_eq!((usage.objects, usage.bytes), (0, 0));
    assert_eq!(world.sequences(state).await, [] as [u64; 0]);
    assert_eq!(state.tombstone(world.row.id, &key("k0")).await.unwrap(), []);
}

pub async fn a_promoted_repository_is_where_its_promotion_put_it(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for name in ["a", "b", "c"] {
        world.record(state, name).await;
    }
    begun(state, &world).await;
    let row = state
        .finish_promotion(world.row.id, held(3), finish(2, 100), entry("promoted"))
        .await
        .unwrap();
    assert_eq!(row.lock, held(3).lock);
    assert_eq!(state.promotion(world.row.id).await.unwrap(), None);
    let again = World::vacant(state, "logs").await.row;
    assert_eq!(
        again.store,
        StoreName::new("mirror"),
        "whatever the configuration names"
    );
    assert_eq!(again.promoted_from, Some(StoreName::new("disk")));
    assert_eq!(
        world.sequences(state).await,
        [1, 2],
        "what the old store had alone is forgotten"
    );
    let mut world = world;
    world.row = again;
    world.cluster = Cluster::new("other");
    assert_eq!(
        world.record(state, "d").await,
        101,
        "no number is used twice"
    );
}

pub async fn what_is_newer_than_a_sequence_is_counted(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for name in ["a", "b", "c"] {
        world.record(state, name).await;
    }
    let free = Put {
        journalled: false,
        ..world.put("tests-1/master.dat")
    };
    state.record(&world.permit(), free).await.unwrap();
    let (bucket, id) = (world.row.bucket, world.row.id);
    assert_eq!(state.newer_than(bucket, id, 1).await.unwrap(), (2, 10));
    assert_eq!(state.newer_than(bucket, id, 3).await.unwrap(), (0, 0));
}
