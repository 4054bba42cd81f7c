//! What a request must satisfy before its signature is even computed.
//!
//! Decides: method, URI, headers and the time -> [`Checked`] (what the request addresses, who it says it
//! is from, how its body is framed) or a [`Rejection`]. Pure: no look-up, no clock, no body.
//!
//! Invariants: exactly one way of authentication, SigV4; the host and every `x-amz-*` header that is
//! present is among the signed ones, each exactly once; a payload is framed in a way that its operation
//! may use; the bucket and the key are decoded here and only here, and the same value serves
//! authorisation, policy and storage.
//!
//! Why in front of the verifier and not in it: a verifier canonicalises what the client listed. What
//! the client left out, listed twice or sent by a second way is where S3 servers have been broken.
//! The signature itself, chunk signatures included, is the verifier's business.

use http::{HeaderMap, Method, Uri};

use crate::digest::Algorithm;
use crate::repository::Address;

pub mod addressing;
pub mod payload;
pub mod query;
pub mod signature;

#[cfg(test)]
mod tests;

pub use addressing::Target;
pub use payload::{Document, Framing, Payload, Upload};
use query::Query;
pub use signature::MAX_SKEW;

/// What the configuration says about requests.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Requests whose host ends in `.<domain>` name their bucket there.
    pub domain: Option<String>,
    /// The only region signatures may be for; None = any.
    pub region: Option<String>,
    /// Bodies may come without a hash or chunk signatures.
    pub unsigned_payload: bool,
}

/// A request that is worth verifying.
#[derive(Clone, Debug)]
pub struct Checked {
    pub target: Target,
    /// `x-amz-copy-source`, decoded once.
    pub source: Option<Address>,
    pub payload: Payload,
    pub presigned: bool,
    /// As the client states it; to be believed only after the signature.
    pub access_key: Box<str>,
}

/// Why a request is turned away unread. [`crate::frontend::answers`] gives each its S3 code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    #[error("Anonymous requests are not served; sign the request.")]
    Anonymous,
    #[error(
        "Only one authentication mechanism is allowed: either the Authorization header or the X-Amz-* query parameters."
    )]
    TwoMechanisms,
    #[error(
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    )]
    OtherMechanism,
    #[error("The authorization header is malformed; {0}.")]
    MalformedAuthorization(&'static str),
    #[error("The query-string authentication is malformed; {0}.")]
    MalformedQueryAuthorization(&'static str),
    #[error(
        "The authorization header is malformed; the region '{got}' is wrong; expecting '{expected}'."
    )]
    WrongRegion { got: String, expected: String },
    #[error("There were headers present in the request which were not signed: {0}")]
    HeaderNotSigned(String),
    #[error("The list of signed headers is wrong: {0}.")]
    SignedHeaders(&'static str),
    #[error("The date of the credential scope differs from that of the request.")]
    ScopeDate,
    #[error("The difference between the request time and the current time is too large.")]
    Skewed,
    #[error("Request has expired")]
    Expired,
    #[error("The header '{0}' occurs more than once.")]
    DuplicateHeader(String),
    #[error("The parameter '{0}' occurs more than once.")]
    DuplicateParameter(&'static str),
    #[error("The parameter '{0}' must be a whole number that is not negative.")]
    BadNumber(&'static str),
    #[error("Missing required header for this request: {0}")]
    MissingHeader(&'static str),
    #[error("The header '{0}' has a value that cannot be used.")]
    BadHeader(&'static str),
    #[error("Couldn't parse the specified URI: {0}.")]
    BadUri(&'static str),
    #[error("Your key is too long.")]
    KeyTooLong,
    #[error("The host of the request cannot be used: {0}.")]
    BadHost(&'static str),
    #[error(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, one of the STREAMING-* values, or a SHA-256 in hexadecimal."
    )]
    BadPayloadHash,
    #[error("The payload of this operation cannot be sent as '{0}'.")]
    FramingNotAllowed(&'static str),
    #[error("A streaming payload needs its credentials in the Authorization header.")]
    FramingWithQueryAuth,
    #[error("AWS4-ECDSA-P256-SHA256 is not implemented.")]
    FramingNotImplemented,
    #[error(
        "This listener has no TLS, so it does not take bodies without a hash ('{0}'): let the client sign payloads (in Elasticsearch and OpenSearch keep chunked encoding on), or use TLS, or set allow_unsigned_payload = true in [s3]."
    )]
    UnsignedPayload(&'static str),
    #[error("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")]
    DocumentUnprotected,
    #[error("You must provide the Content-Length HTTP header.")]
    MissingLength,
    #[error("Your proposed upload exceeds the maximum allowed size.")]
    TooLarge,
    #[error("Your request was too big.")]
    DocumentTooLarge,
    #[error("The Content-MD5 you specified is not valid.")]
    BadMd5,
    #[error("Value for x-amz-checksum-{0} header is invalid.")]
    BadChecksum(&'static str),
    #[error("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")]
    ManyChecksums,
    #[error(
        "The trailer announced in x-amz-trailer cannot be used; one x-amz-checksum-* is expected."
    )]
    BadTrailer,
    #[error("x-amz-copy-source is only for PUT.")]
    CopySourceMisplaced,
    #[error("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")]
    BadCopySource,
    #[error("The requested range cannot be satisfied.")]
    BadRange,
    #[error("Uploads by HTML form are not served.")]
    FormUpload,
    #[error("The specified method is not allowed against this resource.")]
    Method,
    #[error("A header you provided implies functionality that is not implemented: {0}")]
    NotImplemented(&'static str),
    #[error("The encryption method specified is not supported.")]
    Encryption,
}

/// Numbers in the query: digits only, and small enough for every use.
const NUMBERS: [&str; 5] = [
    "max-keys",
    "max-uploads",
    "max-parts",
    "partNumber",
    "part-number-marker",
];

/// Headers whose meaning we do not have and must not ignore.
const REFUSED: [&str; 13] = [
    "x-amz-tagging",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-website-redirect-location",
    "x-amz-bypass-governance-retention",
    "x-amz-write-offset-bytes",
    "x-amz-mfa",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-context",
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
];

/// Headers besides `x-amz-*` that may come only once.
const SINGLE: [&str; 16] = [
    "host",
    "authorization",
    "date",
    "range",
    "expect",
    "content-length",
    "content-type",
    "content-md5",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
    "if-match",
    "if-none-match",
    "if-modified-since",
];

/// May this request go on to the verifier? `now` in seconds since 1970.
pub fn check(
    rules: &Rules,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    now: i64,
) -> Result<Checked, Rejection> {
    if ![
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::POST,
        Method::DELETE,
    ]
    .contains(method)
    {
        return Err(Rejection::Method);
    }
    refuse_duplicates(headers)?;
    let target = addressing::target(rules.domain.as_deref(), uri, headers)?;
    let query = Query::parse(uri.query());
    let signed = signature::check(rules.region.as_deref(), &query, headers, now)?;
    for name in NUMBERS {
        check_number(&query, name)?;
    }
    refuse_headers(headers)?;
    let source = copy_source(method, headers)?;
    if matches!(*method, Method::GET | Method::HEAD)
        && let Some(range) = headers.get("range")
    {
        check_range(range.as_bytes())?;
    }
    let payload = payload::check(
        rules,
        method,
        &target,
        source.is_some(),
        &query,
        headers,
        signed.presigned,
    )?;
    Ok(Checked {
        target,
        source,
        payload,
        presigned: signed.presigned,
        access_key: signed.access_key.into(),
    })
}

/// A value that is read must be the value that was signed: two of them are one too many.
fn refuse_duplicates(headers: &HeaderMap) -> Result<(), Rejection> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    for name in headers.keys() {
        let single = name.as_str().starts_with("x-amz-") || SINGLE.contains(&name.as_str());
        if single && headers.get_all(name).iter().nth(1).is_some() {
            return Err(Rejection::DuplicateHeader(name.as_str().to_owned()));
        }
    }
    Ok(())
}

fn refuse_headers(headers: &HeaderMap) -> Result<(), Rejection> {
    if let Some(value) = headers.get("x-amz-server-side-encryption") {
        match value.as_bytes() {
            b"AES256" => {}
            b"aws:kms" | b"aws:kms:dsse" => {
                return Err(Rejection::NotImplemented("x-amz-server-side-encryption"));
            }
            _ => return Err(Rejection::Encryption),
        }
    }
    match REFUSED.into_iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(Rejection::NotImplemented(name)),
        None => Ok(()),
    }
}

fn check_number(query: &Query<'_>, name: &'static str) -> Result<(), Rejection> {
    match query.one(name)? {
        None => Ok(()),
        Some(text)
            if !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_digit())
                && text.parse::<i32>().is_ok() =>
        {
            Ok(())
        }
        Some(_) => Err(Rejection::BadNumber(name)),
    }
}

fn copy_source(method: &Method, headers: &HeaderMap) -> Result<Option<Address>, Rejection> {
    let Some(value) = headers.get("x-amz-copy-source") else {
        return Ok(None);
    };
    if *method != Method::PUT {
        return Err(Rejection::CopySourceMisplaced);
    }
    let text = value.to_str().map_err(|_| Rejection::BadCopySource)?;
    addressing::copy_source(text).map(Some)
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n`: one range. S3 serves no other.
fn check_range(value: &[u8]) -> Result<(), Rejection> {
    let text = std::str::from_utf8(value).map_err(|_| Rejection::BadRange)?;
    let range = text.strip_prefix("bytes=").ok_or(Rejection::BadRange)?;
    let (first, last) = range.split_once('-').ok_or(Rejection::BadRange)?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let value = text.parse::<i64>().ok();
        if digits { value.ok_or(()) } else { Err(()) }
    };
    let fits = match (first, last) {
        ("", last) => number(last).is_ok(),
        (first, "") => number(first).is_ok(),
        (first, last) => matches!((number(first), number(last)), (Ok(a), Ok(b)) if a <= b),
    };
    if fits {
        Ok(())
    } else {
        Err(Rejection::BadRange)
    }
}

/// The checksum algorithm in a header or trailer name, None for `x-amz-checksum-mode` and the like.
fn checksum_name(name: &str) -> Option<Result<Algorithm, Rejection>> {
    let rest = name.strip_prefix("x-amz-checksum-")?;
    match rest {
        "mode" | "type" | "algorithm" => None,
        rest => Some(
            Algorithm::ALL
                .into_iter()
                .find(|a| a.name() == rest)
                .ok_or(Rejection::NotImplemented("x-amz-checksum-*")),
        ),
    }
}
