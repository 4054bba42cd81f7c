//! One connection to an S3 endpoint, one request at a time.
//!
//! Invariant: an answer counts only when it is a 2xx without an `<Error>` inside and its body was read to
//! the end; anything else is an [`Error`] that carries what the server said. Nothing is retried: a server
//! that fails under load is to be seen.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;

use crate::payload::{Body, Payload};
use crate::sign::{EMPTY_SHA256, Signer, Signing, now, sha256_hex};

const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');
const QUERY: &AsciiSet = &PATH.add(b'/');

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const DATE: &str = "x-amz-date";
const DECODED_LENGTH: &str = "x-amz-decoded-content-length";
const CONTENT_MD5: &str = "content-md5";
const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} answered {status}: {body}")]
    Refused {
        what: String,
        status: StatusCode,
        body: String,
    },
    #[error("{what}: expected {expected}")]
    Unexpected { what: String, expected: String },
    #[error("connection to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
}

/// Where the load goes and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub bucket: String,
    /// `base_path` of the repository; empty for a whole bucket.
    pub prefix: String,
    pub access: Arc<str>,
    pub secret: Arc<str>,
    pub signing: Signing,
}

impl Target {
    /// The key below the repository's base path.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.prefix)
        }
    }
}

/// One request.
#[derive(Debug)]
pub struct Call<'a> {
    pub method: Method,
    /// `None` addresses the bucket.
    pub key: Option<&'a str>,
    /// Sorted; values not yet encoded.
    pub query: &'a [(&'a str, &'a str)],
    pub content: Content,
}

#[derive(Debug)]
pub enum Content {
    None,
    Payload(Arc<Payload>),
    /// XML with its MD5, as the multi-object delete demands.
    Document(Bytes),
}

#[derive(Debug)]
pub struct Answer {
    pub etag: Option<String>,
    /// Kept unless the request was a GET of an object, whose bytes are counted and dropped.
    pub body: Bytes,
    pub length: u64,
}

#[derive(Debug)]
pub struct Connection {
    target: Arc<Target>,
    host: String,
    signer: Signer,
    sender: SendRequest<Body>,
}

impl Connection {
    pub async fn open(target: Arc<Target>) -> Result<Self, Error> {
        let sender = connect(target.address).await?;
        Ok(Self {
            host: target.address.to_string(),
            signer: Signer::new(
                Arc::clone(&target.access),
                Arc::clone(&target.secret),
                now(),
            ),
            target,
            sender,
        })
    }

    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub async fn call(&mut self, call: Call<'_>) -> Result<Answer, Error> {
        if self.sender.ready().await.is_err() {
            self.sender = connect(self.target.address).await?;
        }
        let drop_body = call.method == Method::GET && call.key.is_some();
        let what = format!("{} {}", call.method, call.key.unwrap_or("(bucket)"));
        let request = self.request(call);
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let etag = response
            .headers()
            .get(header::ETAG)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let mut body = response.into_body();
        if drop_body && status.is_success() {
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                length += frame?.data_ref().map_or(0, Bytes::len) as u64;
            }
            return Ok(Answer {
                etag,
                body: Bytes::new(),
                length,
            });
        }
        let body = body.collect().await?.to_bytes();
        if !status.is_success() || memchr::memmem::find(&body, b"<Error>").is_some() {
            return Err(Error::Refused {
                what,
                status,
                body: String::from_utf8_lossy(&body).into_owned(),
            });
        }
        Ok(Answer {
            etag,
            length: body.len() as u64,
            body,
        })
    }

    fn request(&mut self, call: Call<'_>) -> Request<Body> {
        let mut path = format!("/{}", self.target.bucket);
        if let Some(key) = call.key {
            path.push('/');
            path.extend(utf8_percent_encode(key, PATH));
        }
        let query = encode(call.query);
        let scope = Arc::clone(self.signer.scope(now()));
        let chunked =
            matches!(call.content, Content::Payload(_)) && self.target.signing == Signing::Chunked;
        let sha256 = match (&call.content, self.target.signing) {
            (Content::None, _) => EMPTY_SHA256,
            (Content::Document(xml), _) => &sha256_hex(xml),
            (Content::Payload(_), Signing::Unsigned) => "UNSIGNED-PAYLOAD",
            (Content::Payload(_), Signing::Chunked) => STREAMING,
            (Content::Payload(payload), Signing::Sha256) => &payload.sha256,
        };
        let decoded = match &call.content {
            Content::Payload(payload) => payload.bytes.len().to_string(),
            Content::None | Content::Document(_) => String::new(),
        };
        let headers = [
            ("host", self.host.as_str()),
            (CONTENT_SHA256, sha256),
            (DATE, &scope.stamp),
            (DECODED_LENGTH, &decoded),
        ];
        let signed = if chunked { &headers[..] } else { &headers[..3] };
        let (authorization, seed) =
            self.signer
                .authorize(call.method.as_str(), &path, &query, signed, sha256);

        if !query.is_empty() {
            path.push('?');
            path.push_str(&query);
        }
        let mut builder = Request::builder()
            .method(call.method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(CONTENT_SHA256, sha256)
            .header(DATE, &scope.stamp)
            .header(header::AUTHORIZATION, authorization);
        if chunked {
            builder = builder.header(DECODED_LENGTH, decoded).header(
                header::CONTENT_ENCODING,
                HeaderValue::from_static("aws-chunked"),
            );
        }
        if let Content::Document(xml) = &call.content {
            builder = builder.header(CONTENT_MD5, content_md5(xml));
        }
        let body = match call.content {
            Content::None => Body::plain(Bytes::new()),
            Content::Document(xml) => Body::plain(xml),
            Content::Payload(payload) if chunked => Body::chunked(payload, scope, seed),
            Content::Payload(payload) => Body::plain(payload.bytes.clone()),
        };
        builder
            .body(body)
            .expect("method, encoded path and these headers are always valid")
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Body>, Error> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| Error::Connect(address, error))?;
    stream
        .set_nodelay(true)
        .map_err(|error| Error::Connect(address, error))?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(1 << 20)
        .handshake(TokioIo::new(stream))
        .await?;
    // Ends with the sender; its errors reach the request that was on the way.
    tokio::spawn(connection);
    Ok(sender)
}

fn encode(query: &[(&str, &str)]) -> String {
    let mut encoded = String::new();
    for (name, value) in query {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        write!(encoded, "{name}={}", utf8_percent_encode(value, QUERY))
            .expect("a string takes everything");
    }
    encoded
}

fn content_md5(bytes: &[u8]) -> String {
    use base64::Engine as _;
    use md5::Digest as _;
    base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that gives one answer; returns what it was asked.
    async fn asked(
        answer: &'static str,
        signing: Signing,
        call: Call<'_>,
    ) -> (Result<Answer, Error>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Arc::new(Target {
            address: listener.local_addr().unwrap(),
            bucket: "bucket".into(),
            prefix: String::new(),
            access: "access".into(),
            secret: "secret".into(),
            signing,
        });
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while memchr::memmem::find(&request, b"\r\n\r\n").is_none() {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Takes the rest, so that the client is not cut off while it writes.
            stream.shutdown().await.unwrap();
            while stream.read_buf(&mut request).await.unwrap() > 0 {}
            String::from_utf8_lossy(&request).into_owned()
        });
        let mut connection = Connection::open(target).await.unwrap();
        let answer = connection.call(call).await;
        drop(connection);
        (answer, server.await.unwrap())
    }

    fn get(key: &str) -> Call<'_> {
        Call {
            method: Method::GET,
            key: Some(key),
            query: &[],
            content: Content::None,
        }
    }

    fn put<'a>(key: &'a str, size: usize) -> Call<'a> {
        Call {
            method: Method::PUT,
            key: Some(key),
            query: &[],
            content: Content::Payload(Arc::new(Payload::new(vec![7; size].into()))),
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn an_object_is_counted_and_dropped() {
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: \"x\"\r\n\r\nhello";
        let (answer, request) = asked(response, Signing::Unsigned, get("a b/__x-y_z")).await;
        let answer = answer.unwrap();
        assert_eq!((answer.length, answer.body.len()), (5, 0));
        assert_eq!(answer.etag.as_deref(), Some("\"x\""));
        assert!(
            request.starts_with("GET /bucket/a%20b/__x-y_z HTTP/1.1\r\n"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn another_status_is_a_refusal_with_the_servers_words() {
        let response = "HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nlocked";
        let (answer, _) = asked(response, Signing::Unsigned, get("k")).await;
        assert!(answer.unwrap_err().to_string().ends_with("locked"));
    }

    #[tokio::test]
    async fn a_200_with_an_error_inside_is_a_refusal() {
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n<Error></Error>";
        let call = Call {
            method: Method::POST,
            key: None,
            query: &[("delete", "")],
            content: Content::Document(Bytes::from_static(b"<Delete/>")),
        };
        let (answer, request) = asked(response, Signing::Unsigned, call).await;
        assert!(matches!(answer, Err(Error::Refused { .. })));
        assert!(request.starts_with("POST /bucket?delete= "), "{request}");
        assert!(request.contains("content-md5: "), "{request}");
    }

    #[tokio::test]
    async fn a_body_goes_out_as_it_was_signed() {
        let (_, plain) = asked(OK, Signing::Unsigned, put("k", 9)).await;
        assert!(plain.contains("x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"));
        assert!(plain.contains("content-length: 9\r\n"), "{plain}");
        let (_, chunked) = asked(OK, Signing::Chunked, put("k", 9)).await;
        for line in [
            "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\n",
            "content-encoding: aws-chunked\r\n",
            "x-amz-decoded-content-length: 9\r\n",
            "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length,",
        ] {
            assert!(chunked.contains(line), "{line}: {chunked}");
        }
    }
}
