//! `warnings`, `acknowledge`, `events`.

use clap::Subcommand;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::client::{Client, Failure, repository_path};
use super::show::{table, text};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What an operator should look at, acknowledged warnings too
    Warnings { repository: String },
    /// Say that warnings of a kind (or about one subject) were read
    Acknowledge {
        repository: String,
        kind: String,
        subject: Option<String>,
    },
    /// Follow live events: warnings, lock changes, root commits, jobs
    Events,
}

pub async fn run(client: &Client, as_json: bool, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Warnings { repository } => list(client, as_json, &repository).await,
        Verb::Acknowledge {
            repository,
            kind,
            subject,
        } => acknowledge(client, &repository, &kind, subject.as_deref()).await,
        Verb::Events => follow(client, as_json).await,
    }
}

async fn list(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let answer = client.get(&repository_path(repository, "warnings")).await?;
    if as_json {
        say!("{answer:#}");
        return Ok(());
    }
    let mut table = table(&["KIND", "SINCE", "TIMES", "READ", "SUBJECT", "WHAT"]);
    for row in answer.as_array().map_or(&[][..], Vec::as_slice) {
        table.add_row(
            [
                "kind",
                "since",
                "times",
                "acknowledged_at",
                "subject",
                "sentence",
            ]
            .map(|field| text(&row[field])),
        );
    }
    say!("{table}");
    Ok(())
}

async fn acknowledge(
    client: &Client,
    repository: &str,
    kind: &str,
    subject: Option<&str>,
) -> Result<(), Failure> {
    let answer = client
        .post(
            &repository_path(repository, "warnings/acknowledge"),
            &json!({ "kind": kind, "subject": subject }),
        )
        .await?;
    say!("{} acknowledged", text(&answer["acknowledged"]));
    Ok(())
}

/// One line per event until interrupted or the gateway stops.
async fn follow(client: &Client, as_json: bool) -> Result<(), Failure> {
    let mut body = client.open("/v1/events").await?;
    let mut line = Vec::new();
    let mut kind = String::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::Unreachable(format!("the stream broke: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        for byte in data {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            if let Some(named) = text.strip_prefix("event: ") {
                named.clone_into(&mut kind);
            } else if let Some(data) = text.strip_prefix("data: ") {
                print_event(as_json, &kind, data);
            }
        }
    }
    Ok(())
}

fn print_event(as_json: bool, kind: &str, data: &str) {
    let mut body: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    if as_json {
        body["event"] = json!(kind);
        say!("{body}");
        return;
    }
    let at = text(&body["at"]);
    let fields = body.as_object().into_iter().flatten();
    let rest: Vec<String> = fields
        .filter(|(name, _)| *name != "at")
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    say!("{at} {kind} {}", rest.join(" "));
}
