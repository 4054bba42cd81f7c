//! Deleting objects, in batches where the service can.
//!
//! Invariant: a name counts as deleted only if the answer says so by name. Deleting what is not there
//! is success, so each step may be repeated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method};
use md5::{Digest as _, Md5};
use policies::key::ObjectKey;
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::{Answer, Call, Client, value};
use super::failure::Failure;
use super::multipart::success;
use super::{names, xml};
use crate::stores::{Error, Result};

/// S3's bound on one DeleteObjects.
const BATCH: usize = 1000;
const OPERATION: &str = "DeleteObjects";

/// Set once the service said that it has no DeleteObjects.
#[derive(Debug, Default)]
pub(super) struct NoBatches(AtomicBool);

impl Client {
    pub(super) async fn delete(
        &self,
        names: &[ObjectKey],
        no_batches: &NoBatches,
    ) -> Vec<Result<()>> {
        let mut results: Vec<Result<()>> = Vec::with_capacity(names.len());
        for batch in names.chunks(BATCH) {
            if batch.len() > 1 && !no_batches.0.load(Ordering::Relaxed) {
                match self.delete_batch(batch).await {
                    Ok(each) => {
                        results.extend(each);
                        continue;
                    }
                    Err(failure) if failure.is(501) || failure.is(405) => {
                        no_batches.0.store(true, Ordering::Relaxed);
                    }
                    Err(failure) => {
                        let error = failure.into_error(OPERATION);
                        results.extend(batch.iter().map(|_| Err(error.clone())));
                        continue;
                    }
                }
            }
            results.extend(self.delete_each(batch).await);
        }
        results
    }

    async fn delete_each(&self, names: &[ObjectKey]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            results.push(self.delete_one(name).await);
        }
        results
    }

    pub(super) async fn delete_one(&self, name: &ObjectKey) -> Result<()> {
        super::storable(name)?;
        let operation = "DeleteObject";
        let call = Call::new(operation, Method::DELETE, Some(name.as_str()));
        match self.answer(&call).await.result {
            Ok(_) => Ok(()),
            Err(failure) if failure.has_code("NoSuchKey") => Ok(()),
            Err(failure) => Err(failure.into_error(operation)),
        }
    }

    async fn delete_batch(&self, names: &[ObjectKey]) -> Result<Vec<Result<()>>, Failure> {
        let by_batch = |name: &&ObjectKey| names::is_storable(name.as_str());
        if !names.iter().any(|name| by_batch(&name)) {
            return Ok(self.delete_each(names).await);
        }
        let body = self.batch_body(names.iter().filter(by_batch));
        let md5 = value(&STANDARD.encode(Md5::digest(&body))).map_err(Failure::Ours)?;
        let sha256 = value(&STANDARD.encode(Sha256::digest(&body))).map_err(Failure::Ours)?;
        let call = Call::new(OPERATION, Method::POST, None)
            .query(&[("delete", "")])
            .header("content-md5", md5)
            .header("x-amz-checksum-sha256", sha256)
            .header("content-type", HeaderValue::from_static("application/xml"))
            .body(body);
        let check = |answer: Answer| self.read_deleted(&answer.body);
        let tried = self
            .answer_checked(&call, self.deadlines.answer, check)
            .await;
        let said = tried.result?;
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            results.push(if by_batch(&name) {
                let unsaid = || {
                    Err(Error::Failed(
                        "DeleteObjects: the answer leaves out a name".into(),
                    ))
                };
                said.get(name.as_str()).cloned().unwrap_or_else(unsaid)
            } else {
                self.delete_one(name).await
            });
        }
        Ok(results)
    }

    fn batch_body<'a>(&self, names: impl Iterator<Item = &'a ObjectKey>) -> Bytes {
        let mut body = String::with_capacity(64 * 1024);
        body.push_str("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for name in names {
            body.push_str("<Object><Key>");
            xml::push_escaped(&mut body, self.prefix());
            xml::push_escaped(&mut body, name.as_str());
            body.push_str("</Key></Object>");
        }
        body.push_str("</Delete>");
        body.into()
    }

    fn read_deleted(&self, body: &[u8]) -> Result<HashMap<String, Result<()>>, Failure> {
        let root = success("DeleteResult", body)?;
        let mut said = HashMap::new();
        for child in &root.children {
            let result = match &*child.name {
                "Deleted" => Ok(()),
                "Error" => match child.text_of("Code")?.trim() {
                    "NoSuchKey" => Ok(()),
                    "AccessDenied" => Err(Error::Denied),
                    "SlowDown" | "ServiceUnavailable" => Err(Error::Busy),
                    _ => Err(Error::Failed("DeleteObjects: the store kept a name".into())),
                },
                _ => continue,
            };
            let key = child.text_of("Key")?;
            let name = key.strip_prefix(self.prefix()).ok_or(Failure::Nonsense)?;
            said.insert(name.to_owned(), result);
        }
        Ok(said)
    }
}
