//! Commands that the gateway carries out as jobs.

use std::time::Duration;

use serde_json::Value;

use super::client::{Client, Failure, segment};
use super::show::text;

const GLANCE: Duration = Duration::from_millis(250);

/// Starts a job and waits for its result. None: nobody waits, and the job was printed.
pub async fn run(
    client: &Client,
    path: &str,
    body: &Value,
    no_wait: bool,
) -> Result<Option<Value>, Failure> {
    let job = client.post(path, body).await?;
    if no_wait {
        println!("{job:#}");
        return Ok(None);
    }
    wait(client, &text(&job["id"])).await.map(Some)
}

/// Shows progress on a terminal until the job ends; its result.
pub async fn wait(client: &Client, id: &str) -> Result<Value, Failure> {
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
