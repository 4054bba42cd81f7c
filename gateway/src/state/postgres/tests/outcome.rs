//! What a COMMIT did whose answer was lost, and what a database does that is served by another server.

use std::sync::atomic::{AtomicU8, Ordering};

use policies::lock::{Freeze, Lock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::server::{settings, url_at};
use super::*;

const PASS: u8 = 0;
/// The connection is cut in place of the next message that commits, or in place of its answer. It says so in its text
/// or, where it is the call of a function, by its keys.
const CUT_BEFORE: u8 = 1;
const CUT_AFTER: u8 = 2;

/// Stands between a node and its server.
struct Cutter {
    port: u16,
    mode: Arc<AtomicU8>,
}

impl Cutter {
    async fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let seen = Arc::clone(&mode);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&seen)));
            }
        });
        Self { port, mode }
    }

    fn cut(&self, mode: u8) {
        self.mode.store(mode, Ordering::Release);
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut asked, mut told) = ([0; 65536], [0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let commits = asked[..length].windows(6).any(|w| w == b"COMMIT");
                let mode = if commits { mode.swap(PASS, Ordering::AcqRel) } else { PASS };
                if mode == CUT_BEFORE {
                    return;
                }
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                if mode == CUT_AFTER {
                    // The server's answer says that it is done; nobody hears it.
                    let _answer = server.read(&mut told).await;
                    return;
                }
            }
            read = server.read(&mut told) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&told[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn node_behind(cutter: &Cutter, database: &str) -> Database {
    let url = url_at(cutter.port, database);
    Database::open(&settings(&url), "behind").await.unwrap()
}

/// A group with a statement for each step: what is not journalled is recorded so.
async fn step_by_step(state: &Database, world: &World, key: &str) -> Result<Recorded, WriteError> {
    let mut put = world.put(key);
    put.journalled = false;
    state.record(&world.permit(), put).await
}

/// A group of new objects alone, once the node has seen the repository: one call.
async fn by_one_call(state: &Database, world: &World, key: &str) -> Result<Recorded, WriteError> {
    state.record(&world.permit(), world.put(key)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_looked_up_and_was_done() {
    let server = Server::shared();
    let database = server.database().await;
    let cutter = Cutter::before(server.port).await;
    let state = node_behind(&cutter, &database).await;
    let world = World::held(&state, "logs").await;
    cutter.cut(CUT_AFTER);
    step_by_step(&state, &world, "a").await.unwrap();
    assert!(world.object(&state, "a").await.is_some());
    cutter.cut(CUT_AFTER);
    let recorded = by_one_call(&state, &world, "COMMIT b").await;
    assert_eq!(recorded.unwrap().sequence, 1);
    assert_eq!(cutter.mode.load(Ordering::Acquire), PASS, "it was cut");
    assert!(world.object(&state, "COMMIT b").await.is_some());
    assert_eq!(world.record(&state, "c").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_never_arrived_is_looked_up_and_was_not_done() {
    let server = Server::shared();
    let database = server.database().await;
    let cutter = Cutter::before(server.port).await;
    let state = node_behind(&cutter, &database).await;
    let world = World::held(&state, "logs").await;
    cutter.cut(CUT_BEFORE);
    let lost = step_by_step(&state, &world, "a").await;
    assert!(matches!(lost, Err(WriteError::Failed(_))), "{lost:?}");
    assert_eq!(world.object(&state, "a").await, None);
    step_by_step(&state, &world, "a").await.unwrap();
    cutter.cut(CUT_BEFORE);
    let lost = by_one_call(&state, &world, "COMMIT b").await;
    assert!(matches!(lost, Err(WriteError::Failed(_))), "{lost:?}");
    assert_eq!(cutter.mode.load(Ordering::Acquire), PASS, "it was cut");
    assert_eq!(world.object(&state, "COMMIT b").await, None);
    assert_eq!(world.record(&state, "COMMIT b").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_of_a_group_is_told_to_whom_it_concerns() {
    let server = Server::shared();
    let database = server.database().await;
    let (one, other) = (server.open(&database).await, server.open(&database).await);
    let world = World::held(&one, "logs").await;
    World::vacant(&other, "logs").await;
    for (n, node) in [&one, &other, &one].into_iter().enumerate() {
        let recorded = by_one_call(node, &world, &format!("key-{n}")).await;
        assert_eq!(recorded.unwrap().sequence, n as u64 + 1);
    }
    // Both have seen the repository. One group, and the other node has one of its keys.
    let puts = ["key-3", "key-1", "key-4"].map(|key| by_one_call(&one, &world, key));
    let [third, taken, fourth] = futures::future::join_all(puts).await.try_into().unwrap();
    assert!(matches!(taken, Err(WriteError::Exists(_))), "{taken:?}");
    let mut numbers = [third.unwrap().sequence, fourth.unwrap().sequence];
    numbers.sort_unstable();
    assert_eq!(numbers, [4, 5]);
    assert_eq!(world.sequences(&one).await, [1, 2, 3, 4, 5]);
    // A removal through one node, of which the other one's writer heard nothing.
    let removal = vec![world.removal("key-1", None)];
    one.remove(&world.permit(), removal).await.unwrap();
    let (since, permit) = (5, world.permit());
    let late = other.record_published(&permit, world.put("key-1"), since);
    assert!(matches!(late.await, Err(WriteError::KeyBusy)));
    let fresh = other.record_published(&permit, world.put("key-1"), since + 1);
    assert_eq!(fresh.await.unwrap().sequence, 7);
    // The lock moves through one node; by the other one's knowledge of it nothing is let in.
    let row = one.lock(world.row.id).await.unwrap();
    let to = NewLock {
        lock: Lock::Frozen {
            epoch: row.lock.epoch(),
            reason: Freeze::Operator("a test".into()),
        },
        now_ms: 1,
        reason: None,
    };
    one.move_lock(world.row.id, row.version, to, entry("freeze"))
        .await
        .unwrap();
    let refused = by_one_call(&other, &world, "key-5").await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
    let usage = one.usage(world.row.id).await.unwrap();
    assert_eq!((usage.sequence, usage.objects), (7, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_another_timeline_freezes_every_repository() {
    let server = Server::start("");
    let database = server.database().await;
    let state = server.open(&database).await;
    let world = World::held(&state, "logs").await;
    // A recovery that ends where the archive ends begins a new timeline, as a promoted standby does.
    server.restart(|data| std::fs::write(data.join("recovery.signal"), "").unwrap());
    let again = server.open(&database).await;
    let lock = again.lock(world.row.id).await.unwrap().lock;
    let reason = Freeze::DatabaseMoved;
    assert_eq!(
        lock,
        Lock::Frozen {
            epoch: policies::identity::Epoch(1),
            reason
        }
    );
    let refused = state.record(&world.permit(), world.put("a")).await;
    assert!(
        matches!(refused, Err(WriteError::LockMoved(_))),
        "{refused:?}"
    );
    assert_eq!(again.verify_audit().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_make_one_schema_and_see_each_others_writes() {
    let server = Server::shared();
    let database = server.database().await;
    let nodes = futures::future::join_all((0..4).map(|_| server.open(&database))).await;
    let world = World::held(&nodes[0], "logs").await;
    for (n, node) in nodes.iter().enumerate() {
        World::vacant(node, "logs").await;
        assert_eq!(world.record(node, &format!("key-{n}")).await, n as u64 + 1);
        assert!(world.object(&nodes[0], &format!("key-{n}")).await.is_some());
    }
    assert_eq!(nodes[3].others_alive().await.unwrap(), 3);
    let leads = futures::future::join_all(nodes.iter().map(Nodes::leads)).await;
    let leaders = leads.into_iter().filter(|leads| *leads.as_ref().unwrap());
    assert_eq!(leaders.count(), 1);
    let secrets = futures::future::join_all(nodes.iter().map(Nodes::shared_secret)).await;
    assert!(
        secrets
            .windows(2)
            .all(|w| w[0].as_ref().unwrap() == w[1].as_ref().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_judged_by_less_than_was_committed_is_refused() {
    let server = Server::shared();
    let database = server.database().await;
    let (one, other) = (server.open(&database).await, server.open(&database).await);
    let world = World::held(&one, "logs").await;
    World::vacant(&other, "logs").await;
    let judged = world.record(&one, "base/logs/__blob").await;
    world.record(&other, "base/logs/index-1").await;
    let removal = vec![world.removal("base/logs/__blob", None)];
    let stale = one
        .remove_judged(&world.permit(), removal.clone(), judged)
        .await;
    assert!(matches!(stale, Err(WriteError::KeyBusy)), "{stale:?}");
    let stale = one
        .remove_unchanged(&world.permit(), removal[0].clone(), judged, Some(judged))
        .await;
    assert!(matches!(stale, Err(WriteError::KeyBusy)), "{stale:?}");
    let fresh = one
        .remove_judged(&world.permit(), removal, judged + 1)
        .await;
    assert!(fresh.unwrap()[0].is_some());
    let root = NewIntent {
        binds: None,
        upload: UploadId("u".into()),
        put: world.put("base/logs/index-2"),
    };
    let stale = other
        .open_judged(&world.permit(), root.clone(), judged + 1)
        .await;
    assert!(matches!(stale, Err(WriteError::KeyBusy)), "{stale:?}");
    other
        .open_judged(&world.permit(), root, judged + 2)
        .await
        .unwrap();
}
