//! The command line. `snapgate` alone is `snapgate serve`; all but `serve`, `check-config` and `certs` ask the
//! admin API. Exit 0 done, 1 refused or failed, 2 bad usage, 3 not reachable.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Lookup};
use crate::telemetry::clock;

mod adopt;
mod client;
mod config_check;
mod contents;
mod history;
mod mirror;
mod promotion;
mod show;
mod warnings;

use client::{Client, Failure};

/// A storage gateway for Elasticsearch and OpenSearch snapshot repositories.
#[derive(Debug, Parser)]
#[command(name = "snapgate", version, about)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args, Clone)]
pub struct Global {
    /// Configuration file [default: ./snapgate.toml, else the embedded default]
    #[arg(long, global = true, env = "SNAPGATE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the embedded default keeps everything [default: ./snapgate-data]
    #[arg(long, global = true, env = "SNAPGATE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// S3 address, port 0 = any free one
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub s3_listen: Option<String>,
    /// Admin address, port 0 = any free one
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// Admin API of the running gateway [default: as configured]
    #[arg(long, global = true, env = "SNAPGATE_ADMIN", value_name = "URL")]
    pub admin: Option<String>,
    /// File with the admin token [default: as configured]
    #[arg(long, global = true, env = "SNAPGATE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the admin API's answer as it is
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve,
    /// Check the configuration and the stores, and say what each store can do
    CheckConfig,
    /// Per repository: lock, holder, epoch, newest root, objects and bytes
    Status {
        repository: Option<String>,
        /// Show it again every second
        #[arg(long)]
        watch: bool,
    },
    /// Hand the writer lock to a cluster
    Lock {
        repository: String,
        #[arg(long, value_name = "CLUSTER")]
        writer: String,
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
        repository: String,
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Stop all writes to a repository
    Freeze {
        repository: String,
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Allow writes to a frozen repository again
    Thaw {
        repository: String,
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Rebuild the catalog from the store and take an epoch above its anchors
        #[arg(long)]
        recover: bool,
    },
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
    /// Committed roots that the retention still holds, newest first
    RestorePoints { repository: String },
    /// Snapshots that no commit may drop
    Pins { repository: String },
    /// Refuse commits that drop this snapshot
    Pin {
        repository: String,
        snapshot: String,
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let commits drop this snapshot again
    Unpin {
        repository: String,
        snapshot: String,
    },
    /// Make a restore point the newest root again (on a frozen repository)
    Rollback {
        repository: String,
        /// Number of the restore point
        #[arg(long, value_name = "N")]
        to: u64,
        /// Only say what would come back and go away
        #[arg(long)]
        dry_run: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Put a deleted snapshot back into the newest root (on a frozen repository)
    Undelete {
        repository: String,
        /// Name or uuid
        snapshot: String,
        /// Only say what would come back
        #[arg(long)]
        dry_run: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Snapshots and objects that came and went from one restore point to another
    Diff {
        repository: String,
        from: u64,
        to: u64,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
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
    /// Fail over: a mirror becomes the primary
    Promote {
        repository: String,
        #[arg(long)]
        store: String,
        /// Who writes from then on
        #[arg(long, value_name = "CLUSTER")]
        writer: String,
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Say what it would do and what would be lost, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Print the job and do not wait for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Bring an old primary's store back: it is reconciled, and is the primary again
    Failback {
        repository: String,
        /// The store to bring back [default: where it was before its last promotion]
        #[arg(long)]
        store: Option<String>,
        /// Who writes from then on [default: who does now]
        #[arg(long, value_name = "CLUSTER")]
        writer: Option<String>,
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[arg(long)]
        no_wait: bool,
    },
    /// Rehearse a restore from a mirror; production is not touched
    Drill {
        repository: String,
        #[arg(long)]
        store: String,
        /// Only what this snapshot needs
        #[arg(long, value_name = "NAME")]
        snapshot: Option<String>,
        #[arg(long)]
        no_wait: bool,
    },
    /// The mirrors of a repository
    #[command(subcommand)]
    Mirror(mirror::Mirror),
    /// Certificates for development
    #[command(subcommand)]
    Certs(Certs),
    /// The audit log
    #[command(subcommand)]
    Audit(Audit),
}

#[derive(Debug, Subcommand)]
pub enum Certs {
    /// Make a development authority with a server and a client certificate in DIR
    Dev {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Names and addresses of the server
        #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
        names: Vec<String>,
    },
    /// Replace the server and client certificates in DIR by new ones of the same authority
    Rotate {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        #[arg(long = "name", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
        names: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest records
    Tail {
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Check the hash chain from its first record on
    Verify,
}

impl Global {
    #[must_use]
    pub fn lookup(&self) -> Lookup {
        Lookup {
            config: self.config.clone(),
            data: self.data.clone(),
            s3_listen: self.s3_listen.clone(),
            admin_listen: self.admin_listen.clone(),
        }
    }
}

/// Runs a command other than `serve`.
pub async fn run(global: &Global, command: Command) -> ExitCode {
    match dispatch(global, command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("snapgate: {failure}");
            failure.exit_code()
        }
    }
}

async fn dispatch(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve | Command::CheckConfig => config_check::run(global).await,
        Command::Status { repository, watch } => {
            show::status(
                &Client::new(global)?,
                global.json,
                repository.as_deref(),
                watch,
            )
            .await
        }
        Command::Lock {
            repository,
            writer,
            reason,
            force,
            wait_mirror,
        } => {
            let body = serde_json::json!({ "writer": writer, "reason": reason, "force": force, "wait_mirror": wait_mirror });
            move_lock(global, &repository, "lock", body).await
        }
        Command::Unlock { repository, reason } => {
            move_lock(
                global,
                &repository,
                "unlock",
                serde_json::json!({ "reason": reason }),
            )
            .await
        }
        Command::Freeze { repository, reason } => {
            move_lock(
                global,
                &repository,
                "freeze",
                serde_json::json!({ "reason": reason }),
            )
            .await
        }
        Command::Thaw {
            repository,
            reason,
            recover,
        } => {
            move_lock(
                global,
                &repository,
                "thaw",
                serde_json::json!({ "reason": reason, "recover": recover }),
            )
            .await
        }
        Command::Adopt {
            repository,
            no_wait,
        } => adopt::run(&Client::new(global)?, global.json, &repository, no_wait).await,
        Command::Snapshots { repository } => {
            contents::snapshots(&Client::new(global)?, global.json, &repository).await
        }
        Command::Explain { repository, key } => {
            contents::explain(&Client::new(global)?, &repository, &key).await
        }
        Command::Verify {
            repository,
            deep,
            no_wait,
        } => {
            contents::verify(
                &Client::new(global)?,
                global.json,
                &repository,
                deep,
                no_wait,
            )
            .await
        }
        Command::RestorePoints { repository } => {
            history::restore_points(&Client::new(global)?, global.json, &repository).await
        }
        Command::Pins { repository } => {
            history::pins(&Client::new(global)?, global.json, &repository).await
        }
        Command::Pin {
            repository,
            snapshot,
            reason,
        } => {
            let client = Client::new(global)?;
            history::pin(&client, global.json, &repository, &snapshot, reason).await
        }
        Command::Unpin {
            repository,
            snapshot,
        } => history::unpin(&Client::new(global)?, global.json, &repository, &snapshot).await,
        Command::Rollback {
            repository,
            to,
            dry_run,
            no_wait,
        } => {
            let body = serde_json::json!({ "to": to, "dry_run": dry_run });
            let how = history::How {
                as_json: global.json,
                no_wait,
            };
            history::bring_back(&Client::new(global)?, how, &repository, "rollback", &body).await
        }
        Command::Undelete {
            repository,
            snapshot,
            dry_run,
            no_wait,
        } => {
            let body = serde_json::json!({ "snapshot": snapshot, "dry_run": dry_run });
            let how = history::How {
                as_json: global.json,
                no_wait,
            };
            history::bring_back(&Client::new(global)?, how, &repository, "undelete", &body).await
        }
        Command::Diff {
            repository,
            from,
            to,
            no_wait,
        } => {
            let how = history::How {
                as_json: global.json,
                no_wait,
            };
            history::diff(&Client::new(global)?, how, &repository, from, to).await
        }
        Command::Warnings { repository } => {
            warnings::list(&Client::new(global)?, global.json, &repository).await
        }
        Command::Acknowledge {
            repository,
            kind,
            subject,
        } => {
            warnings::acknowledge(
                &Client::new(global)?,
                &repository,
                &kind,
                subject.as_deref(),
            )
            .await
        }
        Command::Events => warnings::follow(&Client::new(global)?, global.json).await,
        Command::Promote {
            repository,
            store,
            writer,
            reason,
            dry_run,
            no_wait,
        } => {
            let asked = promotion::Promote {
                repository: &repository,
                store: &store,
                writer: &writer,
                reason: reason.as_deref(),
                dry_run,
                no_wait,
            };
            promotion::promote(&Client::new(global)?, global.json, asked).await
        }
        Command::Failback {
            repository,
            store,
            writer,
            reason,
            no_wait,
        } => {
            let body = serde_json::json!({ "store": store, "writer": writer, "reason": reason });
            promotion::failback(
                &Client::new(global)?,
                global.json,
                &repository,
                &body,
                no_wait,
            )
            .await
        }
        Command::Drill {
            repository,
            store,
            snapshot,
            no_wait,
        } => {
            let wanted = (&*repository, &*store, snapshot.as_deref());
            promotion::drill(&Client::new(global)?, global.json, wanted, no_wait).await
        }
        Command::Mirror(command) => mirror::run(&Client::new(global)?, global.json, command).await,
        Command::Certs(Certs::Dev { dir, names }) => {
            made(certs::development(&dir, &names, clock::now()))
        }
        Command::Certs(Certs::Rotate { dir, names }) => {
            made(certs::rotate(&dir, &names, clock::now()))
        }
        Command::Audit(Audit::Tail { limit }) => {
            show::audit_tail(&Client::new(global)?, global.json, limit).await
        }
        Command::Audit(Audit::Verify) => {
            show::audit_verify(&Client::new(global)?, global.json).await
        }
    }
}

async fn move_lock(
    global: &Global,
    repository: &str,
    verb: &str,
    body: serde_json::Value,
) -> Result<(), Failure> {
    let answer = Client::new(global)?
        .post(
            &format!("/v1/repositories/{}/{verb}", client::segment(repository)),
            &body,
        )
        .await?;
    show::lock(global.json, &answer);
    Ok(())
}

fn made(paths: Result<certs::Paths, certs::Error>) -> Result<(), Failure> {
    let paths = paths.map_err(|e| Failure::Refused(e.to_string()))?;
    println!("authority:  {}", paths.authority.certificate.display());
    println!(
        "server:     {} and {}",
        paths.server.certificate.display(),
        paths.server.key.display()
    );
    println!(
        "client:     {} and {}",
        paths.client.certificate.display(),
        paths.client.key.display()
    );
    Ok(())
}

/// What the configuration says where the command line is silent.
fn plan(global: &Global) -> Result<config::Plan, Failure> {
    config::load(&global.lookup()).map_err(|e| Failure::Refused(e.to_string()))
}
