//! Mirrors: how far they are, and orders to them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use policies::identity::StoreName;
use policies::mirror_order::Mode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem};
use crate::mirror::status::{State, Status};
use crate::mirror::{Asleep, Mirror, Trouble, verify};
use crate::repository::OpenRepository;
use crate::state::AuditEntry;
use crate::state::mirrors::Phase;
use crate::telemetry::clock;

pub async fn all(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    bodies(&admin, &open).await.map(Value::Array).map(Json)
}

/// Of each mirror of a repository.
pub async fn bodies(admin: &Admin, open: &OpenRepository) -> Result<Vec<Value>, Problem> {
    let mut bodies = Vec::new();
    for mirror in admin.mirrors.of(&open.name) {
        bodies.push(body(&mirror).await?);
    }
    let asleep = admin.mirrors.asleep_of(&open.name);
    bodies.extend(asleep.iter().map(asleep_body));
    bodies.sort_by(|a, b| a["store"].as_str().cmp(&b["store"].as_str()));
    Ok(bodies)
}

pub async fn one(
    Shared(admin): Shared<Admin>,
    Path((name, store)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    if let Some(asleep) = asleep(&admin, &open, &store) {
        return Ok(Json(asleep_body(&asleep)));
    }
    let (_, mirror) = mirror(&admin, &name, &store)?;
    body(&mirror).await.map(Json)
}

fn asleep(admin: &Admin, open: &OpenRepository, store: &str) -> Option<Asleep> {
    let mut all = admin.mirrors.asleep_of(&open.name).into_iter();
    all.find(|asleep| asleep.store.as_str() == store)
}

/// How far it is nobody knows; 0 would be a promise.
fn asleep_body(asleep: &Asleep) -> Value {
    json!({
        "store": asleep.store.as_str(),
        "mode": asleep.mode.as_str(),
        "state": State::Stalled.as_str(),
        "applied_seq": null,
        "source_seq": null,
        "lag": { "restore_points": null, "seconds": null, "operations": null, "bytes": null },
        "failed": null,
        "stalled_on": { "key": null, "reason": asleep.why },
        "newest_restore_point": null,
        "seconds_to_catch_up": null,
    })
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Pause {
    /// In `barrier` mode: from now on commits are acknowledged without the mirror.
    degrade: bool,
}

pub async fn pause(
    Shared(admin): Shared<Admin>,
    Path((name, store)): Path<(String, String)>,
    body: Option<Json<Pause>>,
) -> Result<Json<Value>, Problem> {
    let (open, mirror) = mirror(&admin, &name, &store)?;
    let degrade = body.unwrap_or_default().0.degrade;
    if mirror.link.plan.read().mode == Mode::Barrier && !degrade {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "mirror '{store}' of repository '{name}' is in barrier mode: paused, it would hold up every commit; \
                 to acknowledge commits without it until it is resumed, say --degrade"
            ),
        ));
    }
    noted(
        &admin,
        &open,
        "mirror_pause",
        json!({ "store": store, "degrade": degrade }),
    )
    .await?;
    mirror.pause().await.map_err(|e| failed(&e))?;
    self::body(&mirror).await.map(Json)
}

pub async fn resume(
    Shared(admin): Shared<Admin>,
    Path((name, store)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let (open, mirror) = mirror(&admin, &name, &store)?;
    noted(&admin, &open, "mirror_resume", json!({ "store": store })).await?;
    mirror.resume().await.map_err(|e| failed(&e))?;
    body(&mirror).await.map(Json)
}

pub async fn resync(
    Shared(admin): Shared<Admin>,
    Path((name, store)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let (open, mirror) = mirror(&admin, &name, &store)?;
    noted(&admin, &open, "mirror_resync", json!({ "store": store })).await?;
    let ordered = mirror.resync("an operator asked for it", false).await;
    ordered.map_err(|e| failed(&e))?;
    body(&mirror).await.map(Json)
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    deep: bool,
}

pub async fn verify(
    Shared(admin): Shared<Admin>,
    Path((name, store)): Path<(String, String)>,
    Query(query): Query<Verify>,
    body: Option<Json<Verify>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let (open, mirror) = mirror(&admin, &name, &store)?;
    let deep = query.deep || body.unwrap_or_default().0.deep;
    let job = admin.jobs.begin("mirror_verify", open.name.clone());
    let (told, state) = (Arc::clone(&job), Arc::clone(admin.door.state()));
    tokio::spawn(async move {
        let report = mirror
            .verify(deep, &|done, total| told.progress(done, total))
            .await;
        let end = match report {
            Ok(report) => {
                let generation = report.generation.unwrap_or_default();
                let point = state
                    .restore_point(open.id, generation)
                    .await
                    .ok()
                    .flatten();
                let snapshots = point.map(|point| point.root.snapshots.len());
                Ok(report_body(&open, &mirror, &report, snapshots))
            }
            Err(e) => Err(e.to_string()),
        };
        told.end(end);
    });
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

/// `snapshots`: how many the target's newest root has, if it is a known one.
fn report_body(
    open: &OpenRepository,
    mirror: &Mirror,
    report: &verify::Report,
    snapshots: Option<usize>,
) -> Value {
    // As the source needs it now.
    let needed = |problem: &verify::Problem| {
        let class = mirror.link.source.class(&problem.key)?;
        let told = open.guarding.explain(&problem.key, &class);
        let names = told.holders.iter().map(|holder| holder.name.to_string());
        Some(names.collect::<Vec<_>>())
    };
    let problems = report.problems.iter().map(|problem| {
        json!({
            "key": problem.key.as_str(),
            "kind": problem.kind.as_str(),
            "snapshots": needed(problem).unwrap_or_default(),
        })
    });
    json!({
        "ok": report.problems.is_empty(),
        "store": mirror.link.target_name.as_str(),
        "generation": report.generation,
        "snapshots": snapshots,
        "blobs": report.objects,
        "bytes": report.bytes,
        "applied_seq": report.applied,
        "problems": problems.collect::<Vec<_>>(),
        "unknown": report.unknown.iter().map(policies::key::ObjectKey::as_str).collect::<Vec<_>>(),
    })
}

fn mirror(
    admin: &Admin,
    name: &str,
    store: &str,
) -> Result<(Arc<OpenRepository>, Arc<Mirror>), Problem> {
    let open = find(admin, name)?;
    if let Some(asleep) = asleep(admin, &open, store) {
        let why = asleep.why;
        let said = format!("mirror '{store}' of repository '{name}' does not run now: {why}");
        return Err(Problem::new(StatusCode::CONFLICT, said));
    }
    let found = admin.mirrors.get(&open.name, &StoreName::new(store));
    let mirror = found.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "repository '{name}' has no mirror in a store '{store}'; {}",
                mirrors_of(admin, &open)
            ),
        )
    })?;
    Ok((open, mirror))
}

/// Those that there are, for whoever named another one.
pub fn mirrors_of(admin: &Admin, open: &OpenRepository) -> String {
    let all = admin.mirrors.of(&open.name);
    let names: Vec<String> = all.iter().map(|m| m.link.target_name.to_string()).collect();
    match &names[..] {
        [] => "it has none now".to_owned(),
        some => format!("it has: {}", some.join(", ")),
    }
}

fn failed(trouble: &Trouble) -> Problem {
    Problem::failed(trouble)
}

async fn noted(
    admin: &Admin,
    open: &OpenRepository,
    action: &str,
    detail: Value,
) -> Result<(), Problem> {
    let entry = AuditEntry {
        at_ms: clock::now_ms(),
        principal: "operator".into(),
        action: action.into(),
        repository: Some(open.name.clone()),
        epoch: Some(open.gate.row().lock.epoch()),
        detail,
    };
    let appended = admin.door.state().append_audit(entry).await;
    appended.map_err(|e| Problem::failed(&e))
}

async fn body(mirror: &Mirror) -> Result<Value, Problem> {
    let status = mirror.status().await.map_err(|e| failed(&e))?;
    let status = status.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "the mirror is not configured any more",
        )
    })?;
    Ok(status_body(&status))
}

fn status_body(status: &Status) -> Value {
    let row = &status.row;
    let stalled = row
        .stalled
        .as_ref()
        .map(|stalled| json!({ "key": stalled.key, "reason": stalled.reason }));
    let resync = row.resync.as_ref().map(|resync| {
        let phase = match resync.phase {
            Phase::Copy { .. } => "copy",
            Phase::Follow { .. } => "follow",
            Phase::Root { .. } => "root",
            Phase::Remove { .. } => "remove",
        };
        json!({
            "reason": resync.reason,
            "since": clock::rfc3339(resync.since_ms),
            "phase": phase,
            "done": resync.done,
            "total": resync.total,
        })
    });
    let newest = status.newest.as_ref().map(|point| {
        json!({
            "generation": point.generation,
            "committed_at": clock::rfc3339(point.committed_ms),
            "snapshots": point.snapshots,
            "newest_snapshot": point.newest.as_ref().map(|newest| json!({
                "name": &*newest.name,
                "ended_at": clock::rfc3339(newest.ended_ms),
            })),
        })
    });
    let mut body = json!({
        "store": row.store.as_str(),
        "mode": status.mode.as_str(),
        "state": status.state.as_str(),
        "applied_seq": row.applied,
        "source_seq": status.source_seq,
        "lag": {
            "restore_points": status.lag.restore_points,
            "seconds": status.lag.seconds,
            "operations": status.lag.operations,
            "bytes": status.lag.bytes,
        },
        "failed": row.failed,
        "newest_restore_point": newest,
        "epoch": row.epoch.0,
        "applier": row.applier,
        "transferred": { "objects": row.transferred, "bytes": row.bytes },
        "seconds_to_catch_up": status.seconds_to_catch_up,
    });
    let optional = [
        ("stalled_on", stalled),
        ("resync", resync),
        (
            "trouble",
            status.trouble.as_ref().map(|trouble| json!(trouble)),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = value;
        }
    }
    body
}
