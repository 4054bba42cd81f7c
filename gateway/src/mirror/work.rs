//! Transfers under way: bounded in number, each tried until it succeeds, is poisoned, or the applier is told to stop.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use policies::key::ObjectKey;
use policies::mirror_order::{Known, Put};
use rand::RngExt;
use tokio::task::JoinSet;

use super::fence::Tenure;
use super::transfer::Landed;
use super::{Link, Trouble};
use crate::stores;

/// Objects on their way at once. Each holds a chunk of its bytes in memory, not more.
pub const PARALLEL: usize = 16;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const GIVE_UP: Duration = Duration::from_secs(5);

/// Numbers since the process started, and what is wrong now.
#[derive(Debug, Default)]
pub struct Counts {
    pub transferred: AtomicU64,
    pub bytes: AtomicU64,
    pub failed: AtomicU64,
}

impl Counts {
    pub fn copied(&self, bytes: u64) {
        self.transferred.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits longer and longer, each time a random part of it, so that many do not come back at once.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    pub fn next(&mut self) -> Duration {
        let most = SHORTEST
            .saturating_mul(1 << self.tries.min(10))
            .min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        let share: f64 = rand::rng().random_range(0.5..1.0);
        most.mul_f64(share)
    }

    pub fn tries(&self) -> u32 {
        self.tries
    }
}

/// What was to be copied, and what came of it.
pub type Ended = (Put, Result<Landed, Trouble>);

#[derive(Debug)]
pub struct Work {
    link: Arc<Link>,
    tenure: Tenure,
    pub counts: Arc<Counts>,
    running: JoinSet<Ended>,
    under_way: HashSet<ObjectKey>,
}

impl Work {
    pub fn new(link: Arc<Link>, tenure: Tenure, counts: Arc<Counts>) -> Self {
        Self {
            link,
            tenure,
            counts,
            running: JoinSet::new(),
            under_way: HashSet::new(),
        }
    }

    pub fn has_room(&self) -> bool {
        self.running.len() < PARALLEL
    }

    pub fn is_under_way(&self, key: &ObjectKey) -> bool {
        self.under_way.contains(key)
    }

    /// Copies in the background; a key is copied once at a time.
    pub fn start(&mut self, put: Put) {
        if !self.under_way.insert(put.key.clone()) {
            return;
        }
        let (link, counts) = (Arc::clone(&self.link), Arc::clone(&self.counts));
        let tenure = self.tenure.clone();
        self.running.spawn(async move {
            let landed = copy(&link, &tenure, &counts, &put).await;
            (put, landed)
        });
    }

    /// Lets what is under way give up in order, so that it leaves nothing behind; what hangs is dropped.
    pub async fn end(&mut self) {
        self.link.interrupted.store(true, Ordering::Release);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(GIVE_UP, all).await.is_err() {
            self.running.shutdown().await;
        }
        self.under_way.clear();
        self.link.interrupted.store(false, Ordering::Release);
    }

    /// The next transfer that ends; None: none is under way.
    pub async fn finished(&mut self) -> Option<Ended> {
        let joined = self.running.join_next().await?;
        let (put, landed) = joined.unwrap_or_else(|e| {
            tracing::error!(cause = %e, "a transfer to a mirror panicked");
            std::process::abort();
        });
        self.under_way.remove(&put.key);
        Some((put, landed))
    }
}

async fn copy(link: &Link, tenure: &Tenure, counts: &Counts, put: &Put) -> Result<Landed, Trouble> {
    let found = link.source.find(&put.key, put.sequence).await;
    let from = match found {
        Ok(from) => from,
        Err(trouble) => return Err(trouble),
    };
    let landed = link.create(tenure, &from).await;
    match &landed {
        Ok(Landed::Written) => counts.copied(from.object.size),
        Ok(Landed::Same | Landed::Other) => {}
        Err(_) => counts.fail(),
    }
    landed
}

/// What a transfer's end says about the name.
pub fn known(put: &Put, landed: Landed) -> Known {
    match landed {
        Landed::Written | Landed::Same => Known::Content(put.sequence),
        Landed::Other => Known::Other,
    }
}

/// Trying again may help; else somebody has to look.
pub fn passes(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Source(_)
        | Trouble::State(_)
        | Trouble::Superseded
        | Trouble::Relieved
        | Trouble::Interrupted => true,
        Trouble::Target(e) => match e {
            stores::Error::Denied
            | stores::Error::Full
            | stores::Error::Unstorable(_)
            | stores::Error::Changed
            | stores::Error::Exists => false,
            // A hidden upload that was ended is begun anew.
            stores::Error::UploadGone
            | stores::Error::Busy
            | stores::Error::Unknown
            | stores::Error::Failed(_) => true,
        },
        Trouble::Poison(_) | Trouble::Gone | Trouble::Fenced(_) | Trouble::Stuck { .. } => false,
    }
}

/// Facts that later steps still need: copies that ran ahead.
pub fn keep_later(keys: &mut HashMap<ObjectKey, Known>, upto: u64) {
    keys.retain(|_, known| matches!(known, Known::Content(sequence) if *sequence > upto));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_seconds_and_not_beyond_and_no_two_mirrors_pause_alike() {
        let pauses = || {
            let mut backoff = Backoff::default();
            (0..100).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        let one = pauses();
        assert!(one[0] <= SHORTEST, "{one:?}");
        assert!(one[50..].iter().all(|pause| *pause >= LONGEST / 2));
        assert!(one.iter().all(|pause| *pause <= LONGEST));
        assert_ne!(one, pauses());
    }
}
