//! GetObject and HeadObject; GetObjectTagging, which copying clients ask for and which is always empty.

use std::ops::Range;

use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use s3s::dto::{
    ChecksumMode, GetObjectInput, GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    HeadObjectInput, HeadObjectOutput, StreamingBlob,
};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{
    checksum_type, etag, kept_headers, part_number, read_condition, refuse_version, set_checksums,
    signed, time,
};
use super::{Asked, Operations};
use crate::frontend::answers::Answer;
use crate::repository::{Error, RangeSpec, ReadCondition, Retrieved};
use crate::state::{Checksum, Object};
use crate::stores::ByteStream;

pub async fn get(
    operations: &Operations,
    request: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let at = asked.object()?;
    let input = request.input;
    refuse_version(&asked, input.version_id.as_deref())?;
    let range = wanted(&asked, input.range, input.part_number)?;
    let condition = read_condition(
        input.if_match,
        input.if_none_match,
        input.if_modified_since,
        input.if_unmodified_since,
    );
    let Retrieved {
        object,
        range: sent,
        bytes,
        file,
    } = operations
        .door()
        .get(caller, at, range, &condition)
        .await
        .map_err(|e| context.fail(&e))?;
    let mut overridden = Vec::new();
    let mut note = |given: bool, name| {
        if given {
            overridden.push(name);
        }
    };
    note(input.response_content_type.is_some(), "content-type");
    note(
        input.response_content_encoding.is_some(),
        "content-encoding",
    );
    note(
        input.response_content_disposition.is_some(),
        "content-disposition",
    );
    note(
        input.response_content_language.is_some(),
        "content-language",
    );
    note(input.response_cache_control.is_some(), "cache-control");
    note(input.response_expires.is_some(), "expires");
    let length = sent.as_ref().map_or(object.size, |r| r.end - r.start);
    let mut output = GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        body: Some(StreamingBlob::wrap(Outgoing(Mutex::new(
            context.outbox.body(bytes, file),
        )))),
        content_length: Some(signed(length)),
        content_range: sent.as_ref().map(|r| content_range(r, object.size)),
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(time(object.modified_ms)),
        parts_count: parts_count(&object, input.part_number),
        ..GetObjectOutput::default()
    };
    let checksums = told_checksums(&object, input.checksum_mode.as_ref(), sent.is_some());
    output.checksum_type = checksum_type(checksums);
    set_checksums!(output, checksums);
    let headers = kept_headers(object.details.as_deref(), &overridden);
    Ok(S3Response::with_headers(output, headers))
}

pub async fn head(
    operations: &Operations,
    request: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let at = asked.object()?;
    let input = request.input;
    refuse_version(&asked, input.version_id.as_deref())?;
    let range = wanted(&asked, input.range, input.part_number)?;
    let condition = read_condition(
        input.if_match,
        input.if_none_match,
        input.if_modified_since,
        input.if_unmodified_since,
    );
    let object = operations
        .door()
        .head(caller, at, &condition)
        .await
        .map_err(|e| context.fail(&e))?;
    let sent = match range {
        None => None,
        Some(range) => resolve(range, &object).map_err(|e| context.fail(&e))?,
    };
    let length = sent.as_ref().map_or(object.size, |r| r.end - r.start);
    let mut output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(signed(length)),
        content_range: sent.as_ref().map(|r| content_range(r, object.size)),
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(time(object.modified_ms)),
        parts_count: parts_count(&object, input.part_number),
        ..HeadObjectOutput::default()
    };
    let checksums = told_checksums(&object, input.checksum_mode.as_ref(), sent.is_some());
    output.checksum_type = checksum_type(checksums);
    set_checksums!(output, checksums);
    let mut headers = kept_headers(object.details.as_deref(), &[]);
    let mut replace = |name, value: Option<String>| replace(&asked, &mut headers, name, value);
    replace("content-type", input.response_content_type)?;
    replace("content-encoding", input.response_content_encoding)?;
    replace("content-disposition", input.response_content_disposition)?;
    replace("content-language", input.response_content_language)?;
    replace("cache-control", input.response_cache_control)?;
    let mut response = S3Response::with_headers(output, headers);
    if sent.is_some() {
        // The S3 library answers a HEAD with 200; the service takes the status from here.
        response
            .extensions
            .insert(http::StatusCode::PARTIAL_CONTENT);
    }
    Ok(response)
}

/// No object has tags: a write with some is refused.
pub async fn tagging(
    operations: &Operations,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    refuse_version(&asked, request.input.version_id.as_deref())?;
    operations
        .door()
        .head(caller, asked.object()?, &ReadCondition::default())
        .await
        .map_err(|e| context.fail(&e))?;
    Ok(S3Response::new(GetObjectTaggingOutput::default()))
}

fn replace(
    asked: &Asked,
    headers: &mut HeaderMap,
    name: &'static str,
    value: Option<String>,
) -> S3Result<()> {
    if let Some(value) = value {
        let value = HeaderValue::try_from(value).map_err(|_| {
            asked.context.answer(Answer::invalid_argument(
                "A response-* parameter is no header value",
            ))
        })?;
        headers.insert(name, value);
    }
    Ok(())
}

fn wanted(
    asked: &Asked,
    range: Option<s3s::dto::Range>,
    part: Option<i32>,
) -> S3Result<Option<RangeSpec>> {
    match (range, part) {
        (None, None) => Ok(None),
        (Some(s3s::dto::Range::Int { first, last }), None) => Ok(Some(match last {
            Some(last) => RangeSpec::FromTo(first, last),
            None => RangeSpec::From(first),
        })),
        (Some(s3s::dto::Range::Suffix { length }), None) => Ok(Some(RangeSpec::Last(length))),
        (None, Some(number)) => part_number(asked, number).map(|n| Some(RangeSpec::Part(n))),
        (Some(_), Some(_)) => Err(asked.context.answer(Answer::invalid_request(
            "Cannot specify both Range header and partNumber query parameter",
        ))),
    }
}

/// The bytes a HEAD speaks of; the door resolves those of a GET by the same rules.
fn resolve(range: RangeSpec, object: &Object) -> Result<Option<Range<u64>>, Error> {
    let size = object.size;
    let outside = Err(Error::RangeNotSatisfiable { size });
    match range {
        RangeSpec::FromTo(first, last) if first < size => {
            Ok(Some(first..last.saturating_add(1).min(size)))
        }
        RangeSpec::From(first) if first < size => Ok(Some(first..size)),
        RangeSpec::Last(length) if length > 0 && size > 0 => {
            Ok(Some(size.saturating_sub(length)..size))
        }
        RangeSpec::FromTo(..) | RangeSpec::From(_) | RangeSpec::Last(_) => outside,
        RangeSpec::Part(number) => {
            let parts = object.details.as_deref().map_or(&[][..], |d| &d.parts);
            if parts.is_empty() {
                return if number == 1 { Ok(None) } else { outside };
            }
            let mut start = 0;
            for part in parts {
                if part.number == number {
                    return Ok(Some(start..start + part.size));
                }
                start += part.size;
            }
            outside
        }
    }
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!(
        "bytes {}-{}/{size}",
        range.start,
        range.end.saturating_sub(1)
    )
}

/// Only told to those who ask for a part.
fn parts_count(object: &Object, asked: Option<i32>) -> Option<i32> {
    asked?;
    let parts = object.details.as_deref().map_or(0, |d| d.parts.len());
    (parts > 0).then(|| i32::try_from(parts).unwrap_or(i32::MAX))
}

/// Of the whole object only: SDKs check what they are told against what they received.
fn told_checksums<'a>(
    object: &'a Object,
    mode: Option<&ChecksumMode>,
    partial: bool,
) -> &'a [Checksum] {
    let enabled = mode.is_some_and(|m| m.as_str().eq_ignore_ascii_case(ChecksumMode::ENABLED));
    match object.details.as_deref() {
        Some(details) if enabled && !partial => &details.checksums,
        Some(_) | None => &[],
    }
}

/// A store's stream where a `Sync` one is asked for; it is only ever polled through `&mut`.
struct Outgoing(Mutex<ByteStream>);

impl futures::Stream for Outgoing {
    type Item = Result<bytes::Bytes, crate::stores::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.get_mut().poll_next_unpin(cx)
    }
}
