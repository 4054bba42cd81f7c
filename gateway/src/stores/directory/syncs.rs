//! Making things durable, alone or together.
//!
//! Decides: whether a waiting writer syncs its own file or shares one `syncfs` with others. While at most
//! [`ALONE`] wait at a time each syncs itself, for the file system shares its journal commits between them;
//! beyond that the writers queue for the next `syncfs`, which one of them runs for all. The level of
//! waiting writers falls slowly: a round releases all of its writers at once, and the next ones must not
//! take the quiet for low load, for single syncs between shared ones are the worst of both.
//! Invariant: a writer is only served by a `syncfs` that began after the writer asked.
//! An error that the kernel reports once may belong to any writer whose bytes were on their way: all that
//! began before it was seen fail ([`Mark`]). A failed sync is never tried again.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use rustix::fs::syncfs;
use rustix::io::{Errno, Result};

/// Writers that sync at the same time without sharing.
const ALONE: usize = 12;
/// So many syncs without a higher number lower the level by one.
const STEPS: usize = 16;

#[derive(Debug)]
pub(super) struct Syncs {
    /// `syncfs` reports each write-back error once to each descriptor: this one is used for nothing else.
    root: OwnedFd,
    /// The kernel reports write-back errors from `syncfs` (Linux 5.8).
    shares: bool,
    waiting: AtomicUsize,
    /// The highest number that waited lately, times [`STEPS`].
    level: AtomicUsize,
    failures: AtomicU64,
    rounds: Mutex<Rounds>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Rounds {
    running: bool,
    begun: u64,
    ended: u64,
    /// The last round that failed, and how.
    failed: Option<(u64, Errno)>,
}

/// Taken before a writer's first byte goes to the file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u64);

impl Syncs {
    pub fn new(root: OwnedFd, shares: bool) -> Self {
        Self {
            root,
            shares,
            waiting: AtomicUsize::new(0),
            level: AtomicUsize::new(0),
            failures: AtomicU64::new(0),
            rounds: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    pub fn can_share(&self) -> bool {
        self.shares
    }

    pub fn mark(&self) -> Mark {
        Mark(self.failures.load(Ordering::SeqCst))
    }

    /// Makes durable what the caller wrote since `mark`: by `alone`, or by a shared `syncfs`. Blocks.
    pub fn settle(&self, mark: Mark, alone: impl FnOnce() -> Result<()>) -> Result<()> {
        let others = self.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = if self.shares && self.level(others) >= ALONE {
            self.together(mark)
        } else {
            alone()
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    /// Exact counting is not needed: a lost update is one step.
    fn level(&self, others: usize) -> usize {
        let before = self.level.load(Ordering::Relaxed);
        let now = (others * STEPS).max(before.saturating_sub(1));
        self.level.store(now, Ordering::Relaxed);
        now / STEPS
    }

    /// As [`Self::settle`] for so many directories that one `syncfs` is cheaper at any load.
    pub fn settle_many(&self, mark: Mark) -> Result<()> {
        self.together(mark)
    }

    fn together(&self, mark: Mark) -> Result<()> {
        let mut rounds = self.rounds.lock();
        let mine = rounds.begun + 1;
        while rounds.ended < mine {
            if rounds.running {
                self.ended.wait(&mut rounds);
                continue;
            }
            rounds.running = true;
            rounds.begun += 1;
            let round = rounds.begun;
            drop(rounds);
            let outcome = syncfs(&self.root);
            rounds = self.rounds.lock();
            if let Err(e) = outcome {
                self.failures.fetch_add(1, Ordering::SeqCst);
                rounds.failed = Some((round, e));
            }
            rounds.running = false;
            rounds.ended = round;
            self.ended.notify_all();
        }
        let failed = rounds.failed;
        drop(rounds);
        match failed {
            Some((round, e)) if round >= mine || self.mark().0 != mark.0 => Err(e),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;

    fn syncs() -> Syncs {
        let directory = File::open(std::env::temp_dir()).unwrap();
        Syncs::new(directory.into(), true)
    }

    #[test]
    fn a_few_writers_sync_themselves() {
        let syncs = syncs();
        let mut ran = false;
        syncs
            .settle(syncs.mark(), || {
                ran = true;
                Ok(())
            })
            .unwrap();
        assert!(ran);
    }

    #[test]
    fn the_level_rises_at_once_and_falls_slowly() {
        let syncs = syncs();
        assert_eq!(syncs.level(40), 40);
        assert_eq!(syncs.level(0), 39);
        let falls = (0..).take_while(|_| syncs.level(0) >= ALONE).count();
        assert!(falls > (39 - ALONE) * STEPS - STEPS, "{falls}");
    }

    #[test]
    fn a_writer_is_served_by_a_round_that_began_after_it_asked() {
        let syncs = Arc::new(syncs());
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let syncs = Arc::clone(&syncs);
                std::thread::spawn(move || {
                    for _ in 0..20 {
                        let before = syncs.rounds.lock().begun;
                        syncs.together(syncs.mark()).unwrap();
                        assert!(syncs.rounds.lock().ended > before);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let rounds = syncs.rounds.lock();
        assert!(rounds.ended < 16 * 20, "rounds were shared: {rounds:?}");
    }

    #[test]
    fn an_error_seen_by_an_earlier_round_fails_whoever_began_before_it() {
        let syncs = syncs();
        let before = syncs.mark();
        syncs.failures.fetch_add(1, Ordering::SeqCst);
        syncs.rounds.lock().failed = Some((0, Errno::IO));
        assert_eq!(syncs.together(before), Err(Errno::IO));
        assert_eq!(syncs.together(syncs.mark()), Ok(()));
    }
}
