//! `GET /v1/repositories/{repo}/journal`: the committed changes in order.

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem};
use crate::state::Change;
use crate::telemetry::clock;

const PAGE: usize = 1000;

#[derive(Deserialize)]
pub struct After {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

pub async fn tail(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Query(query): Query<After>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let entries = admin
        .door
        .state()
        .journal(open.id, query.after, limit)
        .await
        .map_err(|e| Problem::failed(&e))?;
    let rows = entries.into_iter().map(|entry| {
        let (change, size, etag, hash) = match entry.change {
            Change::Put { size, etag, hash } => ("put", Some(size), Some(etag.to_string()), hash.map(hex::encode)),
            Change::Delete => ("delete", None, None, None),
        };
        json!({ "sequence": entry.sequence, "at": clock::rfc3339(entry.at_ms), "change": change, "key": entry.key.as_str(), "size": size, "etag": etag, "blake3": hash })
    });
    Ok(Json(Value::Array(rows.collect())))
}
