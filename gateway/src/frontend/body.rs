//! From a verified stream to the [`Body`] that the door takes.
//!
//! Decides what an error inside a stream means in S3's terms, and that the announced trailer, and no
//! other, has arrived.

use futures::StreamExt as _;
use s3s::dto::StreamingBlob;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{BodySizeLimitExceeded, StdError, TrailingHeaders};

use super::precheck::Upload;
use super::precheck::payload::parse_checksum;
use crate::digest::Algorithm;
use crate::repository::{Body, BodyError, Expected};

#[must_use]
pub fn body(blob: StreamingBlob, upload: &Upload, trailing: Option<TrailingHeaders>) -> Body {
    let announced = upload.announced;
    Body {
        bytes: blob.map(|item| item.map_err(|e| meaning(&*e))).boxed(),
        size: upload.size,
        trailer: match trailing {
            Some(headers) => Some(Box::new(move || read_trailer(announced, &headers))),
            None => None,
        },
        md5: upload.md5,
        expected: upload.expected.iter().cloned().collect(),
        // A trailer's value comes last; its algorithm must run from the first byte.
        compute: upload.announced.or(upload.compute),
    }
}

fn read_trailer(
    announced: Option<Algorithm>,
    headers: &TrailingHeaders,
) -> Result<Vec<Expected>, BodyError> {
    let headers = headers.take().unwrap_or_default();
    let Some(algorithm) = announced else {
        return if headers.is_empty() {
            Ok(Vec::new())
        } else {
            Err(BodyError::Malformed(
                "a trailer came that was not announced",
            ))
        };
    };
    if headers.len() > 1 {
        return Err(BodyError::Malformed(
            "a trailer came twice or was not announced",
        ));
    }
    let (name, value) = headers
        .iter()
        .next()
        .ok_or(BodyError::Malformed("the announced trailer did not come"))?;
    if name.as_str().strip_prefix("x-amz-checksum-") != Some(algorithm.name()) {
        return Err(BodyError::Malformed(
            "a trailer came that was not announced",
        ));
    }
    parse_checksum(algorithm, value.as_bytes())
        .map(|expected| vec![expected])
        .ok_or(BodyError::Malformed("the trailer's value is no checksum"))
}

/// The streams wrap each other; what counts is the innermost error that is one of ours.
fn meaning(error: &(dyn std::error::Error + Send + Sync + 'static)) -> BodyError {
    if let Some(ours) = error.downcast_ref::<BodyError>() {
        return ours.clone();
    }
    if error.is::<BodySizeLimitExceeded>() {
        return BodyError::TooLarge;
    }
    if let Some(upload) = error.downcast_ref::<UploadStreamError>() {
        return match upload {
            UploadStreamError::Underlying(inner) => inner_meaning(inner),
            UploadStreamError::Sha256Mismatch => BodyError::Sha256Mismatch,
            UploadStreamError::LengthMismatch | UploadStreamError::Incomplete => {
                BodyError::Incomplete
            }
        };
    }
    let Some(chunked) = error.downcast_ref::<AwsChunkedStreamError>() else {
        return BodyError::Gone;
    };
    match chunked {
        AwsChunkedStreamError::Underlying(inner) => inner_meaning(inner),
        AwsChunkedStreamError::SignatureMismatch => BodyError::Signature,
        AwsChunkedStreamError::Incomplete | AwsChunkedStreamError::LengthMismatch => {
            BodyError::Incomplete
        }
        AwsChunkedStreamError::FormatError => {
            BodyError::Malformed("the chunks are not framed as aws-chunked")
        }
        AwsChunkedStreamError::ChunkMetaTooLarge(..) => {
            BodyError::Malformed("a chunk's header is too long")
        }
        AwsChunkedStreamError::ChunkDataTooLarge(..) => {
            BodyError::Malformed("a signed chunk is larger than 16 MiB")
        }
        AwsChunkedStreamError::TrailersTooLarge(..)
        | AwsChunkedStreamError::TooManyTrailerHeaders(..) => {
            BodyError::Malformed("the trailer is too long")
        }
    }
}

fn inner_meaning(error: &StdError) -> BodyError {
    meaning(&**error)
}
