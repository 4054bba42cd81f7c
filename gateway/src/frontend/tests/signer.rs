//! Signs requests and bodies as clients do, after AWS's description of Signature Version 4.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::frontend::tokens::hmac_sha256;

#[derive(Clone, Copy)]
pub struct Key {
    pub id: &'static str,
    pub secret: &'static str,
}

/// How the body travels.
#[derive(Clone, Debug, PartialEq)]
pub enum Framing {
    Sha256,
    Unsigned,
    Chunks,
    /// Signed chunks and a signed trailer: its lines.
    ChunksTrailer(String),
    UnsignedTrailer(String),
}

/// A request before it is signed.
#[derive(Clone, Debug)]
pub struct Sent {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
    chunk: usize,
    pub spoil: Spoil,
}

/// What a test breaks after everything was signed.
#[derive(Clone, Debug, Default)]
pub struct Spoil {
    pub signature: bool,
    /// Of this chunk, counted from 0.
    pub chunk_signature: Option<usize>,
    pub no_final_chunk: bool,
    pub after_body: &'static str,
    /// Said instead of the true decoded length.
    pub decoded_length: Option<&'static str>,
    /// Headers that come on top, unsigned.
    pub unsigned: Vec<(&'static str, String)>,
}

/// Head and body, ready to be sent.
pub struct Signed {
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

impl Signed {
    pub fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body].concat()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Whole seconds, as signatures have them.
pub fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(crate::telemetry::clock::now_ms() / 1000).unwrap()
}

/// As in `x-amz-checksum-crc32`.
pub fn crc32(bytes: &[u8]) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes);
    BASE64_STANDARD.encode(&sum.to_be_bytes()[4..])
}

pub fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    hmac_sha256(key, text.as_bytes())
}

struct Signing {
    key: [u8; 32],
    time: String,
    scope: String,
}

impl Signing {
    fn sign(&self, kind: &str, rest: &str) -> String {
        let text = format!("{kind}\n{}\n{}\n{rest}", self.time, self.scope);
        hex::encode(hmac(&self.key, &text))
    }
}

impl Sent {
    pub fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            framing: Framing::Sha256,
            chunk: 64 * 1024,
            spoil: Spoil::default(),
        }
    }

    pub fn method(&self) -> &'static str {
        self.method
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    pub fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    pub fn chunk(mut self, bytes: usize) -> Self {
        self.chunk = bytes;
        self
    }

    pub fn spoilt(mut self, spoil: Spoil) -> Self {
        self.spoil = spoil;
        self
    }

    pub fn sign(&self, key: Key) -> Signed {
        self.sign_at(key, now())
    }

    pub fn sign_at(&self, key: Key, now: OffsetDateTime) -> Signed {
        let format =
            time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = now.format(format).unwrap();
        let scope = format!("{}/us-east-1/s3/aws4_request", &time[..8]);
        let mut signing = Signing {
            key: [0; 32],
            time,
            scope,
        };
        let date = hmac(format!("AWS4{}", key.secret).as_bytes(), &signing.time[..8]);
        signing.key = hmac(&hmac(&hmac(&date, "us-east-1"), "s3"), "aws4_request");

        let payload = match &self.framing {
            Framing::Sha256 => sha256(&self.body),
            Framing::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Framing::Chunks => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
            Framing::ChunksTrailer(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER".to_owned(),
            Framing::UnsignedTrailer(_) => "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned(),
        };
        let mut headers = self.headers.clone();
        let mut add = |name: &str, value: String| {
            if !headers.iter().any(|(n, _)| n == name) {
                headers.push((name.to_owned(), value));
            }
        };
        add("host", "127.0.0.1".to_owned());
        add("x-amz-date", signing.time.clone());
        add("x-amz-content-sha256", payload.clone());
        if !matches!(self.framing, Framing::Sha256 | Framing::Unsigned) {
            let length = self
                .spoil
                .decoded_length
                .map_or(self.body.len().to_string(), str::to_owned);
            add("x-amz-decoded-content-length", length);
        }
        headers.sort();
        let names: Vec<_> = headers.iter().map(|(n, _)| n.as_str()).collect();
        let names = names.join(";");
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let mut pairs: Vec<_> = query.split('&').filter(|p| !p.is_empty()).collect();
        pairs.sort_unstable();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|p| {
                if p.contains('=') {
                    (*p).to_owned()
                } else {
                    format!("{p}=")
                }
            })
            .collect();
        let lines: String = headers
            .iter()
            .map(|(n, v)| format!("{n}:{}\n", v.trim()))
            .collect();
        let canonical = format!(
            "{}\n{path}\n{}\n{lines}\n{names}\n{payload}",
            self.method,
            pairs.join("&")
        );
        let seed = signing.sign("AWS4-HMAC-SHA256", &sha256(canonical.as_bytes()));
        let body = self.frame(&signing, &seed);

        let mut signature = seed;
        if self.spoil.signature {
            let last = if signature.ends_with('0') { "1" } else { "0" };
            signature.replace_range(63.., last);
        }
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!(
            "authorization: AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={names}, Signature={signature}\r\n",
            key.id, signing.scope
        ));
        for (name, value) in &self.spoil.unsigned {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers.iter().any(|(n, _)| n == "content-length")
            && (!body.is_empty() || self.method == "PUT" || self.method == "POST")
        {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        Signed {
            head: head.into_bytes(),
            body,
        }
    }

    fn frame(&self, signing: &Signing, seed: &str) -> Vec<u8> {
        let (signed, trailer) = match &self.framing {
            Framing::Sha256 | Framing::Unsigned => return self.body.clone(),
            Framing::Chunks => (true, None),
            Framing::ChunksTrailer(lines) => (true, Some(lines)),
            Framing::UnsignedTrailer(lines) => (false, Some(lines)),
        };
        let mut out = Vec::new();
        let mut previous = seed.to_owned();
        let mut chunks: Vec<&[u8]> = self.body.chunks(self.chunk).collect();
        if !self.spoil.no_final_chunk {
            chunks.push(&[]);
        }
        for (at, chunk) in chunks.iter().enumerate() {
            if signed {
                let rest = format!("{previous}\n{}\n{}", sha256(b""), sha256(chunk));
                previous = signing.sign("AWS4-HMAC-SHA256-PAYLOAD", &rest);
                let mut told = previous.clone();
                if self.spoil.chunk_signature == Some(at) {
                    let first = if told.starts_with('0') { "1" } else { "0" };
                    told.replace_range(..1, first);
                }
                out.extend_from_slice(
                    format!("{:x};chunk-signature={told}\r\n", chunk.len()).as_bytes(),
                );
            } else {
                out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            }
            if !chunk.is_empty() {
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
        }
        if let (Some(lines), false) = (trailer, self.spoil.no_final_chunk) {
            for line in lines.split('\n').filter(|l| !l.is_empty()) {
                out.extend_from_slice(format!("{line}\r\n").as_bytes());
            }
            if signed && !lines.is_empty() {
                let canonical: String = lines
                    .split('\n')
                    .filter(|l| !l.is_empty())
                    .map(|l| format!("{l}\n"))
                    .collect();
                let rest = format!("{previous}\n{}", sha256(canonical.as_bytes()));
                let signature = signing.sign("AWS4-HMAC-SHA256-TRAILER", &rest);
                out.extend_from_slice(
                    format!("x-amz-trailer-signature:{signature}\r\n").as_bytes(),
                );
            }
        }
        if !self.spoil.no_final_chunk {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(self.spoil.after_body.as_bytes());
        out
    }
}
