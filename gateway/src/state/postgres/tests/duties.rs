//! Duties among nodes: one has it; when its session ends, however it ends, another gets it.

use std::time::Duration;

use super::Server;
use crate::state::{Duty, Nodes};

async fn until_taken(node: &impl Nodes, work: &str) -> Box<dyn Duty> {
    for _ in 0..3000 {
        if let Ok(Some(duty)) = node.take_duty(work).await {
            return duty;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("'{work}' is not given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_nodes_one_has_a_duty_and_another_gets_it_when_it_ends() {
    let server = Server::shared();
    let database = server.database().await;
    let (one, two) = (server.open(&database).await, server.open(&database).await);
    let duty = one.take_duty("mirror").await.unwrap().unwrap();
    assert!(two.take_duty("mirror").await.unwrap().is_none());
    assert!(two.take_duty("another").await.unwrap().is_some());
    drop(duty);
    let duty = until_taken(&two, "mirror").await;
    assert!(one.take_duty("mirror").await.unwrap().is_none());
    // As a process that dies.
    drop((duty, two));
    until_taken(&one, "mirror").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duty_is_lost_with_its_session_and_its_node_hears_of_it() {
    let server = Server::shared();
    let database = server.database().await;
    let (one, two) = (server.open(&database).await, server.open(&database).await);
    let duty = one.take_duty("mirror").await.unwrap().unwrap();
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_locks
        WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let operator = server.connect(&database).await;
    operator.batch_execute(end_sessions).await.unwrap();
    let taken = until_taken(&two, "mirror").await;
    duty.lost().await;
    assert!(!duty.holds());
    assert!(
        one.take_duty("mirror")
            .await
            .is_ok_and(|duty| duty.is_none())
    );
    drop((duty, taken));
    until_taken(&one, "mirror").await;
}
