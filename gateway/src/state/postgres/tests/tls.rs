//! The connection to the server over TLS, with an authority of the test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{Server, settings_with};
use crate::state::conformance::World;
use crate::state::postgres::{Database, OpenError};
use crate::telemetry::clock;

/// A server that speaks TLS, with a certificate for `localhost` and 127.0.0.1, and the authority that signed it.
fn server(certificates: &Path) -> (Server, PathBuf) {
    std::fs::set_permissions(certificates, PermissionsExt::from_mode(0o755)).unwrap();
    let paths = certs::development(&certificates.join("certs"), &[], clock::now()).unwrap();
    let key = certificates.join("server.key");
    std::fs::copy(&paths.server.key, &key).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let certificate = certificates.join("server.pem");
    std::fs::copy(&paths.server.certificate, &certificate).unwrap();
    std::fs::set_permissions(&certificate, PermissionsExt::from_mode(0o644)).unwrap();
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown").arg("postgres").arg(&key).status();
        assert!(owned.unwrap().success());
    }
    let settings = format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
        certificate.display(),
        key.display()
    );
    (Server::start(&settings), paths.authority.certificate)
}

async fn open(url: &str, authority: Option<&Path>) -> Result<Database, OpenError> {
    Database::open(&settings_with(url, authority), "test").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_authority_is_known_is_spoken_to_over_tls() {
    let files = tempfile::tempdir().unwrap();
    let (server, authority) = server(files.path());
    let database = server.database().await;
    let state = open(&server.url(&database), Some(&authority))
        .await
        .unwrap();
    let world = World::held(&state, "logs").await;
    world.record(&state, "a").await;
    assert!(world.object(&state, "a").await.is_some());
    let sessions = server
        .connect(&database)
        .await
        .query(
            "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
             WHERE a.application_name = 'snapgate' AND a.datname = current_database()",
            &[],
        )
        .await
        .unwrap();
    assert!(!sessions.is_empty());
    assert!(sessions.iter().all(|row| row.get::<_, bool>(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_authority_or_another_name_or_without_tls_is_not_spoken_to() {
    let files = tempfile::tempdir().unwrap();
    let (server, authority) = server(files.path());
    let database = server.database().await;
    let url = server.url(&database);
    let others = tempfile::tempdir().unwrap();
    let other = certs::development(others.path(), &[], clock::now()).unwrap();
    let elsewhere = format!(
        "postgres://snapgate@db.example:{}/{database}?hostaddr=127.0.0.1",
        server.port
    );
    let plain = Server::shared();
    let without = plain.url(&plain.database().await);
    for (url, authority) in [
        (&url, &other.authority.certificate),
        (&elsewhere, &authority),
        (&without, &authority),
    ] {
        let refused = open(url, Some(authority)).await.unwrap_err();
        assert!(
            matches!(refused, OpenError::Connect(_)),
            "{url}: {refused:?}"
        );
    }
}
