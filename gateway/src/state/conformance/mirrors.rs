//! Mirrors' positions, and the journal's bound.

use policies::mirror_order::Mode;

use super::*;
use crate::state::mirrors::{MirrorChange, MirrorRow, NewMirror, Phase, Resync, Stalled};

fn us() -> StoreName {
    StoreName::new("us")
}

async fn open(state: &dyn State, world: &World, store: &str) -> MirrorRow {
    let new = NewMirror {
        repository: world.row.id,
        store: StoreName::new(store),
        mode: Mode::Async,
        handover: Handover::new(format!("to-{store}")),
        now_ms: 5,
    };
    state.open_mirror(new).await.unwrap()
}

async fn change(state: &dyn State, world: &World, changes: Vec<MirrorChange>) -> MirrorRow {
    let changed = state
        .change_mirror(world.row.id, &us(), None, changes)
        .await;
    changed.unwrap().unwrap()
}

/// A mirror that is in step with the journal as it is now.
async fn in_step(state: &dyn State, world: &World) -> MirrorRow {
    let row = open(state, world, "us").await;
    let since_ms = row.resync.unwrap().since_ms;
    let upto = row.applied;
    change(
        state,
        world,
        vec![MirrorChange::Resynced { since_ms, upto }],
    )
    .await
}

pub async fn a_mirror_is_found_again_as_it_was_left(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    let new = open(state, &world, "us").await;
    assert_eq!(new.applied, 1, "what was there before is reconciled");
    assert!(matches!(
        new.resync.as_ref().map(|r| &r.phase),
        Some(Phase::Copy { after: None })
    ));
    let stalled = Stalled {
        key: Some("k\"é".into()),
        reason: "the bytes are not those of the catalog".into(),
        since_ms: 3,
        fenced: false,
    };
    let changes = vec![
        MirrorChange::Epoch {
            epoch: Epoch(4),
            applier: Some("node 2".into()),
        },
        MirrorChange::Paused(true),
        MirrorChange::Mode(Mode::Barrier),
        MirrorChange::Stalled(Some(stalled.clone())),
        MirrorChange::Counted {
            transferred: 2,
            bytes: 10,
            failed: 1,
        },
    ];
    let changed = change(state, &world, changes).await;
    assert_eq!(open(state, &world, "us").await, changed);
    assert_eq!(changed.epoch, Epoch(4));
    assert_eq!(changed.applier.as_deref(), Some("node 2"));
    assert_eq!((changed.paused, changed.mode), (true, Mode::Barrier));
    assert_eq!(changed.stalled, Some(stalled));
    assert_eq!(
        (changed.transferred, changed.bytes, changed.failed),
        (2, 10, 1)
    );
    open(state, &world, "eu").await;
    let all = state.mirrors(world.row.id).await.unwrap();
    let names: Vec<_> = all.iter().map(|row| row.store.as_str()).collect();
    assert_eq!(names, ["eu", "us"]);
    state.keep_mirrors(world.row.id, &[us()]).await.unwrap();
    assert_eq!(state.mirrors(world.row.id).await.unwrap(), [changed]);
    let unknown = StoreName::new("moon");
    assert_eq!(state.mirror(world.row.id, &unknown).await.unwrap(), None);
}

pub async fn a_position_moves_on_and_never_while_a_reconciliation_is_recorded(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for key in ["a", "b", "c"] {
        world.record(state, key).await;
    }
    let new = open(state, &world, "us").await;
    assert_eq!(
        change(state, &world, vec![MirrorChange::Applied(9)]).await,
        new
    );
    let mut resync = new.resync.clone().unwrap();
    resync.phase = Phase::Remove {
        upto: 3,
        after: Some("b".into()),
    };
    resync.done = 2;
    let moved = change(state, &world, vec![MirrorChange::Resync(resync.clone())]).await;
    assert_eq!(moved.resync.as_ref(), Some(&resync));
    let other = MirrorChange::Resynced {
        since_ms: resync.since_ms + 1,
        upto: 3,
    };
    assert_eq!(
        change(state, &world, vec![other]).await,
        moved,
        "that of another reconciliation"
    );
    let end = MirrorChange::Resynced {
        since_ms: resync.since_ms,
        upto: 3,
    };
    let ended = change(state, &world, vec![end]).await;
    assert_eq!((ended.resync, ended.applied), (None, 3));
    world.record(state, "d").await;
    let changes = vec![MirrorChange::Applied(4), MirrorChange::Applied(2)];
    assert_eq!(change(state, &world, changes).await.applied, 4);
    world.record(state, "e").await;
    let begin = MirrorChange::BeginResync(Resync::begin("asked for", 77));
    let begun = change(state, &world, vec![begin]).await;
    assert_eq!(begun.applied, 5);
    assert!(begun.resync.unwrap().ours, "it was reconciled before");
}

pub async fn what_a_relieved_applier_reports_has_no_effect(state: &dyn State) {
    let world = World::held(state, "logs").await;
    in_step(state, &world).await;
    world.record(state, "a").await;
    let taken = |epoch: u64| MirrorChange::Epoch {
        epoch: Epoch(epoch),
        applier: Some(format!("node {epoch}")),
    };
    change(state, &world, vec![taken(1)]).await;
    let known = change(state, &world, vec![taken(2)]).await;
    let store = us();
    let report = |by, changes| state.change_mirror(world.row.id, &store, Some(by), changes);
    let stalled = Stalled {
        key: None,
        reason: "it was relieved".into(),
        since_ms: 3,
        fenced: true,
    };
    let late = vec![
        MirrorChange::Applied(1),
        MirrorChange::Rooted(1),
        MirrorChange::Stalled(Some(stalled)),
    ];
    assert_eq!(report(Epoch(1), late).await.unwrap(), None);
    assert_eq!(
        state.mirror(world.row.id, &us()).await.unwrap(),
        Some(known)
    );
    assert_eq!(
        change(state, &world, vec![taken(1)]).await.epoch,
        Epoch(2),
        "an epoch never goes back"
    );
    let reported = report(Epoch(2), vec![MirrorChange::Applied(1)]).await;
    assert_eq!(reported.unwrap().unwrap().applied, 1);
}

pub async fn a_row_says_which_roots_its_target_has(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for key in ["a", "b", "c"] {
        world.record(state, key).await;
    }
    let new = open(state, &world, "us").await;
    assert!(!new.has(1), "nothing is known of a new mirror");
    let rooted = change(state, &world, vec![MirrorChange::Rooted(2)]).await;
    assert_eq!([1, 2, 3].map(|n| rooted.has(n)), [true, true, false]);
    let again = change(state, &world, vec![MirrorChange::Rooted(1)]).await;
    assert_eq!(again, rooted);
    let since_ms = rooted.resync.as_ref().unwrap().since_ms;
    let done = MirrorChange::Resynced { since_ms, upto: 3 };
    let done = change(state, &world, vec![done]).await;
    assert!(done.has(3) && !done.has(4));
    let anew = MirrorChange::BeginResync(Resync::begin("asked for", 77));
    let anew = change(state, &world, vec![anew]).await;
    assert!(!anew.has(1), "it is in doubt again");
    assert_eq!(anew.orders, done.orders + 1);
    let paused = change(state, &world, vec![MirrorChange::Paused(true)]).await;
    assert_eq!(paused.orders, anew.orders + 1);
}

pub async fn a_backlog_is_exact(state: &dyn State) {
    let world = World::held(state, "logs").await;
    for key in ["a", "b", "c"] {
        world.record(state, key).await;
    }
    let removals = vec![world.removal("a", Some(0))];
    state.remove(&world.permit(), removals).await.unwrap();
    let backlog = state.backlog(world.row.id, 1).await.unwrap();
    assert_eq!(
        (backlog.source, backlog.operations, backlog.bytes),
        (4, 3, 10)
    );
    assert_eq!(backlog.oldest_ms, Some(1_700_000_000_000));
    let none = state.backlog(world.row.id, 4).await.unwrap();
    assert_eq!((none.operations, none.bytes, none.oldest_ms), (0, 0, None));
}

pub async fn nothing_is_reaped_that_a_mirror_still_needs(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let row = in_step(state, &world).await;
    assert_eq!(row.applied, 0);
    world.record(state, "a").await;
    let removals = vec![world.removal("a", Some(0))];
    state.remove(&world.permit(), removals).await.unwrap();
    let mut unmirrored = world.put("tests-x/master.dat");
    unmirrored.journalled = false;
    state
        .record(&world.permit_of(Writing::Free), unmirrored)
        .await
        .unwrap();
    let mut removal = world.removal("tests-x/master.dat", Some(0));
    removal.journalled = false;
    state
        .remove(&world.permit_of(Writing::Free), vec![removal])
        .await
        .unwrap();
    let due = || async {
        let due = state
            .reapable(world.row.id, u64::MAX >> 2, None, 10)
            .await
            .unwrap();
        due.iter()
            .map(|t| t.object.key.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(due().await, ["tests-x/master.dat"]);
    change(state, &world, vec![MirrorChange::Applied(1)]).await;
    assert_eq!(due().await, ["tests-x/master.dat"]);
    change(state, &world, vec![MirrorChange::Applied(2)]).await;
    assert_eq!(due().await, ["a", "tests-x/master.dat"]);
}

pub async fn the_journal_is_cut_only_after_those_behind_were_told_to_reconcile(state: &dyn State) {
    let world = World::held(state, "logs").await;
    in_step(state, &world).await;
    for n in 0..10 {
        world.record(state, &format!("k{n}")).await;
    }
    open(state, &world, "eu").await;
    change(state, &world, vec![MirrorChange::Applied(3)]).await;
    assert!(!state.bound_journal(world.row.id, 10, 8).await.unwrap());
    assert_eq!(world.sequences(state).await.len(), 10);
    assert!(!state.bound_journal(world.row.id, 7, 8).await.unwrap());
    assert_eq!(world.sequences(state).await, (4..=10).collect::<Vec<_>>());
    let rows = state.mirrors(world.row.id).await.unwrap();
    assert_eq!(rows[1].resync, None, "it needs nothing older");
    assert!(!state.bound_journal(world.row.id, 6, 8).await.unwrap());
    let rows = state.mirrors(world.row.id).await.unwrap();
    assert_eq!(rows[1].resync.as_ref().map(|r| r.since_ms), Some(8));
    assert_eq!(rows[1].applied, 10, "it begins where the journal is now");
    assert_eq!(world.record(state, "next").await, 11);
}

pub async fn a_healed_object_has_its_new_identity_and_nothing_else_changed(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let sequence = world.record(state, "a").await;
    let before = world.object(state, "a").await.unwrap();
    let heal = |sequence, identity: &str| {
        let identity = Identity(identity.into());
        let permit = policies::lock::settle(&world.name, &world.cluster, Epoch(1));
        async move {
            let key = key("a");
            let healed = state.healed(&permit, world.row.bucket, &key, sequence, identity);
            healed.await.unwrap()
        }
    };
    assert!(heal(sequence, "43:1").await);
    assert!(!heal(sequence + 1, "44:1").await);
    let after = world.object(state, "a").await.unwrap();
    assert_eq!(&*after.identity.0, "43:1");
    assert_eq!(
        Object {
            identity: before.identity.clone(),
            ..after
        },
        before
    );
    assert_eq!(world.sequences(state).await, [1]);
}
