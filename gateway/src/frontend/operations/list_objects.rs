//! ListObjects, versions 1 and 2.
//!
//! Both are pages of the same range scan. A page is truncated if and only if it says where to go on,
//! for some clients look at the one and some at the other.

use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, ObjectStorageClass, Owner,
};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::{encode, etag, limit, signed, storage_class, time};
use super::{Asked, Operations};
use crate::frontend::answers::Answer;
use crate::frontend::tokens::Listing;
use crate::repository::ListRequest;
use crate::state::Entry;

const MAX_KEYS: usize = 1000;

/// One page, told in S3's types.
struct Page {
    contents: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    /// Where the next page begins; None = this is the last.
    next: Option<String>,
}

pub async fn v1(
    operations: &Operations,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let asked = Asked::of(&request)?;
    let input = request.input;
    let url = wants_url(&asked, input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys, MAX_KEYS);
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = input.delimiter.filter(|d| !d.is_empty());
    let marker = input.marker.unwrap_or_default();
    let after = (!marker.is_empty()).then(|| marker.clone());
    let page = read(
        operations,
        &asked,
        &prefix,
        delimiter.clone(),
        after,
        limit,
        url,
        true,
    )
    .await?;
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(asked.bucket()?.as_str().to_owned()),
        prefix: Some(encode(&prefix, url)),
        marker: Some(encode(&marker, url)),
        max_keys: Some(count(limit)),
        is_truncated: Some(page.next.is_some()),
        next_marker: page.next.map(|next| encode(&next, url)),
        contents: Some(page.contents),
        common_prefixes: Some(page.prefixes),
        delimiter: delimiter.map(|d| encode(&d, url)),
        encoding_type: input.encoding_type,
        ..ListObjectsOutput::default()
    }))
}

pub async fn v2(
    operations: &Operations,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let asked = Asked::of(&request)?;
    let bucket = asked.bucket()?;
    let input = request.input;
    let url = wants_url(&asked, input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys, MAX_KEYS);
    let prefix = input.prefix.unwrap_or_default();
    let delimiter = input.delimiter.filter(|d| !d.is_empty());
    let listing = Listing {
        bucket,
        prefix: &prefix,
        delimiter: delimiter.as_deref(),
    };
    let sealer = &operations.0.sealer;
    let after = match &input.continuation_token {
        None => input.start_after.clone().filter(|s| !s.is_empty()),
        Some(token) => Some(sealer.open(listing, token).ok_or_else(|| {
            asked.context.answer(Answer::invalid_argument(
                "The continuation token provided is incorrect",
            ))
        })?),
    };
    let owner = input.fetch_owner.unwrap_or(false);
    let page = read(
        operations,
        &asked,
        &prefix,
        delimiter.clone(),
        after,
        limit,
        url,
        owner,
    )
    .await?;
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(bucket.as_str().to_owned()),
        prefix: Some(encode(&prefix, url)),
        max_keys: Some(count(limit)),
        key_count: Some(count(page.contents.len() + page.prefixes.len())),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|next| sealer.seal(listing, &next)),
        contents: Some(page.contents),
        common_prefixes: Some(page.prefixes),
        delimiter: delimiter.as_deref().map(|d| encode(d, url)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|s| encode(&s, url)),
        ..ListObjectsV2Output::default()
    }))
}

#[allow(clippy::too_many_arguments)] // the fields of one page, not worth a type of their own
async fn read(
    operations: &Operations,
    asked: &Asked,
    prefix: &str,
    delimiter: Option<String>,
    after: Option<String>,
    limit: usize,
    url: bool,
    owner: bool,
) -> S3Result<Page> {
    let Asked { context, caller } = asked;
    let bucket = asked.bucket()?;
    let mut page = Page {
        contents: Vec::new(),
        prefixes: Vec::new(),
        next: None,
    };
    if limit == 0 {
        let admitted = operations.door().head_bucket(caller, bucket);
        return admitted.map(|()| page).map_err(|e| context.fail(&e));
    }
    let request = ListRequest {
        bucket: bucket.clone(),
        prefix: prefix.to_owned(),
        delimiter,
        after,
        limit,
    };
    let listing = operations
        .door()
        .list(caller, request)
        .await
        .map_err(|e| context.fail(&e))?;
    if listing.truncated {
        page.next = listing.entries.last().map(|entry| match entry {
            Entry::Object(object) => object.key.as_str().to_owned(),
            Entry::Prefix(prefix) => prefix.clone(),
        });
    }
    let owner = owner.then(|| Owner {
        id: Some(caller.cluster.as_str().to_owned()),
        display_name: Some(caller.cluster.as_str().to_owned()),
    });
    for entry in listing.entries {
        match entry {
            Entry::Object(object) => page.contents.push(Object {
                key: Some(encode(object.key.as_str(), url)),
                e_tag: Some(etag(&object.etag)),
                last_modified: Some(time(object.modified_ms)),
                size: Some(signed(object.size)),
                storage_class: Some(class(storage_class(object.details.as_deref()))),
                owner: owner.clone(),
                ..Object::default()
            }),
            Entry::Prefix(prefix) => page.prefixes.push(CommonPrefix {
                prefix: Some(encode(&prefix, url)),
            }),
        }
    }
    Ok(page)
}

fn class(name: &str) -> ObjectStorageClass {
    match name {
        "STANDARD" => ObjectStorageClass::from_static(ObjectStorageClass::STANDARD),
        other => ObjectStorageClass::from(other.to_owned()),
    }
}

pub(super) fn wants_url(asked: &Asked, encoding: Option<&EncodingType>) -> S3Result<bool> {
    match encoding.map(EncodingType::as_str) {
        None | Some("") => Ok(false),
        Some("url") => Ok(true),
        Some(_) => Err(asked.context.answer(Answer::invalid_argument(
            "Invalid Encoding Method specified in Request",
        ))),
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
