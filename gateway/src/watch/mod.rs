//! What an operator should know early: warnings that stay open, and live events.
//!
//! A warning is opened ([`Watch::raise`]) by whoever meets its cause and cleared ([`Watch::clear`]) by whoever sees that
//! the cause is gone; in between it stands in the state database, in `status`, in a metric. An event is told once
//! to those who listen. Invariants: neither decides anything, and neither can fail the work that tells it: a state
//! database that does not take a warning leaves it to the log and the listeners.
//!
//! Below `repository` and `mirror`, above `state`: both tell, neither is known here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use policies::identity::Repository;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::state::warnings::{NewWarning, OVERFLOW, Raised, WarningRow};
use crate::state::{RepositoryId, Result, State};
use crate::telemetry::{clock, names};

mod event;
mod warning;

#[cfg(test)]
mod tests;

pub use event::{Event, Told};
pub use warning::{Kind, Warning};

/// Events that a slow listener may be behind before it misses some.
const BEHIND: usize = 1024;
/// What is met again and again (a lost object that is read all day) is written down once in this time.
const AGAIN: Duration = Duration::from_secs(60);
/// Warnings of which is remembered when they were written down.
const REMEMBERED: usize = 1000;

type Subject = (RepositoryId, Kind, String);

/// One per process, shared by all who tell and all who listen.
#[derive(Debug)]
pub struct Watch {
    state: Arc<dyn State>,
    events: broadcast::Sender<Arc<Told>>,
    lately: Mutex<HashMap<Subject, Instant>>,
}

impl Watch {
    #[must_use]
    pub fn new(state: Arc<dyn State>) -> Self {
        Self {
            state,
            events: broadcast::Sender::new(BEHIND),
            lately: Mutex::default(),
        }
    }

    /// Tells an event to all who listen now.
    pub fn tell(&self, event: Event) {
        metrics::counter!(names::EVENTS, "kind" => event.kind()).increment(1);
        let at_ms = clock::now_ms();
        // No listener is no error.
        drop(self.events.send(Arc::new(Told { at_ms, event })));
    }

    /// Events from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Told>> {
        self.events.subscribe()
    }

    /// How many listen now.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.events.receiver_count()
    }

    /// Opens a warning, or says that its cause is still there.
    pub async fn raise(&self, id: RepositoryId, name: &Repository, warning: Warning) {
        let kind = warning.kind();
        let subject: String = warning.subject().chars().take(1024).collect();
        if self.was_lately(&(id, kind, subject.clone())) {
            return;
        }
        let new = NewWarning {
            kind: kind.as_str(),
            subject: subject.clone(),
            sentence: warning.to_string(),
            at_ms: clock::now_ms(),
        };
        let raised = self.state.raise_warning(id, new).await;
        let told = || Event::WarningRaised {
            repository: name.clone(),
            kind: kind.as_str().to_owned(),
            subject: subject.clone(),
            sentence: warning.to_string(),
        };
        match raised {
            Ok(Raised::New | Raised::Counted) => {
                tracing::warn!(repository = %name, kind = kind.as_str(), subject, "{warning}");
                self.tell(told());
            }
            Ok(Raised::Again) => {}
            Err(e) => {
                tracing::error!(repository = %name, kind = kind.as_str(), cause = %e, "a warning could not be kept: {warning}");
                self.tell(told());
            }
        }
    }

    /// The cause is gone: of one subject, or of all of the kind.
    pub async fn clear(
        &self,
        id: RepositoryId,
        name: &Repository,
        kind: Kind,
        subject: Option<&str>,
    ) {
        self.lately.lock().retain(|(of, what, about), _| {
            (*of, *what) != (id, kind) || subject.is_some_and(|subject| subject != about)
        });
        match self.state.clear_warnings(id, kind.as_str(), subject).await {
            Ok(cleared) => self.tell_cleared(name, cleared),
            Err(e) => {
                tracing::error!(repository = %name, kind = kind.as_str(), cause = %e, "a warning could not be cleared");
            }
        }
    }

    /// As [`Self::clear`], but only asks the state database to change something if there is something.
    pub async fn clear_if_open(&self, id: RepositoryId, name: &Repository, kinds: &[Kind]) {
        let open = self.open(id).await.unwrap_or_default();
        for kind in kinds {
            if open.iter().any(|row| row.kind == kind.as_str()) {
                self.clear(id, name, *kind, None).await;
            }
        }
    }

    /// An operator has read warnings of a kind. What happened once is closed by that; what is so stays, but quiet,
    /// until it is no longer so. How many there were.
    pub async fn acknowledge(
        &self,
        id: RepositoryId,
        name: &Repository,
        kind: &str,
        subject: Option<&str>,
    ) -> Result<u64> {
        let happened = Kind::parse(kind).is_none_or(|kind| !kind.lasts());
        if happened {
            let closed = self.state.clear_warnings(id, kind, subject).await?;
            let count = closed.len() as u64;
            self.lately.lock().clear();
            self.tell_cleared(name, closed);
            return Ok(count);
        }
        self.state
            .acknowledge_warnings(id, kind, subject, clock::now_ms())
            .await
    }

    /// All warnings of a repository, acknowledged ones too.
    pub async fn open(&self, id: RepositoryId) -> Result<Vec<WarningRow>> {
        self.state.warnings(id).await
    }

    fn tell_cleared(&self, name: &Repository, cleared: Vec<WarningRow>) {
        for row in cleared {
            tracing::info!(repository = %name, kind = row.kind, subject = row.subject, "a warning is no longer open");
            self.tell(Event::WarningCleared {
                repository: name.clone(),
                kind: row.kind,
                subject: row.subject,
            });
        }
    }

    fn was_lately(&self, subject: &Subject) -> bool {
        let mut lately = self.lately.lock();
        if lately.get(subject).is_some_and(|at| at.elapsed() < AGAIN) {
            return true;
        }
        if lately.len() >= REMEMBERED {
            lately.clear();
        }
        lately.insert(subject.clone(), Instant::now());
        false
    }
}

/// The sentence as people read it; a row that counts says how many.
#[must_use]
pub fn sentence(row: &WarningRow) -> String {
    if row.subject == OVERFLOW {
        return format!("And {} more, the last: {}", row.times, row.sentence);
    }
    row.sentence.clone()
}
