//! What an object is, which snapshots need it, what is still held of it, and what a delete would be answered.

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use policies::guard::{Deletion, Explanation};
use policies::key::{ObjectKey, Place};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lock::find;
use super::{Admin, Problem, history};
use crate::repository::Address;
use crate::repository::explain::{Held, InStore};
use crate::state::Object;
use crate::telemetry::clock;

#[derive(Deserialize)]
pub struct Which {
    key: String,
}

pub async fn explain(
    Shared(admin): Shared<Admin>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, Problem> {
    let open = find(&admin, &name)?;
    let door = &admin.door;
    door.check_contents_known(&open).map_err(history::problem)?;
    let key = ObjectKey::parse(&which.key)
        .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.to_string()))?;
    let at = Address {
        bucket: open.plan.bucket.clone(),
        key,
    };
    let class = match door.place_of(&at) {
        Place::In { repository, class } if repository == open.name => class,
        Place::In { .. }
        | Place::NestedRoot { .. }
        | Place::View(_)
        | Place::Outside { .. }
        | Place::Reserved
        | Place::NoSuchBucket => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!(
                    "'{}' does not belong to repository '{name}', whose names in bucket '{}' begin with '{}'",
                    which.key,
                    open.plan.bucket,
                    open.plan.prefix()
                ),
            ));
        }
    };
    let known = door.state().object(open.bucket_id, &at.key).await;
    let known = known.map_err(|e| Problem::failed(&e))?.object;
    let in_store = match &known {
        Some(object) => {
            let there = door.look_in_store(&open, object).await;
            Some(there.map_err(history::problem)?)
        }
        None => None,
    };
    let held = door.held(&open, &at.key).await.map_err(history::problem)?;
    let told = open.guarding.explain(&at.key, &class);
    Ok(Json(body(&told, known.as_ref(), in_store, &held)))
}

fn body(
    told: &Explanation,
    known: Option<&Object>,
    in_store: Option<InStore>,
    held: &[Held],
) -> Value {
    let held = held.iter().map(|held| {
        json!({
            "size": held.size,
            "restore_points": held.restore_points,
            "seconds_left": held.left_ms / 1000,
        })
    });
    json!({
        "key": told.key.as_str(),
        "class": told.class,
        "visible": known.is_some(),
        "size": known.map(|object| object.size).or(told.size),
        "in_store": in_store.map(InStore::as_str),
        "needed_by": told.holders.iter().map(|holder| json!({
            "snapshot": &*holder.name,
            "uuid": &*holder.uuid,
            "since": holder.since_millis.map(clock::rfc3339),
            "current": holder.current,
            "unsure": holder.unsure,
        })).collect::<Vec<_>>(),
        "indexed_by": told.indexed_by,
        "held": held.collect::<Vec<_>>(),
        "delete": match &told.delete {
            Ok(deletion) => json!({ "allowed": true, "effect": effect(*deletion) }),
            Err(refusal) => json!({ "allowed": false, "why": refusal.to_string() }),
        },
        "problem": told.problem.as_ref().map(|problem| problem.kind.to_string()),
    })
}

/// What becomes of an object whose delete is answered with success.
fn effect(deletion: Deletion) -> &'static str {
    match deletion {
        Deletion::Soft { .. } => "hidden",
        Deletion::Free => "removed",
        Deletion::KeepServing => "kept",
    }
}
