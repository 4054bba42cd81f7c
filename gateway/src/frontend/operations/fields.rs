//! What fields of requests and answers mean: ETags, times, checksums, conditions, details.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::S3Result;
use s3s::dto::{ETag, ETagCondition, Timestamp};
use time::OffsetDateTime;

use super::Asked;
use crate::digest::Algorithm;
use crate::frontend::answers::Answer;
use crate::repository::{ReadCondition, WriteCondition};
use crate::state::{Checksum, Details, Millis};

/// Headers that are kept with an object and answered as they came.
const CONTENT_HEADERS: [&str; 6] = [
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
];

/// What clusters send with every blob: it is not kept.
const USUAL_TYPE: &str = "application/octet-stream";

/// S3's answer for an object that was written without a type.
const TYPE_OF_NONE: &str = "binary/octet-stream";

const METADATA: &str = "x-amz-meta-";

/// Bytes of names and values of `x-amz-meta-*`, as S3.
const MAX_METADATA: usize = 2048;

const MAX_PART: u16 = 10_000;

pub fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

pub fn time(ms: Millis) -> Timestamp {
    let nanos = i128::from(ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH).into()
}

/// A size as S3's types have it; sizes are below 2^63.
pub fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

pub fn part_number(asked: &Asked, number: i32) -> S3Result<u16> {
    match u16::try_from(number) {
        Ok(number) if (1..=MAX_PART).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(asked.context.answer(Answer::invalid_argument(
            "Part number must be an integer between 1 and 10000, inclusive",
        ))),
    }
}

/// At most `most`, as S3 clamps; negative numbers were refused before.
pub fn limit(asked: Option<i32>, most: usize) -> usize {
    asked.map_or(most, |n| usize::try_from(n).unwrap_or(0).min(most))
}

/// Versions do not exist here; `null` is the version of every object.
pub fn refuse_version(asked: &Asked, version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(asked
            .context
            .answer(Answer::invalid_argument("Invalid version id specified"))),
    }
}

pub fn write_condition(
    asked: &Asked,
    if_match: Option<ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<WriteCondition> {
    let refuse = || {
        Err(asked.context.answer(Answer::not_implemented(
            "Of the conditions on writes, If-None-Match: * and If-Match: <etag> are implemented.",
        )))
    };
    match (if_match, if_none_match) {
        (None, None) => Ok(WriteCondition::Always),
        (None, Some(ETagCondition::Any)) => Ok(WriteCondition::IfAbsent),
        (Some(ETagCondition::ETag(etag)), None) => Ok(WriteCondition::IfMatch(etag.into_value())),
        (Some(_), _) | (None, Some(ETagCondition::ETag(_))) => refuse(),
    }
}

/// The value of a condition, `*` for any.
pub fn tag(condition: ETagCondition) -> String {
    match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.into_value(),
    }
}

pub fn read_condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
) -> ReadCondition {
    let tags = |condition| vec![tag(condition)];
    let seconds = |time: Timestamp| OffsetDateTime::from(time).unix_timestamp();
    ReadCondition {
        if_match: if_match.map(tags),
        if_none_match: if_none_match.map(tags),
        if_modified_since: if_modified_since.map(seconds),
        if_unmodified_since: if_unmodified_since.map(seconds),
    }
}

/// What is kept with an object: content headers, `x-amz-meta-*`, an unusual storage class.
pub fn details(asked: &Asked, headers: &HeaderMap) -> S3Result<Details> {
    let mut kept = Vec::new();
    let mut metadata = 0;
    for (name, value) in headers {
        let name = name.as_str();
        let meta = name.strip_prefix(METADATA);
        if meta.is_none() && !CONTENT_HEADERS.contains(&name) && name != "x-amz-storage-class" {
            continue;
        }
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
            return Err(asked.context.answer(Answer::invalid_argument(
                "Metadata and content headers must be UTF-8",
            )));
        };
        metadata += meta.map_or(0, |key| key.len() + text.len());
        if let Some(text) = worth_keeping(name, text) {
            kept.push((name.to_owned(), text));
        }
    }
    if metadata > MAX_METADATA {
        return Err(asked.context.answer(Answer::told(
            http::StatusCode::BAD_REQUEST,
            "MetadataTooLarge".to_owned(),
            "Your metadata headers exceed the maximum allowed metadata size".to_owned(),
        )));
    }
    if !headers.contains_key("content-type") {
        kept.push(("content-type".to_owned(), TYPE_OF_NONE.to_owned()));
    }
    Ok(Details {
        headers: kept,
        ..Details::default()
    })
}

/// `aws-chunked` is how bytes travelled, not what they are.
fn worth_keeping(name: &str, text: &str) -> Option<String> {
    match (name, text) {
        ("content-type", USUAL_TYPE) | ("x-amz-storage-class", "STANDARD") => None,
        ("content-encoding", text) => {
            let codings = text.split(',').map(str::trim);
            let kept: Vec<_> = codings
                .filter(|c| !c.is_empty() && !c.eq_ignore_ascii_case("aws-chunked"))
                .collect();
            (!kept.is_empty()).then(|| kept.join(","))
        }
        (name, "") if !name.starts_with(METADATA) => None,
        (_, text) => Some(text.to_owned()),
    }
}

/// The headers of an object's answer, but those that `overridden` names.
pub fn kept_headers(details: Option<&Details>, overridden: &[&str]) -> HeaderMap {
    let mut map = HeaderMap::new();
    if !overridden.contains(&"content-type") {
        map.insert("content-type", HeaderValue::from_static(USUAL_TYPE));
    }
    let Some(details) = details else {
        return map;
    };
    for (name, value) in &details.headers {
        if overridden.contains(&name.as_str()) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            map.insert(name, value);
        }
    }
    map
}

pub fn storage_class(details: Option<&Details>) -> &str {
    details
        .and_then(|d| d.headers.iter().find(|(n, _)| n == "x-amz-storage-class"))
        .map_or("STANDARD", |(_, class)| class)
}

/// Keys and prefixes in a listing with `encoding-type=url`; both SDK generations read `%20` as a space.
pub fn encode(text: &str, url: bool) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'*')
        .remove(b'/');
    if url {
        utf8_percent_encode(text, KEPT).to_string()
    } else {
        text.to_owned()
    }
}

/// Composite values end in the number of parts.
pub fn algorithm(asked: &Asked, name: &s3s::dto::ChecksumAlgorithm) -> S3Result<Algorithm> {
    Algorithm::parse(name.as_str()).ok_or_else(|| {
        asked.context.answer(Answer::not_implemented(
            "This checksum algorithm is not implemented.",
        ))
    })
}

pub fn checksum_type(checksums: &[Checksum]) -> Option<s3s::dto::ChecksumType> {
    use s3s::dto::ChecksumType;
    let first = checksums.first()?;
    let composite = first.value.contains('-');
    Some(ChecksumType::from_static(if composite {
        ChecksumType::COMPOSITE
    } else {
        ChecksumType::FULL_OBJECT
    }))
}

/// Puts checksums into the fields that S3's types have for them.
macro_rules! set_checksums {
    ($output:expr, $checksums:expr) => {
        for checksum in $checksums {
            let field = match crate::digest::Algorithm::parse(&checksum.algorithm) {
                Some(crate::digest::Algorithm::Crc32) => &mut $output.checksum_crc32,
                Some(crate::digest::Algorithm::Crc32c) => &mut $output.checksum_crc32c,
                Some(crate::digest::Algorithm::Crc64Nvme) => &mut $output.checksum_crc64nvme,
                Some(crate::digest::Algorithm::Sha1) => &mut $output.checksum_sha1,
                Some(crate::digest::Algorithm::Sha256) => &mut $output.checksum_sha256,
                None => continue,
            };
            *field = Some(checksum.value.clone());
        }
    };
}
pub(super) use set_checksums;
