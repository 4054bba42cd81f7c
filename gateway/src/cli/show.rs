//! `status`; and what all tables for people have in common.

use std::io::Write;

use comfy_table::{Table, presets};
use serde_json::Value;

use super::client::{Client, Failure, segment};
use super::watch::{self, Look};

/// What the first argument of most commands is.
pub(super) const REPOSITORY: &str = "Its name in the configuration";
/// Names printed before the rest is only counted; `--json` has them all.
const SHOWN: usize = 10;

pub async fn status(
    client: &Client,
    json: bool,
    repository: Option<&str>,
    watch: bool,
) -> Result<(), Failure> {
    let path = repository.map_or_else(
        || "/v1/repositories".to_owned(),
        |name| format!("/v1/repositories/{}", segment(name)),
    );
    let mut out = std::io::stdout();
    if !watch {
        let answer = client.get(&path).await?;
        return write_status(&mut out, json, &answer)
            .map_err(|e| Failure::Refused(format!("the status cannot be written: {e}")));
    }
    watch::watch(client, &path, watch::INTERVAL, |look| match look {
        Look::Answer(answer) => {
            if !json {
                write!(out, "\x1b[2J\x1b[H")?;
            }
            write_status(&mut out, json, answer)
        }
        Look::Away(failure) => {
            eprintln!("snapgate: {failure}; what is shown is as of before, until it is back");
            Ok(())
        }
    })
    .await
}

fn write_status(out: &mut impl Write, json: bool, answer: &Value) -> std::io::Result<()> {
    if json {
        return writeln!(out, "{answer:#}");
    }
    let one = std::slice::from_ref(answer);
    let repositories = answer.as_array().map_or(one, Vec::as_slice);
    writeln!(out, "{}", status_table(repositories))?;
    for line in repositories.iter().flat_map(why) {
        writeln!(out, "{line}")?;
    }
    write_warnings(out, repositories)
}

fn status_table(repositories: &[Value]) -> Table {
    let mut table = table(&[
        "REPOSITORY",
        "BUCKET/PATH",
        "STORE",
        "LOCK",
        "HOLDER",
        "EPOCH",
        "SINCE",
        "ROOT",
        "SNAPSHOTS",
        "OBJECTS",
        "BYTES",
        "MIRRORS",
    ]);
    for r in repositories {
        let lock = &r["lock"];
        table.add_row([
            text(&r["name"]),
            format!("{}/{}", text(&r["bucket"]), text(&r["base_path"])),
            text(&r["store"]),
            text(&lock["state"]),
            text(&lock["holder"]),
            text(&lock["epoch"]),
            text(&lock["since"]),
            text(&r["root"]["generation"]),
            text(&r["snapshots"]),
            text(&r["objects"]),
            text(&r["bytes"]),
            mirrors(r),
        ]);
    }
    table
}

/// What a person should know beyond the table: why the lock is as it is, what ends that, and what the gateway works on.
fn why(repository: &Value) -> Vec<String> {
    let (name, lock) = (text(&repository["name"]), &repository["lock"]);
    let mut lines = Vec::new();
    if let Some(reason) = lock["reason"].as_str() {
        let remedy = lock["remedy"].as_str();
        let remedy = remedy.map_or_else(String::new, |remedy| {
            format!("; nothing is written until {remedy}")
        });
        let state = text(&lock["state"]);
        lines.push(format!("{name} is {state}: {reason}{remedy}"));
    }
    for job in rows(&repository["jobs"]) {
        let progress = &job["progress"];
        let of = match progress["total"].as_u64() {
            None | Some(0) => String::new(),
            Some(total) => format!(" of {total}"),
        };
        lines.push(format!(
            "{name}: {} goes on, {}{of} {} so far; its result: snapgate job {}",
            text(&job["kind"]),
            text(&progress["done"]),
            text(&progress["unit"]),
            text(&job["id"])
        ));
    }
    lines
}

/// Each mirror's mode and state, the newest snapshot there, and how far it is behind unless it has everything; and the
/// store that a promotion left and nothing is mirrored to.
fn mirrors(repository: &Value) -> String {
    let one = |m: &Value| {
        let lag = &m["lag"];
        let behind = match lag["operations"].as_u64() {
            None => ", behind: not known".to_owned(),
            Some(0) => String::new(),
            Some(operations) => format!(
                ", behind: {} restore points, {operations} operations, {} s",
                text(&lag["restore_points"]),
                text(&lag["seconds"]),
            ),
        };
        let newest = &m["newest_restore_point"]["newest_snapshot"];
        let newest = match newest["name"].as_str() {
            None => "newest: -".to_owned(),
            Some(name) => format!("newest: {name} of {}", text(&newest["ended_at"])),
        };
        format!(
            "{} {} ({}), {newest}{behind}",
            text(&m["store"]),
            text(&m["state"]),
            text(&m["mode"])
        )
    };
    let told = repository["mirrors"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(one);
    let left = repository["left_behind"].as_str();
    let left = left.map(|store| format!("{store} not mirrored (promoted from there)"));
    told.chain(left).collect::<Vec<_>>().join("\n")
}

/// One line each, below the table: sentences are longer than columns.
fn write_warnings(out: &mut impl Write, repositories: &[Value]) -> std::io::Result<()> {
    for repository in repositories {
        for warning in repository["warnings"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
        {
            writeln!(
                out,
                "warning {}: {} (since {}): {}",
                text(&repository["name"]),
                text(&warning["kind"]),
                text(&warning["since"]),
                text(&warning["sentence"])
            )?;
        }
    }
    Ok(())
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().copied());
    table
}

pub(super) fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A line for each, cut where it gets long; it begins with the end of the line before.
pub(super) fn names(all: &[Value]) -> String {
    let mut lines: Vec<String> = all.iter().take(SHOWN).map(text).collect();
    if all.len() > SHOWN {
        lines.push(format!("… and {} more", all.len() - SHOWN));
    }
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_repository_that_stands_still_says_why_what_ends_it_and_what_goes_on() {
        let told = why(&json!({
            "name": "prod",
            "lock": { "state": "frozen", "reason": "it is not known", "remedy": "an operator runs: snapgate adopt prod" },
            "jobs": [
                { "id": "7", "kind": "adopt", "progress": { "done": 6000, "total": 0, "unit": "objects" } },
                { "id": "8", "kind": "verify", "progress": { "done": 5, "total": 9, "unit": "objects" } },
            ],
        }));
        assert_eq!(
            told,
            [
                "prod is frozen: it is not known; nothing is written until an operator runs: snapgate adopt prod",
                "prod: adopt goes on, 6000 objects so far; its result: snapgate job 7",
                "prod: verify goes on, 5 of 9 objects so far; its result: snapgate job 8",
            ]
        );
        assert!(
            why(&json!({ "name": "prod", "lock": { "state": "held", "reason": null } })).is_empty()
        );
    }

    #[test]
    fn a_mirror_says_its_newest_snapshot_and_by_how_much_it_is_behind_in_the_table() {
        let told = mirrors(&json!({ "left_behind": "eu", "mirrors": [
            { "store": "us", "state": "in_sync", "mode": "barrier", "lag": { "operations": 0 }, "newest_restore_point":
              { "generation": 7, "newest_snapshot": { "name": "nightly-07", "ended_at": "2026-11-26T07:00:00Z" } } },
            { "store": "ap", "state": "lagging", "mode": "async", "lag": { "restore_points": 2, "operations": 12, "seconds": 40 },
              "newest_restore_point": { "generation": 5, "newest_snapshot": null } },
            { "store": "sa", "state": "resync", "mode": "async", "lag": { "restore_points": 1, "operations": 1, "seconds": 1 },
              "newest_restore_point": null },
            { "store": "za", "state": "stalled", "mode": "async", "lag": { "operations": null }, "newest_restore_point": null },
        ]}));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "us in_sync (barrier), newest: nightly-07 of 2026-11-26T07:00:00Z",
                "ap lagging (async), newest: -, behind: 2 restore points, 12 operations, 40 s",
                "sa resync (async), newest: -, behind: 1 restore points, 1 operations, 1 s",
                "za stalled (async), newest: -, behind: not known",
                "eu not mirrored (promoted from there)",
            ]
        );
    }
}
