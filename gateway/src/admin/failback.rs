//! `POST /v1/repositories/{repo}/failback`: an old primary's store is brought back, and is the primary again.
//!
//! It becomes a mirror of where the repository is now (what it had alone is kept aside), is reconciled, and is
//! promoted with nothing behind. The store that is left becomes its mirror, if the configuration says so.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use policies::identity::{Cluster, StoreName};
use policies::mirror_order::Mode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::jobs::Job;
use super::lock::find;
use super::promotion::body;
use super::{Admin, Problem};
use crate::repository::OpenRepository;
use crate::repository::promotion::{Aside, Ask, RETURNING};

/// The mirror has everything when the lock begins to move; this is for what was written since.
const NOTHING_BEHIND: Duration = Duration::from_secs(20);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct FailBack {
    /// None: where it was before its last promotion.
    store: Option<String>,
    /// None: who writes it now.
    writer: Option<String>,
    reason: Option<String>,
}

pub async fn failback(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    asked: Option<Json<FailBack>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let open = find(&admin, &name)?;
    let asked = asked.unwrap_or_default().0;
    super::lock::check_reason(asked.reason.as_deref())?;
    let refused = |why: String| Problem::new(StatusCode::CONFLICT, why);
    if !open.gate.row().lock.catalog_is_current() {
        return Err(refused(format!(
            "repository '{name}' is frozen here; fail back on the gateway where its primary is"
        )));
    }
    let store = asked
        .store
        .map(StoreName::new)
        .or_else(|| open.promoted_from.clone());
    let store = store.ok_or_else(|| {
        refused(format!("repository '{name}' was not promoted here; name the store to bring back: snapgate failback {name} --store STORE"))
    })?;
    let writer = asked
        .writer
        .map(Cluster::new)
        .or_else(|| open.gate.row().lock.holder().cloned());
    let writer = writer.ok_or_else(|| {
        refused(format!("nobody writes repository '{name}' now; name who shall: snapgate failback {name} --store {store} --writer CLUSTER"))
    })?;
    if store == open.plan.store {
        return Err(refused(format!(
            "repository '{name}' is on store '{store}' already"
        )));
    }
    if !open.plan.writers.contains(&writer) {
        return Err(refused(format!(
            "'{writer}' is not among the writers of repository '{name}'"
        )));
    }
    if admin.door.store(&store).is_none() {
        return Err(refused(format!(
            "store '{store}' is not configured here; add [stores.{store}]"
        )));
    }
    if is_mirror(&admin, &open, &store).await? {
        return Err(refused(format!(
            "store '{store}' is a mirror of repository '{name}', not a primary that was left behind; to move there: snapgate promote {name} --store {store} --writer {writer}"
        )));
    }
    let ask = Ask {
        store,
        writer,
        reason: asked.reason,
        nothing_behind: Some(NOTHING_BEHIND),
    };
    let job = admin.jobs.begin("failback", open.name.clone());
    let told = Arc::clone(&job);
    tokio::spawn(async move {
        told.end(bring_back(&admin, &open, ask, &told).await);
    });
    Ok((StatusCode::ACCEPTED, Json(job.body())))
}

/// It follows this repository, and not because it is being brought back.
async fn is_mirror(
    admin: &Admin,
    open: &OpenRepository,
    store: &StoreName,
) -> Result<bool, Problem> {
    let returning = admin.door.state().position(open.id, RETURNING).await;
    let returning = returning.map_err(|e| Problem::failed(&e))?;
    let at_work = admin.mirrors.get(&open.name, store).is_some();
    if returning.as_deref() == Some(store.as_str()) || !at_work {
        return Ok(false);
    }
    let asked = admin.door.is_mirror(open, store).await;
    asked.map_err(|e| super::promotion::problem(&e))
}

async fn bring_back(
    admin: &Admin,
    open: &Arc<OpenRepository>,
    ask: Ask,
    job: &Job,
) -> Result<Value, String> {
    let (door, store) = (&admin.door, ask.store.clone());
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let plan = admin.appliers.plan_of(&open.name, &store);
    let mode = plan.map_or(Mode::Async, |plan| plan.mode);
    let aside = make_mirror(admin, open, &store, mode).await?;
    let returning = Some(store.to_string());
    door.state()
        .keep_position(open.id, RETURNING, returning)
        .await
        .map_err(|e| said(&e))?;
    admin.appliers.look().await;
    door.until_in_sync(open, &store, &|done, total| job.progress(done, total))
        .await
        .map_err(|e| said(&e))?;
    let left = open.plan.store.clone();
    let promoted = door
        .promote(open, ask, admin.appliers.as_ref())
        .await
        .map_err(|e| said(&e))?;
    door.state()
        .keep_position(open.id, RETURNING, None)
        .await
        .map_err(|e| said(&e))?;
    let mirrored = self::mirror_again(admin, open, &left).await;
    admin.appliers.look().await;
    let mut body = body(&promoted);
    body["kept_aside"] = json!({ "objects": aside.objects, "bytes": aside.bytes });
    body["mirror"] = json!(mirrored);
    Ok(body)
}

/// An applier that tries to write the store stops before its anchor is there, and goes on when all is aside.
async fn make_mirror(
    admin: &Admin,
    open: &OpenRepository,
    store: &StoreName,
    mode: Mode,
) -> Result<Aside, String> {
    let at_work = admin.mirrors.get(&open.name, store);
    if let Some(mirror) = &at_work {
        mirror.pause().await.map_err(|e| e.to_string())?;
    }
    let made = admin.door.make_mirror(open, store, mode).await;
    if let Some(mirror) = &at_work {
        mirror.control.tell();
    }
    made.map_err(|e| e.to_string())
}

/// The store that was left, if the configuration names it as a mirror.
async fn mirror_again(admin: &Admin, open: &OpenRepository, left: &StoreName) -> Option<String> {
    let plan = admin.appliers.plan_of(&open.name, left)?;
    let now = admin.door.repository(&open.name)?;
    match make_mirror(admin, &now, left, plan.mode).await {
        Ok(_) => Some(left.to_string()),
        Err(e) => {
            tracing::error!(repository = %open.name, store = %left, cause = %e, "the store that was left could not be made a mirror");
            None
        }
    }
}
