//! How each server is started, and the bucket it offers.
//!
//! Invariant: every contender keeps its data below the same scratch directory, runs on the same core and is
//! called with the same keys; each runs with the settings its own documentation gives for production, plus
//! what it needs to be compared at all (versitygw closes every connection without `--keep-alive`).

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::client::{self, Connection, Target};
use crate::process::{self, Processes, Server, free_port, program};
use crate::sign::Signing;
use crate::work;

/// The server under test has this core to itself, the client (and what lies behind a hop) the other.
pub const SERVER_CORE: usize = 0;
pub const CLIENT_CORE: usize = 1;

pub const BUCKET: &str = "loadtest";
const ACCESS: &str = "loadtestaccess";
const SECRET: &str = "loadtestsecret123456";
/// MinIO listens before it serves.
const READY: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
}

/// Keeps objects itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    Snapgate,
    Versitygw,
    Minio,
    Rclone,
}

/// Stands in front of a MinIO that keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Nothing in between: what the store behind takes.
    None,
    Nginx,
    Versitygw,
    Snapgate,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapgate => "snapgate",
            Self::Versitygw => "versitygw",
            Self::Minio => "minio",
            Self::Rclone => "rclone",
        }
    }
}

impl Hop {
    pub const ALL: [Self; 4] = [Self::None, Self::Nginx, Self::Versitygw, Self::Snapgate];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "direct",
            Self::Nginx => "nginx",
            Self::Versitygw => "versitygw",
            Self::Snapgate => "snapgate",
        }
    }
}

/// An endpoint with an empty bucket, and whose CPU time counts for it.
#[derive(Debug)]
pub struct Contender {
    pub name: &'static str,
    pub target: Arc<Target>,
    pub processes: Processes,
    /// Kept for as long as the endpoint is needed; none when it is somebody else's.
    _server: Option<Server>,
}

impl Contender {
    fn new(name: &'static str, target: Target, server: Server) -> Self {
        Self {
            name,
            target: Arc::new(target),
            processes: server.processes(),
            _server: Some(server),
        }
    }
}

/// Where servers are started.
#[derive(Debug)]
pub struct Grounds {
    /// Scratch directory; on tmpfs or on the disk that is measured.
    pub dir: PathBuf,
    /// Where the peers' programs are kept.
    pub cache: PathBuf,
    /// The gateway's own program.
    pub snapgate: PathBuf,
    pub signing: Signing,
}

impl Grounds {
    pub async fn store(&self, peer: Peer, core: usize) -> Result<Contender, Error> {
        let dir = self.folder(peer.name())?;
        let data = self.folder(&format!("{}/data", peer.name()))?;
        let address = free_port().map_err(at(&dir))?;
        let listen = address.to_string();
        let command = match peer {
            Peer::Snapgate => {
                let store = format!("url = \"file://{}\"\n", data.display());
                self.snapgate(&dir, &listen, &store)?
            }
            Peer::Versitygw => {
                let mut command = self.versitygw(&dir, &listen)?;
                command.arg("posix").arg(&data);
                command
            }
            Peer::Minio => {
                let mut command = Command::new(program(&self.cache, "minio"));
                command
                    .env("MINIO_ROOT_USER", ACCESS)
                    .env("MINIO_ROOT_PASSWORD", SECRET)
                    .env("MINIO_BROWSER", "off")
                    .env("MINIO_UPDATE", "off")
                    .args(["server", "--quiet", "--address", &listen])
                    .arg(&data);
                command
            }
            Peer::Rclone => {
                let mut command = Command::new(program(&self.cache, "rclone"));
                command
                    .args(["serve", "s3", "--config", "/dev/null", "--addr", &listen])
                    .args(["--auth-key", &format!("{ACCESS},{SECRET}")])
                    .args(["--vfs-cache-mode", "off"])
                    .arg(&data);
                command
            }
        };
        let server = Server::start(&command, core, address, &dir.join("log")).await?;
        let contender = Contender::new(peer.name(), self.target(address, BUCKET), server);
        if peer != Peer::Snapgate {
            create_bucket(&contender.target).await?;
        }
        Ok(contender)
    }

    /// What stands behind all hops, with folders of its own.
    pub async fn behind(&self, core: usize) -> Result<Contender, Error> {
        let grounds = Self {
            dir: self.folder("behind")?,
            cache: self.cache.clone(),
            snapgate: self.snapgate.clone(),
            signing: self.signing,
        };
        grounds.store(Peer::Minio, core).await
    }

    /// A hop on the server's core in front of `behind`.
    pub async fn hop(&self, hop: Hop, behind: &Contender) -> Result<Contender, Error> {
        // Each hop has a bucket of its own: the gateway takes only an empty one without being told.
        let bucket = format!("{BUCKET}-{}", hop.name());
        let direct = self.target(behind.target.address, &bucket);
        create_bucket(&Arc::new(direct.clone())).await?;
        let dir = self.folder(&format!("hop-{}", hop.name()))?;
        let address = free_port().map_err(at(&dir))?;
        let listen = address.to_string();
        let endpoint = behind.target.address.to_string();
        let (command, bucket) = match hop {
            Hop::None => {
                return Ok(Contender {
                    name: hop.name(),
                    target: Arc::new(direct),
                    processes: behind.processes,
                    _server: None,
                });
            }
            Hop::Nginx => (nginx(&dir, &listen, &endpoint)?, bucket.as_str()),
            Hop::Versitygw => {
                let mut command = self.versitygw(&dir, &listen)?;
                command
                    .env_remove("AWS_CA_BUNDLE")
                    .args(["s3", "--disable-data-integrity-check"])
                    .args(["--endpoint", &format!("http://{endpoint}")])
                    .args(["--access", ACCESS, "--secret", SECRET])
                    .args(["--region", "us-east-1"]);
                (command, bucket.as_str())
            }
            Hop::Snapgate => {
                let secret = private(&dir.join("store-secret"), SECRET)?;
                let store = format!(
                    "url = \"s3://{bucket}\"\nendpoint = \"http://{endpoint}\"\nregion = \"us-east-1\"\n\
                     credentials = {{ id = \"{ACCESS}\", secret_file = \"{secret}\" }}\n"
                );
                (self.snapgate(&dir, &listen, &store)?, BUCKET)
            }
        };
        let server = Server::start(&command, SERVER_CORE, address, &dir.join("log")).await?;
        let target = self.target(address, bucket);
        Ok(Contender::new(hop.name(), target, server))
    }

    fn versitygw(&self, dir: &Path, listen: &str) -> Result<Command, Error> {
        let accounts = dir.join("accounts");
        fs::create_dir_all(&accounts).map_err(at(&accounts))?;
        let mut command = Command::new(program(&self.cache, "versitygw"));
        command
            .env("ROOT_ACCESS_KEY", ACCESS)
            .env("ROOT_SECRET_KEY", SECRET)
            .args(["--quiet", "--keep-alive", "--port", listen])
            .args(["--region", "us-east-1", "--iam-dir"])
            .arg(accounts);
        Ok(command)
    }

    /// The gateway with one repository that is the whole bucket; state beside the data.
    fn snapgate(&self, dir: &Path, listen: &str, store: &str) -> Result<Command, Error> {
        let secret = private(&dir.join("secret"), SECRET)?;
        let token = private(&dir.join("token"), "loadtest-token-0123456789")?;
        let admin = free_port().map_err(at(dir))?;
        let config = format!(
            "[s3]\nlisten = \"{listen}\"\n\
             [admin]\nlisten = \"{admin}\"\ntoken_file = \"{token}\"\n\
             [state]\nurl = \"sqlite:{state}\"\n\
             [clusters.loadtest]\nkeys = [{{ id = \"{ACCESS}\", secret_file = \"{secret}\" }}]\n\
             [stores.main]\n{store}\
             [repositories.loadtest]\nbucket = \"{BUCKET}\"\nstore = \"main\"\nwriters = [\"loadtest\"]\n",
            state = dir.join("state.db").display(),
        );
        let file = dir.join("snapgate.toml");
        fs::write(&file, config).map_err(at(&file))?;
        let mut command = Command::new(&self.snapgate);
        command.arg("--config").arg(file).arg("serve");
        Ok(command)
    }

    fn target(&self, address: SocketAddr, bucket: &str) -> Target {
        Target {
            address,
            bucket: bucket.to_owned(),
            prefix: String::new(),
            access: ACCESS.into(),
            secret: SECRET.into(),
            signing: self.signing,
        }
    }

    fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        Ok(folder)
    }
}

/// A plain forwarder with 128 KiB buffers, streaming both ways over kept connections.
fn nginx(dir: &Path, listen: &str, endpoint: &str) -> Result<Command, Error> {
    let at_dir = dir.display();
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {at_dir}/pid; error_log stderr warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off; client_max_body_size 0; sendfile on; tcp_nodelay on;\n  \
         client_body_temp_path {at_dir}/b; proxy_temp_path {at_dir}/p; fastcgi_temp_path {at_dir}/f;\n  \
         uwsgi_temp_path {at_dir}/u; scgi_temp_path {at_dir}/s;\n  \
         upstream behind {{ server {endpoint}; keepalive 64; }}\n  \
         server {{ listen {listen}; keepalive_requests 1000000000;\n    \
         location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\";\n      \
         proxy_set_header Host $http_host; proxy_request_buffering off; proxy_buffering off;\n      \
         proxy_buffer_size 128k; proxy_buffers 8 128k; client_body_buffer_size 128k; }} }} }}\n"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config).map_err(at(&file))?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(file).args(["-e", "stderr"]);
    Ok(command)
}

/// Retries while the server is still on its way up.
async fn create_bucket(target: &Arc<Target>) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let mut connection = Connection::open(Arc::clone(target)).await?;
        match work::create_bucket(&mut connection).await {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > READY => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// A file only its owner reads, as the gateway demands for secrets; returns its path as text.
fn private(path: &Path, content: &str) -> Result<String, Error> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(at(path))?;
    Ok(path.display().to_string())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::File(path, error)
}
