//! `POST /v1/repositories/{repo}/lock`, `unlock`, `freeze`, `thaw`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use policies::identity::{Cluster, Repository, StoreName};
use policies::mirror_order::Mode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem, repositories};
use crate::repository::OpenRepository;
use crate::repository::handover::{self, Ask};

/// Longest reason that is taken, in bytes.
const LONGEST_REASON: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockBody {
    writer: String,
    reason: Option<String>,
    #[serde(default)]
    force: bool,
    wait_mirror: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ReasonBody {
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ThawBody {
    reason: Option<String>,
    recover: bool,
}

pub async fn lock(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(body): Json<LockBody>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let wait_mirror = body.wait_mirror.map(StoreName::new);
    if let Some(store) = &wait_mirror {
        let mirror = admin.door.state().mirror(open.id, store).await;
        if mirror.map_err(|e| Problem::failed(&e))?.is_none() {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "repository '{name}' has no mirror '{store}'; {}",
                    super::mirrors::mirrors_of(&admin, &open)
                ),
            ));
        }
    }
    let writer = Cluster::new(body.writer.as_str());
    if !open.plan.writers.contains(&writer) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!(
                "'{writer}' is not among the writers of repository '{name}'; add it to [repositories.{name}]"
            ),
        ));
    }
    act(
        &admin,
        &open,
        Ask::Lock {
            writer,
            force: body.force,
            wait_mirror,
        },
        body.reason,
    )
    .await
}

pub async fn unlock(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    body: Option<Json<ReasonBody>>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    act(
        &admin,
        &open,
        Ask::Unlock,
        body.unwrap_or_default().0.reason,
    )
    .await
}

pub async fn freeze(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    body: Option<Json<ReasonBody>>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    act(
        &admin,
        &open,
        Ask::Freeze,
        body.unwrap_or_default().0.reason,
    )
    .await
}

pub async fn thaw(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    body: Option<Json<ThawBody>>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let body = body.unwrap_or_default().0;
    act(
        &admin,
        &open,
        Ask::Thaw {
            recover: body.recover,
        },
        body.reason,
    )
    .await
}

pub fn find(admin: &Admin, name: &str) -> Result<Arc<OpenRepository>, Problem> {
    admin
        .door
        .repository(&Repository::new(name))
        .ok_or_else(|| Problem::no_repository(name))
}

pub fn check_reason(reason: Option<&str>) -> Result<(), Problem> {
    if reason.is_some_and(|r| r.len() > LONGEST_REASON) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the reason is longer than {LONGEST_REASON} bytes"),
        ));
    }
    Ok(())
}

async fn act(
    admin: &Admin,
    open: &Arc<OpenRepository>,
    ask: Ask,
    reason: Option<String>,
) -> Result<Json<Value>, Problem> {
    check_reason(reason.as_deref())?;
    if let Some(job) = admin.jobs.running("adopt", &open.name) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "repository '{}' is being adopted; wait for job {}",
                open.name,
                job.id()
            ),
        ));
    }
    let steps = handover::steps(open, &ask);
    let row = admin
        .door
        .hand_over(open, ask, reason)
        .await
        .map_err(|e| match e {
            handover::Error::Refused(why) => Problem::new(StatusCode::CONFLICT, why),
            handover::Error::Failed(e) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
            }
        })?;
    let mut body = repositories::lock(&row);
    body["repository"] = json!(open.name.as_str());
    body["steps"] = json!(steps);
    body["unconfirmed"] = json!(unconfirmed(admin, open).await);
    Ok(Json(body))
}

/// Mirrors in barrier mode that lack roots: a hand-over does not wait for them. Beside the lock, which has moved, what
/// cannot be told is left out.
async fn unconfirmed(admin: &Admin, open: &OpenRepository) -> Vec<Value> {
    let mut behind = Vec::new();
    for mirror in admin.mirrors.of(&open.name) {
        if let Ok(Some(status)) = mirror.status().await
            && status.mode == Mode::Barrier
            && status.lag.restore_points > 0
        {
            behind.push(json!({
                "store": status.row.store.as_str(),
                "state": status.state.as_str(),
                "restore_points": status.lag.restore_points,
            }));
        }
    }
    behind
}
