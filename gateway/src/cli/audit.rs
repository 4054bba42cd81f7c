//! `audit tail` and `audit verify`.

use clap::Subcommand;

use super::client::{Client, Failure};
use super::show::{table, text};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The newest records
    Tail {
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Check the hash chain from its first record on, and replay the history of all writers
    Verify,
}

pub async fn run(client: &Client, as_json: bool, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Tail { limit } => tail(client, as_json, limit).await,
        Verb::Verify => verify(client, as_json).await,
    }
}

async fn tail(client: &Client, as_json: bool, limit: usize) -> Result<(), Failure> {
    let answer = client.get(&format!("/v1/audit?limit={limit}")).await?;
    if as_json {
        say!("{answer:#}");
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
    say!("{table}");
    Ok(())
}

async fn verify(client: &Client, as_json: bool) -> Result<(), Failure> {
    let answer = client.get("/v1/audit/verify").await?;
    if as_json {
        say!("{answer:#}");
    }
    if answer["ok"].as_bool() == Some(true) {
        if !as_json {
            say!(
                "the audit log's hash chain is whole; replayed: {} moves of locks, {} epochs, {} committed roots, one writer at a time",
                text(&answer["moves"]),
                text(&answer["epochs"]),
                text(&answer["roots"])
            );
        }
        return Ok(());
    }
    Err(Failure::Refused(
        match answer["violation"]["sentence"].as_str() {
            Some(sentence) => format!(
                "the audit log's hashes fit, but it is no history of one writer. {sentence}"
            ),
            None => format!(
                "the audit log was changed: the first bad record is {}",
                text(&answer["first_bad_sequence"])
            ),
        },
    ))
}
