//! `POST /v1/repositories/{repo}/adopt`: a job that reads a store which was there before, then guards it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use policies::guard::Scope;
use serde_json::{Value, json};

use super::jobs::Job;
use super::lock::find;
use super::{Admin, Problem, repositories};
use crate::repository::OpenRepository;
use crate::repository::adoption::Scan;
use crate::state::LockRow;

/// Problems that the result names.
const NAMED: usize = 1000;

pub async fn begin(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let open = find(&admin, &name)?;
    let job = start(&admin, &open);
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

/// After a restart: adoptions that were begun and not finished.
pub async fn resume(admin: &Admin) {
    for open in admin.door.repositories().values() {
        if admin.door.is_half_adopted(open).await {
            tracing::info!(repository = %open.name, "carrying on with its adoption");
            start(admin, open);
        }
    }
}

/// One adoption at a time per repository: a second call looks at the first one's job.
fn start(admin: &Admin, open: &Arc<OpenRepository>) -> Arc<Job> {
    if let Some(running) = admin.jobs.running("adopt", &open.name) {
        return running;
    }
    let job = admin.jobs.begin("adopt", open.name.clone());
    let (door, told, open) = (Arc::clone(&admin.door), Arc::clone(&job), Arc::clone(open));
    tokio::spawn(async move {
        let result = door
            .adopt(&open, &|objects, bytes| told.found(objects, bytes))
            .await;
        told.end(
            result
                .map(|(row, scan)| result_body(&open, &row, &scan))
                .map_err(|e| e.to_string()),
        );
    });
    job
}

fn result_body(open: &OpenRepository, row: &LockRow, scan: &Scan) -> Value {
    let mut body = json!({
        "repository": open.name.as_str(),
        "objects": scan.objects,
        "bytes": scan.bytes,
        "resumed_at": scan.resumed_at,
        "unknown": { "objects": scan.unknown, "keys": scan.unknown_keys },
        "lock": repositories::lock(row),
    });
    open.guarding.with(|guard| {
        let knowledge = guard.knowledge();
        let root = knowledge.newest().map(|newest| &newest.root);
        let snapshots = root.map_or(&[][..], |root| &root.snapshots);
        let problems = knowledge.problems().take(NAMED).map(|problem| {
            json!({
                "key": problem.key.as_str(),
                "what": problem.kind.to_string(),
                "snapshots": problem.snapshots.iter().map(|s| &**s).collect::<Vec<_>>(),
            })
        });
        body["guarded"] = json!(guard.scope() == Scope::Complete);
        let numbered = root.filter(|root| !root.of_list);
        body["generation"] = json!(numbered.map(|root| root.generation));
        body["snapshots"] = snapshots.iter().map(|s| json!(&*s.name)).collect();
        body["problems"] = problems.collect();
        body["problem_count"] = json!(knowledge.problems().count());
    });
    body
}
