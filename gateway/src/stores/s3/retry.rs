//! When a step is tried again, and when the gateway stops adding to a service's trouble.
//!
//! Decides: the pause before a repetition, or that there is none. Invariant: repetitions are at most a
//! tenth of the successes plus a fixed reserve, over all requests to a store together; so a service
//! in a storm of errors sees little more than the first attempts. Pauses are random over the whole
//! interval, lest gateways that failed together return together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Tokens that one repetition costs, and that one success earns.
const COST: u32 = 10;
const EARNED: u32 = 1;
/// Tokens at start and at most.
const RESERVE: u32 = 500;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 8;

/// Shared by all requests to one store.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(RESERVE))
    }
}

impl Budget {
    pub(super) fn earn(&self) {
        if self.0.load(Ordering::Relaxed) < RESERVE {
            let more = |tokens: u32| Some((tokens + EARNED).min(RESERVE));
            let _unchanged = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    fn spend(&self) -> bool {
        let less = |tokens: u32| tokens.checked_sub(COST);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// The attempts of one step.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    budget: &'a Budget,
    made: u32,
    end: Instant,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(budget: &'a Budget, time: Duration) -> Self {
        Self {
            budget,
            made: 0,
            end: Instant::now() + time,
        }
    }

    /// Time left for the step.
    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Waits before the next attempt; false = no more.
    pub(super) async fn again(&mut self) -> bool {
        match self.pause(rand::random::<f64>()) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    /// The pause before the next attempt, of a draw from 0 to 1.
    fn pause(&mut self, draw: f64) -> Option<Duration> {
        self.made += 1;
        let ceiling = FIRST_PAUSE
            .saturating_mul(1 << self.made.min(16))
            .min(LONGEST_PAUSE);
        let pause = ceiling.mul_f64(draw);
        let allowed = self.made < ATTEMPTS && pause < self.left() && self.budget.spend();
        allowed.then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_step_is_tried_a_bounded_number_of_times() {
        let budget = Budget::default();
        let mut attempts = Attempts::new(&budget, HOUR);
        let mut made = 1;
        while attempts.pause(0.5).is_some() {
            made += 1;
        }
        assert_eq!(made, ATTEMPTS);
    }

    #[test]
    fn pauses_grow_up_to_a_ceiling() {
        let budget = Budget::default();
        let mut attempts = Attempts::new(&budget, HOUR);
        let mut last = Duration::ZERO;
        while let Some(pause) = attempts.pause(1.0) {
            assert!(pause >= last && pause <= LONGEST_PAUSE);
            last = pause;
        }
        assert_eq!(last, LONGEST_PAUSE);
    }

    #[test]
    fn no_attempt_begins_after_the_deadline() {
        let budget = Budget::default();
        let mut attempts = Attempts::new(&budget, FIRST_PAUSE);
        assert_eq!(attempts.pause(1.0), None);
        let mut over = Attempts::new(&budget, Duration::ZERO);
        assert_eq!(over.pause(0.0), None);
    }

    #[test]
    fn a_storm_of_errors_is_not_answered_with_a_storm_of_repetitions() {
        let budget = Budget::default();
        let mut repeated = 0;
        for _ in 0..1000 {
            let mut attempts = Attempts::new(&budget, HOUR);
            while attempts.pause(0.5).is_some() {
                repeated += 1;
            }
        }
        assert_eq!(repeated, RESERVE / COST);
        for _ in 0..COST {
            budget.earn();
        }
        assert!(Attempts::new(&budget, HOUR).pause(0.5).is_some());
    }
}
