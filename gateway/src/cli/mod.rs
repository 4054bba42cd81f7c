//! The command line. `snapgate` alone is `snapgate serve`; all but `serve`, `check-config` and `certs` ask the
//! admin API. Exit 0 done, 1 refused or failed, 2 bad usage, 3 not reachable.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Lookup};
use crate::tls::Tls;

#[macro_use]
mod say;

mod adopt;
mod audit;
mod certificates;
mod client;
mod config_check;
mod contents;
mod explain;
mod history;
mod job;
mod lock;
mod mirror;
mod promotion;
mod show;
mod verify;
mod warnings;
mod watch;

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
#[command(next_help_heading = "Of every command")]
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
    /// Certificate of this command, where `admin.client_ca` asks for one
    #[arg(
        long,
        global = true,
        env = "SNAPGATE_CLIENT_CERT",
        value_name = "FILE",
        requires = "client_key"
    )]
    pub client_cert: Option<PathBuf>,
    /// Its key
    #[arg(
        long,
        global = true,
        env = "SNAPGATE_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_cert"
    )]
    pub client_key: Option<PathBuf>,
    /// Who signed the admin API's certificate [default: the system's authorities]
    #[arg(long, global = true, env = "SSL_CERT_FILE", value_name = "FILE")]
    pub ca: Option<PathBuf>,
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
        /// Show it again every second; a gateway that goes away is waited for
        #[arg(long)]
        watch: bool,
    },
    #[command(flatten)]
    Lock(lock::Verb),
    #[command(flatten)]
    Contents(contents::Verb),
    #[command(flatten)]
    History(history::Verb),
    #[command(flatten)]
    Warnings(warnings::Verb),
    #[command(flatten)]
    Promotion(promotion::Verb),
    /// The mirrors of a repository
    #[command(subcommand)]
    Mirror(mirror::Mirror),
    /// Certificates for development
    #[command(subcommand)]
    Certs(certificates::Verb),
    /// The audit log
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Wait for a job of the gateway, and print its result
    Job {
        /// Its number, as the command that began it printed it
        id: String,
        /// Print it as it is now
        #[arg(long)]
        no_wait: bool,
    },
}

impl Global {
    /// What this command shows a gateway that asks for it.
    fn identity(&self) -> Option<Tls> {
        let (cert, key) = self.client_cert.clone().zip(self.client_key.clone())?;
        Some(Tls { cert, key })
    }

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
        Command::Lock(verb) => lock::run(&Client::new(global)?, global.json, verb).await,
        Command::Contents(verb) => contents::run(&Client::new(global)?, global.json, verb).await,
        Command::History(verb) => history::run(&Client::new(global)?, global.json, verb).await,
        Command::Warnings(verb) => warnings::run(&Client::new(global)?, global.json, verb).await,
        Command::Promotion(verb) => promotion::run(&Client::new(global)?, global.json, verb).await,
        Command::Mirror(command) => mirror::run(&Client::new(global)?, global.json, command).await,
        Command::Certs(verb) => certificates::run(verb),
        Command::Audit(verb) => audit::run(&Client::new(global)?, global.json, verb).await,
        Command::Job { id, no_wait } => job::show(&Client::new(global)?, &id, no_wait).await,
    }
}

/// What the configuration says where the command line is silent.
fn plan(global: &Global) -> Result<config::Plan, Failure> {
    config::load(&global.lookup()).map_err(|e| Failure::Refused(e.to_string()))
}
