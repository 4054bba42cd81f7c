//! What is in a repository, as the guard knows it: snapshots, verification.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use policies::format::root::State;
use policies::key::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem, history};
use crate::repository::{OpenRepository, verify};
use crate::telemetry::clock;

pub async fn snapshots(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let pins = admin
        .door
        .state()
        .pins(open.id)
        .await
        .map_err(|e| Problem::failed(&e))?;
    admin
        .door
        .check_contents_known(&open)
        .map_err(history::problem)?;
    let mut rows = open.guarding.with(|guard| {
        let Some(newest) = guard.knowledge().newest() else {
            return Vec::new();
        };
        let root = &newest.root;
        let contents = guard.knowledge().contents();
        let listed = root.snapshots.iter().zip(contents).enumerate();
        let rows = listed.map(|(position, (snapshot, content))| {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let holds =
                |index: &&policies::format::root::Index| index.snapshots.contains(&position);
            let indices: Vec<&str> = root
                .indices
                .iter()
                .filter(holds)
                .map(|index| &*index.name)
                .collect();
            let ended = snapshot.end_time_millis.or(content.ended_millis);
            let body = json!({
                "name": &*snapshot.name,
                "uuid": &*snapshot.uuid,
                "state": snapshot.state.map(state),
                "version": snapshot.version.as_deref(),
                "indices": indices,
                "started_at": snapshot.start_time_millis.map(clock::rfc3339),
                "ended_at": ended.map(clock::rfc3339),
                "objects": content.objects,
                "bytes": content.bytes,
                "pinned": pins.iter().any(|pin| pin.snapshot.uuid == snapshot.uuid),
            });
            ((ended, Arc::clone(&snapshot.name)), body)
        });
        rows.collect::<Vec<_>>()
    });
    // A root lists them as they lay in a hash table.
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Json(rows.into_iter().map(|(_, body)| body).collect()))
}

fn state(state: State) -> String {
    match state {
        State::InProgress => "IN_PROGRESS".into(),
        State::Success => "SUCCESS".into(),
        State::Failed => "FAILED".into(),
        State::Partial => "PARTIAL".into(),
        State::Incompatible => "INCOMPATIBLE".into(),
        State::Other(code) => format!("state {code}"),
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    deep: bool,
}

pub async fn verify(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    body: Option<Json<Verify>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let open = find(&admin, &name)?;
    let deep = body.unwrap_or_default().0.deep;
    let job = admin.jobs.begin("verify", open.name.clone());
    let (door, told) = (Arc::clone(&admin.door), Arc::clone(&job));
    tokio::spawn(async move {
        let result = door
            .verify(&open, deep, &|done, total| told.progress(done, total))
            .await;
        told.end(
            result
                .map(|report| report_body(&open, &report))
                .map_err(|e| e.to_string()),
        );
    });
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

/// What is wrong with which object, and whose snapshots it hits.
pub fn problems(problems: &[verify::Problem]) -> Value {
    let told = problems.iter().map(|problem| {
        json!({
            "key": problem.key.as_str(),
            "kind": problem.kind.as_str(),
            "snapshots": problem.snapshots.iter().map(|s| &**s).collect::<Vec<_>>(),
        })
    });
    told.collect()
}

fn report_body(open: &OpenRepository, report: &verify::Report) -> Value {
    json!({
        "ok": report.problems.is_empty(),
        "store": open.plan.store.as_str(),
        "generation": report.generation,
        "snapshots": report.snapshots,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "problems": problems(&report.problems),
        "unknown": report.unknown.iter().map(ObjectKey::as_str).collect::<Vec<_>>(),
        "unreferenced": { "objects": report.unreferenced_objects, "bytes": report.unreferenced_bytes },
    })
}
