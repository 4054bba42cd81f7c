//! Restore points, pins, and the jobs that bring back what was deleted.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use policies::format::closure::Member;
use policies::guard::Difference;
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem};
use crate::repository::history::{Ask, Done};
use crate::repository::{self, OpenRepository};
use crate::state::{Pin, RestorePoint};
use crate::telemetry::clock;

const OPERATOR: &str = "operator";
/// Longest reason that is taken, in bytes.
const LONGEST_REASON: usize = 1000;

#[derive(Deserialize)]
pub struct Page {
    before: Option<u64>,
    limit: Option<usize>,
}

pub async fn restore_points(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    admin.door.check_store_read(&open).map_err(problem)?;
    let limit = page.limit.unwrap_or(1000).clamp(1, 1000);
    let points = admin
        .door
        .restore_points(&open, page.before, limit)
        .await
        .map_err(problem)?;
    let newest = open.guarding.with(|guard| {
        let newest = guard.knowledge().newest();
        let root = newest.filter(|newest| !newest.root.of_list);
        root.map(|newest| newest.root.generation)
    });
    let rows = points.iter().map(|point| point_body(point, newest));
    Ok(Json(rows.collect()))
}

fn point_body(point: &RestorePoint, newest: Option<u64>) -> Value {
    let root = &point.root;
    json!({
        "generation": root.generation,
        "committed_at": clock::rfc3339(point.committed_ms),
        "cluster": root.cluster.as_ref().map(policies::identity::Cluster::as_str),
        "epoch": root.epoch.0,
        "snapshots": root.snapshots.iter().map(|s| &*s.name).collect::<Vec<_>>(),
        "complete": root.complete,
        "current": newest == Some(root.generation),
    })
}

pub async fn pins(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let pins = admin.door.pins(&open).await.map_err(problem)?;
    Ok(Json(pins.iter().map(pin_body).collect()))
}

fn pin_body(pin: &Pin) -> Value {
    json!({
        "snapshot": &*pin.snapshot.name,
        "uuid": &*pin.snapshot.uuid,
        "pinned_at": clock::rfc3339(pin.pinned_ms),
        "by": pin.by,
        "reason": pin.reason,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinBody {
    snapshot: String,
    reason: Option<String>,
}

pub async fn pin(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(body): Json<PinBody>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    if body
        .reason
        .as_ref()
        .is_some_and(|r| r.len() > LONGEST_REASON)
    {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the reason is longer than {LONGEST_REASON} bytes"),
        ));
    }
    let (pin, new) = admin
        .door
        .pin(&open, &body.snapshot, body.reason, OPERATOR)
        .await
        .map_err(problem)?;
    let mut told = pin_body(&pin);
    told["new"] = json!(new);
    Ok(Json(told))
}

pub async fn unpin(
    Shared(admin): Shared<Admin>,
    Path((name, snapshot)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let pin = admin
        .door
        .unpin(&open, &snapshot, OPERATOR)
        .await
        .map_err(problem)?;
    Ok(Json(pin_body(&pin)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackBody {
    to: u64,
    #[serde(default)]
    dry_run: bool,
}

pub async fn rollback(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(body): Json<RollbackBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    bring_back(&admin, &name, Ask::Rollback(body.to), body.dry_run)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndeleteBody {
    snapshot: String,
    #[serde(default)]
    dry_run: bool,
}

pub async fn undelete(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(body): Json<UndeleteBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    bring_back(&admin, &name, Ask::Undelete(body.snapshot), body.dry_run)
}

fn bring_back(
    admin: &Admin,
    name: &str,
    ask: Ask,
    dry_run: bool,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let open = find(admin, name)?;
    let job = admin.jobs.begin(ask.verb(), open.name.clone());
    let (door, told) = (Arc::clone(&admin.door), Arc::clone(&job));
    tokio::spawn(async move {
        let progress = |done, total| told.progress(done, total);
        let result = door
            .bring_back(&open, &ask, dry_run, OPERATOR, &progress)
            .await;
        told.end(
            result
                .map(|done| done_body(&open, &done))
                .map_err(|e| e.to_string()),
        );
    });
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

fn done_body(open: &OpenRepository, done: &Done) -> Value {
    let plan = &done.plan;
    json!({
        "repository": open.name.as_str(),
        "dry_run": done.dry_run,
        "restore_point": plan.from,
        "generation": plan.generation,
        "snapshots": {
            "came": plan.came.iter().map(|s| &**s).collect::<Vec<_>>(),
            "went": plan.went.iter().map(|s| &**s).collect::<Vec<_>>(),
        },
        "objects": plan.objects(),
        "bytes": plan.bytes,
        "steps": done.steps,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffBody {
    from: u64,
    to: u64,
}

pub async fn diff(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(body): Json<DiffBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let open = find(&admin, &name)?;
    let job = admin.jobs.begin("diff", open.name.clone());
    let (door, told) = (Arc::clone(&admin.door), Arc::clone(&job));
    tokio::spawn(async move {
        let result = door.what_changed(&open, body.from, body.to).await;
        told.end(
            result
                .map(|difference| diff_body(&body, &difference))
                .map_err(|e| e.to_string()),
        );
    });
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

fn diff_body(asked: &DiffBody, difference: &Difference) -> Value {
    let names = |all: &[Arc<str>]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let objects = |all: &[Member]| {
        json!({
            "objects": all.len(),
            "bytes": all.iter().filter_map(|member| member.size).sum::<u64>(),
            "keys": all.iter().map(|member| member.key.as_str()).collect::<Vec<_>>(),
        })
    };
    json!({
        "from": asked.from,
        "to": asked.to,
        "snapshots": {
            "came": names(&difference.snapshots_came),
            "went": names(&difference.snapshots_went),
        },
        "objects": {
            "came": objects(&difference.objects_came),
            "went": objects(&difference.objects_went),
        },
    })
}

/// What the door said, as an operator reads it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "map_err hands the error over"
)]
pub(super) fn problem(e: repository::Error) -> Problem {
    let status = match &e {
        repository::Error::InvalidArgument(_) | repository::Error::Refused(_) => {
            StatusCode::CONFLICT
        }
        repository::Error::NoSuchBucket
        | repository::Error::NoSuchKey
        | repository::Error::NoSuchUpload
        | repository::Error::PreconditionFailed
        | repository::Error::NotModified { .. }
        | repository::Error::RangeNotSatisfiable { .. }
        | repository::Error::InvalidPart
        | repository::Error::InvalidPartOrder
        | repository::Error::EntityTooSmall
        | repository::Error::Body(_)
        | repository::Error::SlowDown(_)
        | repository::Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, e.to_string())
}
