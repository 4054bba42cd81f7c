//! A server that accepts connections and does not answer, from the beginning or from some instant on: nobody waits for ever.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, pause, resume};

use super::link::Link;
use super::server::{settings, url_at};
use super::*;

/// The longest that anybody waits: a lost answer is looked up for as long as it was waited for, after one for a connection.
const BOUND: Duration = Duration::from_secs(90);

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_ends_a_start_with_an_error_that_says_so() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let began = Instant::now();
    let mut url = url_at(port, "postgres");
    // The kernel accepts at once; the client's own time-out for that would end a paused clock's wait first.
    url.push_str("?connect_timeout=600");
    let opened = Database::open(&settings(&url), "test").await;
    let told = opened.unwrap_err().to_string();
    assert!(told.contains("does not answer within 30 s"), "{told}");
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_stops_answering_costs_every_request_an_error_in_time_and_heals() {
    let server = Server::shared();
    let database = server.database().await;
    let link = Link::to(&database).await;
    let state = Database::open(&settings(&link.url()), "test").await;
    let state = state.unwrap();
    let world = World::held(&state, "logs").await;
    world.record(&state, "before").await;
    link.silence();
    // Time passes as soon as everybody waits.
    pause();
    let began = Instant::now();
    let read = state.usage(world.row.id).await;
    let told = read.unwrap_err().to_string();
    assert!(told.contains("PostgreSQL does not answer"), "{told}");
    let written = state.record(&world.permit(), world.put("meanwhile")).await;
    assert!(matches!(written, Err(WriteError::Failed(_))), "{written:?}");
    assert!(state.take_duty("work").await.is_err());
    assert!(began.elapsed() < 3 * BOUND, "{:?}", began.elapsed());
    resume();
    link.heal();
    // A connection that stood still may cost one more answer.
    while state.usage(world.row.id).await.is_err() {}
    assert!(world.object(&state, "before").await.is_some());
    while let Err(e) = state.record(&world.permit(), world.put("after")).await {
        assert!(matches!(e, WriteError::Failed(_)), "{e}");
    }
    assert!(world.object(&state, "after").await.is_some());
}
