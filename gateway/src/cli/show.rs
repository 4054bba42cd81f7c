//! Tables for people; the same bodies as JSON for scripts.

use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::Value;

use super::client::{Client, Failure, segment};

pub async fn status(
    client: &Client,
    json: bool,
    repository: Option<&str>,
    watch: bool,
) -> Result<(), Failure> {
    loop {
        let answer = match repository {
            Some(name) => {
                client
                    .get(&format!("/v1/repositories/{}", segment(name)))
                    .await?
            }
            None => client.get("/v1/repositories").await?,
        };
        if json {
            println!("{answer:#}");
        } else {
            if watch {
                print!("\x1b[2J\x1b[H");
            }
            let one = [answer.clone()];
            let repositories = answer.as_array().map_or(&one[..], Vec::as_slice);
            println!("{}", status_table(repositories));
            print_warnings(repositories);
        }
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
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
            text(&r["objects"]),
            text(&r["bytes"]),
            mirrors(&r["mirrors"]),
        ]);
        if let Some(reason) = lock["reason"].as_str() {
            table.add_row([String::new(), format!("reason: {reason}")]);
        }
    }
    table
}

/// Each mirror's mode and state, and how far it is behind unless it has everything.
fn mirrors(all: &Value) -> String {
    let one = |m: &Value| {
        let behind = match m["lag"]["operations"].as_u64() {
            None | Some(0) => String::new(),
            Some(operations) => format!(", {operations} operations behind"),
        };
        format!(
            "{} {} ({}){behind}",
            text(&m["store"]),
            text(&m["state"]),
            text(&m["mode"])
        )
    };
    let told = all
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(one);
    told.collect::<Vec<_>>().join("\n")
}

/// One line each, below the table: sentences are longer than columns.
fn print_warnings(repositories: &[Value]) {
    for repository in repositories {
        for warning in repository["warnings"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
        {
            println!(
                "warning {}: {} (since {}): {}",
                text(&repository["name"]),
                text(&warning["kind"]),
                text(&warning["since"]),
                text(&warning["sentence"])
            );
        }
    }
}

pub fn lock(json: bool, answer: &Value) {
    if json {
        println!("{answer:#}");
        return;
    }
    println!(
        "{}: {} (epoch {})",
        text(&answer["repository"]),
        describe(answer),
        text(&answer["epoch"])
    );
    for step in answer["steps"].as_array().map_or(&[][..], Vec::as_slice) {
        println!("\n{}", text(step));
    }
}

fn describe(lock: &Value) -> String {
    match (lock["state"].as_str(), lock["holder"].as_str()) {
        (Some("held"), Some(holder)) => format!("held by {holder}"),
        (Some(state), _) => state.to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

pub async fn audit_tail(client: &Client, json: bool, limit: usize) -> Result<(), Failure> {
    let answer = client.get(&format!("/v1/audit?limit={limit}")).await?;
    if json {
        println!("{answer:#}");
        return Ok(());
    }
    let mut table = table(&["SEQ", "AT", "WHO", "WHAT", "REPOSITORY", "EPOCH", "DETAIL"]);
    for record in answer
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .rev()
    {
        table.add_row([
            text(&record["sequence"]),
            text(&record["at"]),
            text(&record["principal"]),
            text(&record["action"]),
            text(&record["repository"]),
            text(&record["epoch"]),
            record["detail"].to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

pub async fn audit_verify(client: &Client, json: bool) -> Result<(), Failure> {
    let answer = client.get("/v1/audit/verify").await?;
    if json {
        println!("{answer:#}");
    }
    if answer["ok"].as_bool() == Some(true) {
        if !json {
            println!("the audit log's hash chain is whole");
        }
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "the audit log was changed: the first bad record is {}",
        text(&answer["first_bad_sequence"])
    )))
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().copied());
    table
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
