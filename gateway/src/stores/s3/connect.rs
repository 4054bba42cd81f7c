//! Connections to the service: TCP that notices a dead peer, TLS by rustls, a pool.
//!
//! Invariant: a certificate that does not verify ends the connection; there is no way back to plain.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::body::Body;
use super::settings::{Deadlines, Settings, SettingsError};

pub(super) type Http = legacy::Client<HttpsConnector<HttpConnector>, Body>;

const CONNECT: Duration = Duration::from_secs(5);
const POOL_IDLE: Duration = Duration::from_secs(20);

pub(super) fn http_client(
    settings: &Settings,
    deadlines: Deadlines,
) -> Result<Http, SettingsError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.set_keepalive_interval(Some(Duration::from_secs(10)));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(deadlines.idle));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(settings)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_buf_size(256 * 1024)
        .build(connector))
}

fn tls(settings: &Settings) -> Result<rustls::ClientConfig, SettingsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs speaks TLS 1.2 and 1.3");
    let verified = match &settings.ca_file {
        Some(path) => {
            let problem = |problem: String| SettingsError::Authorities {
                path: path.display().to_string(),
                problem,
            };
            let mut roots = rustls::RootCertStore::empty();
            let found = CertificateDer::pem_file_iter(path).map_err(|e| problem(e.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| problem(e.to_string()))?;
                roots.add(certificate).map_err(|e| problem(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(problem("holds no certificate".to_owned()));
            }
            versions.with_root_certificates(roots)
        }
        None if uses_tls(settings) => versions
            .with_native_roots()
            .map_err(|error| SettingsError::SystemAuthorities(error.to_string()))?,
        None => versions.with_root_certificates(rustls::RootCertStore::empty()),
    };
    Ok(verified.with_no_client_auth())
}

fn uses_tls(settings: &Settings) -> bool {
    settings
        .endpoint
        .as_ref()
        .is_none_or(|endpoint| endpoint.starts_with("https:"))
}
