//! `GET /v1/audit` and `/v1/audit/verify`.

use axum::Json;
use axum::extract::{Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Problem};
use crate::telemetry::clock;

const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

#[derive(Deserialize)]
pub struct Tail {
    before: Option<u64>,
    limit: Option<usize>,
}

/// The newest records first.
pub async fn tail(
    Shared(admin): Shared<Admin>,
    Query(query): Query<Tail>,
) -> Result<Json<Value>, Problem> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let records = admin
        .door
        .state()
        .audit(query.before, limit)
        .await
        .map_err(|e| Problem::failed(&e))?;
    let rows = records.into_iter().map(|record| {
        json!({
            "sequence": record.sequence,
            "at": clock::rfc3339(record.entry.at_ms),
            "principal": record.entry.principal,
            "action": record.entry.action,
            "repository": record.entry.repository.map(|r| r.to_string()),
            "epoch": record.entry.epoch.map(|e| e.0),
            "detail": record.entry.detail,
            "hash": record.hash,
            "previous": record.previous,
        })
    });
    Ok(Json(Value::Array(rows.collect())))
}

/// Walks the whole hash chain.
pub async fn verify(Shared(admin): Shared<Admin>) -> Result<Json<Value>, Problem> {
    let broken = admin
        .door
        .state()
        .verify_audit()
        .await
        .map_err(|e| Problem::failed(&e))?;
    Ok(Json(
        json!({ "ok": broken.is_none(), "first_bad_sequence": broken }),
    ))
}
