//! `lock`, `unlock`, `freeze`, `thaw`: who may write.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, Failure, repository_path};
use super::show::{REPOSITORY, text};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Hand the writer lock to a cluster
    Lock {
        #[arg(help = REPOSITORY)]
        repository: String,
        /// The cluster that may write from then on
        #[arg(long, value_name = "CLUSTER")]
        writer: String,
        /// Kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Do not wait for the old writer's goodwill; its open writes are resolved all the same
        #[arg(long)]
        force: bool,
        /// First wait until this mirror has everything
        #[arg(long, value_name = "STORE")]
        wait_mirror: Option<String>,
    },
    /// Release the writer lock
    Unlock {
        #[arg(help = REPOSITORY)]
        repository: String,
        /// Kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Stop all writes to a repository
    Freeze {
        #[arg(help = REPOSITORY)]
        repository: String,
        /// Told to everybody who wants to write meanwhile
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Allow writes to a frozen repository again
    Thaw {
        #[arg(help = REPOSITORY)]
        repository: String,
        /// Kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Rebuild the catalog from the store and take an epoch above its anchors
        #[arg(long)]
        recover: bool,
    },
}

pub async fn run(client: &Client, as_json: bool, verb: Verb) -> Result<(), Failure> {
    let (path, body) = request(verb);
    let answer = client.post(&path, &body).await?;
    show(as_json, &answer);
    Ok(())
}

fn request(verb: Verb) -> (String, Value) {
    match verb {
        Verb::Lock {
            repository,
            writer,
            reason,
            force,
            wait_mirror,
        } => (
            repository_path(&repository, "lock"),
            json!({ "writer": writer, "reason": reason, "force": force, "wait_mirror": wait_mirror }),
        ),
        Verb::Unlock { repository, reason } => (
            repository_path(&repository, "unlock"),
            json!({ "reason": reason }),
        ),
        Verb::Freeze { repository, reason } => (
            repository_path(&repository, "freeze"),
            json!({ "reason": reason }),
        ),
        Verb::Thaw {
            repository,
            reason,
            recover,
        } => (
            repository_path(&repository, "thaw"),
            json!({ "reason": reason, "recover": recover }),
        ),
    }
}

fn show(as_json: bool, answer: &Value) {
    if as_json {
        say!("{answer:#}");
        return;
    }
    say!(
        "{}: {} (epoch {})",
        text(&answer["repository"]),
        describe(answer),
        text(&answer["epoch"])
    );
    for line in unconfirmed(answer) {
        say!("{line}");
    }
    for step in answer["steps"].as_array().map_or(&[][..], Vec::as_slice) {
        say!("\n{}", text(step));
    }
}

fn unconfirmed(answer: &Value) -> Vec<String> {
    let one = |mirror: &Value| {
        format!(
            "not confirmed: barrier mirror {} ({}) lacks {} restore points; see: snapgate mirror status {}",
            text(&mirror["store"]),
            text(&mirror["state"]),
            text(&mirror["restore_points"]),
            text(&answer["repository"])
        )
    };
    let all = answer["unconfirmed"].as_array();
    all.into_iter().flatten().map(one).collect()
}

fn describe(lock: &Value) -> String {
    match (lock["state"].as_str(), lock["holder"].as_str()) {
        (Some("held"), Some(holder)) => format!("held by {holder}"),
        (Some(state), _) => state.to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_over_says_which_barrier_mirrors_lack_roots() {
        let answer = json!({ "repository": "prod", "unconfirmed": [{ "store": "us", "state": "lagging", "restore_points": 2 }] });
        assert_eq!(
            unconfirmed(&answer),
            [
                "not confirmed: barrier mirror us (lagging) lacks 2 restore points; see: snapgate mirror status prod"
            ]
        );
        assert!(unconfirmed(&json!({ "repository": "prod", "unconfirmed": [] })).is_empty());
    }
}
