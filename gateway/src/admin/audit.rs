//! `GET /v1/audit` and `/v1/audit/verify`.

use axum::Json;
use axum::extract::{Query, State as Shared};
use policies::lock::history::{Totals, Violation};
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

/// Walks the whole hash chain, then replays the history of all writers.
pub async fn verify(Shared(admin): Shared<Admin>) -> Result<Json<Value>, Problem> {
    let state = admin.door.state();
    let broken = state
        .verify_audit()
        .await
        .map_err(|e| Problem::failed(&e))?;
    let Some(first_bad) = broken else {
        let replayed = state
            .replay_audit()
            .await
            .map_err(|e| Problem::failed(&e))?;
        return Ok(Json(told(replayed)));
    };
    Ok(Json(json!({
        "ok": false,
        "first_bad_sequence": first_bad,
        "violation": null,
    })))
}

fn told(replayed: Result<Totals, Violation>) -> Value {
    match replayed {
        Ok(totals) => json!({
            "ok": true,
            "first_bad_sequence": null,
            "violation": null,
            "moves": totals.moves,
            "roots": totals.roots,
            "epochs": totals.epochs,
        }),
        Err(violation) => json!({
            "ok": false,
            "first_bad_sequence": violation.sequence,
            "violation": {
                "repository": violation.repository.as_str(),
                "sentence": violation.to_string(),
            },
        }),
    }
}
