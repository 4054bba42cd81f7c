//! A configuration with two clusters' keys, certificates and a mirror, changed while the gateway runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use policies::identity::{Repository, StoreName};
use policies::key::Layout;

use super::*;
use crate::frontend::Credentials;
use crate::mirror::Mirrors;
use crate::repository::Door;
use crate::state::sqlite::Database;

struct Running {
    reload: Reload,
    files: tempfile::TempDir,
}

fn secret(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

fn configure(dir: &Path, bandwidth: &str) {
    let text = format!(
        r#"
        s3 = {{ listen = "127.0.0.1:0", tls = {{ cert = "tls/server.pem", key = "tls/server.key" }} }}
        admin = {{ listen = "127.0.0.1:0", token_file = "token", tls = {{ cert = "tls/server.pem", key = "tls/server.key" }} }}
        state = {{ url = "sqlite:state.db" }}
        clusters.prod = {{ keys = [{{ id = "PROD", secret_file = "prod" }}] }}
        stores.here = {{ url = "file://{dir}/here" }}
        stores.there = {{ url = "file://{dir}/there" }}

        [repositories.r]
        bucket = "backups"
        store = "here"
        writers = ["prod"]
        mirrors = [{{ store = "there", bandwidth = "{bandwidth}" }}]
        "#,
        dir = dir.display()
    );
    fs::write(dir.join("snapgate.toml"), text).unwrap();
}

impl Running {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let dir = files.path();
        certs::development(&dir.join("tls"), &[], clock::now()).unwrap();
        secret(&dir.join("token"), "an-admin-token-of-this-test");
        secret(&dir.join("prod"), "the-first-secret-of-prod");
        configure(dir, "1MB/s");
        let lookup = Lookup {
            config: Some(dir.join("snapgate.toml")),
            ..Lookup::default()
        };
        let plan = config::load(&lookup).unwrap();
        let state = Arc::new(Database::open(&dir.join("state.db")).unwrap());
        let layout = Layout::new([]).unwrap();
        let door = Arc::new(Door::new(layout, state.clone(), Vec::new()));
        let appliers = Appliers::new(
            door,
            Arc::new(Mirrors::default()),
            plan.mirrors.clone(),
            BTreeMap::new(),
        );
        let reload = Reload {
            lookup,
            certificates: Certificates::open(&plan).unwrap(),
            keys: Arc::new(Keys::new(plan.keys)),
            appliers: Arc::new(appliers),
            state,
        };
        Self { reload, files }
    }

    fn secret(&self) -> String {
        self.reload.keys.find("PROD").unwrap().1.to_string()
    }

    fn bandwidth(&self) -> Option<u64> {
        let (repository, store) = (Repository::new("r"), StoreName::new("there"));
        let plan = self.reload.appliers.plan_of(&repository, &store);
        plan.unwrap().bandwidth
    }

    fn shown(&self) -> [Arc<rustls::ServerConfig>; 2] {
        let shown = &self.reload.certificates;
        [&shown.s3, &shown.admin].map(|shown| shown.as_ref().unwrap().current())
    }

    async fn reloads(&self) -> usize {
        let audit = self.reload.state.audit(None, 100).await.unwrap();
        audit.iter().filter(|e| e.entry.action == "reload").count()
    }
}

#[tokio::test]
async fn keys_certificates_and_limits_change_without_a_restart() {
    let running = Running::new();
    let before = running.shown();
    certs::rotate(&running.files.path().join("tls"), &[], clock::now()).unwrap();
    secret(
        &running.files.path().join("prod"),
        "the-second-secret-of-prod",
    );
    configure(running.files.path(), "2MB/s");
    running.reload.take().await.unwrap();
    assert_eq!(running.secret(), "the-second-secret-of-prod");
    assert_eq!(running.bandwidth(), Some(2_000_000));
    for (before, after) in before.iter().zip(running.shown()) {
        assert!(!Arc::ptr_eq(before, &after));
    }
    assert_eq!(running.reloads().await, 1);
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let running = Running::new();
    let before = running.shown();
    secret(
        &running.files.path().join("prod"),
        "the-second-secret-of-prod",
    );
    configure(running.files.path(), "2MB/s");
    fs::write(
        running.files.path().join("tls/server.pem"),
        "no certificate",
    )
    .unwrap();
    let error = running.reload.take().await.unwrap_err().to_string();
    assert!(error.contains("server.pem"), "{error}");
    assert_eq!(running.secret(), "the-first-secret-of-prod");
    assert_eq!(running.bandwidth(), Some(1_000_000));
    for (before, after) in before.iter().zip(running.shown()) {
        assert!(Arc::ptr_eq(before, &after));
    }
    assert_eq!(running.reloads().await, 0);
}
