//! A small S3 service in memory that misbehaves on command, for tests without a server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod world;

pub(in crate::stores::s3) type Reply = Response<BoxBody<Bytes, io::Error>>;

/// What a service does wrong, once, at the next request of an operation.
#[derive(Clone, Debug)]
pub(in crate::stores::s3) enum Fault {
    /// Acts, then breaks the connection.
    LoseAnswer,
    /// Breaks the connection without acting.
    LoseRequest,
    /// Answers this instead of acting.
    Answer(u16, String),
    /// Answers rightly, but only the first bytes of the body come.
    CutBody(usize),
    /// Does not answer at all.
    Hang,
}

/// What a service cannot do at all.
#[derive(Clone, Debug, Default)]
pub(in crate::stores::s3) struct Lacks {
    pub conditions: bool,
    pub aborting: bool,
    pub checksums: bool,
    pub batches: bool,
}

#[derive(Clone, Debug, Default)]
pub(in crate::stores::s3) struct Stored {
    pub bytes: Bytes,
    pub tag: String,
    meta: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Open {
    key: String,
    parts: BTreeMap<u16, (Bytes, String)>,
    meta: Vec<(String, String)>,
}

#[derive(Debug, Default)]
pub(in crate::stores::s3) struct World {
    pub objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Open>,
    made: u64,
    pub faults: Vec<(&'static str, Fault)>,
    pub lacks: Lacks,
    /// Operations in the order they came.
    pub seen: Vec<&'static str>,
    connections: usize,
    /// Keys per listing.
    pub page: usize,
    /// This share of the requests, or of their answers, is lost.
    losing: Option<(StdRng, f64)>,
}

#[derive(Debug)]
pub(crate) struct Fake {
    pub(in crate::stores::s3) address: SocketAddr,
    pub(in crate::stores::s3) world: Arc<Mutex<World>>,
    server: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    pub(in crate::stores::s3) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World {
            page: 1000,
            ..World::default()
        }));
        let served = world.clone();
        let server = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let world = served.clone();
                world.lock().connections += 1;
                let service = service_fn(move |request| serve(world.clone(), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service);
                tokio::spawn(connection);
            }
        });
        Self {
            address,
            world,
            server,
        }
    }

    /// The next request of this operation fails so.
    pub(in crate::stores::s3) fn fault(&self, operation: &'static str, fault: Fault) {
        self.world.lock().faults.push((operation, fault));
    }

    pub(in crate::stores::s3) fn lose(&self, seed: u64, share: f64) {
        self.world.lock().losing = Some((StdRng::seed_from_u64(seed), share));
    }

    pub(in crate::stores::s3) fn put(&self, key: &str, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let tag = hex::encode(Md5::digest(&bytes));
        let meta = Vec::new();
        self.world
            .lock()
            .objects
            .insert(key.to_owned(), Stored { bytes, tag, meta });
    }

    pub(in crate::stores::s3) fn get(&self, key: &str) -> Option<Bytes> {
        self.world
            .lock()
            .objects
            .get(key)
            .map(|object| object.bytes.clone())
    }

    pub(in crate::stores::s3) fn count(&self, operation: &str) -> usize {
        self.world
            .lock()
            .seen
            .iter()
            .filter(|seen| **seen == operation)
            .count()
    }

    pub(in crate::stores::s3) fn connections(&self) -> usize {
        self.world.lock().connections
    }

    pub(in crate::stores::s3) fn open_uploads(&self) -> usize {
        self.world.lock().uploads.len()
    }
}

impl World {
    fn lost(&mut self) -> Option<Fault> {
        let (random, share) = self.losing.as_mut()?;
        random.random_bool(*share).then(|| {
            if random.random_bool(0.5) {
                Fault::LoseAnswer
            } else {
                Fault::LoseRequest
            }
        })
    }
}

/// One request, taken apart.
struct Asked {
    operation: &'static str,
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Debug, thiserror::Error)]
#[error("the connection breaks")]
struct Broken;

async fn serve(world: Arc<Mutex<World>>, request: Request<Incoming>) -> Result<Reply, Broken> {
    let (head, body) = request.into_parts();
    let query = parse_query(head.uri.query().unwrap_or_default());
    let path = percent_encoding::percent_decode_str(head.uri.path())
        .decode_utf8()
        .unwrap();
    let key = path
        .strip_prefix("/bucket")
        .unwrap()
        .trim_start_matches('/')
        .to_owned();
    let operation = operation(&head.method, &key, &query, &head.headers);
    assert!(
        head.headers.contains_key("authorization"),
        "unsigned request"
    );
    // A request that breaks off has no effect.
    let Ok(body) = body.collect().await else {
        return Err(Broken);
    };
    let asked = Asked {
        operation,
        key,
        query,
        headers: head.headers,
        body: body.to_bytes(),
    };
    let fault = {
        let mut world = world.lock();
        world.seen.push(operation);
        let found = world.faults.iter().position(|(of, _)| *of == operation);
        let planned = found.map(|at| world.faults.remove(at).1);
        planned.or_else(|| world.lost())
    };
    match fault {
        None => Ok(world.lock().act(&asked)),
        Some(Fault::LoseRequest) => Err(Broken),
        Some(Fault::LoseAnswer) => {
            world.lock().act(&asked);
            Err(Broken)
        }
        Some(Fault::Answer(status, body)) => Ok(reply(status, body)),
        Some(Fault::CutBody(length)) => {
            let answer = world.lock().act(&asked);
            Ok(cut(answer, length).await)
        }
        Some(Fault::Hang) => std::future::pending().await,
    }
}

async fn cut(answer: Reply, length: usize) -> Reply {
    let (mut head, body) = answer.into_parts();
    let whole = body.collect().await.unwrap().to_bytes();
    head.headers.insert("content-length", whole.len().into());
    let first = whole.slice(..length);
    // A pause between, so that the first bytes are sent.
    let broken = futures::stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("cut"))
    });
    let frames = futures::stream::iter([Ok(Frame::data(first))]).chain(broken);
    let frames = Box::pin(frames);
    Response::from_parts(head, BodyExt::boxed(StreamBody::new(frames)))
}

fn parse_query(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn operation(
    method: &Method,
    key: &str,
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
) -> &'static str {
    let upload = query.contains_key("uploadId");
    match (method.as_str(), key.is_empty()) {
        ("HEAD", true) => "HeadBucket",
        ("HEAD", false) => "HeadObject",
        ("GET", true) if query.contains_key("uploads") => "ListMultipartUploads",
        ("GET", true) => "ListObjectsV2",
        ("GET", false) if upload => "ListParts",
        ("GET", false) => "GetObject",
        ("PUT", _) if upload => "UploadPart",
        ("PUT", _) if headers.contains_key("x-amz-copy-source") => "CopyObject",
        ("PUT", _) => "PutObject",
        ("DELETE", _) if upload => "AbortMultipartUpload",
        ("DELETE", _) => "DeleteObject",
        ("POST", true) => "DeleteObjects",
        ("POST", false) if upload => "CompleteMultipartUpload",
        ("POST", false) => "CreateMultipartUpload",
        other => panic!("unexpected request {other:?}"),
    }
}

fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {});
    let mut reply = Response::new(BodyExt::boxed(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    reply
}

pub(in crate::stores::s3) fn error_body(code: &str) -> String {
    format!(
        "<Error><Code>{code}</Code><Message>bucket secret-internal at 10.0.0.1</Message></Error>"
    )
}

fn error(status: u16, code: &str) -> Reply {
    reply(status, error_body(code))
}

fn with_tag(mut reply: Reply, tag: &str) -> Reply {
    reply
        .headers_mut()
        .insert("etag", format!("\"{tag}\"").parse().unwrap());
    reply
}

fn meta_of(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}
