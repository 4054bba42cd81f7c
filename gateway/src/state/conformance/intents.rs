//! Announced writes.

use policies::lock::Next;

use super::*;

async fn open(state: &dyn State, world: &World, put: Put) -> Result<IntentId, WriteError> {
    let new = NewIntent {
        upload: UploadId("store-upload".into()),
        binds: None,
        put,
    };
    state.open_intent(&world.permit(), new).await
}

fn published() -> Identity {
    Identity("published".into())
}

pub async fn an_intent_makes_its_key_busy_and_carries_all_that_a_resolver_needs(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let before = world.record(state, "index-1").await;
    let mut put = world.put("index-1");
    put.replaces = Some(before);
    put.details = Some(rich_details());
    put.answer = Some(world.answer_key("invocation"));
    put.kept = Some(Kept {
        name: key(".snapgate/kept/logs/1"),
        retain_ms: u64::MAX,
    });
    let id = open(state, &world, put.clone()).await.unwrap();
    let lookup = state.object(world.row.bucket, &put.key).await.unwrap();
    assert!(lookup.busy);
    assert_eq!(
        lookup.object.unwrap().sequence,
        before,
        "the old content until the commit"
    );
    let expected = Intent {
        id,
        upload: UploadId("store-upload".into()),
        put: put.clone(),
        epoch: Epoch(1),
        cluster: world.cluster.clone(),
    };
    assert_eq!(state.intents(world.row.id).await.unwrap(), [expected]);
    let recorded = state.commit_intent(id, published()).await.unwrap();
    let lookup = state.object(world.row.bucket, &put.key).await.unwrap();
    let object = lookup.object.unwrap();
    assert!(!lookup.busy);
    assert_eq!(
        (object.sequence, object.identity),
        (recorded.sequence, published())
    );
    assert_eq!(object.details, put.details);
    let answer = state.answer(&put.answer.unwrap()).await.unwrap();
    assert_eq!(answer.unwrap().sequence, recorded.sequence);
    assert_eq!(state.intents(world.row.id).await.unwrap(), []);
}

pub async fn one_intent_per_key(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let first = open(state, &world, world.put("a")).await.unwrap();
    let second = open(state, &world, world.put("a")).await;
    assert!(matches!(second, Err(WriteError::KeyBusy)), "{second:?}");
    open(state, &world, world.put("b")).await.unwrap();
    state.abort_intent(first).await.unwrap();
    open(state, &world, world.put("a")).await.unwrap();
}

pub async fn an_intent_ends_exactly_once(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let id = open(state, &world, world.put("a")).await.unwrap();
    let ends = (0..8).map(|_| state.commit_intent(id, published()));
    let ends = futures::future::join_all(ends).await;
    let gone = ends
        .iter()
        .filter(|end| matches!(end, Err(WriteError::IntentGone)))
        .count();
    assert_eq!(
        (ends.iter().filter(|end| end.is_ok()).count(), gone),
        (1, 7)
    );
    assert_eq!(world.sequences(state).await, [1]);
    state.abort_intent(id).await.unwrap();
    assert!(world.object(state, "a").await.is_some());
    let id = open(state, &world, world.put("b")).await.unwrap();
    state.abort_intent(id).await.unwrap();
    state.abort_intent(id).await.unwrap();
    let late = state.commit_intent(id, published()).await;
    assert!(matches!(late, Err(WriteError::IntentGone)), "{late:?}");
    assert_eq!(world.object(state, "b").await, None);
}

pub async fn an_open_intent_commits_although_the_lock_drains(state: &dyn State) {
    let mut world = World::held(state, "logs").await;
    let id = open(state, &world, world.put("a")).await.unwrap();
    let permit = world.permit();
    let draining = Lock::Draining {
        epoch: Epoch(1),
        holder: world.cluster.clone(),
        next: Next::Release,
    };
    world.move_to(state, draining).await.unwrap();
    let new = NewIntent {
        upload: UploadId("late".into()),
        binds: None,
        put: world.put("b"),
    };
    let refused = state.open_intent(&permit, new).await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
    state.commit_intent(id, published()).await.unwrap();
    assert!(world.object(state, "a").await.is_some());
}

pub async fn an_intent_cannot_be_opened_on_a_row_that_its_writer_did_not_see(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let sequence = world.record(state, "a").await;
    for replaces in [None, Some(sequence + 1)] {
        let mut put = world.put("a");
        put.replaces = replaces;
        match open(state, &world, put).await {
            Err(WriteError::Exists(Some(row))) => assert_eq!(row.sequence, sequence),
            other => panic!("{other:?}"),
        }
    }
    let mut put = world.put("free");
    put.replaces = Some(sequence);
    let refused = open(state, &world, put).await;
    assert!(
        matches!(refused, Err(WriteError::Exists(None))),
        "{refused:?}"
    );
}

pub async fn nothing_else_changes_a_key_while_its_intent_is_open(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let sequence = world.record(state, "a").await;
    let mut put = world.put("a");
    put.replaces = Some(sequence);
    let id = open(state, &world, put.clone()).await.unwrap();
    let recorded = state.record(&world.permit(), put).await;
    assert!(matches!(recorded, Err(WriteError::KeyBusy)), "{recorded:?}");
    let removals = vec![world.removal("a", None)];
    let removed = state.remove(&world.permit(), removals).await;
    assert!(matches!(removed, Err(WriteError::KeyBusy)), "{removed:?}");
    state.commit_intent(id, published()).await.unwrap();
}

pub async fn a_lock_is_fenced_only_when_no_intent_is_open(state: &dyn State) {
    let mut world = World::held(state, "logs").await;
    let other = World::held(state, "metrics").await;
    open(state, &other, other.put("m")).await.unwrap();
    let id = open(state, &world, world.put("a")).await.unwrap();
    let fenced = Lock::Fenced {
        epoch: Epoch(1),
        next: Next::Release,
        handover: Handover::new("h-1"),
    };
    let refused = world.move_to(state, fenced.clone()).await;
    assert!(matches!(refused, Err(WriteError::KeyBusy)), "{refused:?}");
    let recovery = Lock::Fenced {
        epoch: Epoch(1),
        next: Next::Recover,
        handover: Handover::new("h-2"),
    };
    world.move_to(state, recovery).await.unwrap();
    state.abort_intent(id).await.unwrap();
    world.move_to(state, fenced).await.unwrap();
}

pub async fn an_ended_intents_number_is_not_used_again(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let first = open(state, &world, world.put("a")).await.unwrap();
    state.abort_intent(first).await.unwrap();
    let second = open(state, &world, world.put("a")).await.unwrap();
    assert_ne!(first, second);
}
