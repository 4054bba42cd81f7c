//! Commands that the gateway carries out as jobs.
//!
//! A job belongs to the gateway: whoever waits for one and goes away (Ctrl-C) does not end it.

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
        say!("{job:#}");
        return Ok(None);
    }
    wait(client, &text(&job["id"])).await.map(Some)
}

/// The result of a job that somebody began, or the job as it is now.
pub async fn show(client: &Client, id: &str, no_wait: bool) -> Result<(), Failure> {
    let job = client.get(&path(id)).await?;
    let shown = if no_wait {
        job
    } else {
        wait(client, id).await?
    };
    say!("{shown:#}");
    Ok(())
}

/// Shows progress on a terminal until the job ends; its result.
pub async fn wait(client: &Client, id: &str) -> Result<Value, Failure> {
    let left = async {
        match tokio::signal::ctrl_c().await {
            Ok(()) => {}
            // Then the signal ends the process.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = watch(client, id) => result,
        () = left => Err(Failure::LeftAlone(format!(
            "job {id} goes on in the gateway; its result: snapgate job {id}"
        ))),
    }
}

async fn watch(client: &Client, id: &str) -> Result<Value, Failure> {
    let bar = indicatif::ProgressBar::new(0);
    loop {
        let job = client.get(&path(id)).await.map_err(|e| lost(e, id))?;
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
            Some(_) | None => {
                bar.finish_and_clear();
                return Err(Failure::Refused(text(&job["error"])));
            }
        }
    }
}

fn path(id: &str) -> String {
    format!("/v1/jobs/{}", segment(id))
}

/// A gateway that went away while it worked.
fn lost(failure: Failure, id: &str) -> Failure {
    match failure {
        Failure::Unreachable(why) => Failure::Unreachable(format!(
            "{why}; what became of job {id} is to be looked at when it is back (a restart forgets its jobs, and carries on adoptions alone)"
        )),
        other @ (Failure::Refused(_) | Failure::LeftAlone(_)) => other,
    }
}
