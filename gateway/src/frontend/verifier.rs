//! The `s3s` crate set up as verifier and router: what it may accept, and what it is not asked.
//!
//! Off: SigV2, services other than `s3`, form signatures, and routing by `x-id` (a client's word on
//! which operation it means). Host and bucket rules are [`precheck`](super::precheck)'s, so that both see
//! the same bucket. Its log targets must stay off (`s3s=off`): it prints signatures and bodies.

use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::Credentials;
use super::answers::Answer;
use super::operations::{Operations, label};
use super::precheck::addressing::bucket_of_host;
use super::precheck::payload::MAX_UPLOAD;
use super::precheck::{MAX_SKEW, Rules};
use super::request::Context;

/// Signed chunks are held whole until their signature is verified; clients send 64 to 128 KiB.
const MAX_SIGNED_CHUNK: usize = 16 << 20;

/// Above every document's own limit.
const MAX_DOCUMENT: usize = 4 << 20;

#[must_use]
pub fn build(
    operations: Operations,
    rules: &Rules,
    credentials: Arc<dyn Credentials>,
) -> S3Service {
    let mut config = S3Config::default();
    config.xml_max_body_size = MAX_DOCUMENT;
    config.put_object_max_size = Some(MAX_UPLOAD);
    config.aws_chunked_stream_max_chunk_size = MAX_SIGNED_CHUNK;
    config.presigned_url_max_skew_time_secs = u32::try_from(MAX_SKEW).unwrap_or(0);
    // `rules.region` is enforced by the pre-check; s3s's own type for regions refuses some that clients use.
    config.expected_region = None;
    config.sig_v4_allowed_services = vec!["s3".to_owned()];
    config.enable_sig_v2 = false;
    config.allow_post_signature = false;
    config.operation_id_routing = false;
    let mut builder = S3ServiceBuilder::new(operations);
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_host(Host(rules.domain.clone()));
    builder.set_auth(Keys(Arc::clone(&credentials)));
    builder.set_access(Admission(credentials));
    builder.set_validation(AnyName);
    builder.build()
}

struct Host(Option<String>);

impl S3Host for Host {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let bucket = bucket_of_host(self.0.as_deref(), host)
            .map_err(|rejection| Answer::from(&rejection).to_s3())?;
        let virtual_host = VirtualHost::new(host);
        Ok(match bucket {
            Some(bucket) => virtual_host.with_bucket(bucket),
            None => virtual_host,
        })
    }
}

struct Keys(Arc<dyn Credentials>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.find(access_key) {
            Some((_, secret)) => Ok(SecretKey::from(secret.as_str())),
            None => Err(S3Error::new(S3ErrorCode::InvalidAccessKeyId)),
        }
    }
}

/// Buckets exist because the configuration says so, whatever their names.
struct AnyName;

impl NameValidation for AnyName {
    fn validate_bucket_name(&self, name: &str) -> bool {
        !name.is_empty()
    }
}

/// The signature holds: from here on the request is a cluster's.
struct Admission(Arc<dyn Credentials>);

#[async_trait::async_trait]
impl S3Access for Admission {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let denied = || S3Error::new(S3ErrorCode::AccessDenied);
        let access_key = &cx.credentials().ok_or_else(denied)?.access_key;
        let (cluster, _) = self.0.find(access_key).ok_or_else(denied)?;
        let operation = label(cx.s3_op().name());
        let context = cx.extensions_mut().get::<Arc<Context>>();
        context.ok_or_else(denied)?.admit(operation, cluster);
        Ok(())
    }
}
