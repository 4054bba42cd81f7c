//! The admin API: its own listener, a bearer token on every call, JSON under `/v1`.
//!
//! Errors are `application/problem+json`. Nothing here decides: it asks the door and the state database.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::appliers::Appliers;
use crate::config::AdminPlan;
use crate::config::Secret;
use crate::mirror::Mirrors;
use crate::repository::Door;
use crate::tls::Shown;

mod adopt;
mod audit;
mod contents;
mod events;
mod explain;
mod failback;
mod history;
mod jobs;
mod journal;
mod listener;
mod lock;
mod mirrors;
pub mod problem;
mod promotion;
mod repositories;
#[cfg(test)]
mod tests;
mod warnings;

use problem::Problem;

/// Everything a handler may use.
#[derive(Clone)]
pub struct Admin {
    door: Arc<Door>,
    mirrors: Arc<Mirrors>,
    appliers: Arc<Appliers>,
    metrics: PrometheusHandle,
    jobs: Arc<jobs::Jobs>,
    token: Arc<Secret>,
    tls: Option<Shown>,
    /// On a loopback address `/metrics` needs no token: it holds no key, snapshot name or secret.
    open_metrics: bool,
    /// Ends what would otherwise never end: streams of events.
    stop: CancellationToken,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("door", &self.door)
            .finish_non_exhaustive()
    }
}

impl Admin {
    pub fn new(
        door: Arc<Door>,
        mirrors: Arc<Mirrors>,
        appliers: Arc<Appliers>,
        metrics: PrometheusHandle,
        plan: &AdminPlan,
        tls: Option<Shown>,
    ) -> Self {
        let jobs = jobs::Jobs::new(Arc::clone(door.watch()));
        Self {
            door,
            mirrors,
            appliers,
            metrics,
            jobs: Arc::new(jobs),
            token: Arc::new(plan.token.clone()),
            tls,
            open_metrics: plan.listen.ip().is_loopback(),
            stop: CancellationToken::new(),
        }
    }

    /// Carries on what a restart cut short: adoptions. Everything else that was under way is asked for again.
    pub async fn resume(&self) {
        adopt::resume(self).await;
    }

    fn router(self) -> Router {
        let guarded = Router::new()
            .route("/metrics", get(metrics))
            .route("/v1/repositories", get(repositories::all))
            .route("/v1/repositories/{repo}", get(repositories::one))
            .route("/v1/repositories/{repo}/lock", post(lock::lock))
            .route("/v1/repositories/{repo}/unlock", post(lock::unlock))
            .route("/v1/repositories/{repo}/freeze", post(lock::freeze))
            .route("/v1/repositories/{repo}/thaw", post(lock::thaw))
            .route("/v1/repositories/{repo}/adopt", post(adopt::begin))
            .route(
                "/v1/repositories/{repo}/snapshots",
                get(contents::snapshots),
            )
            .route("/v1/repositories/{repo}/explain", get(explain::explain))
            .route("/v1/repositories/{repo}/verify", post(contents::verify))
            .route(
                "/v1/repositories/{repo}/restore-points",
                get(history::restore_points),
            )
            .route(
                "/v1/repositories/{repo}/pins",
                get(history::pins).post(history::pin),
            )
            .route(
                "/v1/repositories/{repo}/pins/{snapshot}",
                delete(history::unpin),
            )
            .route("/v1/repositories/{repo}/rollback", post(history::rollback))
            .route("/v1/repositories/{repo}/undelete", post(history::undelete))
            .route("/v1/repositories/{repo}/diff", post(history::diff))
            .route("/v1/repositories/{repo}/journal", get(journal::tail))
            .route("/v1/repositories/{repo}/warnings", get(warnings::all))
            .route(
                "/v1/repositories/{repo}/warnings/acknowledge",
                post(warnings::acknowledge),
            )
            .route("/v1/events", get(events::stream))
            .route("/v1/repositories/{repo}/promote", post(promotion::promote))
            .route("/v1/repositories/{repo}/drill", post(promotion::drill))
            .route("/v1/repositories/{repo}/failback", post(failback::failback))
            .route("/v1/repositories/{repo}/mirrors", get(mirrors::all))
            .route("/v1/repositories/{repo}/mirrors/{store}", get(mirrors::one))
            .route(
                "/v1/repositories/{repo}/mirrors/{store}/pause",
                post(mirrors::pause),
            )
            .route(
                "/v1/repositories/{repo}/mirrors/{store}/resume",
                post(mirrors::resume),
            )
            .route(
                "/v1/repositories/{repo}/mirrors/{store}/resync",
                post(mirrors::resync),
            )
            .route(
                "/v1/repositories/{repo}/mirrors/{store}/verify",
                post(mirrors::verify),
            )
            .route("/v1/jobs/{id}", get(jobs::one))
            .route("/v1/audit", get(audit::tail))
            .route("/v1/audit/verify", get(audit::verify))
            .layer(middleware::from_fn_with_state(self.clone(), authorise))
            .layer(middleware::map_response(problem::told_alike));
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/v1/openapi.json", get(openapi))
            .merge(guarded)
            .fallback(|| async {
                Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path")
            })
            .with_state(self)
    }
}

/// Serves until told to stop.
pub async fn serve(mut admin: Admin, listener: TcpListener, stop: CancellationToken) {
    admin.stop = stop.clone();
    let tls = admin.tls.clone();
    listener::serve(admin.router(), tls, listener, stop).await;
}

/// A token in the query is not looked at: it would end in logs.
async fn authorise(Shared(admin): Shared<Admin>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let open = admin.open_metrics && request.uri().path() == "/metrics";
    let right = open
        || given.is_some_and(|given| {
            bool::from(given.as_bytes().ct_eq(admin.token.expose().as_bytes()))
        });
    if right {
        return next.run(request).await;
    }
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "send the admin token as 'Authorization: Bearer …'",
    );
    ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

async fn metrics(Shared(admin): Shared<Admin>) -> impl IntoResponse {
    repositories::record(&admin.door).await;
    warnings::record(&admin.door).await;
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        admin.metrics.render(),
    )
}

/// Ready = the state database answers.
async fn ready(Shared(admin): Shared<Admin>) -> Result<&'static str, Problem> {
    tokio::time::timeout(Duration::from_secs(5), admin.door.state().uptime(0))
        .await
        .map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the state database does not answer",
            )
        })?
        .map_err(|e| Problem::failed(&e))?;
    Ok("ready\n")
}

async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        include_str!("openapi.json"),
    )
}
