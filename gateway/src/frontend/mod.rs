//! S3 in: from a socket to the door and back, in the words of S3.
//!
//! The way of a request: [`listener`] accepts, [`connection`] keeps the time, [`service`] leads it
//! through [`precheck`] (what must hold before a signature is computed), the verifier and router (the
//! `s3s` crate) and one file of [`operations`] to [`Door`]; [`answers`] is the only place where a refusal
//! or failure becomes an S3 answer.
//! Invariant: nothing passes to the door that is not signed by a known cluster, and what is not
//! implemented in [`operations`] is answered `NotImplemented`.

use std::fmt;
use std::io;
use std::sync::Arc;

use policies::identity::Cluster;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::repository::Door;
use crate::tls::Shown;

pub mod access_log;
pub mod answers;
pub mod body;
pub mod connection;
pub mod document;
pub mod intake;
pub mod limits;
mod listener;
pub mod operations;
mod outbox;
pub mod precheck;
pub mod request;
pub mod service;
pub mod tokens;
mod verifier;

#[cfg(test)]
mod tests;

pub use limits::Limits;
pub use precheck::signature::is_region;

/// The keys clusters sign with. Asked anew for every request, so that keys can change while we run.
pub trait Credentials: fmt::Debug + Send + Sync + 'static {
    /// Whose key it is, and its secret.
    fn find(&self, access_key: &str) -> Option<(Cluster, Zeroizing<String>)>;
}

/// How the S3 listener is set up.
pub struct Settings {
    /// Virtual-hosted style is served below this domain.
    pub domain: Option<String>,
    /// The only region signatures may be for; None = any.
    pub region: Option<String>,
    /// Take bodies that neither a hash nor chunk signatures protect. None = with TLS or on loopback.
    pub allow_unsigned_payload: Option<bool>,
    pub tls: Option<Shown>,
    /// Seals continuation tokens; keep it with the state, so that listings survive a restart.
    pub token_secret: [u8; 32],
    pub limits: Limits,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("domain", &self.domain)
            .field("region", &self.region)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The S3 front of the gateway.
#[derive(Debug)]
pub struct Frontend {
    door: Arc<Door>,
    settings: Settings,
    credentials: Arc<dyn Credentials>,
}

impl Frontend {
    #[must_use]
    pub fn new(door: Arc<Door>, settings: Settings, credentials: Arc<dyn Credentials>) -> Self {
        Self {
            door,
            settings,
            credentials,
        }
    }

    /// Serves until `shutdown`, then finishes what is under way.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
        let Settings {
            domain,
            region,
            allow_unsigned_payload,
            tls,
            token_secret,
            limits,
        } = self.settings;
        let rules = precheck::Rules {
            domain: domain.map(|d| d.to_ascii_lowercase()),
            region,
            unsigned_payload: allow_unsigned_payload.unwrap_or(loopback || tls.is_some()),
        };
        let operations = operations::Operations::new(
            Arc::clone(&self.door),
            tokens::Sealer::new(token_secret),
            rules.region.clone(),
        );
        let memory = limits.inflight_bytes / 1024;
        let service = service::Service {
            s3: verifier::build(operations, &rules, self.credentials),
            door: self.door,
            rules,
            memory: Arc::new(tokio::sync::Semaphore::new(
                memory.min(tokio::sync::Semaphore::MAX_PERMITS),
            )),
            limits,
        };
        listener::run(Arc::new(service), listener, tls, shutdown).await
    }
}
