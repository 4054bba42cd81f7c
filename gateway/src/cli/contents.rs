//! `snapshots`, `explain`, `verify`.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Failure, segment};
use super::show::{table, text};

const GLANCE: Duration = Duration::from_millis(250);

pub async fn snapshots(client: &Client, as_json: bool, repository: &str) -> Result<(), Failure> {
    let answer = client
        .get(&format!(
            "/v1/repositories/{}/snapshots",
            segment(repository)
        ))
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

pub async fn explain(client: &Client, repository: &str, key: &str) -> Result<(), Failure> {
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
pub async fn verify(
    client: &Client,
    as_json: bool,
    repository: &str,
    deep: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    let job = client
        .post(
            &format!("/v1/repositories/{}/verify", segment(repository)),
            &json!({ "deep": deep }),
        )
        .await?;
    if no_wait {
        println!("{job:#}");
        return Ok(());
    }
    let result = wait(client, &text(&job["id"])).await?;
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

/// Shows progress on a terminal until the job ends; its result.
pub(super) async fn wait(client: &Client, id: &str) -> Result<Value, Failure> {
    let bar = indicatif::ProgressBar::new(0);
    loop {
        let job = client.get(&format!("/v1/jobs/{}", segment(id))).await?;
        let done = job["progress"]["done"].as_u64().unwrap_or(0);
        match job["progress"]["total"].as_u64() {
            Some(0) | None => {
                bar.set_style(indicatif::ProgressStyle::default_spinner());
                let bytes = job["progress"]["bytes"].as_u64().unwrap_or(0);
                bar.set_message(format!("{done} objects, {bytes} bytes"));
                bar.tick();
            }
            Some(total) => {
                bar.set_style(indicatif::ProgressStyle::default_bar());
                bar.set_length(total);
                bar.set_position(done);
            }
        }
        match job["state"].as_str() {
            Some("done") => {
                bar.finish_and_clear();
                return Ok(job["result"].clone());
            }
            Some("running") => tokio::time::sleep(GLANCE).await,
            Some(_) | None => return Err(Failure::Refused(text(&job["error"]))),
        }
    }
}
