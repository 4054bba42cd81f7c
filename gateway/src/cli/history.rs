//! `restore-points`, `pin`, `unpin`, `rollback`, `undelete`, `diff`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, Failure, repository_path, segment};
use super::job;
use super::show::{REPOSITORY, names, rows, table, text};

const SNAPSHOT: &str = "Its name or its uuid";
/// Restore points that the API answers at once.
const PAGE: usize = 1000;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Committed roots that the retention still holds, newest first
    RestorePoints {
        #[arg(help = REPOSITORY)]
        repository: String,
    },
    /// Snapshots that no commit may drop
    Pins {
        #[arg(help = REPOSITORY)]
        repository: String,
    },
    /// Refuse commits that drop this snapshot
    Pin {
        #[arg(help = REPOSITORY)]
        repository: String,
        #[arg(help = SNAPSHOT)]
        snapshot: String,
        /// Kept beside the pin and in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let commits drop this snapshot again
    Unpin {
        #[arg(help = REPOSITORY)]
        repository: String,
        #[arg(help = SNAPSHOT)]
        snapshot: String,
    },
    /// Make a restore point the newest root again (on a frozen repository)
    Rollback {
        #[arg(help = REPOSITORY)]
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
        #[arg(help = REPOSITORY)]
        repository: String,
        #[arg(help = SNAPSHOT)]
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
        #[arg(help = REPOSITORY)]
        repository: String,
        /// Number of a restore point
        from: u64,
        /// Number of another one, older or newer
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
    let mut all: Vec<Value> = rows(&client.get(&path).await?).to_vec();
    while !all.is_empty() && all.len().is_multiple_of(PAGE) {
        let last = &all[all.len() - 1]["generation"];
        let page = client.get(&format!("{path}?before={last}")).await?;
        if rows(&page).is_empty() {
            break;
        }
        all.extend_from_slice(rows(&page));
    }
    if as_json {
        say!("{:#}", Value::Array(all));
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
    for row in &all {
        let state = match (row["current"].as_bool(), row["complete"].as_bool()) {
            (Some(true), Some(true)) => "current",
            (Some(true), _) => "current, damaged",
            (_, Some(true)) => "complete",
            (_, _) => "incomplete",
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
    say!("{table}");
    Ok(())
}

async fn pins(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let path = repository_path(repository, "pins");
    let answer = client.get(&path).await?;
    if as_json {
        say!("{answer:#}");
        return Ok(());
    }
    let mut table = table(&["SNAPSHOT", "UUID", "PINNED", "BY", "REASON"]);
    for row in rows(&answer) {
        table.add_row(["snapshot", "uuid", "pinned_at", "by", "reason"].map(|f| text(&row[f])));
    }
    say!("{table}");
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
        say!("{answer:#}");
    } else {
        say!("{}", pinned(repository, &answer));
    }
    Ok(())
}

fn pinned(repository: &str, pin: &Value) -> String {
    let snapshot = format!(
        "snapshot '{}' ({}) of repository '{repository}'",
        text(&pin["snapshot"]),
        text(&pin["uuid"])
    );
    if pin["new"] == false {
        return format!(
            "{snapshot} was pinned already, at {} by {} (reason: {}), and stays so",
            text(&pin["pinned_at"]),
            text(&pin["by"]),
            text(&pin["reason"])
        );
    }
    format!("{snapshot} is pinned: no commit may drop it")
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
        say!("{answer:#}");
    } else {
        say!(
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
    say!("{}", brought_back(repository, &result));
    Ok(())
}

fn brought_back(repository: &str, result: &Value) -> String {
    let dry = result["dry_run"].as_bool() == Some(true);
    let (is, come) = if dry {
        ("would be", "would come back")
    } else {
        ("is", "came back")
    };
    let mut told = format!(
        "index-{} {is} the newest root of repository '{repository}', made from restore point {}\n",
        text(&result["generation"]),
        text(&result["restore_point"])
    );
    told += &list("snapshots that come back", &result["snapshots"]["came"]);
    told += &list("snapshots that go away", &result["snapshots"]["went"]);
    told += &format!(
        "{} objects, {} bytes {come}",
        text(&result["objects"]),
        text(&result["bytes"])
    );
    if !dry {
        told += "\nWhat is left to do:";
        for (number, step) in (1..).zip(rows(&result["steps"])) {
            told += &format!("\n  {number}. {}", text(step));
        }
    }
    told
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
    say!("{}", changed(&result));
    Ok(())
}

fn changed(result: &Value) -> String {
    let mut told = list("snapshots that came", &result["snapshots"]["came"]);
    told += &list("snapshots that went", &result["snapshots"]["went"]);
    let objects = ["came", "went"].map(|way| {
        let objects = &result["objects"][way];
        format!(
            "objects that {way}: {}, {} bytes{}",
            text(&objects["objects"]),
            text(&objects["bytes"]),
            names(rows(&objects["keys"]))
        )
    });
    told + &objects.join("\n")
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
        say!("{result:#}");
        return Ok(None);
    }
    Ok(result)
}

/// A title and the names, and nothing where there are none.
fn list(title: &str, all: &Value) -> String {
    let all = rows(all);
    if all.is_empty() {
        return String::new();
    }
    format!("{title}: {}{}\n", all.len(), names(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_roll_back_did_is_told_with_what_is_left_to_do() {
        let mut result = json!({
            "dry_run": true, "generation": 4, "restore_point": 2, "objects": 6, "bytes": 5150,
            "snapshots": { "came": ["b"], "went": [] }, "steps": ["unregister", "thaw"],
        });
        assert_eq!(
            brought_back("prod", &result),
            "index-4 would be the newest root of repository 'prod', made from restore point 2\n\
             snapshots that come back: 1\n  b\n6 objects, 5150 bytes would come back"
        );
        result["dry_run"] = json!(false);
        let told = brought_back("prod", &result);
        let end =
            "6 objects, 5150 bytes came back\nWhat is left to do:\n  1. unregister\n  2. thaw";
        assert!(told.ends_with(end), "{told}");
    }

    #[test]
    fn a_difference_is_told_by_names_and_cut_where_it_gets_long() {
        let keys: Vec<String> = (0..12).map(|number| format!("base/{number}")).collect();
        let told = changed(&json!({
            "snapshots": { "came": [], "went": ["a"] },
            "objects": { "came": { "objects": 0, "bytes": 0, "keys": [] }, "went": { "objects": 12, "bytes": 99, "keys": keys } },
        }));
        assert!(
            told.starts_with("snapshots that went: 1\n  a\nobjects that came: 0, 0 bytes\n"),
            "{told}"
        );
        assert!(told.ends_with("\n  base/9\n  … and 2 more"), "{told}");
    }

    #[test]
    fn a_second_pin_says_that_there_is_one() {
        let mut pin = json!({ "snapshot": "a", "uuid": "u", "pinned_at": "2026-11-26T07:00:00Z", "by": "operator", "reason": "audit", "new": true });
        let first = pinned("prod", &pin);
        assert_eq!(
            first,
            "snapshot 'a' (u) of repository 'prod' is pinned: no commit may drop it"
        );
        pin["new"] = json!(false);
        let second = pinned("prod", &pin);
        assert!(
            second.contains(
                "was pinned already, at 2026-11-26T07:00:00Z by operator (reason: audit)"
            ),
            "{second}"
        );
    }
}
