//! What a mirror may transfer per second.
//!
//! Each transfer reserves its bytes on one common time line and waits until they are due, so that any number of
//! transfers share the rate. A burst of half a second is allowed after a pause.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const BURST: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Throttle {
    line: Mutex<Line>,
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
        }
    }

    pub fn set(&self, rate: Option<u64>) {
        let mut line = self.line.lock();
        line.rate = rate;
        line.due = Instant::now();
    }

    /// Returns when that many bytes may go.
    pub async fn pass(&self, bytes: usize) {
        let due = {
            let mut line = self.line.lock();
            let Some(rate) = line.rate else {
                return;
            };
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let nanos = (bytes as u128 * 1_000_000_000) / u128::from(rate.max(1));
            let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            line.due = line.due.max(earliest) + takes;
            line.due
        };
        tokio::time::sleep_until(due).await;
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
}
