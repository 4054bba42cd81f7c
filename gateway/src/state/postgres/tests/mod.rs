//! What PostgreSQL has to prove beyond the promises of every state database.

use std::sync::Arc;

use super::*;
use crate::state::conformance::{World, conformance, entry};

mod duties;
pub(crate) mod link;
mod outcome;
mod server;
mod silence;
mod storms;
mod tls;
use crate::state::Nodes;
use server::Server;

async fn fresh() -> (Arc<dyn State>, ()) {
    let server = Server::shared();
    let database = server.database().await;
    (Arc::new(server.open(&database).await), ())
}

/// Nodes on one database, for tests of what lies above.
pub(crate) async fn nodes<const N: usize>() -> [Arc<dyn State>; N] {
    let server = Server::shared();
    let database = server.database().await;
    let mut nodes: Vec<Arc<dyn State>> = Vec::with_capacity(N);
    for _ in 0..N {
        nodes.push(Arc::new(server.open(&database).await));
    }
    nodes.try_into().expect("as many as were asked for")
}

/// Two nodes on one database, and the first one's way there.
pub(crate) async fn nodes_and_a_link() -> ([Arc<dyn State>; 2], link::Link) {
    let server = Server::shared();
    let database = server.database().await;
    let link = link::Link::to(&database).await;
    let settings = server::settings(&link.url());
    let first = Database::open(&settings, "first").await.unwrap();
    let second = server.open(&database).await;
    ([Arc::new(first), Arc::new(second)], link)
}

mod promises {
    use super::{conformance, fresh};

    conformance!(fresh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_restart() {
    let server = Server::start("");
    let database = server.database().await;
    let state = server.open(&database).await;
    let world = World::held(&state, "logs").await;
    world.record(&state, "a").await;
    let object = world.object(&state, "a").await;
    let usage = state.usage(world.row.id).await.unwrap();
    state.uptime(500).await.unwrap();
    server.restart(|_| {});

    // Connections that the restart cut are replaced without an error.
    assert_eq!(world.object(&state, "a").await, object);
    let again = server.open(&database).await;
    let world = World::vacant(&again, "logs").await;
    assert_eq!(world.object(&again, "a").await, object);
    assert_eq!(again.usage(world.row.id).await.unwrap(), usage);
    assert_eq!(again.uptime(1).await.unwrap(), 501);
    assert_eq!(world.record(&again, "b").await, 2);
    again.append_audit(entry("thaw")).await.unwrap();
    assert_eq!(again.verify_audit().await.unwrap(), None);
}
