//! Long work: started by a call that answers 202, looked at under `/v1/jobs/{id}`.
//!
//! Jobs live in memory; the newest thousand are remembered. A restart forgets them: an adoption under way is carried
//! on from where it stood, under a new job; every other kind (verify) is asked for again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use parking_lot::Mutex;
use policies::identity::Repository;
use serde_json::{Value, json};

use super::{Admin, Problem};
use crate::watch::{Event, Watch};

const MOST: usize = 1000;

#[derive(Debug)]
pub struct Jobs {
    watch: Arc<Watch>,
    next: AtomicU64,
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
}

#[derive(Debug)]
pub struct Job {
    watch: Arc<Watch>,
    id: u64,
    kind: &'static str,
    repository: Repository,
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    end: Mutex<Option<Result<Value, String>>>,
}

impl Jobs {
    pub fn new(watch: Arc<Watch>) -> Self {
        Self {
            watch,
            next: AtomicU64::new(0),
            jobs: Mutex::default(),
        }
    }

    pub fn begin(&self, kind: &'static str, repository: Repository) -> Arc<Job> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Arc::new(Job {
            watch: Arc::clone(&self.watch),
            id,
            kind,
            repository,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            end: Mutex::new(None),
        });
        job.tell("running");
        let mut jobs = self.jobs.lock();
        jobs.insert(id, Arc::clone(&job));
        while jobs.len() > MOST {
            jobs.pop_first();
        }
        job
    }
}

impl Jobs {
    /// Those that run on a repository, the oldest first.
    pub fn running_on(&self, repository: &Repository) -> Vec<Value> {
        let jobs = self.jobs.lock();
        let running = jobs
            .values()
            .filter(|job| job.repository == *repository && job.end.lock().is_none());
        running.map(|job| job.body()).collect()
    }

    /// The job of this kind that runs on a repository.
    pub fn running(&self, kind: &str, repository: &Repository) -> Option<Arc<Job>> {
        let jobs = self.jobs.lock();
        let mut newest = jobs.values().rev();
        newest
            .find(|job| {
                job.kind == kind && job.repository == *repository && job.end.lock().is_none()
            })
            .cloned()
    }
}

impl Job {
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn progress(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// For work whose total is not known before it is done.
    pub fn found(&self, objects: u64, bytes: u64) {
        self.done.store(objects, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn end(&self, result: Result<Value, String>) {
        let state = if result.is_ok() { "done" } else { "failed" };
        *self.end.lock() = Some(result);
        self.tell(state);
    }

    fn tell(&self, state: &'static str) {
        self.watch.tell(Event::Job {
            repository: self.repository.clone(),
            id: self.id.to_string(),
            kind: self.kind,
            state,
        });
    }

    pub fn body(&self) -> Value {
        let end = self.end.lock();
        let (state, result, error) = match &*end {
            None => ("running", None, None),
            Some(Ok(result)) => ("done", Some(result), None),
            Some(Err(error)) => ("failed", None, Some(error)),
        };
        json!({
            "id": self.id.to_string(),
            "kind": self.kind,
            "repository": self.repository.as_str(),
            "state": state,
            "progress": { "done": self.done.load(Ordering::Relaxed), "total": self.total.load(Ordering::Relaxed), "bytes": self.bytes.load(Ordering::Relaxed), "unit": "objects" },
            "result": result,
            "error": error,
        })
    }
}

pub async fn one(
    Shared(admin): Shared<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let job = id
        .parse()
        .ok()
        .and_then(|id: u64| admin.jobs.jobs.lock().get(&id).cloned());
    job.map(|job| Json(job.body()))
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no job '{id}': the gateway remembers the last {MOST}, and forgets all when it restarts")))
}
