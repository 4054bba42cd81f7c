//! Deletes beside the commit of a root that needs what they remove.

use std::pin::pin;
use std::task::Poll;

use policies::format::build::Request;

use super::*;
use crate::repository::WriteCondition;
use crate::repository::miniature::{World, body, caller};
use crate::state::Details;

/// A snapshot whose root is still to be sent: a data file of it, and the root.
async fn all_but_the_root(world: &mut World) -> (ObjectKey, ObjectKey, Vec<u8>) {
    world.take("one");
    let mut blob = None;
    for request in world.cluster.requests() {
        match request {
            Request::Put { key, bytes, .. } if key.as_str().starts_with("base/index-") => {
                return (blob.unwrap(), key, bytes);
            }
            request => {
                if let Request::Put { key, .. } = &request
                    && key.as_str().contains("/__")
                {
                    blob = Some(key.clone());
                }
                world.send(request).await.unwrap();
            }
        }
    }
    panic!("a snapshot without a root");
}

#[tokio::test]
async fn a_delete_is_judged_again_when_a_root_was_committed_while_it_waited() {
    for conditional in [false, true] {
        let mut world = World::new().await;
        let (blob, root, bytes) = all_but_the_root(&mut world).await;
        let commits = &world.open.guarding.commits;
        let held = commits.read().await;
        let (door, to) = (Arc::clone(&world.door), world.at(root.as_str()));
        let root = tokio::spawn(async move {
            let details = Details::default();
            door.put(&caller(), &to, body(bytes), details, WriteCondition::Always)
                .await
        });
        // The root waits for its turn, then the delete comes and waits behind it.
        while commits.try_read().is_ok() {
            tokio::task::yield_now().await;
        }
        let at = world.at(blob.as_str());
        let caller = caller();
        let mut delete = pin!(async {
            if conditional {
                world.door.delete_if(&caller, &at, "*").await
            } else {
                let keys = vec![at.key.clone()];
                let verdicts = world.door.delete(&caller, &at.bucket, keys).await;
                verdicts.unwrap().remove(0)
            }
        });
        assert!(matches!(futures::poll!(delete.as_mut()), Poll::Pending));
        drop(held);
        root.await.unwrap().unwrap();
        let verdict = delete.await;
        assert!(matches!(verdict, Err(Error::Refused(_))), "{verdict:?}");
        let there = world.door.lookup(&world.open, &at.key).await.unwrap();
        assert!(there.object.is_some());
    }
}
