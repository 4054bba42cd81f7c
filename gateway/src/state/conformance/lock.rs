//! Repositories, lock rows, and what a permit is still good for.

use policies::lock::{Freeze, Next, settle};

use super::*;

pub async fn a_repository_is_found_again_and_never_moves(state: &dyn State) {
    let first = World::vacant(state, "logs").await;
    assert!(first.row.new);
    let again = World::vacant(state, "logs").await;
    assert_eq!((again.row.id, again.row.new), (first.row.id, false));
    let identity = RepositoryIdentity {
        name: Repository::new("logs"),
        bucket: Bucket::new("backup"),
        base_path: "base/logs".into(),
        store: StoreName::new("disk"),
    };
    let moved = [
        RepositoryIdentity {
            base_path: "elsewhere".into(),
            ..identity.clone()
        },
        RepositoryIdentity {
            bucket: Bucket::new("other"),
            ..identity.clone()
        },
        RepositoryIdentity {
            store: StoreName::new("s3"),
            ..identity.clone()
        },
        RepositoryIdentity {
            name: Repository::new("renamed"),
            ..identity
        },
    ];
    for identity in moved {
        let refused = state.open_repository(&identity).await;
        assert!(matches!(refused, Err(Error::Mismatch(_))), "{refused:?}");
    }
}

pub async fn a_lock_moves_only_from_the_version_that_was_read(state: &dyn State) {
    let mut world = World::vacant(state, "logs").await;
    let stale = world.row.lock.version;
    world.hold(state, 1, "prod").await;
    let to = NewLock {
        lock: Lock::Vacant { epoch: Epoch(1) },
        now_ms: 8,
        reason: None,
    };
    let refused = state
        .move_lock(world.row.id, stale, to, entry("unlock"))
        .await;
    match refused {
        Err(WriteError::LockMoved(row)) => assert_eq!(*row, world.row.lock),
        other => panic!("{other:?}"),
    }
    assert_eq!(state.lock(world.row.id).await.unwrap(), world.row.lock);
}

pub async fn every_state_of_a_lock_is_kept(state: &dyn State) {
    let mut world = World::vacant(state, "logs").await;
    let (epoch, holder) = (Epoch(3), Cluster::new("prod"));
    let locks = [
        Lock::Held {
            epoch,
            holder: holder.clone(),
        },
        Lock::Draining {
            epoch,
            holder: holder.clone(),
            next: Next::Hold(Cluster::new("other")),
        },
        Lock::Fenced {
            epoch,
            next: Next::Freeze("moving house".into()),
            handover: Handover::new("h-1"),
        },
        Lock::Frozen {
            epoch,
            reason: Freeze::AnchorAhead { anchor: Epoch(8) },
        },
        Lock::Vacant { epoch },
    ];
    for lock in locks {
        world.move_to(state, lock.clone()).await.unwrap();
        assert_eq!(state.lock(world.row.id).await.unwrap().lock, lock);
        assert_eq!(World::vacant(state, "logs").await.row.lock.lock, lock);
    }
}

pub async fn an_epoch_never_goes_back(state: &dyn State) {
    let mut world = World::vacant(state, "logs").await;
    world.hold(state, 5, "prod").await;
    let back = world.move_to(state, Lock::Vacant { epoch: Epoch(4) }).await;
    assert!(matches!(back, Err(WriteError::Failed(_))), "{back:?}");
}

pub async fn a_permit_is_good_only_while_its_holder_holds_its_epoch(state: &dyn State) {
    let mut world = World::held(state, "logs").await;
    let stale = [(); 5].map(|()| world.permit());
    world.hold(state, 2, "prod").await;
    let [record, remove, intent, upload, part] = stale;
    let moved = |result: Result<(), WriteError>| match result {
        Err(WriteError::LockMoved(row)) => assert_eq!(*row, world.row.lock),
        other => panic!("{other:?}"),
    };
    moved(state.record(&record, world.put("a")).await.map(|_| ()));
    let removals = vec![world.removal("a", None)];
    moved(state.remove(&remove, removals).await.map(|_| ()));
    let new = NewIntent {
        upload: UploadId("u".into()),
        binds: None,
        put: world.put("a"),
    };
    moved(state.open_intent(&intent, new).await.map(|_| ()));
    let new = uploads::new(&world, "upload-1", "a");
    moved(state.create_upload(&upload, new.clone()).await);
    state.create_upload(&world.permit(), new).await.unwrap();
    moved(
        state
            .put_part(&part, "upload-1", uploads::part(1, 5))
            .await
            .map(|_| ()),
    );
    moved(state.drop_upload(&part, "upload-1").await.map(|_| ()));
    assert_eq!(world.object(state, "a").await, None);
    world.record(state, "a").await;
}

pub async fn a_free_permit_is_good_while_nobody_else_holds_the_lock(state: &dyn State) {
    let mut world = World::vacant(state, "logs").await;
    let mut put = world.put("tests-1");
    put.journalled = false;
    let free = world.permit_of(Writing::Free);
    state.record(&free, put.clone()).await.unwrap();
    world.hold(state, 1, "prod").await;
    put.key = key("tests-2");
    state.record(&free, put.clone()).await.unwrap();
    world.hold(state, 2, "other").await;
    put.key = key("tests-3");
    let refused = state.record(&free, put).await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
}

pub async fn a_settling_permit_is_good_up_to_its_epoch(state: &dyn State) {
    let mut world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let reason = Freeze::Operator("maintenance".into());
    let frozen = Lock::Frozen {
        epoch: Epoch(1),
        reason,
    };
    world.move_to(state, frozen).await.unwrap();
    let newer = settle(&world.name, &world.cluster, Epoch(2));
    let refused = state.remove(&newer, vec![world.removal("a", None)]).await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
    let same = settle(&world.name, &world.cluster, Epoch(1));
    let removed = state.remove(&same, vec![world.removal("a", None)]).await;
    assert!(removed.unwrap()[0].is_some());
}

pub async fn a_permit_is_good_for_its_own_repository_only(state: &dyn State) {
    let logs = World::held(state, "logs").await;
    let metrics = World::held(state, "metrics").await;
    let refused = state.record(&logs.permit(), metrics.put("a")).await;
    assert!(matches!(refused, Err(WriteError::Failed(_))), "{refused:?}");
    assert_eq!(metrics.object(state, "a").await, None);
}
