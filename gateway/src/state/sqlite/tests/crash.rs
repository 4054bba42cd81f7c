//! A process that ends in the middle of its writes, killed or by a failed disk, loses nothing that it answered.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;

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
        let enough = 1 + cycle * cycle * 40;
        let (seen, _) = answers_of(child(directory.path()), Some(enough));
        assert!(seen.len() >= enough, "the child ended by itself");
        answered.extend(seen);
        check_all_there(directory.path(), &answered).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_io_error_ends_the_process_and_loses_nothing_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    // Writes beyond 4 MiB of a file fail with EFBIG, which is no full disk.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$@\"", "sh"]);
    let direct = child(directory.path());
    limited.arg(direct.get_program()).args(direct.get_args());
    limited.env(DIRECTORY, directory.path());
    let (answered, status) = answers_of(limited, None);
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
    assert!(answered.len() > 100, "{} answers", answered.len());
    check_all_there(directory.path(), &answered.into_iter().collect()).await;
}

async fn check_all_there(directory: &Path, answered: &BTreeSet<String>) {
    let state = open_in(directory);
    let world = World::vacant(&state, "logs").await;
    for name in answered {
        let object = world.object(&state, name).await;
        assert!(object.is_some(), "{name} was answered and is gone");
    }
    let sequences = world.sequences(&state).await;
    let usage = state.usage(world.row.id).await.unwrap();
    assert!(
        sequences.iter().copied().eq(1..=usage.sequence),
        "the journal has a gap"
    );
    assert_eq!(usage.objects, usage.sequence, "one object for each entry");
}

fn child(directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("state::sqlite::tests::crash::the_child_that_is_killed")
        .env(DIRECTORY, directory);
    command
}

/// The keys that a child process said were recorded, until it ended; it is killed when these are enough.
fn answers_of(mut command: Command, enough: Option<usize>) -> (Vec<String>, ExitStatus) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let keys = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("key "));
    let mut seen = Vec::new();
    for key in keys {
        seen.push(key);
        if Some(seen.len()) == enough {
            child.kill().unwrap();
        }
    }
    (seen, child.wait().unwrap())
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
