//! The S3 operations that clusters use, one file each (families of small ones share a file).
//!
//! Invariant: an operation asks the door with the address that the pre-check decoded, never with the
//! names in the parsed input. What has no method here is answered `NotImplemented` by the trait.

use std::sync::Arc;

use s3s::dto;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::request::Context;
use super::tokens::Sealer;
use crate::repository::{Address, Caller, Door};

mod buckets;
mod copy_object;
mod delete_object;
mod delete_objects;
mod fields;
mod get_object;
mod get_object_attributes;
mod list_multipart_uploads;
mod list_objects;
mod multipart;
mod put_object;
mod upload_part;

#[derive(Clone, Debug)]
pub struct Operations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    door: Arc<Door>,
    sealer: Sealer,
    region: Option<String>,
}

impl Operations {
    #[must_use]
    pub fn new(door: Arc<Door>, sealer: Sealer, region: Option<String>) -> Self {
        Self(Arc::new(Inner {
            door,
            sealer,
            region,
        }))
    }

    fn door(&self) -> &Door {
        &self.0.door
    }
}

/// Who asks for what.
struct Asked {
    context: Arc<Context>,
    caller: Caller,
}

impl Asked {
    fn of<T>(request: &S3Request<T>) -> S3Result<Self> {
        let context = request
            .extensions
            .get::<Arc<Context>>()
            .map(Arc::clone)
            .ok_or_else(unadmitted)?;
        let caller = context.caller().ok_or_else(unadmitted)?;
        Ok(Self { context, caller })
    }

    /// The object that the request addresses.
    fn object(&self) -> S3Result<&Address> {
        self.context.object().ok_or_else(unadmitted)
    }

    /// The bucket that the request addresses.
    fn bucket(&self) -> S3Result<&policies::identity::Bucket> {
        self.context.bucket().ok_or_else(unadmitted)
    }
}

/// A request that did not come by way of pre-check and verifier.
fn unadmitted() -> S3Error {
    S3Error::new(S3ErrorCode::AccessDenied)
}

/// The name of an operation as a label; those we do not know share one.
#[must_use]
pub fn label(name: &str) -> &'static str {
    const NAMES: [&str; 24] = [
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateBucket",
        "CreateMultipartUpload",
        "DeleteBucket",
        "DeleteObject",
        "DeleteObjects",
        "GetBucketLocation",
        "GetBucketVersioning",
        "GetObject",
        "GetObjectAttributes",
        "GetObjectTagging",
        "HeadBucket",
        "HeadObject",
        "ListBuckets",
        "ListMultipartUploads",
        "ListObjects",
        "ListObjectsV2",
        "ListParts",
        "PutObject",
        "UploadPart",
        "UploadPartCopy",
        "ListObjectVersions",
    ];
    NAMES
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("other")
}

macro_rules! operations {
    ($($method:ident: $input:ident -> $output:ident = $run:path;)*) => {
        #[async_trait::async_trait]
        impl S3 for Operations {
            $(
                async fn $method(
                    &self,
                    request: S3Request<dto::$input>,
                ) -> S3Result<S3Response<dto::$output>> {
                    $run(self, request).await
                }
            )*
        }
    };
}

operations! {
    abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput = multipart::abort;
    complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput = multipart::complete;
    copy_object: CopyObjectInput -> CopyObjectOutput = copy_object::run;
    create_bucket: CreateBucketInput -> CreateBucketOutput = buckets::create;
    create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput = multipart::create;
    delete_bucket: DeleteBucketInput -> DeleteBucketOutput = buckets::delete;
    delete_object: DeleteObjectInput -> DeleteObjectOutput = delete_object::run;
    delete_objects: DeleteObjectsInput -> DeleteObjectsOutput = delete_objects::run;
    get_bucket_location: GetBucketLocationInput -> GetBucketLocationOutput = buckets::location;
    get_bucket_versioning: GetBucketVersioningInput -> GetBucketVersioningOutput = buckets::versioning;
    get_object: GetObjectInput -> GetObjectOutput = get_object::get;
    get_object_attributes: GetObjectAttributesInput -> GetObjectAttributesOutput = get_object_attributes::run;
    get_object_tagging: GetObjectTaggingInput -> GetObjectTaggingOutput = get_object::tagging;
    head_bucket: HeadBucketInput -> HeadBucketOutput = buckets::head;
    head_object: HeadObjectInput -> HeadObjectOutput = get_object::head;
    list_buckets: ListBucketsInput -> ListBucketsOutput = buckets::list;
    list_multipart_uploads: ListMultipartUploadsInput -> ListMultipartUploadsOutput = list_multipart_uploads::run;
    list_objects: ListObjectsInput -> ListObjectsOutput = list_objects::v1;
    list_objects_v2: ListObjectsV2Input -> ListObjectsV2Output = list_objects::v2;
    list_parts: ListPartsInput -> ListPartsOutput = multipart::parts;
    put_object: PutObjectInput -> PutObjectOutput = put_object::run;
    upload_part: UploadPartInput -> UploadPartOutput = upload_part::run;
    upload_part_copy: UploadPartCopyInput -> UploadPartCopyOutput = upload_part::copy;
}
