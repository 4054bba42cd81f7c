//! A PostgreSQL server of the tests' own: on 127.0.0.1 and a free port, gone with the process that started it.
//!
//! It is Debian's `postgresql`, run as the user `postgres` (initdb refuses root). Where it is missing and this is
//! root on a machine with apt-get, it is installed; else the tests fail with a sentence, they are never skipped.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use deadpool_postgres::tokio_postgres::{self, NoTls};
use parking_lot::Mutex;

use crate::state::postgres::{Database, Settings};

/// Stops the server and removes its folder when this process ends, however it ends: the pipe to it closes.
const KEEPER: &str = r#"
"$@" & server=$!
cat >/dev/null
kill -QUIT $server; wait $server
rm -rf "$FOLDER"
"#;

/// Asks until the server answers, for a minute.
const READY: &str = r#"
for _ in $(seq 1200); do "$@" && exit; sleep 0.05; done; exit 1
"#;

const CONFIGURATION: &str = "
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 32MB
log_min_messages = fatal
archive_mode = off
hot_standby = off
restore_command = '/bin/false'
";

pub struct Server {
    folder: PathBuf,
    programs: PathBuf,
    pub port: u16,
    keeper: Mutex<Option<Child>>,
}

impl Server {
    /// The one that most tests share, each with a database of its own.
    pub fn shared() -> &'static Arc<Self> {
        static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
        SHARED.get_or_init(|| Arc::new(Self::start("")))
    }

    /// A server for one test, with more settings.
    pub fn start(settings: &str) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new()
            .prefix("snapgate-pg-")
            .tempdir()
            .unwrap()
            .keep();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
        let data = folder.join("data");
        let made = as_postgres(programs.join("initdb"))
            .args(["--auth=trust", "--username=snapgate", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut text = String::from(CONFIGURATION);
        writeln!(text, "unix_socket_directories = '{}'", folder.display()).unwrap();
        text.push_str(settings);
        std::fs::write(data.join("postgresql.auto.conf"), text).unwrap();
        let server = Self {
            folder,
            programs,
            port,
            keeper: Mutex::new(None),
        };
        server.launch();
        server
    }

    fn launch(&self) {
        let postgres = as_postgres(self.programs.join("postgres"));
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(postgres.get_program())
            .args(postgres.get_args())
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .env("FOLDER", &self.folder)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *self.keeper.lock() = Some(keeper);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let waited = Command::new("sh")
            .args(["-c", READY, "ready"])
            .arg(self.programs.join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status()
            .unwrap();
        assert!(waited.success(), "PostgreSQL did not start");
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Stops the server at once and starts it on its data again, after `meanwhile`.
    pub fn restart(&self, meanwhile: impl FnOnce(&Path)) {
        let stopped = as_postgres(self.programs.join("pg_ctl"))
            .args(["stop", "-m", "immediate", "-w", "-D"])
            .arg(self.data())
            .output()
            .unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
        meanwhile(&self.data());
        let started = as_postgres(self.programs.join("pg_ctl"))
            .args(["start", "-w", "-s", "-l", "/dev/null", "-D"])
            .arg(self.data())
            .args(["-o", &format!("-p {}", self.port)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(started.success());
        self.wait_until_ready();
    }

    /// A database that nobody else uses.
    pub async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let client = self.connect("postgres").await;
        let sql = format!("CREATE DATABASE {name}");
        client.batch_execute(&sql).await.unwrap();
        name
    }

    /// A session of somebody else's, with every right.
    pub async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn url(&self, database: &str) -> String {
        url_at(self.port, database)
    }

    pub async fn open(&self, database: &str) -> Database {
        Database::open(&settings(&self.url(database)), "test")
            .await
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that was restarted is no child of the keeper any more.
        let _stopped = as_postgres(self.programs.join("pg_ctl"))
            .args(["stop", "-m", "immediate", "-s", "-D"])
            .arg(self.data())
            .stderr(Stdio::null())
            .status();
        if let Some(mut keeper) = self.keeper.lock().take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
    }
}

pub fn url_at(port: u16, database: &str) -> String {
    format!("postgres://snapgate@127.0.0.1:{port}/{database}")
}

pub fn settings(url: &str) -> Settings {
    settings_with(url, None)
}

pub fn settings_with(url: &str, authority: Option<&Path>) -> Settings {
    Settings::new(url, None, authority).unwrap()
}

/// Not root, since PostgreSQL refuses root.
fn as_postgres(program: PathBuf) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(program)
        .current_dir("/");
    command
}

fn programs() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            installed().unwrap_or_else(|| {
                install();
                installed().expect("these tests need PostgreSQL: apt-get install postgresql")
            })
        })
        .clone()
}

/// The newest version's folder of programs.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .flatten()
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            let programs = version.path().join("bin");
            programs
                .join("postgres")
                .exists()
                .then_some((number, programs))
        })
        .max()
        .map(|(_, programs)| programs)
}

fn install() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for arguments in [
        &["update", "-qq"][..],
        &["install", "-yqq", "--no-install-recommends", "postgresql"],
    ] {
        let done = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = done
            && !output.status.success()
        {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
