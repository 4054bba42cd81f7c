//! `explain`: one object, for a person.

use std::fmt::Write;

use serde_json::Value;

use super::client::{Client, Failure, segment};
use super::show::{rows, text};

pub async fn run(
    client: &Client,
    as_json: bool,
    repository: &str,
    key: &str,
) -> Result<(), Failure> {
    let path = format!(
        "/v1/repositories/{}/explain?key={}",
        segment(repository),
        segment(key)
    );
    let answer = client.get(&path).await?;
    if as_json {
        say!("{answer:#}");
    } else {
        say!("{}", told(&answer));
    }
    Ok(())
}

fn told(answer: &Value) -> String {
    let mut told = format!("{}: {}", text(&answer["key"]), what(answer));
    let mut line = |text: String| {
        told.push('\n');
        told.push_str(&text);
    };
    let holders = rows(&answer["needed_by"]);
    if !holders.is_empty() {
        line(format!("needed by {} snapshots:", holders.len()));
    }
    for holder in holders {
        line(format!("  {}", one(holder)));
    }
    for generation in rows(&answer["indexed_by"]) {
        line(format!(
            "read by the next snapshot that is taken or deleted (root {generation})"
        ));
    }
    for held in rows(&answer["held"]) {
        let points: Vec<String> = rows(&held["restore_points"]).iter().map(text).collect();
        line(format!(
            "held after its deletion: {} bytes, seen by the restore points {}, for {} s of the gateway's uptime at least",
            text(&held["size"]),
            if points.is_empty() {
                "-".to_owned()
            } else {
                points.join(", ")
            },
            text(&held["seconds_left"]),
        ));
    }
    if let Some(problem) = answer["problem"].as_str() {
        line(format!("wrong with it, as far as known: {problem}"));
    }
    if answer["visible"] == true {
        line(delete(&answer["delete"]));
    }
    told
}

fn what(answer: &Value) -> String {
    let mut what = text(&answer["class"]);
    if answer["visible"] != true {
        what.push_str(", not there");
        return what;
    }
    let _infallible = write!(what, ", {} bytes", text(&answer["size"]));
    match answer["in_store"].as_str() {
        Some("missing") => what.push_str("; the store does not hold it any more"),
        Some("changed") => what.push_str("; the store holds something else under its name"),
        Some(_) | None => {}
    }
    what
}

fn one(holder: &Value) -> String {
    let mut one = format!("{} ({})", text(&holder["snapshot"]), text(&holder["uuid"]));
    if let Some(since) = holder["since"].as_str() {
        let _infallible = write!(one, " since {since}");
    }
    if holder["current"] == false {
        one.push_str(", deleted with the newest root");
    }
    if holder["unsure"] == true {
        one.push_str(", perhaps: its list of files cannot be read");
    }
    one
}

fn delete(answer: &Value) -> String {
    match (answer["why"].as_str(), answer["effect"].as_str()) {
        (Some(why), _) => format!("a delete is refused: {why}"),
        (None, Some("kept")) => {
            "a delete is answered with success, and it goes on being served: clusters delete it only to write it anew".to_owned()
        }
        (None, Some("hidden")) => "a delete is allowed: nothing needs it; its bytes are held for the retention".to_owned(),
        (None, _) => "a delete is allowed, and is final".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_needs_an_object_since_when_and_what_a_delete_would_be_answered() {
        let answer = json!({
            "key": "base/indices/i/0/__a", "class": "data", "visible": true, "size": 90, "in_store": "missing",
            "needed_by": [
                { "snapshot": "one", "uuid": "u1", "since": "2026-11-26T07:00:00Z", "current": true, "unsure": false },
                { "snapshot": "two", "uuid": "u2", "since": null, "current": false, "unsure": true },
            ],
            "indexed_by": [7], "held": [], "problem": null,
            "delete": { "allowed": false, "why": "it is needed." },
        });
        let told = told(&answer);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "base/indices/i/0/__a: data, 90 bytes; the store does not hold it any more",
                "needed by 2 snapshots:",
                "  one (u1) since 2026-11-26T07:00:00Z",
                "  two (u2), deleted with the newest root, perhaps: its list of files cannot be read",
                "read by the next snapshot that is taken or deleted (root 7)",
                "a delete is refused: it is needed.",
            ]
        );
    }

    #[test]
    fn what_was_deleted_is_told_with_the_restore_points_that_still_see_it() {
        let answer = json!({
            "key": "base/snap-u1.dat", "class": "snapshot_info", "visible": false, "size": null, "in_store": null,
            "needed_by": [], "indexed_by": [], "problem": null,
            "held": [{ "size": 30, "restore_points": [2, 1], "seconds_left": 3600 }],
            "delete": { "allowed": true, "effect": "hidden" },
        });
        assert_eq!(
            told(&answer),
            "base/snap-u1.dat: snapshot_info, not there\nheld after its deletion: 30 bytes, seen by the restore points 2, 1, for 3600 s of the gateway's uptime at least"
        );
    }
}
