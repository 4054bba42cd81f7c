//! PutObject.

use s3s::dto::{PutObjectInput, PutObjectOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{checksum_type, details, etag, set_checksums, write_condition};
use super::{Asked, Operations, unadmitted};
use crate::frontend::body::body;

pub async fn run(
    operations: &Operations,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    let upload = context.upload().ok_or_else(unadmitted)?;
    let details = details(&asked, &request.headers)?;
    let if_match = request.input.if_match.take();
    let condition = write_condition(&asked, if_match, request.input.if_none_match.as_ref())?;
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
        .put(caller, to, body, details, condition)
        .await
        .map_err(|e| context.fail(&e))?;
    let mut output = PutObjectOutput {
        e_tag: Some(etag(&written.etag)),
        server_side_encryption: request.input.server_side_encryption,
        checksum_type: checksum_type(&written.checksums),
        ..PutObjectOutput::default()
    };
    set_checksums!(output, &written.checksums);
    Ok(S3Response::new(output))
}
