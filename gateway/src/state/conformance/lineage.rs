//! Reserved journal numbers, and the cluster bound to an epoch.

use super::*;

fn claim(limit: u64, token: &str) -> Claim {
    Claim {
        limit,
        token: token.into(),
    }
}

pub async fn the_journal_takes_no_number_that_is_not_reserved(state: &dyn State) {
    let world = World::held(state, "logs").await;
    assert_eq!(world.record(state, "a").await, 1);
    let noted = state
        .claim_sequences(world.row.id, claim(3, "t"))
        .await
        .unwrap();
    state
        .reserve_sequences(world.row.id, noted, 0)
        .await
        .unwrap();
    assert_eq!(world.record(state, "b").await, 2);
    assert_eq!(world.record(state, "c").await, 3);
    let refused = state.record(&world.permit(), world.put("d")).await;
    assert!(
        matches!(refused, Err(WriteError::Failed(Error::NumbersUsedUp))),
        "{refused:?}"
    );
    assert!(world.object(state, "d").await.is_none());
    state
        .reserve_sequences(world.row.id, claim(9, "u"), 0)
        .await
        .unwrap();
    assert_eq!(world.record(state, "d").await, 4);
}

pub async fn a_claim_that_was_noted_stays_until_it_is_made(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let first = state
        .claim_sequences(world.row.id, claim(5, "first"))
        .await
        .unwrap();
    let second = state
        .claim_sequences(world.row.id, claim(7, "second"))
        .await
        .unwrap();
    assert_eq!(first, claim(5, "first"));
    assert_eq!(second, first);
    state
        .reserve_sequences(world.row.id, first, 0)
        .await
        .unwrap();
    let known = state.sequences(world.row.id).await.unwrap();
    assert_eq!(
        (known.used, known.reserved, known.claim),
        (0, Some(5), None)
    );
    let third = state
        .claim_sequences(world.row.id, claim(7, "third"))
        .await
        .unwrap();
    assert_eq!(third.token, "third");
}

pub async fn after_a_recovery_the_journal_goes_on_above_every_number_that_was_reserved(
    state: &dyn State,
) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    state
        .reserve_sequences(world.row.id, claim(200, "t"), 100)
        .await
        .unwrap();
    assert_eq!(world.record(state, "b").await, 101);
    assert_eq!(state.usage(world.row.id).await.unwrap().sequence, 101);
    // the lower limit of an earlier claim changes nothing
    state
        .reserve_sequences(world.row.id, claim(50, "old"), 40)
        .await
        .unwrap();
    let known = state.sequences(world.row.id).await.unwrap();
    assert_eq!((known.used, known.reserved), (101, Some(200)));
    assert_eq!(world.sequences(state).await, [1, 101]);
}

pub async fn a_committed_root_binds_its_cluster_to_the_epoch(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let bound = |name: &str, id: &str| NewIntent {
        upload: UploadId(format!("upload of {name}").into()),
        binds: Some(id.into()),
        put: world.put(name),
    };
    assert_eq!(state.bound_cluster(world.row.id).await.unwrap(), None);
    let aborted = state
        .open_intent(&world.permit(), bound("index-0", "never"))
        .await
        .unwrap();
    state.abort_intent(aborted).await.unwrap();
    assert_eq!(state.bound_cluster(world.row.id).await.unwrap(), None);
    let intent = state
        .open_intent(&world.permit(), bound("index-0", "KbDeU"))
        .await
        .unwrap();
    state
        .commit_intent(intent, Identity("1".into()))
        .await
        .unwrap();
    assert_eq!(
        state.bound_cluster(world.row.id).await.unwrap(),
        Some((Epoch(1), "KbDeU".into()))
    );
}

pub async fn a_database_knows_how_its_own_starts_called_themselves(state: &dyn State) {
    let (here, there) = (StoreName::new("here"), StoreName::new("there"));
    assert!(!state.has_stood(&here).await.unwrap());
    for token in ["one", "two", "two"] {
        state.announce_incarnation(&here, token).await.unwrap();
    }
    assert!(state.has_stood(&here).await.unwrap());
    assert!(!state.has_stood(&there).await.unwrap());
    for (store, token, known) in [
        (&here, "one", true),
        (&here, "two", true),
        (&here, "three", false),
        (&there, "one", false),
    ] {
        let found = state.knows_incarnation(store, token).await.unwrap();
        assert_eq!(found, known, "{store} {token}");
    }
}
