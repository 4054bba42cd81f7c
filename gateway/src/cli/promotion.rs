//! `failback` brings an old primary back. `promote` says what it would do, does it, says what it did; `drill` rehearses it.

use serde_json::{Value, json};

use super::client::{Client, Failure, segment};
use super::contents::wait;
use super::show::text;

/// What an operator wrote.
pub struct Promote<'a> {
    pub repository: &'a str,
    pub store: &'a str,
    pub writer: &'a str,
    pub reason: Option<&'a str>,
    pub dry_run: bool,
    pub no_wait: bool,
}

pub async fn promote(client: &Client, as_json: bool, asked: Promote<'_>) -> Result<(), Failure> {
    let body = json!({
        "store": asked.store,
        "writer": asked.writer,
        "reason": asked.reason,
        "dry_run": asked.dry_run,
    });
    let path = format!("/v1/repositories/{}/promote", segment(asked.repository));
    let answer = client.post(&path, &body).await?;
    if asked.no_wait {
        println!("{answer:#}");
        return Ok(());
    }
    let result = if asked.dry_run {
        answer
    } else {
        wait(client, &text(&answer["id"])).await?
    };
    if as_json {
        println!("{result:#}");
    } else {
        show(asked.repository, &result);
    }
    match result["refused"].as_str() {
        Some(why) => Err(Failure::Refused(format!("it would be refused: {why}"))),
        None => Ok(()),
    }
}

pub fn show(repository: &str, result: &Value) {
    let done = result["seconds"].as_f64();
    let verb = if done.is_some() { "is" } else { "would be" };
    println!(
        "repository {repository} {verb} on store {}, written by {} at epoch {}",
        text(&result["store"]),
        text(&result["writer"]),
        text(&result["epoch"])
    );
    let point = &result["restore_point"];
    if point.is_object() {
        println!(
            "restore point: index-{} of {}, {} snapshots",
            text(&point["generation"]),
            text(&point["committed_at"]),
            point["snapshots"].as_array().map_or(0, Vec::len)
        );
    }
    missing(&result["missing"]);
    if done.is_none() {
        for check in result["checks"].as_array().map_or(&[][..], Vec::as_slice) {
            let mark = if check["ok"].as_bool() == Some(true) {
                "ok "
            } else {
                "NO "
            };
            println!(
                "  {mark} {}: {}",
                text(&check["check"]),
                text(&check["found"])
            );
        }
    }
    if let Some(seconds) = done {
        println!("it took {seconds:.2} s");
    }
    for step in result["steps"].as_array().map_or(&[][..], Vec::as_slice) {
        println!("\n{}", text(step));
    }
}

fn missing(missing: &Value) {
    if missing["known"].as_bool() != Some(true) {
        println!(
            "missing: unknown; the old primary cannot be asked. What it acknowledged after this restore point is found when it returns, and kept aside"
        );
        return;
    }
    println!(
        "missing: {} restore points, {} objects, {} bytes",
        text(&missing["restore_points"]),
        text(&missing["objects"]),
        text(&missing["bytes"])
    );
    for name in missing["snapshots"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
    {
        println!("  snapshot {}", text(name));
    }
}

pub async fn failback(
    client: &Client,
    as_json: bool,
    repository: &str,
    body: &Value,
    no_wait: bool,
) -> Result<(), Failure> {
    let path = format!("/v1/repositories/{}/failback", segment(repository));
    let job = client.post(&path, body).await?;
    if no_wait {
        println!("{job:#}");
        return Ok(());
    }
    let result = wait(client, &text(&job["id"])).await?;
    if as_json {
        println!("{result:#}");
        return Ok(());
    }
    show(repository, &result);
    let aside = &result["kept_aside"];
    println!(
        "kept aside in .snapgate/kept/{repository}/ of the store: {} objects, {} bytes that only the old primary had",
        text(&aside["objects"]),
        text(&aside["bytes"])
    );
    if let Some(store) = result["mirror"].as_str() {
        println!("store {store} is its mirror");
    }
    Ok(())
}

/// Exit 1 if the mirror would not restore.
pub async fn drill(
    client: &Client,
    as_json: bool,
    (repository, store, snapshot): (&str, &str, Option<&str>),
    no_wait: bool,
) -> Result<(), Failure> {
    let path = format!("/v1/repositories/{}/drill", segment(repository));
    let job = client
        .post(&path, &json!({ "store": store, "snapshot": snapshot }))
        .await?;
    if no_wait {
        println!("{job:#}");
        return Ok(());
    }
    let result = wait(client, &text(&job["id"])).await?;
    if as_json {
        println!("{result:#}");
    } else {
        let point = &result["restore_point"];
        println!(
            "store {store} is at root index-{} of {}, {} s old",
            text(&point["generation"]),
            text(&point["committed_at"]),
            text(&result["age_seconds"])
        );
        println!(
            "{} objects and {} bytes are needed; reading them would take about {} s",
            text(&result["objects"]),
            text(&result["bytes"]),
            text(&result["restore_seconds"])
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
        "store '{store}' would not restore repository '{repository}' whole"
    )))
}
