//! `adopt`: waits for the job that reads a store, and prints what was found.

use serde_json::Value;

use super::client::{Client, Failure, repository_path};
use super::show::text;
use super::{job, verify};

pub async fn run(
    client: &Client,
    as_json: bool,
    repository: &str,
    no_wait: bool,
) -> Result<(), Failure> {
    let path = repository_path(repository, "adopt");
    let Some(result) = job::run(client, &path, &Value::Null, no_wait).await? else {
        return Ok(());
    };
    if as_json {
        say!("{result:#}");
    } else {
        print_result(repository, &result);
    }
    Ok(())
}

fn print_result(repository: &str, result: &Value) {
    let names: Vec<String> = list(&result["snapshots"]).map(text).collect();
    say!(
        "{repository}: {} objects, {} bytes; root {}, {} snapshots",
        text(&result["objects"]),
        text(&result["bytes"]),
        text(&result["generation"]),
        names.len()
    );
    say!("lock: {}", text(&result["lock"]["state"]));
    if !names.is_empty() {
        say!("snapshots: {}", names.join(", "));
    }
    if result["guarded"].as_bool() == Some(false) {
        say!("not guarded: its newest root cannot be read; see snapgate warnings {repository}");
    }
    for key in list(&result["unknown"]["keys"]) {
        say!("unknown: {}", text(key));
    }
    for problem in list(&result["problems"]) {
        say!(
            "damaged before: {} {} ({})",
            text(&problem["key"]),
            text(&problem["what"]),
            verify::hit(&problem["snapshots"])
        );
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
