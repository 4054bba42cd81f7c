//! Buckets: they exist because the configuration says so, so these operations only tell.

use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput,
    DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput,
    ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Response, S3Result};

use super::fields::time;
use super::{Asked, Operations};
use crate::frontend::answers::Answer;
use crate::frontend::precheck::signature::DEFAULT_REGION;
use crate::repository::Error;

fn admit(operations: &Operations, asked: &Asked) -> S3Result<()> {
    operations
        .door()
        .head_bucket(&asked.caller, asked.bucket()?)
        .map_err(|e| asked.context.fail(&e))
}

fn region(operations: &Operations) -> &str {
    operations.0.region.as_deref().unwrap_or(DEFAULT_REGION)
}

pub async fn head(
    operations: &Operations,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    admit(operations, &Asked::of(&request)?)?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(region(operations).to_owned()),
        ..HeadBucketOutput::default()
    }))
}

pub async fn location(
    operations: &Operations,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    admit(operations, &Asked::of(&request)?)?;
    let region = region(operations);
    let constraint = (region != DEFAULT_REGION).then(|| region.to_owned());
    Ok(S3Response::new(GetBucketLocationOutput {
        location_constraint: constraint.map(BucketLocationConstraint::from),
    }))
}

pub async fn versioning(
    operations: &Operations,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    admit(operations, &Asked::of(&request)?)?;
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub async fn list(
    operations: &Operations,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let asked = Asked::of(&request)?;
    let buckets = operations.door().buckets(&asked.caller);
    let told = buckets.into_iter().map(|bucket| Bucket {
        name: Some(bucket.as_str().to_owned()),
        creation_date: Some(time(0)),
        ..Bucket::default()
    });
    let id = asked.caller.cluster.as_str();
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(told.collect()),
        owner: Some(Owner {
            id: Some(id.to_owned()),
            display_name: Some(id.to_owned()),
        }),
        ..ListBucketsOutput::default()
    }))
}

/// An existing bucket is told as S3 does: 200 in the default region, "you own it already" elsewhere.
pub async fn create(
    operations: &Operations,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let asked = Asked::of(&request)?;
    let bucket = asked.bucket()?;
    match operations.door().head_bucket(&asked.caller, bucket) {
        Ok(()) if region(operations) == DEFAULT_REGION => {
            Ok(S3Response::new(CreateBucketOutput {
                location: Some(format!("/{bucket}")),
                ..CreateBucketOutput::default()
            }))
        }
        Ok(()) => Err(asked.context.answer(Answer::told(
            http::StatusCode::CONFLICT,
            "BucketAlreadyOwnedByYou".to_owned(),
            "Your previous request to create the named bucket succeeded and you already own it."
                .to_owned(),
        ))),
        Err(Error::NoSuchBucket) => Err(asked.context.answer(Answer::access_denied(format!(
            "Bucket '{bucket}' is not configured here; buckets exist by a [repositories.*] entry of the gateway's configuration."
        )))),
        Err(error) => Err(asked.context.fail(&error)),
    }
}

pub async fn delete(
    operations: &Operations,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let asked = Asked::of(&request)?;
    admit(operations, &asked)?;
    let bucket = asked.bucket()?;
    Err(asked.context.answer(Answer::access_denied(format!(
        "Bucket '{bucket}' exists by the gateway's configuration and cannot be deleted by a client."
    ))))
}
