//! `failback` brings an old primary back. `promote` says what it would do, does it, says what it did; `drill` rehearses it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, Failure, repository_path};
use super::job;
use super::show::text;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Fail over: a mirror becomes the primary
    Promote {
        /// Its name in the configuration
        repository: String,
        /// The store of the mirror that becomes the primary
        #[arg(long)]
        store: String,
        /// Who writes from then on
        #[arg(long, value_name = "CLUSTER")]
        writer: String,
        /// Kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Say what it would do and what would be lost, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Bring an old primary's store back: it is reconciled, and is the primary again
    Failback {
        /// Its name in the configuration
        repository: String,
        /// The store to bring back [default: where it was before its last promotion]
        #[arg(long)]
        store: Option<String>,
        /// Who writes from then on [default: who does now]
        #[arg(long, value_name = "CLUSTER")]
        writer: Option<String>,
        /// Kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Rehearse a restore from a mirror; production is not touched
    Drill {
        /// Its name in the configuration
        repository: String,
        /// The store of the mirror that is read
        #[arg(long)]
        store: String,
        /// Only what this snapshot needs
        #[arg(long, value_name = "NAME")]
        snapshot: Option<String>,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
}

pub async fn run(client: &Client, as_json: bool, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Promote {
            repository,
            store,
            writer,
            reason,
            dry_run,
            no_wait,
        } => {
            let body =
                json!({ "store": store, "writer": writer, "reason": reason, "dry_run": dry_run });
            promote(client, as_json, &repository, &body, no_wait).await
        }
        Verb::Failback {
            repository,
            store,
            writer,
            reason,
            no_wait,
        } => {
            let body = json!({ "store": store, "writer": writer, "reason": reason });
            failback(client, as_json, &repository, &body, no_wait).await
        }
        Verb::Drill {
            repository,
            store,
            snapshot,
            no_wait,
        } => {
            let wanted = (&*repository, &*store, snapshot.as_deref());
            drill(client, as_json, wanted, no_wait).await
        }
    }
}

async fn promote(
    client: &Client,
    as_json: bool,
    repository: &str,
    body: &Value,
    no_wait: bool,
) -> Result<(), Failure> {
    let answer = client
        .post(&repository_path(repository, "promote"), body)
        .await?;
    if no_wait {
        say!("{answer:#}");
        return Ok(());
    }
    // A dry run is answered at once.
    let result = if body["dry_run"] == true {
        answer
    } else {
        job::wait(client, &text(&answer["id"])).await?
    };
    if as_json {
        say!("{result:#}");
    } else {
        show(repository, &result);
    }
    match result["refused"].as_str() {
        Some(why) => Err(Failure::Refused(format!("it would be refused: {why}"))),
        None => Ok(()),
    }
}

fn show(repository: &str, result: &Value) {
    let done = result["seconds"].as_f64();
    let verb = if done.is_some() { "is" } else { "would be" };
    say!(
        "repository {repository} {verb} on store {}, written by {} at epoch {}",
        text(&result["store"]),
        text(&result["writer"]),
        text(&result["epoch"])
    );
    let point = &result["restore_point"];
    if point.is_object() {
        say!("restore point: {}", restore_point(point));
    }
    let refused = result["refused"].is_string();
    if !refused {
        missing(&result["missing"]);
    }
    if done.is_none() {
        for check in result["checks"].as_array().map_or(&[][..], Vec::as_slice) {
            let mark = if check["ok"].as_bool() == Some(true) {
                "ok "
            } else {
                "NO "
            };
            say!(
                "  {mark} {}: {}",
                text(&check["check"]),
                text(&check["found"])
            );
        }
    }
    if let Some(seconds) = done {
        say!("it took {seconds:.2} s");
    }
    // There is nothing to prepare for what will not be done.
    let steps = result["steps"].as_array().filter(|_| !refused);
    for step in steps.map_or(&[][..], Vec::as_slice) {
        say!("\n{}", text(step));
    }
}

/// Which root it is, how many snapshots it has, and which of them ended last.
fn restore_point(point: &Value) -> String {
    let snapshots = point["snapshots"].as_array().map_or(0, Vec::len);
    let newest = &point["newest_snapshot"];
    let newest = match newest["name"].as_str() {
        Some(name) => format!("the newest is {name} of {}", text(&newest["ended_at"])),
        None => "which is the newest is not known".to_owned(),
    };
    format!(
        "index-{}, {snapshots} snapshots, {newest}",
        text(&point["generation"])
    )
}

/// In the two largest units of it.
fn ago(seconds: Option<u64>) -> String {
    let Some(seconds) = seconds else {
        return String::new();
    };
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!(", {seconds} s ago"),
        (0, 0, minutes) => format!(", {minutes} min {} s ago", seconds % 60),
        (0, hours, minutes) => format!(", {hours} h {minutes} min ago"),
        (days, hours, _) => format!(", {days} d {hours} h ago"),
    }
}

fn missing(missing: &Value) {
    if missing["known"].as_bool() != Some(true) {
        for line in unknown(&missing["at_least"]) {
            say!("{line}");
        }
        return;
    }
    say!(
        "missing: {} restore points, {} objects, {} bytes",
        text(&missing["restore_points"]),
        text(&missing["objects"]),
        text(&missing["bytes"])
    );
    for name in missing["snapshots"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
    {
        say!("  snapshot {}", text(name));
    }
}

/// The old primary cannot be asked: what is missing at least, by the last that the mirror heard of it.
fn unknown(at_least: &Value) -> Vec<String> {
    const AFTER: &str = "is found when it returns, and kept aside";
    if at_least.is_null() {
        return vec![format!(
            "missing: unknown; the old primary cannot be asked, and the mirror did not note how far it was. What it acknowledged after this restore point {AFTER}"
        )];
    }
    let last = format!(
        "root index-{} of {}",
        text(&at_least["generation"]),
        text(&at_least["committed_at"])
    );
    if at_least["restore_points"].as_u64() == Some(0) {
        return vec![format!(
            "missing: nothing up to {last}, the last that the mirror heard of; the old primary cannot be asked. What it acknowledged after that {AFTER}"
        )];
    }
    let mut lines = vec![format!(
        "missing: at least {} restore points, up to {last}, the last that the mirror heard of; the old primary cannot be asked. What it acknowledged after that {AFTER}",
        text(&at_least["restore_points"])
    )];
    let names = at_least["snapshots"].as_array();
    lines.extend(
        names
            .into_iter()
            .flatten()
            .map(|name| format!("  snapshot {}", text(name))),
    );
    lines
}

async fn failback(
    client: &Client,
    as_json: bool,
    repository: &str,
    body: &Value,
    no_wait: bool,
) -> Result<(), Failure> {
    let path = repository_path(repository, "failback");
    let Some(result) = job::run(client, &path, body, no_wait).await? else {
        return Ok(());
    };
    if as_json {
        say!("{result:#}");
        return Ok(());
    }
    show(repository, &result);
    let aside = &result["kept_aside"];
    say!(
        "kept aside in .snapgate/kept/{repository}/ of the store: {} objects, {} bytes that lay there and the primary does not have",
        text(&aside["objects"]),
        text(&aside["bytes"])
    );
    match result["mirror"].as_str() {
        Some(store) => say!("store {store} is its mirror"),
        None => say!(
            "the store that was left is no mirror of it: its configuration does not name it, or it does not answer"
        ),
    }
    Ok(())
}

/// Exit 1 if the mirror would not restore.
async fn drill(
    client: &Client,
    as_json: bool,
    (repository, store, snapshot): (&str, &str, Option<&str>),
    no_wait: bool,
) -> Result<(), Failure> {
    let path = repository_path(repository, "drill");
    let body = json!({ "store": store, "snapshot": snapshot });
    let Some(result) = job::run(client, &path, &body, no_wait).await? else {
        return Ok(());
    };
    if as_json {
        say!("{result:#}");
    } else {
        let point = &result["restore_point"];
        say!(
            "store {store} is at {}{}",
            restore_point(point),
            ago(result["age_seconds"].as_u64())
        );
        say!(
            "{} objects and {} bytes are needed; reading them would take about {} s",
            text(&result["objects"]),
            text(&result["bytes"]),
            text(&result["restore_seconds"])
        );
        for problem in result["problems"].as_array().map_or(&[][..], Vec::as_slice) {
            say!(
                "{}: {} (snapshots: {})",
                text(&problem["kind"]),
                text(&problem["key"]),
                problem["snapshots"]
            );
        }
    }
    if result["ok"].as_bool() == Some(true) {
        if !as_json {
            let restored =
                snapshot.map_or_else(|| "every snapshot".to_owned(), |s| format!("'{s}'"));
            say!("all of it is there with its size: {restored} would be restored");
        }
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "store '{store}' would not restore repository '{repository}' whole"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_age_is_told_in_units_that_a_person_reads() {
        let told = [None, Some(7), Some(125), Some(7_260), Some(464_091)].map(ago);
        let wanted = [
            "",
            ", 7 s ago",
            ", 2 min 5 s ago",
            ", 2 h 1 min ago",
            ", 5 d 8 h ago",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_restore_point_is_told_by_its_newest_snapshot_and_not_guessed_at() {
        let told = restore_point(&json!({
            "generation": 12,
            "snapshots": ["a", "b"],
            "newest_snapshot": { "name": "a", "ended_at": "2026-11-25T10:00:00Z" },
        }));
        assert_eq!(
            told,
            "index-12, 2 snapshots, the newest is a of 2026-11-25T10:00:00Z"
        );
        let unknown =
            restore_point(&json!({ "generation": 3, "snapshots": ["a"], "newest_snapshot": null }));
        assert_eq!(
            unknown,
            "index-3, 1 snapshots, which is the newest is not known"
        );
    }

    #[test]
    fn what_is_missing_is_listed_or_said_plainly_to_be_unknown() {
        let silent = unknown(&Value::Null);
        assert!(silent[0].starts_with("missing: unknown;"), "{silent:?}");
        let told = |restore_points: u64, snapshots: &[&str]| {
            unknown(&json!({
                "generation": 12,
                "committed_at": "2026-11-25T10:00:00Z",
                "restore_points": restore_points,
                "snapshots": snapshots,
            }))
        };
        let none = told(0, &[]);
        assert!(
            none[0].starts_with("missing: nothing up to root index-12 of 2026-11-25T10:00:00Z"),
            "{none:?}"
        );
        let some = told(2, &["s8", "s9"]);
        assert!(
            some[0].starts_with("missing: at least 2 restore points, up to root index-12"),
            "{some:?}"
        );
        assert_eq!(some[1..], ["  snapshot s8", "  snapshot s9"]);
        for lines in [silent, none, some] {
            assert!(
                lines[0].contains("when it returns, and kept aside"),
                "{lines:?}"
            );
        }
    }
}
