//! The access log's lines on their way out, where logs are JSON.
//!
//! Decides when they are written: together, at the latest [`PAUSE`] after the first of them or when [`HELD`]
//! bytes have come. A line for each request through the common subscriber cost an eighth of a small read.
//! Other events are written at once, so a line may stand behind a later event; its time tells. A gateway that
//! is killed loses the lines of its last moment; what an operator must be able to prove is in the audit trail.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

/// The name that `RUST_LOG` and readers of the log know these lines by.
pub const TARGET: &str = "access";
const PAUSE: Duration = Duration::from_millis(100);
const HELD: usize = 32 << 10;

static ON: AtomicBool = AtomicBool::new(false);
static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static FIRST: Condvar = Condvar::new();

/// From now on lines go through here.
pub fn start() -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("access-log".into())
        .spawn(|| {
            loop {
                let mut lines = LINES.lock();
                while lines.is_empty() {
                    FIRST.wait(&mut lines);
                }
                FIRST.wait_for(&mut lines, PAUSE);
                write(&mut lines);
            }
        })?;
    ON.store(true, Ordering::Relaxed);
    Ok(())
}

/// Lines go through here, and `RUST_LOG` lets them. Else they are events like all others.
#[must_use]
pub fn gathers() -> bool {
    ON.load(Ordering::Relaxed) && tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Takes one line.
pub fn push(line: &impl Serialize) {
    let mut lines = LINES.lock();
    if lines.is_empty() {
        FIRST.notify_one();
    }
    add(&mut lines, line);
    if lines.len() >= HELD {
        write(&mut lines);
    }
}

/// Writes what is held: for the end of the process.
pub fn flush() {
    write(&mut LINES.lock());
}

fn add(lines: &mut Vec<u8>, line: &impl Serialize) {
    let before = lines.len();
    match serde_json::to_writer(&mut *lines, line) {
        Ok(()) => lines.push(b'\n'),
        // Text and numbers always have a JSON form; half a line helps nobody.
        Err(_) => lines.truncate(before),
    }
}

fn write(lines: &mut Vec<u8>) {
    // There is no other place to say that the log cannot be written.
    let _ = std::io::stderr().write_all(lines);
    lines.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        let mut lines = Vec::new();
        add(
            &mut lines,
            &serde_json::json!({ "key": "a\n\"b\"\u{7f}", "status": 200 }),
        );
        add(&mut lines, &serde_json::json!({ "key": "c" }));
        let text = String::from_utf8(lines).unwrap();
        let read: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read[0]["key"], "a\n\"b\"\u{7f}");
        assert_eq!(read[1]["key"], "c");
        assert_eq!(read.len(), 2);
    }
}
