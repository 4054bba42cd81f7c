//! `adopt`, `snapshots`, `explain`, `verify`: what is in a repository.

use clap::Subcommand;

use super::client::{Client, Failure, repository_path};
use super::show::{REPOSITORY, rows, table, text};
use super::{adopt, explain, verify};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Scan a store that already holds a repository, then open it
    Adopt {
        #[arg(help = REPOSITORY)]
        repository: String,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// What is in a repository, as the gateway reads it
    Snapshots {
        #[arg(help = REPOSITORY)]
        repository: String,
    },
    /// What an object is, which snapshots need it, and what deleting it would be answered
    Explain {
        #[arg(help = REPOSITORY)]
        repository: String,
        /// The object's whole name in the bucket, base path included
        key: String,
    },
    /// Check every object of every snapshot: presence and size, with --deep the bytes
    Verify {
        #[arg(help = REPOSITORY)]
        repository: String,
        /// A mirror of it instead [default: the store that it is in]
        #[arg(long)]
        store: Option<String>,
        /// Read every object and check its checksums
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
        Verb::Explain { repository, key } => explain::run(client, as_json, &repository, &key).await,
        Verb::Verify {
            repository,
            store,
            deep,
            no_wait,
        } => {
            let which = (&*repository, store.as_deref());
            verify::run(client, as_json, which, deep, no_wait).await
        }
    }
}

async fn snapshots(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let answer = client
        .get(&repository_path(repository, "snapshots"))
        .await?;
    if as_json {
        say!("{answer:#}");
        return Ok(());
    }
    let mut table = table(&[
        "SNAPSHOT", "UUID", "STATE", "VERSION", "ENDED", "INDICES", "OBJECTS", "BYTES", "PINNED",
    ]);
    for row in rows(&answer) {
        table.add_row([
            text(&row["name"]),
            text(&row["uuid"]),
            text(&row["state"]),
            text(&row["version"]),
            text(&row["ended_at"]),
            rows(&row["indices"]).len().to_string(),
            text(&row["objects"]),
            text(&row["bytes"]),
            if row["pinned"].as_bool() == Some(true) {
                "yes".to_owned()
            } else {
                String::new()
            },
        ]);
    }
    say!("{table}");
    Ok(())
}
