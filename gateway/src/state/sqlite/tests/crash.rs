//! A process that is killed in the middle of its writes loses nothing that it answered.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

const DIRECTORY: &str = "SNAPGATE_TEST_CRASH_DIRECTORY";
const CYCLES: usize = 12;
const WRITERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut answered = BTreeSet::new();
    for cycle in 0..CYCLES {
        // Killed after another number of answers each time, between the first and the some thousandth.
        answered.extend(write_until_killed(directory.path(), 1 + cycle * cycle * 40));
        let state = open_in(directory.path());
        let world = World::vacant(&state, "logs").await;
        for name in &answered {
            assert!(
                world.object(&state, name).await.is_some(),
                "cycle {cycle}: {name} was answered and is gone"
            );
        }
        let sequences = world.sequences(&state).await;
        let usage = state.usage(world.row.id).await.unwrap();
        assert!(
            sequences.iter().copied().eq(1..=usage.sequence),
            "cycle {cycle}: the journal has a gap"
        );
        assert_eq!(
            usage.objects, usage.sequence,
            "cycle {cycle}: one object for each entry"
        );
    }
}

/// The keys that a child process said were recorded.
fn write_until_killed(directory: &Path, answers: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("state::sqlite::tests::crash::the_child_that_is_killed")
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let keys = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("key "));
    let mut seen = Vec::new();
    for key in keys {
        seen.push(key);
        if seen.len() == answers {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen.len() >= answers, "the child ended by itself");
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the crash test, which starts it"]
async fn the_child_that_is_killed() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("started by the crash test"));
    let state = Arc::new(open_in(&directory));
    let mut world = World::vacant(&*state, "logs").await;
    let epoch = world.row.lock.version;
    world.hold(&*state, epoch, "prod").await;
    let world = Arc::new(world);
    let start = state.usage(world.row.id).await.unwrap().sequence;
    let writers = (0..WRITERS).map(|writer| {
        let (state, world) = (Arc::clone(&state), Arc::clone(&world));
        tokio::spawn(async move {
            for n in 0_u64.. {
                let name = format!("key {start}-{writer}-{n}");
                world.record(&*state, &name).await;
                // One write of one line, after the answer.
                std::io::stdout()
                    .lock()
                    .write_all(format!("{name}\n").as_bytes())
                    .unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}
