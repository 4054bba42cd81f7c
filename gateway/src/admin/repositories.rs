//! `GET /v1/repositories` and `/v1/repositories/{repo}`.

use axum::Json;
use axum::extract::{Path, State as Shared};
use policies::identity::{Repository, StoreName};
use policies::lock::Lock;
use serde_json::{Value, json};

use super::{Admin, Problem};
use crate::repository::{Door, OpenRepository};
use crate::state::LockRow;
use crate::telemetry::{clock, names};

pub async fn all(Shared(admin): Shared<Admin>) -> Result<Json<Value>, Problem> {
    let mut open: Vec<_> = admin.door.repositories().values().cloned().collect();
    open.sort_by(|a, b| a.name.cmp(&b.name));
    let mut bodies = Vec::with_capacity(open.len());
    for repository in open {
        bodies.push(body(&admin, &repository).await?);
    }
    Ok(Json(Value::Array(bodies)))
}

pub async fn one(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let open = admin
        .door
        .repository(&Repository::new(name.as_str()))
        .ok_or_else(|| Problem::no_repository(&name))?;
    Ok(Json(body(&admin, &open).await?))
}

async fn body(admin: &Admin, open: &OpenRepository) -> Result<Value, Problem> {
    let door = &admin.door;
    let usage = door
        .state()
        .usage(open.id)
        .await
        .map_err(|e| Problem::failed(&e))?;
    let root = door
        .newest_root(open)
        .await
        .map_err(|e| Problem::failed(&e))?;
    let warnings = super::warnings::open_warnings(door, open).await?;
    let mut told = lock(&open.gate.row());
    if let Lock::Frozen { reason, .. } = &open.gate.row().lock {
        told["remedy"] = json!(reason.remedy(&open.name));
    }
    // What the guard has not read is not told.
    let known = door.check_contents_known(open).is_ok();
    let (cluster_id, snapshots) = open.guarding.with(|guard| {
        let root = guard.knowledge().newest().map(|newest| &newest.root);
        let snapshots = root.map_or(0, |root| root.snapshots.len());
        (root.and_then(|root| root.cluster_id.clone()), snapshots)
    });
    Ok(json!({
        "name": open.name.as_str(),
        "bucket": open.plan.bucket.as_str(),
        "base_path": open.plan.base_path,
        "store": open.plan.store.as_str(),
        "promoted_from": open.promoted_from.as_ref().map(StoreName::as_str),
        "left_behind": left_behind(admin, open).await?.as_ref().map(StoreName::as_str),
        "lock": told,
        "root": root.map(|(generation, object)| json!({
            "generation": generation,
            "committed_at": clock::rfc3339(object.modified_ms),
            "cluster_id": cluster_id.as_deref().filter(|_| known),
        })),
        "snapshots": known.then_some(snapshots),
        "objects": usage.objects,
        "bytes": usage.bytes,
        "sequence": usage.sequence,
        "mirrors": super::mirrors::bodies(admin, open).await?,
        "jobs": admin.jobs.running_on(&open.name),
        "warnings": warnings.iter().filter(|row| row.acknowledged_ms.is_none()).map(super::warnings::body).collect::<Vec<_>>(),
    }))
}

/// The store that a promotion left and that nothing is mirrored to.
async fn left_behind(admin: &Admin, open: &OpenRepository) -> Result<Option<StoreName>, Problem> {
    let left = admin.appliers.left_behind(open).await;
    left.map_err(|e| Problem::failed(&e))
}

/// The lock as `GET` and the lock commands answer it.
pub fn lock(row: &LockRow) -> Value {
    let (state, holder, epoch, next) = match &row.lock {
        Lock::Vacant { epoch } => ("vacant", None, epoch, None),
        Lock::Held { epoch, holder } => ("held", Some(holder), epoch, None),
        Lock::Draining {
            epoch,
            holder,
            next,
        } => ("draining", Some(holder), epoch, Some(next)),
        Lock::Fenced { epoch, next, .. } => ("fenced", None, epoch, Some(next)),
        Lock::Frozen { epoch, .. } => ("frozen", None, epoch, None),
    };
    let why = match &row.lock {
        Lock::Frozen { reason, .. } => Some(reason.to_string()),
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } | Lock::Fenced { .. } => {
            row.reason.clone()
        }
    };
    json!({
        "state": state,
        "holder": holder.map(policies::identity::Cluster::as_str),
        "epoch": epoch.0,
        "since": row.since(),
        "reason": why,
        "next": next.map(|next| format!("{next:?}").split('(').next().unwrap_or_default().to_lowercase()),
    })
}

/// The gauges that follow from the state database.
pub async fn record(door: &Door) {
    for open in door.repositories().values() {
        let name = open.name.as_str().to_owned();
        let row = open.gate.row();
        let (epoch, holder) = match &row.lock {
            Lock::Held { epoch, holder } | Lock::Draining { epoch, holder, .. } => {
                (epoch, Some(holder))
            }
            Lock::Vacant { epoch } | Lock::Fenced { epoch, .. } | Lock::Frozen { epoch, .. } => {
                (epoch, None)
            }
        };
        metrics::gauge!(names::LOCK_EPOCH, "repository" => name.clone()).set(as_f64(epoch.0));
        for cluster in &open.plan.writers {
            let held = f64::from(u8::from(holder == Some(cluster)));
            metrics::gauge!(names::LOCK_HELD, "repository" => name.clone(), "cluster" => cluster.as_str().to_owned()).set(held);
        }
        if let Ok(Some((generation, _))) = door.newest_root(open).await {
            metrics::gauge!(names::ROOT_GENERATION, "repository" => name).set(as_f64(generation));
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float by its format"
)]
pub fn as_f64(value: u64) -> f64 {
    value as f64
}
