//! Who waits for the disk: system calls that sync, per upload, as `strace` sees them.
//!
//! A figure of a store that answers before its bytes are durable is not comparable with one that does not;
//! so the comparison says which is which, from what the kernel was asked, not from a manual.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::measure::Bench;
use crate::peers::Contender;
use crate::{client, rows};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("strace: {0}")]
    Strace(#[from] std::io::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
}

/// Calls per operation.
#[derive(Debug, Clone, Serialize)]
pub struct Syncs {
    pub contender: &'static str,
    pub row: &'static str,
    pub operations: u64,
    pub fsync: f64,
    pub fdatasync: f64,
    pub sync_file_range: f64,
    pub syncfs: f64,
    /// Files opened so that every write waits (`O_SYNC`, `O_DSYNC`).
    pub synchronous_files: f64,
}

const ROWS: [&str; 3] = ["put-4k", "put-commit-4k", "put-1m"];
const CONNECTIONS: usize = 8;
/// Operations of each connection.
const OPERATIONS: usize = 25;

pub async fn trace(contender: &Contender, scratch: &Path) -> Result<Vec<Syncs>, Error> {
    let mut found = Vec::new();
    for row in ROWS {
        let work = rows::find(row)
            .expect("these rows exist: there is a test")
            .work;
        let bench = Bench::ready(Arc::clone(&contender.target), work).await?;
        let output = scratch.join("strace.out");
        let mut strace = Command::new("strace")
            .args(["-f", "-qq", "-e"])
            .arg("trace=fsync,fdatasync,sync_file_range,syncfs,open,openat,openat2")
            .arg("-o")
            .arg(&output)
            .args(["-p", &contender.processes.0.to_string()])
            .stderr(Stdio::null())
            .spawn()?;
        // Attaching to every thread takes a moment, and says nothing when it is done.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let written = bench.operate(CONNECTIONS, OPERATIONS).await;
        kill_process(Pid::from_child(&strace), Signal::INT).map_err(std::io::Error::from)?;
        strace.wait()?;
        bench.remove(&written?).await?;
        let text = std::fs::read_to_string(&output)?;
        let operations = (CONNECTIONS * OPERATIONS) as u64;
        found.push(count(contender.name, row, operations, &text));
    }
    Ok(found)
}

fn count(contender: &'static str, row: &'static str, operations: u64, trace: &str) -> Syncs {
    // A call that another thread interrupts has a second line, `<... fsync resumed>`, without parenthesis.
    let calls = |name: &str| {
        let call = format!(" {name}(");
        let lines = trace.lines().filter(|line| line.contains(&call)).count();
        lines as f64 / operations as f64
    };
    let opened = trace
        .lines()
        .filter(|line| {
            line.contains(" open") && (line.contains("O_SYNC") || line.contains("O_DSYNC"))
        })
        .count();
    Syncs {
        contender,
        row,
        operations,
        fsync: calls("fsync"),
        fdatasync: calls("fdatasync"),
        sync_file_range: calls("sync_file_range"),
        syncfs: calls("syncfs"),
        synchronous_files: opened as f64 / operations as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traced_rows_exist() {
        for row in ROWS {
            rows::find(row).unwrap();
        }
    }

    #[test]
    fn a_call_that_was_interrupted_counts_once() {
        let trace = "\
12 openat(AT_FDCWD, \"/d/x\", O_RDWR|O_CREAT|O_DSYNC, 0644) = 7
12 fsync(7 <unfinished ...>
13 fdatasync(8) = 0
12 <... fsync resumed>) = 0
13 fsync(9) = 0
";
        let syncs = count("minio", "put-4k", 2, trace);
        assert_eq!((syncs.fsync, syncs.fdatasync), (1.0, 0.5));
        assert_eq!((syncs.synchronous_files, syncs.syncfs), (0.5, 0.0));
    }
}
