//! Asks the admin API.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::Global;
use crate::config::{Secret, secret};

/// A hand-over waits up to 60 s for open writes.
const TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unreachable(String),
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(_) => ExitCode::from(1),
            Self::Unreachable(_) => ExitCode::from(3),
        }
    }
}

pub struct Client {
    base: String,
    token: Secret,
    http: hyper_util::client::legacy::Client<
        hyper_rustls::HttpsConnector<HttpConnector>,
        Full<Bytes>,
    >,
}

impl Client {
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let (base, token) = match (&global.admin, &global.token_file) {
            (Some(base), Some(file)) => (base.clone(), token(file)?),
            (base, file) => {
                let plan = super::plan(global)?;
                let scheme = if plan.admin.tls.is_some() {
                    "https"
                } else {
                    "http"
                };
                let base = base
                    .clone()
                    .unwrap_or_else(|| format!("{scheme}://{}", plan.admin.listen));
                let token = file
                    .as_ref()
                    .map_or_else(|| Ok(plan.admin.token), |file| token(file))?;
                (base, token)
            }
        };
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            token,
            http: https()?,
        })
    }

    /// Of a gateway that takes any token.
    #[cfg(test)]
    pub fn at(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            token: Secret::new("any".to_owned()),
            http: https().unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, body.to_string().into()).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, Bytes::new()).await
    }

    /// A body that comes bit by bit; only the wait for its head is bounded.
    pub async fn open(&self, path: &str) -> Result<hyper::body::Incoming, Failure> {
        let answer = self.ask(Method::GET, path, Bytes::new()).await?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        Err(Failure::Refused(format!(
            "the gateway answered {}",
            answer.status()
        )))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<hyper::body::Incoming>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.token.expose()),
            )
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| Failure::Refused(format!("'{}' is not an admin URL: {e}", self.base)))?;
        let unreachable = |e: &dyn std::fmt::Display| {
            Failure::Unreachable(format!("the gateway does not answer at {}: {e}", self.base))
        };
        tokio::time::timeout(TIMEOUT, self.http.request(request))
            .await
            .map_err(|e| unreachable(&e))?
            .map_err(|e| unreachable(&e))
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
        let answer = self.ask(method, path, body).await?;
        let unreachable = |e: &dyn std::fmt::Display| {
            Failure::Unreachable(format!("the gateway does not answer at {}: {e}", self.base))
        };
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|e| unreachable(&e))?
            .to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(value);
        }
        let detail = value["detail"]
            .as_str()
            .map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
        if status == StatusCode::BAD_GATEWAY || status == StatusCode::GATEWAY_TIMEOUT {
            return Err(Failure::Unreachable(detail));
        }
        Err(Failure::Refused(detail))
    }
}

/// Where a repository's `what` is.
pub fn repository_path(repository: &str, what: &str) -> String {
    format!("/v1/repositories/{}/{what}", segment(repository))
}

/// One segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn token(file: &std::path::Path) -> Result<Secret, Failure> {
    secret::read(file, "--token-file", file).map_err(|e| Failure::Refused(e.to_string()))
}

fn https() -> Result<
    hyper_util::client::legacy::Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>,
    Failure,
> {
    let config = crate::tls::client(
        std::env::var_os("SSL_CERT_FILE")
            .map(std::path::PathBuf::from)
            .as_deref(),
    )
    .map_err(|e| Failure::Refused(e.to_string()))?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector))
}
