//! `GET /v1/repositories/{repo}/warnings` and `POST …/warnings/acknowledge`.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem};
use crate::repository::{Door, OpenRepository};
use crate::state::AuditEntry;
use crate::state::warnings::WarningRow;
use crate::telemetry::{clock, names};
use crate::watch::{Kind, sentence};

pub async fn all(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let rows = open_warnings(&admin.door, &open).await?;
    Ok(Json(rows.iter().map(body).collect()))
}

pub async fn open_warnings(door: &Door, open: &OpenRepository) -> Result<Vec<WarningRow>, Problem> {
    door.watch()
        .open(open.id)
        .await
        .map_err(|e| Problem::failed(&e))
}

pub fn body(row: &WarningRow) -> Value {
    json!({
        "kind": row.kind,
        "subject": row.subject,
        "sentence": sentence(row),
        "since": clock::rfc3339(row.raised_ms),
        "last": clock::rfc3339(row.last_ms),
        "times": row.times,
        "acknowledged_at": row.acknowledged_ms.map(clock::rfc3339),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    kind: String,
    subject: Option<String>,
}

/// An operator has read them.
pub async fn acknowledge(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Json(which): Json<Which>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let count = admin
        .door
        .watch()
        .acknowledge(open.id, &open.name, &which.kind, which.subject.as_deref())
        .await
        .map_err(|e| Problem::failed(&e))?;
    if count == 0 {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "repository '{name}' has no open warning of kind '{}' about this",
                which.kind
            ),
        ));
    }
    let audit = AuditEntry {
        at_ms: clock::now_ms(),
        principal: "operator".into(),
        action: "acknowledge".into(),
        repository: Some(open.name.clone()),
        epoch: None,
        detail: json!({ "kind": which.kind, "subject": which.subject, "warnings": count }),
    };
    admin
        .door
        .state()
        .append_audit(audit)
        .await
        .map_err(|e| Problem::failed(&e))?;
    Ok(Json(json!({ "acknowledged": count })))
}

/// The gauge of warnings that nobody has read yet.
pub async fn record(door: &Door) {
    for open in door.repositories().values() {
        let Ok(rows) = door.watch().open(open.id).await else {
            continue;
        };
        for kind in Kind::ALL {
            let unread: u64 = rows
                .iter()
                .filter(|row| row.kind == kind.as_str() && row.acknowledged_ms.is_none())
                .map(counted)
                .sum();
            metrics::gauge!(names::WARNINGS, "repository" => open.name.as_str().to_owned(), "kind" => kind.as_str())
                .set(super::repositories::as_f64(unread));
        }
    }
}

/// The row that counts others stands for as many.
fn counted(row: &WarningRow) -> u64 {
    if row.subject == crate::state::warnings::OVERFLOW {
        row.times
    } else {
        1
    }
}
