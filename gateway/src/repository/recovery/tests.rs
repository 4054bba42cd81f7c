//! A process that dies at any step of a write, and the start after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use policies::format::build::Request;

use crate::repository::handover::Ask;
use crate::repository::miniature::{World, cut};
use crate::stores::faults::{Fault, Faulty};
use crate::stores::late::{self, Late};
use crate::stores::metrics::Operation;
use crate::stores::{Error, Store};

/// The first request of this kind of the snapshot's, and those before and after it.
fn split(requests: Vec<Request>, kind: &str) -> (Vec<Request>, Request, Vec<Request>) {
    let name = |request: &Request| match request {
        Request::Put { key, .. } | Request::Delete { key, .. } => key.as_str().to_owned(),
    };
    let found = requests.iter().position(|r| name(r).contains(kind));
    let mut before = requests;
    let mut after = before.split_off(found.unwrap());
    let request = after.remove(0);
    (before, request, after)
}

/// A write of each path: write-once, a new name, a commit, and a replaced name.
const KINDS: &[&str] = &["/__", "base/snap-", "base/index-", "base/index.latest"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_at_any_step_of_a_write_leaves_it_done_or_not_done() {
    for kind in KINDS {
        let (mut done, mut undone) = (0, 0);
        for polls in 1.. {
            let mut world = World::new().await;
            world.snapshot("one").await;
            world.take("two");
            let (before, request, after) = split(world.cluster.requests(), kind);
            for earlier in before {
                world.send(earlier).await.unwrap();
            }
            let Request::Put { key, bytes, .. } = request.clone() else {
                panic!("a snapshot only puts");
            };
            let acknowledged = cut(polls, world.send(request.clone())).await.is_some();
            let world = world.restart().await;
            let (open, state) = (&world.open, world.door.state());
            assert!(!open.gate.is_frozen(), "{kind} after {polls} polls");
            assert_eq!(state.intents(open.id).await.unwrap(), []);
            assert_eq!(world.store.uploads().await.unwrap(), []);
            let row = world.door.lookup(open, &key).await.unwrap().object;
            let hash = *blake3::hash(&bytes).as_bytes();
            let is_done = row.as_ref().is_some_and(|row| row.hash == Some(hash));
            assert!(is_done || !acknowledged, "{kind} after {polls} polls");
            if is_done {
                done += 1;
                assert_eq!(std::fs::read(world.path(key.as_str())).unwrap(), bytes);
            } else {
                undone += 1;
            }
            // The client repeats what it got no answer to, and goes on.
            world.send(request).await.unwrap();
            for later in after {
                world.send(later).await.unwrap();
            }
            assert_eq!(std::fs::read(world.path(key.as_str())).unwrap(), bytes);
            if acknowledged {
                break;
            }
        }
        println!("{kind}: {undone} deaths left it undone, {done} done");
        assert!(undone > 0 && done > 0, "{kind}: {undone} and {done}");
    }
}

/// The store, which is not there before it `answers`.
fn away(store: Arc<dyn Store>, answers: Arc<AtomicBool>) -> Arc<dyn Store> {
    Arc::new(Late::new(Box::new(move || {
        let (store, answers) = (Arc::clone(&store), Arc::clone(&answers));
        Box::pin(async move {
            if answers.load(Ordering::SeqCst) {
                Ok(store)
            } else {
                Err(Error::Unknown)
            }
        })
    })))
}

#[tokio::test]
async fn a_start_without_its_store_is_made_up_for_when_the_store_answers() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let answers = Arc::new(AtomicBool::new(false));
    let mut world = world
        .restart_behind(|store| away(store, Arc::clone(&answers)))
        .await;
    world.take("two");
    let requests = world.cluster.requests();
    let refused = world.send(requests[0].clone()).await.unwrap_err();
    assert!(
        refused.to_string().contains("the store answers again"),
        "{refused}"
    );
    let name = world.open.plan.store.clone();
    assert!(world.door.is_still_away(&name).await);
    answers.store(true, Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(late::PAUSE).await;
    tokio::time::resume();
    assert!(!world.door.is_still_away(&name).await);
    assert!(!world.open.gate.is_frozen());
    assert!(world.open.incarnation.lock().is_some());
    for request in requests {
        world.send(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_thaw_after_a_start_without_a_number_takes_one_or_refuses() {
    let mut world = World::new().await;
    world.snapshot("one").await;
    let freeze = world.door.hand_over(&world.open, Ask::Freeze, None);
    freeze.await.unwrap();
    let mut faulty = None;
    let mut world = world
        .restart_behind(|store| {
            let store = Arc::new(Faulty::new(store));
            store.plan(Operation::Begin, Fault::FailBefore(Error::Unknown));
            faulty = Some(Arc::clone(&store));
            store
        })
        .await;
    assert!(world.open.incarnation.lock().is_none());
    let faulty = faulty.unwrap();
    faulty.plan(Operation::Begin, Fault::FailBefore(Error::Unknown));
    let thaw = || Ask::Thaw { recover: false };
    let refused = world.door.hand_over(&world.open, thaw(), None).await;
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("does not take the gateway's number"),
        "{said}"
    );
    assert!(world.open.gate.is_frozen());
    let thawed = world.door.hand_over(&world.open, thaw(), None).await;
    thawed.unwrap();
    assert!(world.open.incarnation.lock().is_some());
    world.snapshot("two").await;
}
