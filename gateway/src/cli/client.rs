//! Asks the admin API.

use std::path::Path;
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
use crate::tls::{self, Tls};

/// A hand-over waits up to 60 s for open writes.
const TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unreachable(String),
    /// Ctrl-C, while the gateway works on.
    #[error("{0}")]
    LeftAlone(String),
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(_) => ExitCode::from(1),
            Self::Unreachable(_) => ExitCode::from(3),
            // As a shell says of a command that SIGINT ended.
            Self::LeftAlone(_) => ExitCode::from(130),
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
            http: https(global.ca.as_deref(), global.identity().as_ref())?,
        })
    }

    /// Of a gateway that takes any token.
    #[cfg(test)]
    pub fn at(base: &str) -> Self {
        Self::over(base, None, None)
    }

    #[cfg(test)]
    fn over(base: &str, ca: Option<&Path>, identity: Option<&Tls>) -> Self {
        Self {
            base: base.to_owned(),
            token: Secret::new("any".to_owned()),
            http: https(ca, identity).unwrap(),
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
        tokio::time::timeout(TIMEOUT, self.http.request(request))
            .await
            .map_err(|e| self.unreachable(&e))?
            .map_err(|e| self.unreachable(&e))
    }

    /// With the cause at the bottom: "client error (Connect)" tells nobody what to mend.
    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let causes = std::iter::successors(Some(error), |e| e.source());
        let said: Vec<String> = causes.map(ToString::to_string).collect();
        let base = &self.base;
        Failure::Unreachable(format!(
            "the gateway does not answer at {base}: {}",
            said.join(": ")
        ))
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
        let answer = self.ask(method, path, body).await?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|e| self.unreachable(&e))?
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

fn token(file: &Path) -> Result<Secret, Failure> {
    secret::read(file, "--token-file", file).map_err(|e| Failure::Refused(e.to_string()))
}

fn https(
    ca: Option<&Path>,
    identity: Option<&Tls>,
) -> Result<
    hyper_util::client::legacy::Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>,
    Failure,
> {
    let config = tls::client(ca, identity).map_err(|e| Failure::Refused(e.to_string()))?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::telemetry::clock;

    /// Answers every request with an empty list, over TLS, to clients that the authority signed.
    async fn closed(tls: Arc<rustls::ServerConfig>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _head = stream.read(&mut [0; 4096]).await;
                    let answer =
                        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n[]";
                    let _gone = stream.write_all(answer).await;
                    let _gone = stream.shutdown().await;
                }
            }
        });
        base
    }

    #[tokio::test]
    async fn a_gateway_that_asks_for_a_certificate_is_shown_one() {
        let files = tempfile::tempdir().unwrap();
        let paths = certs::development(files.path(), &[], clock::now()).unwrap();
        let [server, client] = [&paths.server, &paths.client].map(|pair| Tls {
            cert: pair.certificate.clone(),
            key: pair.key.clone(),
        });
        let ca = Some(paths.authority.certificate.as_path());
        let base = closed(tls::server(&server, ca).unwrap()).await;
        let shown = Client::over(&base, ca, Some(&client)).get("/").await;
        assert_eq!(shown.unwrap(), serde_json::json!([]));
        let nothing = Client::over(&base, ca, None).get("/").await.unwrap_err();
        assert!(matches!(&nothing, Failure::Unreachable(_)), "{nothing}");
        let stranger = Client::over(&base, None, Some(&client)).get("/").await;
        let stranger = stranger.unwrap_err().to_string();
        assert!(stranger.contains("UnknownIssuer"), "{stranger}");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_told_with_the_cause() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", nobody.local_addr().unwrap());
        drop(nobody);
        let failure = Client::at(&base).get("/").await.unwrap_err().to_string();
        assert!(failure.starts_with(&format!("the gateway does not answer at {base}: ")));
        assert!(failure.contains("Connection refused"), "{failure}");
    }
}
