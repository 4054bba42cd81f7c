//! How fast a mirror got on lately, for the estimate of when it has caught up.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::status::{State, Status};

const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Pace {
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    bytes: u64,
    applied: u64,
}

impl Pace {
    /// Called every few seconds with what was transferred and applied so far, and how many operations are left.
    pub fn sample(&self, bytes: u64, applied: u64, behind: u64) {
        let mut samples = self.samples.lock();
        let at = Instant::now();
        // What was done before the backlog began says nothing of how long it takes.
        if behind == 0 {
            samples.clear();
        }
        // Another node counts from here on, or this one does.
        if samples.back().is_some_and(|last| bytes < last.bytes) {
            samples.clear();
        }
        samples.push_back(Sample { at, bytes, applied });
        while samples.front().is_some_and(|s| at - s.at > WINDOW) {
            samples.pop_front();
        }
    }

    /// None while the last try failed: what was done before it says nothing.
    pub fn seconds_for(&self, status: &Status) -> Option<u64> {
        if status.trouble.is_some() {
            return None;
        }
        match status.state {
            State::InSync => return Some(0),
            State::Paused | State::Stalled => return None,
            State::Lagging | State::Resync => {}
        }
        let samples = self.samples.lock();
        let (first, last) = (samples.front()?, samples.back()?);
        let passed = (last.at - first.at).as_secs();
        if passed == 0 {
            return None;
        }
        let seconds = |left: u64, done: u64| (done > 0).then(|| left.saturating_mul(passed) / done);
        let by_bytes = seconds(status.lag.bytes, last.bytes.saturating_sub(first.bytes));
        let by_entries = seconds(
            status.lag.operations,
            last.applied.saturating_sub(first.applied),
        );
        by_bytes.max(by_entries).map(|seconds| seconds.max(1))
    }
}
