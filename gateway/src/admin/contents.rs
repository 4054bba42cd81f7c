//! What is in a repository, as the guard knows it: snapshots, explanations, verification.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use policies::format::root::State;
use policies::key::{ObjectKey, Place};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem};
use crate::repository::{Address, OpenRepository, verify};
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
    let rows = open.guarding.with(|guard| {
        let Some(newest) = guard.knowledge().newest() else {
            return Vec::new();
        };
        let root = &newest.root;
        let rows = root
            .snapshots
            .iter()
            .enumerate()
            .map(|(position, snapshot)| {
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                let holds =
                    |index: &&policies::format::root::Index| index.snapshots.contains(&position);
                let indices: Vec<&str> = root
                    .indices
                    .iter()
                    .filter(holds)
                    .map(|index| &*index.name)
                    .collect();
                json!({
                    "name": &*snapshot.name,
                    "uuid": &*snapshot.uuid,
                    "state": snapshot.state.map(state),
                    "version": snapshot.version.as_deref(),
                    "indices": indices,
                    "started_at": snapshot.start_time_millis.map(clock::rfc3339),
                    "ended_at": snapshot.end_time_millis.map(clock::rfc3339),
                    "pinned": pins.iter().any(|pin| pin.snapshot.uuid == snapshot.uuid),
                })
            });
        rows.collect::<Vec<_>>()
    });
    Ok(Json(Value::Array(rows)))
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

#[derive(Deserialize)]
pub struct Which {
    key: String,
}

/// What an object is, which snapshots need it, and what a delete would be answered.
pub async fn explain(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let key = ObjectKey::parse(&which.key)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.to_string()))?;
    let at = Address {
        bucket: open.plan.bucket.clone(),
        key,
    };
    let Place::In { class, .. } = admin.door.place_of(&at) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("'{}' does not belong to repository '{name}'", which.key),
        ));
    };
    let known = admin
        .door
        .state()
        .object(open.bucket_id, &at.key)
        .await
        .map_err(|e| Problem::failed(&e))?;
    let told = open.guarding.explain(&at.key, &class);
    Ok(Json(json!({
        "key": at.key.as_str(),
        "class": told.class,
        "visible": known.object.is_some(),
        "size": known.object.map(|o| o.size).or(told.size),
        "needed_by": told.holders.iter().map(|holder| json!({
            "snapshot": &*holder.name,
            "uuid": &*holder.uuid,
            "since": holder.since_millis.map(clock::rfc3339),
            "current": holder.current,
            "unsure": holder.unsure,
        })).collect::<Vec<_>>(),
        "indexed_by": told.indexed_by,
        "delete": match &told.delete {
            Ok(_) => json!({ "allowed": true }),
            Err(refusal) => json!({ "allowed": false, "why": refusal.to_string() }),
        },
        "problem": told.problem.map(|p| p.kind.to_string()),
    })))
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

fn report_body(open: &OpenRepository, report: &verify::Report) -> Value {
    let problems = report.problems.iter().map(|p| json!({ "key": p.key.as_str(), "kind": p.kind.as_str(), "snapshots": p.snapshots.iter().map(|s| &**s).collect::<Vec<_>>() }));
    json!({
        "ok": report.problems.is_empty(),
        "store": open.plan.store.as_str(),
        "generation": report.generation,
        "snapshots": report.snapshots,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "problems": problems.collect::<Vec<_>>(),
        "unknown": report.unknown.iter().map(ObjectKey::as_str).collect::<Vec<_>>(),
        "unreferenced": { "objects": report.unreferenced_objects, "bytes": report.unreferenced_bytes },
    })
}
