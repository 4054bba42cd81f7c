//! What a request addresses: host and path -> bucket and key, decoded exactly once.
//!
//! Path style always; virtual-hosted style for the configured domain. A host that is neither that
//! domain nor below it (an IP address, `localhost`, a name of the machine) means path style.

use std::borrow::Cow;

use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use policies::identity::Bucket;
use policies::key::{InvalidKey, ObjectKey};

use super::Rejection;
use crate::repository::Address;

/// Longest name of a bucket in bytes. Buckets exist by configuration, so S3's other rules do not bind.
const MAX_BUCKET: usize = 255;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Service,
    Bucket(Bucket),
    Object(Address),
}

/// Bucket and key of a request.
pub fn target(domain: Option<&str>, uri: &Uri, headers: &HeaderMap) -> Result<Target, Rejection> {
    let host = headers
        .get("host")
        .ok_or(Rejection::BadHost("there is none"))?
        .to_str()
        .map_err(|_| Rejection::BadHost("it is not text"))?;
    if let Some(authority) = uri.authority()
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err(Rejection::BadHost("the URI names another"));
    }
    let path = decode(uri.path())?;
    let path = path
        .strip_prefix('/')
        .ok_or(Rejection::BadUri("the path does not start with '/'"))?;
    let (bucket, key) = match bucket_of_host(domain, host)? {
        Some(bucket) => (bucket, path),
        None if path.is_empty() => return Ok(Target::Service),
        None => match path.split_once('/') {
            Some((bucket, key)) => (Cow::Borrowed(bucket), key),
            None => (Cow::Borrowed(path), ""),
        },
    };
    let bucket = parse_bucket(&bucket)?;
    if key.is_empty() {
        return Ok(Target::Bucket(bucket));
    }
    let key = parse_key(key)?;
    Ok(Target::Object(Address { bucket, key }))
}

/// The bucket in a virtual-hosted request's host; None = path style.
pub fn bucket_of_host<'h>(
    domain: Option<&str>,
    host: &'h str,
) -> Result<Option<Cow<'h, str>>, Rejection> {
    let name = strip_port(host)?;
    if name.is_empty() || name.ends_with('.') {
        return Err(Rejection::BadHost("it is empty or ends in a dot"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
    if !name.bytes().all(plain) {
        return Err(Rejection::BadHost("it contains odd characters"));
    }
    let Some(domain) = domain else {
        return Ok(None);
    };
    let Some(split) = name.len().checked_sub(domain.len()) else {
        return Ok(None);
    };
    // `plain` holds, so every byte offset is a character boundary.
    let (front, back) = name.split_at(split);
    match front.strip_suffix('.') {
        Some("") => Err(Rejection::BadHost("the bucket in it is empty")),
        Some(bucket) if back.eq_ignore_ascii_case(domain) => Ok(Some(lower(bucket))),
        Some(_) | None => Ok(None),
    }
}

/// `bucket/key` or `/bucket/key`, percent-encoded. `?versionId=` has no meaning here: keys are not versioned.
pub fn copy_source(text: &str) -> Result<Address, Rejection> {
    if text.starts_with("arn:") || text.contains("://") || text.contains('?') {
        return Err(Rejection::BadCopySource);
    }
    let decoded = decode(text).map_err(|_| Rejection::BadCopySource)?;
    let path = decoded.strip_prefix('/').unwrap_or(&decoded);
    let (bucket, key) = path.split_once('/').ok_or(Rejection::BadCopySource)?;
    let bucket = parse_bucket(bucket).map_err(|_| Rejection::BadCopySource)?;
    match parse_key(key) {
        Ok(key) => Ok(Address { bucket, key }),
        Err(_) => Err(Rejection::BadCopySource),
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

fn strip_port(host: &str) -> Result<&str, Rejection> {
    if host.ends_with(']') {
        return Ok(host);
    }
    match host.rsplit_once(':') {
        None => Ok(host),
        Some((name, port))
            if !port.is_empty()
                && port.bytes().all(|b| b.is_ascii_digit())
                && port.parse::<u16>().is_ok() =>
        {
            Ok(name)
        }
        Some(_) => Err(Rejection::BadHost("the port is not a number")),
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Rejection> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Rejection::BadUri("it is not UTF-8"))
}

fn parse_bucket(name: &str) -> Result<Bucket, Rejection> {
    let fits = !name.is_empty()
        && name.len() <= MAX_BUCKET
        && !name.chars().any(|c| c == '/' || c.is_control());
    if fits {
        Ok(Bucket::new(name))
    } else {
        Err(Rejection::BadUri("the bucket's name cannot be used"))
    }
}

fn parse_key(key: &str) -> Result<ObjectKey, Rejection> {
    ObjectKey::parse(key).map_err(|why| match why {
        InvalidKey::TooLong => Rejection::KeyTooLong,
        InvalidKey::Empty => Rejection::BadUri("the key is empty"),
        InvalidKey::NotText => Rejection::BadUri("the key contains NUL"),
    })
}
