//! snapgate: a storage gateway for Elasticsearch and OpenSearch snapshot repositories.

use std::process::ExitCode;

use clap::Parser;

mod admin;
mod appliers;
mod checkpoint;
mod cli;
mod config;
mod digest;
mod frontend;
mod keys;
mod mirror;
mod random;
mod reload;
mod repository;
mod serve;
#[cfg(test)]
mod simulation;
mod state;
mod stores;
mod telemetry;
mod tls;
mod watch;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => return failed(&format!("cannot start: {e}")),
    };
    match cli.command.unwrap_or(cli::Command::Serve) {
        cli::Command::Serve => runtime.block_on(serve(&cli.global)),
        command => runtime.block_on(cli::run(&cli.global, command)),
    }
}

async fn serve(global: &cli::Global) -> ExitCode {
    telemetry::init_logs();
    let lookup = global.lookup();
    let plan = match config::load(&lookup) {
        Ok(plan) => plan,
        Err(e) => return failed(&e.to_string()),
    };
    let served = serve::run(&lookup, plan).await;
    telemetry::access::flush();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&e.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("snapgate: {why}");
    ExitCode::from(1)
}
