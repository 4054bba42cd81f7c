//! What a development authority promises, shown by TLS handshakes in memory.
#![allow(
    clippy::unwrap_used,
    reason = "a failing step of a test is its failure"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use certs::{Error, Pair, Paths, development, rotate};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig, ServerConnection,
};
use time::OffsetDateTime;

#[allow(
    clippy::disallowed_methods,
    reason = "the TLS library reads the real clock"
)]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn load(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(&pair.certificate)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    (chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap())
}

fn trusting(authority: &Pair) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&authority.certificate).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(roots)
}

/// One handshake with mutual TLS: `client` trusts its authority, `server` demands a certificate of its own.
fn handshake(server: &Paths, client: &Paths, host: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(
        trusting(&server.authority),
        Arc::clone(&provider),
    )
    .build()
    .unwrap();
    let (chain, key) = load(&server.server);
    let builder: ConfigBuilder<ServerConfig, _> =
        ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
    let server_config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let (chain, key) = load(&client.client);
    let client_config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusting(&client.authority))
        .with_client_auth_cert(chain, key)
        .unwrap();

    let mut server = ServerConnection::new(Arc::new(server_config)).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client_config), name).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        wire.clear();
        server.process_new_packets()?;
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        wire.clear();
        client.process_new_packets()?;
    }
    Ok(())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn server_and_client_of_one_authority_trust_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["s3.backup.example".to_owned(), "10.1.2.3".to_owned()];
    let paths = development(dir.path(), &names, now()).unwrap();
    for host in [
        "localhost",
        "127.0.0.1",
        "::1",
        "s3.backup.example",
        "10.1.2.3",
    ] {
        handshake(&paths, &paths, host).unwrap_or_else(|error| panic!("{host}: {error}"));
    }
}

#[test]
fn a_host_that_was_not_named_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths = development(dir.path(), &[], now()).unwrap();
    handshake(&paths, &paths, "s3.backup.example").unwrap_err();
}

#[test]
fn another_authority_is_refused_on_either_side() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = development(one.path(), &[], now()).unwrap();
    let two = development(two.path(), &[], now()).unwrap();
    handshake(&one, &two, "localhost").unwrap_err();
    let mut stranger = one.clone();
    stranger.client = two.client;
    handshake(&one, &stranger, "localhost").unwrap_err();
}

#[test]
fn a_client_certificate_does_not_pass_for_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let paths = development(dir.path(), &[], now()).unwrap();
    let mut impostor = paths.clone();
    impostor.server = paths.client.clone();
    handshake(&impostor, &paths, "localhost").unwrap_err();
}

#[test]
fn rotated_certificates_have_new_keys_and_the_old_trust() {
    let dir = tempfile::tempdir().unwrap();
    let before = development(dir.path(), &[], now()).unwrap();
    let kept = tempfile::tempdir().unwrap();
    let mut old = Paths::below(kept.path());
    for (from, to) in [
        (&before.authority, &old.authority),
        (&before.server, &old.server),
        (&before.client, &old.client),
    ] {
        fs::copy(&from.certificate, &to.certificate).unwrap();
        fs::copy(&from.key, &to.key).unwrap();
    }

    let after = rotate(dir.path(), &["new.example".to_owned()], now()).unwrap();

    for (old, new) in [(&old.server, &after.server), (&old.client, &after.client)] {
        assert_ne!(
            fs::read(&old.key).unwrap(),
            fs::read(&new.key).unwrap(),
            "a rotation makes a new key"
        );
    }
    old.server = after.server.clone();
    handshake(&after, &old, "new.example").expect("old client, new server");
    handshake(&old, &after, "localhost").expect("new client, old authority");
}

#[test]
fn an_expired_certificate_is_refused_until_it_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let long_ago = now() - certs::CERTIFICATE_LIFETIME - time::Duration::hours(2);
    let paths = development(dir.path(), &[], long_ago).unwrap();
    handshake(&paths, &paths, "localhost").unwrap_err();
    rotate(dir.path(), &[], now()).unwrap();
    handshake(&paths, &paths, "localhost").unwrap();
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    for paths in [
        development(dir.path(), &[], now()).unwrap(),
        rotate(dir.path(), &[], now()).unwrap(),
    ] {
        for pair in [&paths.authority, &paths.server, &paths.client] {
            assert_eq!(mode(&pair.key), 0o600, "{}", pair.key.display());
        }
    }
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        6,
        "no temporary file is left"
    );
}

#[test]
fn an_existing_authority_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let paths = development(dir.path(), &[], now()).unwrap();
    let authority = fs::read(&paths.authority.certificate).unwrap();
    assert!(matches!(
        development(dir.path(), &[], now()),
        Err(Error::Exists(_))
    ));
    assert_eq!(fs::read(&paths.authority.certificate).unwrap(), authority);
}

#[test]
fn without_an_authority_there_is_nothing_to_rotate() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        rotate(dir.path(), &[], now()),
        Err(Error::NoAuthority(_))
    ));
}
