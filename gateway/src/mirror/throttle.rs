//! What a mirror may transfer per second.
//!
//! Each transfer reserves its bytes on one common time line and waits until they are due, so that any number of
//! transfers share the rate. A burst of half a second is allowed after a pause. A new rate is everybody's at once: who
//! waits under an older one waits anew.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

const BURST: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Throttle {
    line: Mutex<Line>,
    changed: Notify,
}

#[derive(Debug)]
struct Line {
    /// Bytes per second; None = no limit.
    rate: Option<u64>,
    /// When what was reserved so far is due.
    due: Instant,
}

impl Throttle {
    pub fn new(rate: Option<u64>) -> Self {
        let due = Instant::now();
        Self {
            line: Mutex::new(Line { rate, due }),
            changed: Notify::new(),
        }
    }

    pub fn set(&self, rate: Option<u64>) {
        let mut line = self.line.lock();
        line.rate = rate;
        line.due = Instant::now();
        drop(line);
        self.changed.notify_waiters();
    }

    /// Returns when that many bytes may go.
    pub async fn pass(&self, bytes: usize) {
        loop {
            // Made before the look at the rate: a change after that look ends the wait.
            let changed = self.changed.notified();
            let Some(due) = self.reserve(bytes) else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = changed => {}
            }
        }
    }

    /// When these bytes are due; None = at once.
    fn reserve(&self, bytes: usize) -> Option<Instant> {
        let mut line = self.line.lock();
        let rate = line.rate?;
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        line.due = line.due.max(earliest) + takes;
        Some(line.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transfers_share_one_rate() {
        let throttle = Throttle::new(Some(1_000_000));
        let start = Instant::now();
        let ten = || async {
            for _ in 0..10 {
                throttle.pass(100_000).await;
            }
        };
        tokio::join!(ten(), ten());
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1900), "{took:?}");
        assert!(took <= Duration::from_millis(2100), "{took:?}");
        throttle.set(None);
        let start = Instant::now();
        throttle.pass(usize::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_under_an_old_rate_goes_on_under_a_new_one() {
        let throttle = Throttle::new(Some(1));
        let start = Instant::now();
        let raised = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            throttle.set(Some(1_000_000));
            tokio::time::sleep(Duration::from_secs(1)).await;
            throttle.set(None);
        };
        tokio::join!(throttle.pass(1_000_000), throttle.pass(100_000_000), raised);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }
}
