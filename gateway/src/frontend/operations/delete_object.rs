//! DeleteObject. A missing key is success, unless `If-Match` asks for it.

use s3s::dto::{DeleteObjectInput, DeleteObjectOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{refuse_version, tag};
use super::{Asked, Operations};

pub async fn run(
    operations: &Operations,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let at = asked.object()?;
    refuse_version(&asked, request.input.version_id.as_deref())?;
    if let Some(wanted) = request.input.if_match {
        operations
            .door()
            .delete_if(caller, at, &tag(wanted))
            .await
            .map_err(|e| context.fail(&e))?;
        return Ok(S3Response::new(DeleteObjectOutput::default()));
    }
    let verdicts = operations
        .door()
        .delete(caller, &at.bucket, vec![at.key.clone()])
        .await
        .map_err(|e| context.fail(&e))?;
    for verdict in verdicts {
        verdict.map_err(|e| context.fail(&e))?;
    }
    Ok(S3Response::new(DeleteObjectOutput::default()))
}
