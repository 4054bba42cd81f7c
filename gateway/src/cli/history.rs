//! `restore-points`, `pin`, `unpin`, `rollback`, `undelete`, `diff`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, Failure, repository_path, segment};
use super::job;
use super::show::{table, text};

/// Names printed before the rest is only counted; `--json` has them all.
const SHOWN: usize = 10;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Committed roots that the retention still holds, newest first
    RestorePoints { repository: String },
    /// Snapshots that no commit may drop
    Pins { repository: String },
    /// Refuse commits that drop this snapshot
    Pin {
        repository: String,
        snapshot: String,
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let commits drop this snapshot again
    Unpin {
        repository: String,
        snapshot: String,
    },
    /// Make a restore point the newest root again (on a frozen repository)
    Rollback {
        repository: String,
        /// Number of the restore point
        #[arg(long, value_name = "N")]
        to: u64,
        /// Only say what would come back and go away
        #[arg(long)]
        dry_run: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Put a deleted snapshot back into the newest root (on a frozen repository)
    Undelete {
        repository: String,
        /// Name or uuid
        snapshot: String,
        /// Only say what would come back
        #[arg(long)]
        dry_run: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Snapshots and objects that came and went from one restore point to another
    Diff {
        repository: String,
        from: u64,
        to: u64,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
}

pub async fn run(client: &Client, as_json: bool, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::RestorePoints { repository } => restore_points(client, as_json, &repository).await,
        Verb::Pins { repository } => pins(client, as_json, &repository).await,
        Verb::Pin {
            repository,
            snapshot,
            reason,
        } => pin(client, as_json, &repository, &snapshot, reason).await,
        Verb::Unpin {
            repository,
            snapshot,
        } => unpin(client, as_json, &repository, &snapshot).await,
        Verb::Rollback {
            repository,
            to,
            dry_run,
            no_wait,
        } => {
            let body = json!({ "to": to, "dry_run": dry_run });
            let how = How { as_json, no_wait };
            bring_back(client, how, &repository, "rollback", &body).await
        }
        Verb::Undelete {
            repository,
            snapshot,
            dry_run,
            no_wait,
        } => {
            let body = json!({ "snapshot": snapshot, "dry_run": dry_run });
            let how = How { as_json, no_wait };
            bring_back(client, how, &repository, "undelete", &body).await
        }
        Verb::Diff {
            repository,
            from,
            to,
            no_wait,
        } => diff(client, How { as_json, no_wait }, &repository, from, to).await,
    }
}

async fn restore_points(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let path = repository_path(repository, "restore-points");
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

async fn pins(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let path = repository_path(repository, "pins");
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

async fn pin(
    client: &Client,
    as_json: bool,
    repository: &str,
    snapshot: &str,
    reason: Option<String>,
) -> Result<(), Failure> {
    let path = repository_path(repository, "pins");
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

async fn unpin(
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
struct How {
    as_json: bool,
    no_wait: bool,
}

async fn bring_back(
    client: &Client,
    how: How,
    repository: &str,
    verb: &str,
    body: &Value,
) -> Result<(), Failure> {
    let path = repository_path(repository, verb);
    let Some(result) = result(client, how, &path, body).await? else {
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

async fn diff(
    client: &Client,
    how: How,
    repository: &str,
    from: u64,
    to: u64,
) -> Result<(), Failure> {
    let path = repository_path(repository, "diff");
    let body = json!({ "from": from, "to": to });
    let Some(result) = result(client, how, &path, &body).await? else {
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

/// None if there is nothing left to print.
async fn result(
    client: &Client,
    how: How,
    path: &str,
    body: &Value,
) -> Result<Option<Value>, Failure> {
    let result = job::run(client, path, body, how.no_wait).await?;
    if let Some(result) = result.as_ref().filter(|_| how.as_json) {
        println!("{result:#}");
        return Ok(None);
    }
    Ok(result)
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
