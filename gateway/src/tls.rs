//! Server certificates from PEM files, for both listeners. One TLS stack, one provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

/// Where Linux distributions keep the authorities they trust.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A listener's certificate chain and key, as a user writes them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct Error {
    file: String,
    problem: String,
}

impl Error {
    fn new(file: &Path, problem: &dyn std::fmt::Display) -> Self {
        Self {
            file: file.display().to_string(),
            problem: problem.to_string(),
        }
    }
}

/// What a listener shows its clients, as it is now: SIGHUP replaces it. A connection keeps what it began with.
#[derive(Clone)]
pub struct Shown(Arc<RwLock<Arc<ServerConfig>>>);

impl Shown {
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write() = config;
    }

    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read())
    }

    /// For the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current())
    }
}

/// TLS 1.2 and 1.3 with rustls' own choice of suites; with `client_ca`, only clients it signed.
pub fn server(tls: &Tls, client_ca: Option<&Path>) -> Result<Arc<ServerConfig>, Error> {
    let (chain, key) = pair(tls)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(&tls.cert, &e))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|e| Error::new(file, &e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| Error::new(file, &e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| Error::new(&tls.cert, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For the gateway's own requests: the system's authorities, or those of one PEM file; `identity` for servers that ask for one.
pub fn client(ca: Option<&Path>, identity: Option<&Tls>) -> Result<rustls::ClientConfig, Error> {
    let file = ca.unwrap_or_else(|| Path::new(SYSTEM_AUTHORITIES));
    let mut roots = RootCertStore::empty();
    if ca.is_some() || file.exists() {
        roots.add_parsable_certificates(certificates(file)?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(file, &e))?;
    let builder = builder.with_root_certificates(roots);
    let Some(identity) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, key) = pair(identity)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|e| Error::new(&identity.cert, &e))
}

fn pair(tls: &Tls) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| Error::new(&tls.key, &e))?;
    Ok((certificates(&tls.cert)?, key))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(file).map_err(|e| Error::new(file, &e))?;
    let chain: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|e| Error::new(file, &e))?;
    if chain.is_empty() {
        return Err(Error::new(file, &"holds no certificate"));
    }
    Ok(chain)
}
