//! `restore-points`, `pin`, `unpin`, `rollback`, `undelete`, `diff`.

use serde_json::{Value, json};

use super::client::{Client, Failure, segment};
use super::contents::wait;
use super::show::{table, text};

/// Names printed before the rest is only counted; `--json` has them all.
const SHOWN: usize = 10;

pub async fn restore_points(
    client: &Client,
    as_json: bool,
    repository: &str,
) -> Result<(), Failure> {
    let path = format!("/v1/repositories/{}/restore-points", segment(repository));
    let answer = client.get(&path).await?;
    if as_json {
        println!("{answer:#}");
        return Ok(());
    }
    let mut table = table(&[
        "RESTORE POINT",
        "COMMITTED",
        "CLUSTER",
        "EPOCH",
        "SNAPSHOTS",
        "STATE",
    ]);
    for row in rows(&answer) {
        let state = match (row["current"].as_bool(), row["complete"].as_bool()) {
            (Some(true), Some(true)) => "current",
            (Some(true), _) => "current, damaged",
            (_, Some(true)) => "complete",
            (_, _) => "not complete any more",
        };
        table.add_row([
            text(&row["generation"]),
            text(&row["committed_at"]),
            text(&row["cluster"]),
            text(&row["epoch"]),
            rows(&row["snapshots"]).len().to_string(),
            state.to_owned(),
        ]);
    }
    println!("{table}");
    Ok(())
}

pub async fn pins(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let path = format!("/v1/repositories/{}/pins", segment(repository));
    let answer = client.get(&path).await?;
    if as_json {
        println!("{answer:#}");
        return Ok(());
    }
    let mut table = table(&["SNAPSHOT", "UUID", "PINNED", "BY", "REASON"]);
    for row in rows(&answer) {
        table.add_row(["snapshot", "uuid", "pinned_at", "by", "reason"].map(|f| text(&row[f])));
    }
    println!("{table}");
    Ok(())
}

pub async fn pin(
    client: &Client,
    as_json: bool,
    repository: &str,
    snapshot: &str,
    reason: Option<String>,
) -> Result<(), Failure> {
    let path = format!("/v1/repositories/{}/pins", segment(repository));
    let body = json!({ "snapshot": snapshot, "reason": reason });
    let answer = client.post(&path, &body).await?;
    if as_json {
        println!("{answer:#}");
    } else {
        println!(
            "snapshot '{}' ({}) of repository '{repository}' is pinned: no commit may drop it",
            text(&answer["snapshot"]),
            text(&answer["uuid"])
        );
    }
    Ok(())
}

pub async fn unpin(
    client: &Client,
    as_json: bool,
    repository: &str,
    snapshot: &str,
) -> Result<(), Failure> {
    let path = format!(
        "/v1/repositories/{}/pins/{}",
        segment(repository),
        segment(snapshot)
    );
    let answer = client.delete(&path).await?;
    if as_json {
        println!("{answer:#}");
    } else {
        println!(
            "snapshot '{}' of repository '{repository}' is not pinned any more",
            text(&answer["snapshot"])
        );
    }
    Ok(())
}

/// How a command that starts a job goes on.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub as_json: bool,
    pub no_wait: bool,
}

pub async fn bring_back(
    client: &Client,
    how: How,
    repository: &str,
    verb: &str,
    body: &Value,
) -> Result<(), Failure> {
    let path = format!("/v1/repositories/{}/{verb}", segment(repository));
    let Some(result) = run(client, how, &path, body).await? else {
        return Ok(());
    };
    let dry = result["dry_run"].as_bool() == Some(true);
    let (would, will) = if dry {
        ("would be", "would")
    } else {
        ("is", "")
    };
    println!(
        "index-{} {would} the newest root of repository '{repository}', made from restore point {}",
        text(&result["generation"]),
        text(&result["restore_point"])
    );
    names("snapshots that come back", &result["snapshots"]["came"]);
    names("snapshots that go away", &result["snapshots"]["went"]);
    println!(
        "{} objects, {} bytes {will} come back",
        text(&result["objects"]),
        text(&result["bytes"])
    );
    if !dry {
        println!("What is left to do:");
        for (number, step) in (1..).zip(rows(&result["steps"])) {
            println!("  {number}. {}", text(step));
        }
    }
    Ok(())
}

pub async fn diff(
    client: &Client,
    how: How,
    repository: &str,
    from: u64,
    to: u64,
) -> Result<(), Failure> {
    let path = format!("/v1/repositories/{}/diff", segment(repository));
    let body = json!({ "from": from, "to": to });
    let Some(result) = run(client, how, &path, &body).await? else {
        return Ok(());
    };
    names("snapshots that came", &result["snapshots"]["came"]);
    names("snapshots that went", &result["snapshots"]["went"]);
    for way in ["came", "went"] {
        let objects = &result["objects"][way];
        println!(
            "objects that {way}: {}, {} bytes",
            text(&objects["objects"]),
            text(&objects["bytes"])
        );
        names("", &objects["keys"]);
    }
    Ok(())
}

/// Starts a job and waits for its result; None if there is nothing left to print.
async fn run(
    client: &Client,
    how: How,
    path: &str,
    body: &Value,
) -> Result<Option<Value>, Failure> {
    let job = client.post(path, body).await?;
    if how.no_wait {
        println!("{job:#}");
        return Ok(None);
    }
    let result = wait(client, &text(&job["id"])).await?;
    if how.as_json {
        println!("{result:#}");
        return Ok(None);
    }
    Ok(Some(result))
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A list of names, cut where it gets long.
fn names(title: &str, all: &Value) {
    let all = rows(all);
    if all.is_empty() {
        return;
    }
    if !title.is_empty() {
        println!("{title}: {}", all.len());
    }
    for name in all.iter().take(SHOWN) {
        println!("  {}", text(name));
    }
    if all.len() > SHOWN {
        println!("  … and {} more", all.len() - SHOWN);
    }
}
