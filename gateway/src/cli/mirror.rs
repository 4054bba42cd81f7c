//! `mirror status`, `mirror pause`, `mirror resume`, `mirror resync`, `mirror verify`.

use clap::Subcommand;
use comfy_table::Table;
use serde_json::{Value, json};

use super::client::{Client, Failure, segment};
use super::job;
use super::show::{REPOSITORY, table, text};

const STORE: &str = "The store that the mirror is in";

#[derive(Debug, Subcommand)]
pub enum Mirror {
    /// Each mirror: state, lag, newest restore point
    Status {
        /// Of this repository alone
        repository: Option<String>,
    },
    /// Stop a mirror until it is resumed; what it needs is kept meanwhile
    Pause {
        #[arg(help = REPOSITORY)]
        repository: String,
        #[arg(help = STORE)]
        store: String,
        /// A mirror in barrier mode: acknowledge commits without it from now on
        #[arg(long)]
        degrade: bool,
    },
    /// Go on after a pause
    Resume {
        #[arg(help = REPOSITORY)]
        repository: String,
        #[arg(help = STORE)]
        store: String,
    },
    /// Compare source and target from listings and make them equal
    Resync {
        #[arg(help = REPOSITORY)]
        repository: String,
        #[arg(help = STORE)]
        store: String,
    },
    /// Compare names and sizes, with --deep the bytes
    Verify {
        #[arg(help = REPOSITORY)]
        repository: String,
        #[arg(help = STORE)]
        store: String,
        /// Read the mirror's bytes and compare their hashes
        #[arg(long)]
        deep: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
}

pub async fn run(client: &Client, as_json: bool, command: Mirror) -> Result<(), Failure> {
    match command {
        Mirror::Status { repository } => status(client, as_json, repository.as_deref()).await,
        Mirror::Pause {
            repository,
            store,
            degrade,
        } => {
            order(
                client,
                as_json,
                &repository,
                &store,
                "pause",
                json!({ "degrade": degrade }),
            )
            .await
        }
        Mirror::Resume { repository, store } => {
            order(client, as_json, &repository, &store, "resume", Value::Null).await
        }
        Mirror::Resync { repository, store } => {
            order(client, as_json, &repository, &store, "resync", Value::Null).await
        }
        Mirror::Verify {
            repository,
            store,
            deep,
            no_wait,
        } => verify(client, as_json, (&repository, &store), deep, no_wait).await,
    }
}

async fn status(client: &Client, as_json: bool, repository: Option<&str>) -> Result<(), Failure> {
    let names: Vec<String> = match repository {
        Some(name) => vec![name.to_owned()],
        None => {
            let all = client.get("/v1/repositories").await?;
            let all = all.as_array().cloned().unwrap_or_default();
            all.iter().map(|r| text(&r["name"])).collect()
        }
    };
    if as_json {
        return print_mirrors(client, repository, names).await;
    }
    let mut found = Vec::new();
    for name in names {
        let path = format!("/v1/repositories/{}", segment(&name));
        found.push((name, client.get(&path).await?));
    }
    let some = |(_, repository): &(String, Value)| !all(&repository["mirrors"]).is_empty();
    if found.iter().any(some) {
        say!("{}", mirrors_table(&found));
    }
    for (name, repository) in &found {
        for line in lines(name, repository) {
            say!("{line}");
        }
    }
    Ok(())
}

/// As the API has them: of one repository a list, of all a list for each name.
async fn print_mirrors(
    client: &Client,
    repository: Option<&str>,
    names: Vec<String>,
) -> Result<(), Failure> {
    let mut found = serde_json::Map::new();
    for name in names {
        let path = format!("/v1/repositories/{}/mirrors", segment(&name));
        found.insert(name, client.get(&path).await?);
    }
    match repository.and_then(|name| found.remove(name)) {
        Some(mirrors) => say!("{mirrors:#}"),
        None => say!("{:#}", Value::Object(found)),
    }
    Ok(())
}

fn all(mirrors: &Value) -> &[Value] {
    mirrors.as_array().map_or(&[], Vec::as_slice)
}

/// What stands below the table.
fn lines(name: &str, repository: &Value) -> Vec<String> {
    let mirrors = all(&repository["mirrors"]);
    let mut lines = Vec::new();
    if mirrors.is_empty() {
        lines.push(format!("repository {name} has no mirror"));
    }
    for mirror in mirrors {
        let why = why(mirror).into_iter();
        lines.extend(why.map(|why| format!("{name} -> {}: {why}", text(&mirror["store"]))));
    }
    if let Some(left) = repository["left_behind"].as_str() {
        lines.push(format!(
            "{name} -> {left}: not mirrored; {name} was promoted from there to {}. To bring it back: snapgate failback {name} --store {left}",
            text(&repository["store"])
        ));
    }
    lines
}

/// What a person should know beyond the numbers.
fn why(mirror: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(stalled) = mirror["stalled_on"].as_object() {
        let key = stalled["key"].as_str().unwrap_or("the target");
        lines.push(format!("stalled on {key}: {}", text(&stalled["reason"])));
    }
    if let Some(resync) = mirror["resync"].as_object() {
        lines.push(format!(
            "reconciling ({}): {} {} of {}",
            text(&resync["reason"]),
            text(&resync["phase"]),
            text(&resync["done"]),
            text(&resync["total"])
        ));
    }
    if let Some(trouble) = mirror["trouble"].as_str()
        && mirror["stalled_on"]["reason"].as_str() != Some(trouble)
    {
        lines.push(format!("last failure: {trouble}"));
    }
    lines
}

pub fn mirrors_table(found: &[(String, Value)]) -> Table {
    let mut table = table(&[
        "REPOSITORY",
        "MIRROR",
        "MODE",
        "STATE",
        "NEWEST SNAPSHOT THERE",
        "ENDED",
        "ROOT",
        "RESTORE POINTS BEHIND",
        "SECONDS",
        "OPERATIONS",
        "BYTES",
        "CATCHES UP IN",
        "FAILED",
    ]);
    for (name, repository) in found {
        for mirror in all(&repository["mirrors"]) {
            let root = &mirror["newest_restore_point"];
            let lag = &mirror["lag"];
            let seconds = mirror["seconds_to_catch_up"].as_u64();
            table.add_row([
                name.clone(),
                text(&mirror["store"]),
                text(&mirror["mode"]),
                text(&mirror["state"]),
                text(&root["newest_snapshot"]["name"]),
                text(&root["newest_snapshot"]["ended_at"]),
                text(&root["generation"]),
                text(&lag["restore_points"]),
                text(&lag["seconds"]),
                text(&lag["operations"]),
                text(&lag["bytes"]),
                seconds.map_or_else(String::new, |s| format!("{s} s")),
                text(&mirror["failed"]),
            ]);
        }
    }
    table
}

async fn order(
    client: &Client,
    as_json: bool,
    repository: &str,
    store: &str,
    verb: &str,
    body: Value,
) -> Result<(), Failure> {
    let answer = client.post(&path(repository, store, verb), &body).await?;
    if as_json {
        say!("{answer:#}");
    } else {
        say!("{repository} -> {store}: {}", text(&answer["state"]));
    }
    Ok(())
}

/// Exit 1 with the list of what is wrong.
pub async fn verify(
    client: &Client,
    as_json: bool,
    (repository, store): (&str, &str),
    deep: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    let path = path(repository, store, "verify");
    let Some(result) = job::run(client, &path, &json!({ "deep": deep }), no_wait).await? else {
        return Ok(());
    };
    if as_json {
        say!("{result:#}");
    } else {
        say!(
            "root {}, {} objects, {} bytes, as of sequence {}",
            text(&result["generation"]),
            text(&result["blobs"]),
            text(&result["bytes"]),
            text(&result["applied_seq"])
        );
        for problem in all(&result["problems"]) {
            say!("{}", wrong(problem));
        }
    }
    if result["ok"].as_bool() == Some(true) {
        if !as_json {
            say!("the mirror is what it should be");
        }
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "mirror '{store}' of repository '{repository}' is not what it should be; the scrub mends it, `snapgate mirror resync {repository} {store}` does it now"
    )))
}

/// What is wrong with an object, and which snapshots that hits.
fn wrong(problem: &Value) -> String {
    let wrong = format!("{}: {}", text(&problem["kind"]), text(&problem["key"]));
    let hit: Vec<String> = all(&problem["snapshots"]).iter().map(text).collect();
    if hit.is_empty() {
        return wrong;
    }
    format!("{wrong} (needed by snapshots {})", hit.join(", "))
}

fn path(repository: &str, store: &str, verb: &str) -> String {
    format!(
        "/v1/repositories/{}/mirrors/{}/{verb}",
        segment(repository),
        segment(store)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_mirror_is_told_with_the_snapshots_that_it_hits() {
        let missing = json!({ "kind": "missing", "key": "base/a", "snapshots": ["one", "two"] });
        assert_eq!(
            wrong(&missing),
            "missing: base/a (needed by snapshots one, two)"
        );
        let extra = json!({ "kind": "extra", "key": "base/b", "snapshots": [] });
        assert_eq!(wrong(&extra), "extra: base/b");
    }

    #[test]
    fn a_store_that_a_promotion_left_is_said_to_be_mirrored_by_nobody() {
        let promoted = json!({ "store": "us", "mirrors": [], "left_behind": "eu" });
        assert_eq!(
            lines("prod", &promoted),
            [
                "repository prod has no mirror",
                "prod -> eu: not mirrored; prod was promoted from there to us. To bring it back: snapgate failback prod --store eu",
            ]
        );
        let healthy = json!({ "store": "eu", "mirrors": [{ "store": "us" }], "left_behind": null });
        assert!(lines("prod", &healthy).is_empty());
    }
}
