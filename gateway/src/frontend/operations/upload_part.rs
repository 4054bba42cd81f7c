//! UploadPart and UploadPartCopy.

use s3s::dto::{
    CopyPartResult, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{etag, part_number, read_condition, set_checksums, time};
use super::{Asked, Operations, unadmitted};
use crate::frontend::answers::Answer;
use crate::frontend::body::body;

pub async fn run(
    operations: &Operations,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    let upload = context.upload().ok_or_else(unadmitted)?;
    let number = part_number(&asked, request.input.part_number)?;
    // Before the body is polled, for polling it is what sends `100 Continue`.
    operations
        .door()
        .may_write(caller, to)
        .await
        .map_err(|e| context.fail(&e))?;
    let blob = request.input.body.take().ok_or_else(unadmitted)?;
    let body = body(blob, upload, request.trailing_headers.take());
    let written = operations
        .door()
        .put_part(caller, to, &request.input.upload_id, number, body)
        .await
        .map_err(|e| context.fail(&e))?;
    let mut output = UploadPartOutput {
        e_tag: Some(etag(&written.etag)),
        ..UploadPartOutput::default()
    };
    set_checksums!(output, &written.checksums);
    Ok(S3Response::new(output))
}

pub async fn copy(
    operations: &Operations,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    let from = context.checked.source.as_ref().ok_or_else(unadmitted)?;
    let input = request.input;
    let number = part_number(&asked, input.part_number)?;
    let range = match input.copy_source_range.as_deref() {
        None => None,
        Some(text) => Some(closed_range(text).ok_or_else(|| {
            context.answer(Answer::invalid_argument(
                "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
            ))
        })?),
    };
    let condition = read_condition(
        input.copy_source_if_match,
        input.copy_source_if_none_match,
        input.copy_source_if_modified_since,
        input.copy_source_if_unmodified_since,
    );
    let written = operations
        .door()
        .copy_part(
            caller,
            from,
            &condition,
            range,
            to,
            &input.upload_id,
            number,
        )
        .await
        .map_err(|e| context.fail(&e))?;
    let mut result = CopyPartResult {
        e_tag: Some(etag(&written.etag)),
        last_modified: Some(time(written.modified_ms)),
        ..CopyPartResult::default()
    };
    set_checksums!(result, &written.checksums);
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        ..UploadPartCopyOutput::default()
    }))
}

/// `bytes=first-last`, both inclusive.
fn closed_range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::closed_range;

    #[test]
    fn a_copied_range_has_both_ends() {
        assert_eq!(closed_range("bytes=0-0"), Some((0, 0)));
        assert_eq!(closed_range("bytes=5-9"), Some((5, 9)));
        for odd in [
            "bytes=5-",
            "bytes=-5",
            "bytes=9-5",
            "5-9",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=0-99999999999999999999",
        ] {
            assert_eq!(closed_range(odd), None, "{odd}");
        }
    }
}
