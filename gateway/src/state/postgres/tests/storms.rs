//! Sessions that are killed and cancelled all the time, servers that take no writes or let commits wait, and many
//! nodes at one repository.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;

use super::*;

/// Of what is answered nothing is lost, and the journal counts each once.
async fn check(state: &dyn State, world: &World, answered: &BTreeSet<String>) {
    for name in answered {
        assert!(world.object(state, name).await.is_some(), "{name}");
    }
    let journal = state.journal(world.row.id, 0, 100_000).await.unwrap();
    let names: BTreeSet<_> = journal.iter().map(|e| e.key.as_str().to_owned()).collect();
    assert_eq!(names.len(), journal.len(), "an object was recorded twice");
    let sequences: Vec<u64> = journal.iter().map(|e| e.sequence).collect();
    let expected: Vec<u64> = (1..=journal.len() as u64).collect();
    assert_eq!(sequences, expected);
    assert!(answered.is_subset(&names));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_killed_and_cancelled_lose_nothing_that_was_answered() {
    for kill in ["pg_terminate_backend", "pg_cancel_backend"] {
        let server = Server::shared();
        let database = server.database().await;
        let state = server.open(&database).await;
        let world = World::held(&state, "logs").await;
        let attacker = server.connect("postgres").await;
        let attack = format!(
            "SELECT {kill}(pid) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        );
        let (mut answered, mut refused, mut attacks) = (BTreeSet::new(), 0, 0);
        for n in 0..300 {
            let name = format!("key-{n:04}");
            let (permit, put) = (world.permit(), world.put(&name));
            let write = state.record(&permit, put);
            let hit = async {
                if n % 3 == 0 {
                    attacker.query(&attack, &[]).await.unwrap();
                    attacks += 1;
                }
            };
            match tokio::join!(write, hit).0 {
                Ok(_) => drop(answered.insert(name)),
                // Done or not done: a repeat tells.
                Err(WriteError::Failed(_)) => refused += 1,
                Err(e) => panic!("{name}: {e}"),
            }
        }
        println!(
            "{kill}: {attacks} attacks, {} answered, {refused} failed",
            answered.len()
        );
        assert!(answered.len() > 100, "hardly anything got through");
        check(&state, &world, &answered).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_told_and_heals_and_reads_go_on() {
    let server = Server::start("");
    let database = server.database().await;
    let state = server.open(&database).await;
    let world = World::held(&state, "logs").await;
    world.record(&state, "before").await;
    let operator = server.connect("postgres").await;
    let drop_sessions = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    );
    let closed = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
    operator.batch_execute(&closed).await.unwrap();
    operator.query(&drop_sessions, &[]).await.unwrap();
    let mut refused = 0;
    while refused < 3 {
        let e = state.record(&world.permit(), world.put("meanwhile")).await;
        assert!(matches!(e, Err(WriteError::Failed(_))), "{e:?}");
        refused += 1;
    }
    assert!(world.object(&state, "before").await.is_some());
    assert!(world.object(&state, "meanwhile").await.is_none());
    let opened = format!("ALTER DATABASE {database} RESET default_transaction_read_only");
    operator.batch_execute(&opened).await.unwrap();
    operator.query(&drop_sessions, &[]).await.unwrap();
    // A session that was just ended may cost one more answer.
    while state
        .record(&world.permit(), world.put("after"))
        .await
        .is_err()
    {
        assert!(world.object(&state, "after").await.is_none());
    }
    let answered = ["before", "after"].map(str::to_owned).into();
    check(&state, &world, &answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_synchronous_standby_nothing_is_answered_and_nothing_is_lost() {
    let server = Server::start("");
    let database = server.database().await;
    let state = Arc::new(server.open(&database).await);
    let world = World::held(&*state, "logs").await;
    let operator = server.connect("postgres").await;
    for sql in [
        "ALTER SYSTEM SET synchronous_standby_names = 'gone'",
        "SELECT pg_reload_conf()",
    ] {
        operator.batch_execute(sql).await.unwrap();
    }
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut answered = BTreeSet::new();
    // The setting reaches the sessions some time after the reload: what is written before that is answered.
    let (name, write) = 'reached: loop {
        let name = format!("{:03}", answered.len());
        let writer = Arc::clone(&state);
        let (permit, put) = (world.permit(), world.put(&name));
        let write = tokio::spawn(async move { writer.record(&permit, put).await });
        while !write.is_finished() {
            let row = operator.query_one(waits, &[]).await.unwrap();
            if row.get::<_, i64>(0) > 0 {
                break 'reached (name, write);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        write.await.unwrap().unwrap();
        answered.insert(name);
        assert!(answered.len() < 1000, "answered without the standby");
    };
    assert!(!write.is_finished());
    for sql in [
        "ALTER SYSTEM RESET synchronous_standby_names",
        "SELECT pg_reload_conf()",
    ] {
        operator.batch_execute(sql).await.unwrap();
    }
    write.await.unwrap().unwrap();
    answered.insert(name);
    check(&*state, &world, &answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_at_one_repository_and_its_lock_all_get_on() {
    const NODES: usize = 4;
    const WRITES: usize = 60;
    let nodes: [Arc<dyn State>; NODES] = nodes().await;
    let world = World::held(&*nodes[0], "logs").await;
    let writers = nodes.iter().enumerate().map(|(node, state)| {
        let world = &world;
        async move {
            let mut answered = BTreeSet::new();
            for n in 0..WRITES {
                let name = format!("{node}-{n:03}");
                world.record(&**state, &name).await;
                answered.insert(name);
                // Everybody contends for the same key as well: one of them gets it.
                let contended = format!("one-{n:03}");
                match state.record(&world.permit(), world.put(&contended)).await {
                    Ok(_) => drop(answered.insert(contended)),
                    Err(WriteError::Exists(_)) => {}
                    Err(e) => panic!("{contended}: {e}"),
                }
            }
            answered
        }
    });
    let answered: Vec<BTreeSet<String>> = join_all(writers).await;
    let total: usize = answered.iter().map(BTreeSet::len).sum();
    assert_eq!(total, NODES * WRITES + WRITES);
    check(
        &*nodes[0],
        &world,
        &answered.into_iter().flatten().collect(),
    )
    .await;
}
