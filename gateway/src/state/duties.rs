//! Who does a piece of work that one should do at a time.
//!
//! A duty is a courtesy between those who share a database, not a fence: what somebody does who lost his without
//! noticing must be stopped where it takes effect (on a mirror's target by the epoch in its anchors).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

/// A piece of work is the holder's until this is dropped.
#[async_trait]
pub trait Duty: fmt::Debug + Send + Sync {
    /// False for good once it is known to be lost.
    fn holds(&self) -> bool;
    /// Returns when it is known to be lost.
    async fn lost(&self);
}

/// What somebody in this process does.
#[derive(Debug, Default, Clone)]
pub struct InProcess(Arc<Mutex<HashSet<String>>>);

/// A duty that nobody outside this process can have.
#[derive(Debug)]
pub struct Taken {
    all: InProcess,
    work: String,
}

impl InProcess {
    /// None = somebody does it already.
    pub fn take(&self, work: &str) -> Option<Taken> {
        let new = self.0.lock().insert(work.to_owned());
        new.then(|| Taken {
            all: self.clone(),
            work: work.to_owned(),
        })
    }
}

impl Taken {
    pub fn work(&self) -> &str {
        &self.work
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.work);
    }
}

#[async_trait]
impl Duty for Taken {
    fn holds(&self) -> bool {
        true
    }

    async fn lost(&self) {
        std::future::pending::<()>().await;
    }
}
