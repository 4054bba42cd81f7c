//! S3 in: from a socket to the door and back, in the words of S3.
//!
//! The way of a request: [`listener`] accepts, [`connection`] keeps the time, [`service`] leads it
//! through [`precheck`] (what must hold before a signature is computed), the verifier and router (the
//! `s3s` crate) and one file of [`operations`] to [`Door`]; [`answers`] is the only place where a refusal
//! or failure becomes an S3 answer.
//! Invariant: nothing passes to the door that is not signed by a known cluster, and what is not
//! implemented in [`operations`] is answered `NotImplemented`.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::check::S3Plan;
use crate::repository::Door;
use crate::tls;

mod access_log;
mod answers;
mod body;
mod connection;
mod document;
mod intake;
mod keys;
pub mod limits;
mod listener;
mod operations;
mod precheck;
mod request;
mod service;
mod tokens;
mod verifier;

#[cfg(test)]
mod tests;

pub use keys::Keys;

/// The S3 front of the gateway, ready to serve.
#[derive(Debug)]
pub struct Frontend {
    door: Arc<Door>,
    keys: Arc<Keys>,
    rules: precheck::Rules,
    /// None = by the address that is listened on.
    unsigned_payload: Option<bool>,
    limits: limits::Limits,
    sealer: tokens::Sealer,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Frontend {
    /// `token_secret` seals continuation tokens; it is kept with the state, so that a listing goes on
    /// after a restart and on another node.
    pub fn new(
        door: Arc<Door>,
        keys: Arc<Keys>,
        plan: &S3Plan,
        token_secret: [u8; 32],
    ) -> Result<Self, tls::Error> {
        Ok(Self {
            door,
            keys,
            rules: precheck::Rules {
                domain: plan.domain.as_ref().map(|d| d.to_ascii_lowercase()),
                region: plan.region.clone(),
                unsigned_payload: false,
            },
            unsigned_payload: plan.allow_unsigned_payload,
            limits: plan.limits.clone(),
            sealer: tokens::Sealer::new(token_secret),
            tls: match &plan.tls {
                Some(tls) => Some(tls::server(tls, None)?),
                None => None,
            },
        })
    }

    /// Serves until `stop`, then finishes what is under way.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let loopback = listener
            .local_addr()
            .is_ok_and(|address| address.ip().to_canonical().is_loopback());
        let rules = precheck::Rules {
            unsigned_payload: self
                .unsigned_payload
                .unwrap_or(loopback || self.tls.is_some()),
            ..self.rules
        };
        let operations = operations::Operations::new(
            Arc::clone(&self.door),
            self.sealer,
            rules.region.clone(),
        );
        let kib = (self.limits.inflight_bytes / 1024).min(Semaphore::MAX_PERMITS);
        let service = service::Service {
            s3: verifier::build(operations, &rules, self.keys),
            door: self.door,
            rules,
            memory: Arc::new(Semaphore::new(kib)),
            limits: self.limits,
        };
        listener::run(Arc::new(service), listener, self.tls, stop).await;
    }
}
