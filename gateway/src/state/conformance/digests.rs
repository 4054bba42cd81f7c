//! Kept digests.

use super::*;
use crate::state::digests::{KeptDigest, content_of};

async fn keep(state: &dyn State, world: &World, name: &str, body: &[u8]) {
    let content = match world.object(state, name).await {
        Some(object) => content_of(&object),
        None => vec![7; 32],
    };
    let kept = KeptDigest {
        key: key(name),
        content,
        body: body.to_vec(),
    };
    state
        .keep_digests(world.row.bucket, vec![kept])
        .await
        .unwrap();
}

async fn kept(state: &dyn State, world: &World, names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let found = state.digests(world.row.bucket, &keys).await.unwrap();
    let mut found: Vec<_> = found
        .into_iter()
        .map(|(key, body)| (key.to_string(), body))
        .collect();
    found.sort();
    found
}

pub async fn a_digest_is_given_back_while_its_object_has_that_content(state: &dyn State) {
    let world = World::held(state, "logs").await;
    let first = world.record(state, "a").await;
    let mut adopted = world.put("b");
    adopted.hash = None;
    state.record(&world.permit(), adopted).await.unwrap();
    keep(state, &world, "a", b"one").await;
    keep(state, &world, "b", b"two").await;
    let both = [
        ("a".to_owned(), b"one".to_vec()),
        ("b".to_owned(), b"two".to_vec()),
    ];
    assert_eq!(kept(state, &world, &["a", "b", "c"]).await, both);
    keep(state, &world, "b", b"new").await;
    assert_eq!(kept(state, &world, &["b"]).await[0].1, b"new");
    let mut other = world.put("a");
    other.replaces = Some(first);
    other.hash = Some([8; 32]);
    state.record(&world.permit(), other).await.unwrap();
    assert_eq!(kept(state, &world, &["a"]).await, [], "other content");
    let stale = KeptDigest {
        key: key("a"),
        content: vec![7; 32],
        body: b"one".to_vec(),
    };
    let bucket = world.row.bucket;
    state.keep_digests(bucket, vec![stale]).await.unwrap();
    assert_eq!(kept(state, &world, &["a"]).await, [], "of older content");
}

pub async fn a_digest_goes_with_its_object(state: &dyn State) {
    let world = World::held(state, "logs").await;
    world.record(state, "a").await;
    keep(state, &world, "a", b"one").await;
    let removals = vec![world.removal("a", Some(1))];
    state.remove(&world.permit(), removals).await.unwrap();
    assert_eq!(kept(state, &world, &["a"]).await, []);
    keep(state, &world, "a", b"one").await;
    world.record(state, "a").await;
    assert_eq!(
        kept(state, &world, &["a"]).await,
        [],
        "what is hidden is passed over"
    );
}
