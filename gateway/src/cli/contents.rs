//! `adopt`, `snapshots`, `explain`, `verify`: what is in a repository.

use clap::Subcommand;
use serde_json::json;

use super::client::{Client, Failure, repository_path, segment};
use super::show::{table, text};
use super::{adopt, job};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Scan a store that already holds a repository, then open it
    Adopt {
        repository: String,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// What is in a repository, as the gateway reads it
    Snapshots { repository: String },
    /// What an object is, which snapshots need it, and what deleting it would be answered
    Explain { repository: String, key: String },
    /// Check every object of every snapshot: presence and size, with --deep the bytes
    Verify {
        repository: String,
        #[arg(long)]
        deep: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
}

pub async fn run(client: &Client, as_json: bool, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Adopt {
            repository,
            no_wait,
        } => adopt::run(client, as_json, &repository, no_wait).await,
        Verb::Snapshots { repository } => snapshots(client, as_json, &repository).await,
        Verb::Explain { repository, key } => explain(client, &repository, &key).await,
        Verb::Verify {
            repository,
            deep,
            no_wait,
        } => verify(client, as_json, &repository, deep, no_wait).await,
    }
}

async fn snapshots(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let answer = client
        .get(&repository_path(repository, "snapshots"))
        .await?;
    if as_json {
        println!("{answer:#}");
        return Ok(());
    }
    let mut table = table(&[
        "SNAPSHOT", "UUID", "STATE", "VERSION", "STARTED", "INDICES", "PINNED",
    ]);
    for row in answer.as_array().map_or(&[][..], Vec::as_slice) {
        let indices = row["indices"].as_array().map_or(0, Vec::len);
        table.add_row([
            text(&row["name"]),
            text(&row["uuid"]),
            text(&row["state"]),
            text(&row["version"]),
            text(&row["started_at"]),
            indices.to_string(),
            if row["pinned"].as_bool() == Some(true) {
                "yes".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    println!("{table}");
    Ok(())
}

async fn explain(client: &Client, repository: &str, key: &str) -> Result<(), Failure> {
    let answer = client
        .get(&format!(
            "/v1/repositories/{}/explain?key={}",
            segment(repository),
            segment(key)
        ))
        .await?;
    println!("{answer:#}");
    Ok(())
}

/// Exit 1 with the list of what is wrong and which snapshots it hits.
async fn verify(
    client: &Client,
    as_json: bool,
    repository: &str,
    deep: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    let path = repository_path(repository, "verify");
    let Some(result) = job::run(client, &path, &json!({ "deep": deep }), no_wait).await? else {
        return Ok(());
    };
    if as_json {
        println!("{result:#}");
    } else {
        println!(
            "root {}, {} snapshots, {} objects, {} bytes",
            text(&result["generation"]),
            text(&result["snapshots"]),
            text(&result["blobs"]),
            text(&result["bytes"])
        );
        println!(
            "unreferenced: {} objects, {} bytes",
            text(&result["unreferenced"]["objects"]),
            text(&result["unreferenced"]["bytes"])
        );
        for problem in result["problems"].as_array().map_or(&[][..], Vec::as_slice) {
            println!(
                "{}: {} (snapshots: {})",
                text(&problem["kind"]),
                text(&problem["key"]),
                problem["snapshots"]
            );
        }
    }
    if result["ok"].as_bool() == Some(true) {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "repository '{repository}' is damaged"
    )))
}
