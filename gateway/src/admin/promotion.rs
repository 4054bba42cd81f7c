//! `POST /v1/repositories/{repo}/promote` and `drill`: a mirror becomes the primary, or is rehearsed to.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use policies::identity::{Cluster, StoreName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem, contents, repositories};
use crate::repository::handover;
use crate::repository::promotion::{Ask, Promoted};
use crate::repository::{OpenRepository, drill};
use crate::telemetry::clock;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    store: String,
    writer: String,
    reason: Option<String>,
    /// Say what it would do, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

pub async fn promote(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(body): Json<Promote>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let open = find(&admin, &name)?;
    super::lock::check_reason(body.reason.as_deref())?;
    let ask = Ask {
        store: StoreName::new(body.store),
        writer: Cluster::new(body.writer),
        reason: body.reason,
        nothing_behind: None,
    };
    if body.dry_run {
        let planned = admin.door.plan_promotion(&open, &ask).await;
        let planned = planned.map_err(|e| problem(&e))?;
        let mut plan = planned.body();
        plan["dry_run"] = json!(true);
        plan["refused"] = json!(planned.refusal());
        return Ok((StatusCode::OK, Json(plan)));
    }
    let job = admin.jobs.begin("promote", open.name.clone());
    let told = Arc::clone(&job);
    tokio::spawn(async move {
        let promoted = admin
            .door
            .promote(&open, ask, admin.appliers.as_ref())
            .await;
        told.end(promoted.map(|p| self::body(&p)).map_err(|e| e.to_string()));
    });
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

pub fn body(promoted: &Promoted) -> Value {
    let mut body = promoted.planned.body();
    body["lock"] = repositories::lock(&promoted.row);
    body["seconds"] = json!(promoted.took.as_secs_f64());
    body
}

pub fn problem(e: &handover::Error) -> Problem {
    match e {
        handover::Error::Refused(why) => Problem::new(StatusCode::CONFLICT, why.clone()),
        handover::Error::Failed(e) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    store: String,
    snapshot: Option<String>,
}

pub async fn drill(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(body): Json<Drill>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let open = find(&admin, &name)?;
    let store = StoreName::new(body.store);
    let job = admin.jobs.begin("drill", open.name.clone());
    let (door, told) = (Arc::clone(&admin.door), Arc::clone(&job));
    tokio::spawn(async move {
        let snapshot = body.snapshot.as_deref();
        let result = door
            .drill(&open, &store, snapshot, &|done, total| {
                told.progress(done, total);
            })
            .await;
        told.end(
            result
                .map(|report| report_body(&open, snapshot, &report))
                .map_err(|e| e.to_string()),
        );
    });
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

fn report_body(open: &OpenRepository, snapshot: Option<&str>, report: &drill::Report) -> Value {
    let newest = report.newest.as_ref();
    let ended = newest.map(|newest| clock::rfc3339(newest.ended_ms));
    let age_ms = newest.map(|newest| clock::now_ms().saturating_sub(newest.ended_ms).max(0));
    let (read, took) = report.sampled;
    json!({
        "ok": report.problems.is_empty(),
        "repository": open.name.as_str(),
        "store": report.store.as_str(),
        "snapshot": snapshot,
        "restore_point": {
            "generation": report.generation,
            "committed_at": ended,
            "snapshots": report.snapshots,
            "newest_snapshot": newest.map(|newest| json!({ "name": &*newest.name, "ended_at": ended })),
        },
        "age_seconds": age_ms.map(|ms| ms / 1000),
        "objects": report.objects,
        "bytes": report.bytes,
        "problems": contents::problems(&report.problems),
        "sample": { "bytes": read, "seconds": took.as_secs_f64() },
        "restore_seconds": report.restore_seconds(),
    })
}
