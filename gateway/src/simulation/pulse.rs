//! The steps of one process: between any two of its requests to the store or database it may stand still, for a
//! while (paused) or for ever (killed).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// Where a process stands still: paused by the schedule, or for ever once it is to die at its n-th step.
#[derive(Debug)]
pub struct Pulse {
    paused: AtomicBool,
    woken: Notify,
    steps: AtomicU64,
    dies_at: AtomicU64,
    dead: watch::Sender<bool>,
}

impl Pulse {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            paused: AtomicBool::new(false),
            woken: Notify::new(),
            steps: AtomicU64::new(0),
            dies_at: AtomicU64::new(u64::MAX),
            dead: watch::Sender::new(false),
        })
    }

    /// One step more; returns when the process may go on.
    pub async fn beat(&self) {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        if step >= self.dies_at.load(Ordering::Relaxed) {
            self.dead.send_replace(true);
            std::future::pending::<()>().await;
        }
        loop {
            let woken = self.woken.notified();
            if !self.paused.load(Ordering::Relaxed) {
                return;
            }
            woken.await;
        }
    }

    /// The process dies this many steps from now, between any two of its requests to the store or database.
    pub fn die_in(&self, steps: u64) {
        let at = self.steps.load(Ordering::Relaxed) + steps;
        self.dies_at.store(at, Ordering::Relaxed);
    }

    pub fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Returns when the process came to the step at which it was to die.
    pub async fn died(&self) {
        let mut dead = self.dead.subscribe();
        while !*dead.borrow_and_update() {
            if dead.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.woken.notify_waiters();
    }
}
