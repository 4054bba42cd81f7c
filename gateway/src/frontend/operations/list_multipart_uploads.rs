//! ListMultipartUploads: Elasticsearch builds its registers and its clean-up on it.

use s3s::dto::{
    CommonPrefix, Initiator, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    MultipartUpload, Owner,
};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{encode, limit, time};
use super::list_objects::wants_url;
use super::{Asked, Operations};
use crate::repository::UploadsRequest;
use crate::state;

const MAX_UPLOADS: usize = 1000;

pub async fn run(
    operations: &Operations,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let asked = Asked::of(&request)?;
    let Asked { context, caller } = &asked;
    let bucket = asked.bucket()?;
    let input = request.input;
    let url = wants_url(&asked, input.encoding_type.as_ref())?;
    let limit = limit(input.max_uploads, MAX_UPLOADS);
    let prefix = input.prefix.unwrap_or_default();
    let after = match (&input.key_marker, &input.upload_id_marker) {
        (Some(key), upload) if !key.is_empty() => {
            // Without an upload id the marker passes over all uploads of its key.
            let upload = upload.clone().filter(|u| !u.is_empty());
            Some((
                key.clone(),
                upload.unwrap_or_else(|| "\u{10ffff}".to_owned()),
            ))
        }
        (Some(_) | None, _) => None,
    };
    let delimiter = input.delimiter.filter(|d| !d.is_empty());
    let asked_for = UploadsRequest {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        after,
        limit,
    };
    let page = operations
        .door()
        .uploads(caller, bucket, asked_for)
        .await
        .map_err(|e| context.fail(&e))?;
    let next = page.next.as_ref();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(bucket.as_str().to_owned()),
        common_prefixes: (!page.prefixes.is_empty()).then(|| {
            let told = |prefix: &String| CommonPrefix {
                prefix: Some(encode(prefix, url)),
            };
            page.prefixes.iter().map(told).collect()
        }),
        delimiter: delimiter.map(|d| encode(&d, url)),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.next.is_some()),
        key_marker: Some(encode(input.key_marker.as_deref().unwrap_or_default(), url)),
        max_uploads: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
        next_key_marker: next.map(|(key, _)| encode(key, url)),
        next_upload_id_marker: next.map(|(_, id)| id.clone()),
        prefix: Some(encode(&prefix, url)),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        uploads: Some(page.uploads.iter().map(|u| told(u, url)).collect()),
        ..ListMultipartUploadsOutput::default()
    }))
}

fn told(upload: &state::MultipartUpload, url: bool) -> MultipartUpload {
    let id = upload.cluster.as_str().to_owned();
    MultipartUpload {
        initiated: Some(time(upload.initiated_ms)),
        initiator: Some(Initiator {
            id: Some(id.clone()),
            display_name: Some(id.clone()),
        }),
        key: Some(encode(upload.key.as_str(), url)),
        owner: Some(Owner {
            id: Some(id.clone()),
            display_name: Some(id),
        }),
        storage_class: Some(
            super::fields::storage_class(upload.details.as_deref())
                .to_owned()
                .into(),
        ),
        upload_id: Some(upload.id.clone()),
        ..MultipartUpload::default()
    }
}
