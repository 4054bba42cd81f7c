//! Load as clusters make it, measured on one endpoint or compared side by side.
//!
//! The frame: parses arguments, pins this program to its core, prints what the rooms found. Exit code 0 when
//! everything ran and every bar was reached, 1 when not, 2 for bad usage.

mod client;
mod compare;
mod contests;
mod keys;
mod measure;
mod memory;
mod payload;
mod peers;
mod process;
mod report;
mod rows;
mod sign;
mod syncs;
mod work;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use client::Target;
use measure::{Bench, Load};
use peers::{CLIENT_CORE, Grounds, Peer};
use process::Processes;
use sign::Signing;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put load on one endpoint and measure it.
    Run(Run),
    /// Start the gateway and its peers side by side, and compare them.
    Compare(Compare),
    /// Measure the memory of the gateway.
    Memory(Memory),
}

#[derive(Debug, Args)]
struct Run {
    /// Such as `http://127.0.0.1:9000`.
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    bucket: String,
    #[arg(long)]
    access: String,
    #[arg(long)]
    secret: String,
    /// `base_path` of the repository.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Rows, separated by commas.
    #[arg(long, default_value = "cluster", value_delimiter = ',')]
    workload: Vec<String>,
    /// The server's process, for its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Keep this program on one core.
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 8)]
    connections: usize,
}

#[derive(Debug, Args)]
struct Common {
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, value_enum, default_value = "unsigned")]
    signing: Signing,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Compare {
    /// Rows, separated by commas; all of the chosen store if none.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "snapgate,versitygw,minio,rclone"
    )]
    peers: Vec<Peer>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Memory {
    #[arg(long, value_enum, default_value = "snapgate")]
    peer: Peer,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// `tmpfs`, or a directory on the disk to measure.
    #[arg(long, default_value = "tmpfs")]
    store: PathBuf,
    /// The gateway's program; the one beside this program if not given.
    #[arg(long)]
    snapgate: Option<PathBuf>,
    /// Where the peers' programs are, in `bin`; `~/.cache/snapgate` if not given.
    #[arg(long, env = "SNAPGATE_CACHE")]
    cache: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true)]
    home: PathBuf,
}

type Outcome = Result<bool, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = async {
        match arguments.command {
            Command::Run(run) => self::run(run).await,
            Command::Compare(compare) => self::compare(compare).await,
            Command::Memory(memory) => self::memory(memory).await,
        }
    };
    // Dropping the command on the way out stops every server it started.
    let outcome = tokio::select! {
        outcome = command => outcome,
        signal = stopped() => signal.and(Err("stopped".into())),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn stopped() -> Outcome {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(false)
}

async fn run(run: Run) -> Outcome {
    let address: SocketAddr = run
        .endpoint
        .strip_prefix("http://")
        .unwrap_or(&run.endpoint)
        .trim_end_matches('/')
        .parse()
        .map_err(|_| format!("'{}' is not http://ADDRESS:PORT", run.endpoint))?;
    if let Some(core) = run.core {
        process::pin_self(core)?;
    }
    let target = Arc::new(Target {
        address,
        bucket: run.bucket,
        prefix: run.prefix.trim_matches('/').to_owned(),
        access: run.access.into(),
        secret: run.secret.into(),
        signing: run.common.signing,
    });
    let load = Load {
        connections: run.connections,
        seconds: run.common.seconds,
    };
    let mut measured = Vec::new();
    for name in &run.workload {
        let bench = Bench::ready(Arc::clone(&target), rows::find(name)?.work).await?;
        let figures = bench.measure(load, run.pid.map(Processes)).await?;
        bench.clear().await?;
        measured.push((name.clone(), figures));
    }
    if run.common.json {
        let rows: serde_json::Map<_, _> = measured
            .iter()
            .map(|(name, figures)| (name.clone(), json!(figures)))
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", report::figures(&measured));
    }
    Ok(true)
}

impl Place {
    fn on_disk(&self) -> bool {
        self.store.as_os_str() != "tmpfs"
    }

    /// The scratch directory, which is removed when it is dropped, and the grounds in it.
    fn grounds(&self, signing: Signing) -> Result<(tempfile::TempDir, Grounds), Box<dyn Error>> {
        let parent = if self.on_disk() {
            std::fs::create_dir_all(&self.store)?;
            self.store.canonicalize()?
        } else {
            PathBuf::from("/dev/shm")
        };
        let scratch = tempfile::Builder::new()
            .prefix("snapgate-loadtest-")
            .tempdir_in(parent)?;
        if !self.on_disk() {
            process::touch_memory(&scratch.path().join("touched"))?;
        }
        let cache = self
            .cache
            .clone()
            .unwrap_or_else(|| self.home.join(".cache/snapgate"));
        let snapgate = match &self.snapgate {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("snapgate"),
        };
        let grounds = Grounds {
            dir: scratch.path().to_owned(),
            cache: cache.join("bin"),
            snapgate,
            signing,
        };
        Ok((scratch, grounds))
    }
}

async fn compare(compare: Compare) -> Outcome {
    let contests = compare::choose(compare.place.on_disk(), &compare.rows)?;
    let (_scratch, grounds) = compare.place.grounds(compare.common.signing)?;
    process::pin_self(CLIENT_CORE)?;
    let plan = compare::Plan {
        contests,
        peers: compare.peers,
        seconds: compare.common.seconds,
        rounds: compare.rounds,
    };
    let report = compare::compare(&grounds, &plan, |outcome| {
        if !compare.common.json {
            println!("{}", report::outcome(outcome));
        }
    })
    .await?;
    let versions = compare::versions(&grounds);
    if compare.common.json {
        let versions: serde_json::Map<_, _> = versions
            .into_iter()
            .map(|(name, version)| (name, json!(version)))
            .collect();
        let document = json!({ "versions": versions, "report": report });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        println!("{}", report::summary(&report));
        for (name, version) in versions {
            println!("{name}: {version}");
        }
    }
    Ok(report.verdicts.iter().all(|verdict| verdict.passed))
}

async fn memory(memory: Memory) -> Outcome {
    let (_scratch, grounds) = memory.place.grounds(memory.common.signing)?;
    process::pin_self(CLIENT_CORE)?;
    let report = memory::memory(&grounds, memory.peer, memory.common.seconds).await?;
    if memory.common.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(report.passed())
}
