//! Opening the database, and what must hold on every connection before anything relies on it.
//!
//! Each connection asks for `synchronous_commit = on` and reads it back, and is to a primary that means its
//! fsync. Each compares who serves the database with who served it last: after a failover to another timeline,
//! or a restore onto another server, commits that were answered may be missing, so every repository is frozen in
//! the same transaction that takes note of the new server. Whoever connects first does it; nobody writes before.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::tokio_postgres::config::SslMode;
use deadpool_postgres::tokio_postgres::{self, Client};
use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts,
};
use policies::identity::Repository;
use policies::lock::{Event, Freeze, Outcome};

use tokio_util::task::AbortOnDropHandle;

use super::rows::count;
use super::schema;
use super::tls::Tls;
use crate::state::chain::End;
use crate::state::{AuditEntry, facts, stored};
use crate::telemetry::clock;
use crate::tls;

/// Connections of one node: its writers (one transaction at a time for each repository) and its readers.
const CONNECTIONS: usize = 16;
/// A server that does not answer for this long is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request waits for a connection.
const WAIT: Duration = Duration::from_secs(10);
/// A server that accepts connections and says nothing for this long is not there either. Longer than a start waits
/// for locks that other nodes have.
const ANSWER: Duration = Duration::from_secs(30);

/// Whoever stops in the middle of a transaction (a paused node) lets the others wait no longer than this.
const SESSION: &str = "
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed';
SET idle_in_transaction_session_timeout = '5s';
SET lock_timeout = '20s';
SET client_min_messages = warning;
";

/// Where the database is, and how its server is known.
#[derive(Clone)]
pub struct Settings {
    pub server: tokio_postgres::Config,
    pub tls: Arc<rustls::ClientConfig>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("'{url}' cannot be read as a PostgreSQL address: {problem}")]
    Url { url: String, problem: String },
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl Settings {
    /// `ca` = the PEM file of the authority that signed the server's certificate.
    pub fn new(
        url: &str,
        password: Option<&str>,
        ca: Option<&Path>,
    ) -> Result<Self, SettingsError> {
        let mut server: tokio_postgres::Config = url.parse().map_err(|e| SettingsError::Url {
            url: without_password(url),
            problem: describe(&e),
        })?;
        if let Some(password) = password {
            server.password(password);
        }
        if ca.is_some() && server.get_ssl_mode() == SslMode::Prefer {
            server.ssl_mode(SslMode::Require);
        }
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(CONNECT);
        }
        if server.get_application_name().is_none() {
            server.application_name("snapgate");
        }
        server
            .tcp_user_timeout(Duration::from_secs(15))
            .keepalives_idle(Duration::from_secs(15));
        Ok(Self {
            server,
            tls: Arc::new(tls::client(ca, None)?),
        })
    }
}

/// For error messages: what stands between `:` and `@` of the address is a secret.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}@{host}")
        }
        None => url.to_owned(),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot connect to the state database: {0}")]
    Connect(String),
    #[error("the state database's server is a standby: name the primary in state.url")]
    Standby,
    #[error(
        "PostgreSQL did not accept {setting}: it answered {answer}; a write that was acknowledged could be lost"
    )]
    Setting {
        setting: &'static str,
        answer: String,
    },
    #[error("PostgreSQL {found} is too old: snapgate needs 14 or newer")]
    TooOld { found: String },
    #[error(
        "the state database has schema version {found}, this program knows up to {known}: it was used by a newer snapgate"
    )]
    Newer { found: usize, known: usize },
    #[error("other nodes were making the tables at the same time; start again")]
    Contended,
    #[error("cannot use the state database: {0}")]
    Sql(String),
    #[error("cannot read the state database: {0}")]
    State(#[from] crate::state::Error),
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(e: tokio_postgres::Error) -> Self {
        Self::Sql(describe(&e))
    }
}

/// The server's own words, which the client's error keeps one level down.
pub(super) fn describe(e: &tokio_postgres::Error) -> String {
    match std::error::Error::source(e) {
        Some(cause) => format!("{e}: {cause}"),
        None => e.to_string(),
    }
}

/// Makes the tables if need be, and the pool whose connections are all checked.
pub(super) async fn open(settings: &Settings) -> Result<Pool, OpenError> {
    let (first, serving) = connect(settings).await?;
    let ready = async {
        in_time(configure(&first)).await?;
        schema::migrate(&first).await?;
        in_time(same_server(&first)).await
    };
    let ready = ready.await;
    drop((first, serving));
    ready?;
    let manager = Manager::from_config(
        settings.server.clone(),
        Tls(Arc::clone(&settings.tls)),
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let check = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move {
            let checked = async {
                configure(client).await?;
                same_server(client).await
            };
            in_time(checked)
                .await
                .map_err(|e: OpenError| HookError::message(e.to_string()))
        })
    });
    Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(WAIT),
            create: Some(WAIT),
            recycle: Some(WAIT),
        })
        .post_create(check)
        .build()
        .map_err(|e| OpenError::Connect(e.to_string()))
}

/// Work that needs answers, while they come.
pub(super) async fn in_time<T>(
    work: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    tokio::time::timeout(ANSWER, work)
        .await
        .unwrap_or_else(|_| {
            let why = format!(
                "its server accepts connections and does not answer within {} s",
                ANSWER.as_secs()
            );
            Err(OpenError::Connect(why))
        })
}

async fn connect(settings: &Settings) -> Result<(Client, AbortOnDropHandle<()>), OpenError> {
    let connected = async {
        let tls = Tls(Arc::clone(&settings.tls));
        let connected = settings.server.connect(tls).await;
        connected.map_err(|e| OpenError::Connect(describe(&e)))
    };
    let (client, connection) = in_time(connected).await?;
    let serving = tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!(cause = %describe(&e), "a connection to the state database ended");
        }
    });
    Ok((client, AbortOnDropHandle::new(serving)))
}

/// A connection beside the pool, checked as those of the pool are. It is served until the handle is dropped.
pub(super) async fn alone(
    settings: &Settings,
) -> Result<(Client, AbortOnDropHandle<()>), OpenError> {
    let (client, serving) = connect(settings).await?;
    in_time(async {
        configure(&client).await?;
        same_server(&client).await
    })
    .await?;
    Ok((client, serving))
}

async fn configure(db: &Client) -> Result<(), OpenError> {
    let row = db
        .query_one(
            "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int, current_setting('server_version')",
            &[],
        )
        .await?;
    if row.get(0) {
        return Err(OpenError::Standby);
    }
    if row.get::<_, i32>(1) < 140_000 {
        return Err(OpenError::TooOld { found: row.get(2) });
    }
    db.batch_execute(SESSION).await?;
    for (setting, wanted) in [
        ("synchronous_commit", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
    ] {
        let row = db
            .query_one("SELECT current_setting($1)", &[&setting])
            .await?;
        let answer: String = row.get(0);
        if answer != wanted {
            return Err(OpenError::Setting { setting, answer });
        }
    }
    Ok(())
}

/// The server and its timeline are those that served the database last; else everything is frozen and they are
/// taken note of, in one transaction.
async fn same_server(db: &Client) -> Result<(), OpenError> {
    let row = db.query_one(WHO_SERVES, &[]).await?;
    let (system, timeline): (String, String) = (row.get(0), row.get(1));
    let known: (Option<String>, Option<String>) = (row.get(2), row.get(3));
    if known == (Some(system.clone()), Some(timeline.clone())) {
        return Ok(());
    }
    db.batch_execute("BEGIN").await?;
    let row = db
        .query_one("SELECT system, timeline FROM database FOR UPDATE", &[])
        .await?;
    let known: (Option<String>, Option<String>) = (row.get(0), row.get(1));
    if let (Some(old_system), Some(old_timeline)) = &known
        && (old_system, old_timeline) != (&system, &timeline)
    {
        freeze_all(db).await?;
        tracing::error!(%old_system, %old_timeline, %system, %timeline, "the state database is served by another server or timeline: all repositories are frozen");
    }
    db.execute(
        "UPDATE database SET system = $1, timeline = $2",
        &[&system, &timeline],
    )
    .await?;
    db.batch_execute("COMMIT").await?;
    Ok(())
}

/// The timeline that is written now stands in the name of the WAL file; the control file tells it only after
/// the next checkpoint.
const WHO_SERVES: &str = "
SELECT s.system_identifier::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), d.system, d.timeline
FROM pg_control_system() s, database d";

async fn freeze_all(db: &Client) -> Result<(), OpenError> {
    let locks = db
        .query(
            "SELECT l.repository, l.lock, r.name, l.version FROM locks l JOIN repositories r ON r.id = l.repository
             ORDER BY l.repository FOR UPDATE OF l",
            &[],
        )
        .await?;
    let now_ms = clock::now_ms();
    for row in locks {
        let lock = stored::lock_from(row.get(1))?;
        let doubt = Event::Doubt(Freeze::DatabaseMoved);
        let Outcome::Move(step) = policies::lock::step(&lock, doubt) else {
            continue;
        };
        let (id, name): (i64, &str) = (row.get(0), row.get(2));
        let version = count(&row, 3)? + 1;
        db.execute(
            "UPDATE locks SET version = $4, lock = $2, since_ms = $3, reason = NULL WHERE repository = $1",
            &[&id, &stored::lock_text(&step.lock), &now_ms, &super::rows::int(version)],
        )
        .await?;
        let entry = AuditEntry {
            at_ms: now_ms,
            principal: "snapgate".into(),
            action: step.action.as_str().into(),
            repository: Some(Repository::new(name)),
            epoch: Some(lock.epoch()),
            detail: serde_json::json!({ "reason": Freeze::DatabaseMoved.to_string() }),
        };
        let entry = facts::moved(&entry, version, &lock, &step.lock);
        append_audit(db, &entry).await?;
    }
    Ok(())
}

async fn append_audit(db: &Client, entry: &AuditEntry) -> Result<(), OpenError> {
    let row = db.query_one(super::audit::END, &[]).await?;
    let end = super::audit::end_from(&row)?;
    let row = End::append(&end, entry);
    let epoch = entry.epoch.map(|e| super::rows::int(e.0));
    let repository = entry.repository.as_ref().map(Repository::as_str);
    let sequence = super::rows::int(row.sequence);
    db.execute(
        super::audit::APPEND,
        &[
            &sequence,
            &entry.at_ms,
            &entry.principal,
            &entry.action,
            &repository,
            &epoch,
            &row.detail,
            &row.previous.as_slice(),
            &row.hash.as_slice(),
        ],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let shown = without_password("postgres://snap:s3cr@t@db:5432/snapgate");
        assert_eq!(shown, "postgres://snap@db:5432/snapgate");
    }
}
