//! CopyObject: how clusters before 6.4 rename, and how 9.x analyses a repository.

use s3s::dto::{CopyObjectInput, CopyObjectOutput, CopyObjectResult, MetadataDirective};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{
    algorithm, checksum_type, details, etag, read_condition, set_checksums, time, write_condition,
};
use super::{Asked, Operations, unadmitted};
use crate::frontend::answers::Answer;

pub async fn run(
    operations: &Operations,
    request: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let to = asked.object()?;
    let from = context.checked.source.as_ref().ok_or_else(unadmitted)?;
    let input = request.input;
    let directive = input.metadata_directive.as_ref();
    let replace = match directive.map_or(MetadataDirective::COPY, MetadataDirective::as_str) {
        MetadataDirective::COPY => None,
        MetadataDirective::REPLACE => Some(details(&asked, &request.headers)?),
        _ => {
            return Err(context.answer(Answer::invalid_argument("Unknown metadata directive.")));
        }
    };
    if from == to && replace.is_none() {
        return Err(context.answer(Answer::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        )));
    }
    let source_condition = read_condition(
        input.copy_source_if_match,
        input.copy_source_if_none_match,
        input.copy_source_if_modified_since,
        input.copy_source_if_unmodified_since,
    );
    let wanted = input.checksum_algorithm.as_ref();
    let wanted = wanted.map(|name| algorithm(&asked, name)).transpose()?;
    let condition = write_condition(&asked, input.if_match, input.if_none_match.as_ref())?;
    let written = operations
        .door()
        .copy(
            caller,
            from,
            &source_condition,
            to,
            replace,
            wanted,
            condition,
        )
        .await
        .map_err(|e| context.fail(&e))?;
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&written.etag)),
        last_modified: Some(time(written.modified_ms)),
        checksum_type: checksum_type(&written.checksums),
        ..CopyObjectResult::default()
    };
    set_checksums!(result, &written.checksums);
    Ok(S3Response::new(CopyObjectOutput {
        copy_object_result: Some(result),
        server_side_encryption: input.server_side_encryption,
        ..CopyObjectOutput::default()
    }))
}
