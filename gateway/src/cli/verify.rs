//! `verify`: what is wrong with the snapshots of a repository, in its own store or in one of its mirrors.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use super::client::{Client, Failure, repository_path, segment};
use super::show::{names, rows, text};
use super::{job, mirror};

/// Exit 1 with the list of what is wrong and which snapshots it hits.
pub async fn run(
    client: &Client,
    as_json: bool,
    (repository, store): (&str, Option<&str>),
    deep: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    if let Some(store) = store
        && !is_primary(client, repository, store).await?
    {
        return mirror::verify(client, as_json, (repository, store), deep, no_wait).await;
    }
    let path = repository_path(repository, "verify");
    let Some(result) = job::run(client, &path, &json!({ "deep": deep }), no_wait).await? else {
        return Ok(());
    };
    if as_json {
        say!("{result:#}");
    } else {
        say!("{}", told(&result));
    }
    if result["ok"].as_bool() != Some(true) {
        return Err(Failure::Refused(damaged(repository, &result)));
    }
    if !as_json {
        let read = if deep { ", and reads as it should" } else { "" };
        say!("everything is there{read}");
    }
    Ok(())
}

/// Whether the repository is in this store, and not only a mirror of it.
async fn is_primary(client: &Client, repository: &str, store: &str) -> Result<bool, Failure> {
    let path = format!("/v1/repositories/{}", segment(repository));
    let answer = client.get(&path).await?;
    Ok(answer["store"].as_str() == Some(store))
}

fn told(result: &Value) -> String {
    let mut told = format!(
        "store {}, root {}: {} snapshots, {} objects, {} bytes\nunreferenced: {} objects, {} bytes",
        text(&result["store"]),
        text(&result["generation"]),
        text(&result["snapshots"]),
        text(&result["blobs"]),
        text(&result["bytes"]),
        text(&result["unreferenced"]["objects"]),
        text(&result["unreferenced"]["bytes"])
    );
    let unknown = rows(&result["unknown"]);
    if !unknown.is_empty() {
        let _infallible = write!(
            told,
            "\nof no kind that a cluster writes: {}",
            unknown.len()
        );
        told.push_str(&names(unknown));
    }
    for problem in rows(&result["problems"]) {
        let (kind, key) = (text(&problem["kind"]), text(&problem["key"]));
        let hit = hit(&problem["snapshots"]);
        let _infallible = write!(told, "\n{kind}: {key} ({hit})");
    }
    told
}

/// Who needs an object that is wrong.
pub(super) fn hit(snapshots: &Value) -> String {
    let snapshots: Vec<String> = rows(snapshots).iter().map(text).collect();
    if snapshots.is_empty() {
        return "needed by no snapshot, but by the next create or delete".to_owned();
    }
    format!("needed by snapshots {}", snapshots.join(", "))
}

fn damaged(repository: &str, result: &Value) -> String {
    let problems = rows(&result["problems"]);
    let hit: BTreeSet<String> = problems
        .iter()
        .flat_map(|problem| rows(&problem["snapshots"]))
        .map(text)
        .collect();
    let hit: Vec<String> = hit.into_iter().collect();
    let restore = if hit.is_empty() {
        "every snapshot can be restored all the same".to_owned()
    } else {
        format!(
            "these snapshots cannot be restored whole: {}",
            hit.join(", ")
        )
    };
    format!(
        "repository '{repository}' is damaged ({} objects); {restore}",
        problems.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_by_object_and_by_the_snapshots_that_it_hits() {
        let result = json!({
            "ok": false, "store": "eu", "generation": 7, "snapshots": 2, "blobs": 9, "bytes": 90,
            "unknown": ["base/readme.txt"],
            "unreferenced": { "objects": 1, "bytes": 5 },
            "problems": [
                { "key": "base/a", "kind": "missing", "snapshots": ["two", "one"] },
                { "key": "base/b", "kind": "checksum", "snapshots": ["one"] },
                { "key": "base/c", "kind": "size", "snapshots": [] },
            ],
        });
        let lines: Vec<_> = told(&result).lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "store eu, root 7: 2 snapshots, 9 objects, 90 bytes",
                "unreferenced: 1 objects, 5 bytes",
                "of no kind that a cluster writes: 1",
                "  base/readme.txt",
                "missing: base/a (needed by snapshots two, one)",
                "checksum: base/b (needed by snapshots one)",
                "size: base/c (needed by no snapshot, but by the next create or delete)",
            ]
        );
        assert_eq!(
            damaged("prod", &result),
            "repository 'prod' is damaged (3 objects); these snapshots cannot be restored whole: one, two"
        );
    }
}
