//! How a body is framed and protected, and whether its operation may have it so.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, Method};

use super::query::Query;
use super::{Rejection, Rules, Target, checksum_name};
use crate::digest::Algorithm;
use crate::repository::Expected;

/// Largest object of one PUT or part in bytes, as S3.
pub const MAX_UPLOAD: u64 = 5 * 1024 * 1024 * 1024;

/// The five values of `x-amz-content-sha256`, or none (presigned URLs).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Sha256([u8; 32]),
    Unsigned,
    SignedChunks,
    SignedChunksTrailer,
    UnsignedChunksTrailer,
}

impl Framing {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256(_) => "a SHA-256",
            Self::Unsigned => "UNSIGNED-PAYLOAD",
            Self::SignedChunks => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Self::SignedChunksTrailer => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            Self::UnsignedChunksTrailer => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        }
    }

    fn chunked(self) -> bool {
        match self {
            Self::Sha256(_) | Self::Unsigned => false,
            Self::SignedChunks | Self::SignedChunksTrailer | Self::UnsignedChunksTrailer => true,
        }
    }
}

/// What a request brings along.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    None,
    /// The bytes of an object or a part: streamed.
    Upload(Upload),
    /// An XML document: read whole, checked, then parsed.
    Document(Document),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    pub framing: Framing,
    /// Decoded length in bytes.
    pub size: Option<u64>,
    pub md5: Option<[u8; 16]>,
    pub expected: Option<Expected>,
    /// The checksum that the trailer must bring.
    pub announced: Option<Algorithm>,
    /// The algorithm the client named without giving a value.
    pub compute: Option<Algorithm>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// Most bytes it may have.
    pub limit: usize,
    pub sha256: Option<[u8; 32]>,
    pub md5: Option<[u8; 16]>,
    /// Of the document itself.
    pub expected: Option<Expected>,
    /// Of the object that CompleteMultipartUpload makes.
    pub object: Option<Expected>,
}

/// Which documents there are; they differ in size and in what a checksum header speaks of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Delete,
    Complete,
    Other,
}

impl Kind {
    /// 1,000 keys of 1,024 bytes do not fit into 1 MiB, nor do 10,000 parts with their checksums into 2.
    fn limit(self) -> usize {
        match self {
            Self::Delete => 2 << 20,
            Self::Complete => 3 << 20,
            Self::Other => 1 << 20,
        }
    }
}

pub fn check(
    rules: &Rules,
    method: &Method,
    target: &Target,
    copies: bool,
    query: &Query<'_>,
    headers: &HeaderMap,
    presigned: bool,
) -> Result<Payload, Rejection> {
    let framing = framing(headers, presigned)?;
    let length = content_length(headers)?;
    if presigned && framing.chunked() {
        return Err(Rejection::FramingWithQueryAuth);
    }
    let kind = match (method, target) {
        (&Method::PUT, Target::Object(_)) if !copies => {
            return upload(rules, framing, length, headers).map(Payload::Upload);
        }
        (&Method::POST, Target::Bucket(_)) if query.has("delete") => Kind::Delete,
        (&Method::POST, Target::Object(_)) if query.has("uploadId") => Kind::Complete,
        (&Method::POST, _) | (&Method::PUT, Target::Bucket(_)) => Kind::Other,
        _ => {
            return if framing.chunked() {
                Err(Rejection::FramingNotAllowed(framing.name()))
            } else {
                Ok(Payload::None)
            };
        }
    };
    document(rules, kind, framing, length, headers).map(Payload::Document)
}

fn framing(headers: &HeaderMap, presigned: bool) -> Result<Framing, Rejection> {
    let Some(value) = headers.get("x-amz-content-sha256") else {
        return if presigned {
            Ok(Framing::Unsigned)
        } else {
            Err(Rejection::MissingHeader("x-amz-content-sha256"))
        };
    };
    match value.as_bytes() {
        b"UNSIGNED-PAYLOAD" => Ok(Framing::Unsigned),
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Framing::SignedChunks),
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Framing::SignedChunksTrailer),
        b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Framing::UnsignedChunksTrailer),
        b"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
        | b"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER" => {
            Err(Rejection::FramingNotImplemented)
        }
        text => {
            let mut sum = [0; 32];
            let lower = !text.iter().any(u8::is_ascii_uppercase);
            match hex::decode_to_slice(text, &mut sum) {
                Ok(()) if lower => Ok(Framing::Sha256(sum)),
                Ok(()) | Err(_) => Err(Rejection::BadPayloadHash),
            }
        }
    }
}

fn upload(
    rules: &Rules,
    framing: Framing,
    length: Option<u64>,
    headers: &HeaderMap,
) -> Result<Upload, Rejection> {
    refuse_form(headers)?;
    match framing {
        Framing::Unsigned | Framing::UnsignedChunksTrailer if !rules.unsigned_payload => {
            return Err(Rejection::UnsignedPayload(framing.name()));
        }
        Framing::Unsigned
        | Framing::UnsignedChunksTrailer
        | Framing::Sha256(_)
        | Framing::SignedChunks
        | Framing::SignedChunksTrailer => {}
    }
    let size = if framing.chunked() {
        Some(digits(headers, "x-amz-decoded-content-length")?.ok_or(Rejection::MissingLength)?)
    } else {
        Some(length.ok_or(Rejection::MissingLength)?)
    };
    if size.is_some_and(|size| size > MAX_UPLOAD) {
        return Err(Rejection::TooLarge);
    }
    let announced = match (framing, headers.get("x-amz-trailer")) {
        (Framing::SignedChunksTrailer | Framing::UnsignedChunksTrailer, Some(names)) => {
            Some(announced(names.as_bytes())?)
        }
        (Framing::SignedChunksTrailer | Framing::UnsignedChunksTrailer, None) => {
            return Err(Rejection::MissingHeader("x-amz-trailer"));
        }
        (Framing::Sha256(_) | Framing::Unsigned | Framing::SignedChunks, Some(_)) => {
            return Err(Rejection::BadTrailer);
        }
        (Framing::Sha256(_) | Framing::Unsigned | Framing::SignedChunks, None) => None,
    };
    let expected = checksum(headers)?;
    if expected.is_some() && announced.is_some() {
        return Err(Rejection::ManyChecksums);
    }
    Ok(Upload {
        framing,
        size,
        md5: md5(headers)?,
        expected,
        announced,
        compute: named_algorithm(headers)?,
    })
}

fn document(
    rules: &Rules,
    kind: Kind,
    framing: Framing,
    length: Option<u64>,
    headers: &HeaderMap,
) -> Result<Document, Rejection> {
    refuse_form(headers)?;
    let sha256 = match framing {
        Framing::Sha256(sum) => Some(sum),
        Framing::Unsigned => None,
        Framing::SignedChunks | Framing::SignedChunksTrailer | Framing::UnsignedChunksTrailer => {
            return Err(Rejection::FramingNotAllowed(framing.name()));
        }
    };
    let limit = kind.limit();
    if length.is_some_and(|length| length > limit as u64) {
        return Err(Rejection::DocumentTooLarge);
    }
    let md5 = md5(headers)?;
    let (expected, object) = match kind {
        Kind::Complete => (None, object_checksum(headers)?),
        Kind::Delete | Kind::Other => (checksum(headers)?, None),
    };
    let protected = md5.is_some() || expected.is_some();
    let needed = match kind {
        Kind::Delete => true,
        Kind::Complete => sha256.is_none() && !rules.unsigned_payload,
        Kind::Other => false,
    };
    if needed && !protected {
        return Err(Rejection::DocumentUnprotected);
    }
    Ok(Document {
        limit,
        sha256,
        md5,
        expected,
        object,
    })
}

fn refuse_form(headers: &HeaderMap) -> Result<(), Rejection> {
    let form = b"multipart/form-data";
    match headers.get("content-type").map(http::HeaderValue::as_bytes) {
        Some(value)
            if value
                .get(..form.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(form)) =>
        {
            Err(Rejection::FormUpload)
        }
        Some(_) | None => Ok(()),
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Rejection> {
    digits(headers, "content-length")
}

fn digits(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Rejection> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| Rejection::BadHeader(name))?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Rejection::BadHeader(name));
    }
    text.parse()
        .map(Some)
        .map_err(|_| Rejection::BadHeader(name))
}

fn announced(names: &[u8]) -> Result<Algorithm, Rejection> {
    let name = std::str::from_utf8(names)
        .map_err(|_| Rejection::BadTrailer)?
        .trim()
        .to_ascii_lowercase();
    checksum_name(&name).unwrap_or(Err(Rejection::BadTrailer))
}

fn md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Rejection> {
    let Some(value) = headers.get("content-md5") else {
        return Ok(None);
    };
    let sum = BASE64_STANDARD
        .decode(value.as_bytes())
        .map_err(|_| Rejection::BadMd5)?;
    sum.try_into().map(Some).map_err(|_| Rejection::BadMd5)
}

/// The one `x-amz-checksum-<algorithm>` header.
fn checksum(headers: &HeaderMap) -> Result<Option<Expected>, Rejection> {
    let mut found = None;
    for (name, value) in headers {
        let Some(algorithm) = checksum_name(name.as_str()) else {
            continue;
        };
        let algorithm = algorithm?;
        let sum = parse_checksum(algorithm, value.as_bytes())
            .ok_or(Rejection::BadChecksum(algorithm.name()))?;
        if found.replace(sum).is_some() {
            return Err(Rejection::ManyChecksums);
        }
    }
    Ok(found)
}

/// As [`checksum`]; a composite value ends in `-<number of parts>`.
fn object_checksum(headers: &HeaderMap) -> Result<Option<Expected>, Rejection> {
    for (name, value) in headers {
        let Some(algorithm) = checksum_name(name.as_str()) else {
            continue;
        };
        let algorithm = algorithm?;
        let bytes = value.as_bytes();
        let plain = match bytes.iter().rposition(|b| *b == b'-') {
            Some(dash) => &bytes[..dash],
            None => bytes,
        };
        return parse_checksum(algorithm, plain)
            .map(Some)
            .ok_or(Rejection::BadChecksum(algorithm.name()));
    }
    Ok(None)
}

/// Base64 of as many bytes as the algorithm has.
#[must_use]
pub fn parse_checksum(algorithm: Algorithm, text: &[u8]) -> Option<Expected> {
    let value = BASE64_STANDARD.decode(text).ok()?;
    let length = match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c => 4,
        Algorithm::Crc64Nvme => 8,
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
    };
    (value.len() == length).then(|| Expected {
        algorithm,
        value: value.into(),
    })
}

fn named_algorithm(headers: &HeaderMap) -> Result<Option<Algorithm>, Rejection> {
    let value = headers
        .get("x-amz-sdk-checksum-algorithm")
        .or_else(|| headers.get("x-amz-checksum-algorithm"));
    let Some(value) = value else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or_default();
    Algorithm::parse(name)
        .map(Some)
        .ok_or(Rejection::NotImplemented("x-amz-sdk-checksum-algorithm"))
}
