//! Listing of uploads under way, with common prefixes.
//!
//! Elasticsearch aborts every upload it is shown, so a caller sees only its own, in repositories whose lock it
//! holds or could take. Uploads under way are few: they are walked page by page and grouped here.

use std::sync::Arc;

use policies::identity::Bucket;

use super::gate::state_failed;
use super::{Caller, Door, Error, UploadsPage, UploadsRequest};
use crate::state::{BucketId, MultipartUpload, RepositoryId, UploadQuery};

/// Uploads looked at in one step.
const STEP: usize = 1000;
/// An upload id that is greater than all.
const LAST: &str = "\u{10ffff}";

impl Door {
    pub async fn uploads(
        &self,
        caller: &Caller,
        bucket: &Bucket,
        request: UploadsRequest,
    ) -> Result<UploadsPage, Error> {
        let readable = self.readable(caller, bucket)?;
        let Some(bucket) = readable.first().map(|open| open.bucket_id) else {
            return Err(Error::NoSuchBucket);
        };
        let own: Arc<[RepositoryId]> = readable
            .iter()
            .filter(|open| open.plan.writers.contains(&caller.cluster))
            .map(|open| open.id)
            .collect();
        let mut page = Page::new(request);
        while !page.done {
            let listed = self
                .state
                .uploads(&page.query(bucket, Arc::clone(&own)))
                .await
                .map_err(|e| state_failed("list the uploads", &e))?;
            page.done = !listed.truncated;
            for upload in listed.uploads {
                page.position = Some((upload.key.as_str().to_owned(), upload.id.clone()));
                if upload.cluster == caller.cluster && !page.take(upload) {
                    break;
                }
            }
        }
        Ok(page.told)
    }
}

/// A page being filled.
struct Page {
    request: UploadsRequest,
    told: UploadsPage,
    /// Everything up to here was looked at.
    position: Option<(String, String)>,
    /// What the page holds last.
    last: Option<(String, String)>,
    /// The common prefix told last, on this page or as the marker of the one before.
    within: Option<String>,
    done: bool,
}

impl Page {
    fn new(request: UploadsRequest) -> Self {
        let within = request
            .after
            .as_ref()
            .and_then(|(key, _)| common_prefix(&request, key));
        Self {
            done: request.limit == 0,
            position: request.after.clone(),
            told: UploadsPage::default(),
            last: None,
            within,
            request,
        }
    }

    /// Passes over what lies within the common prefix told last.
    fn query(&self, bucket: BucketId, repositories: Arc<[RepositoryId]>) -> UploadQuery {
        let behind = |prefix: &String| (format!("{prefix}{LAST}"), LAST.to_owned());
        let after = self.within.as_ref().map(behind).max(self.position.clone());
        UploadQuery {
            bucket,
            repositories,
            prefix: self.request.prefix.clone(),
            after,
            limit: STEP,
        }
    }

    /// False when the page is full.
    fn take(&mut self, upload: MultipartUpload) -> bool {
        let common = common_prefix(&self.request, upload.key.as_str());
        if common.is_some() && common == self.within {
            return true;
        }
        if self.told.uploads.len() + self.told.prefixes.len() == self.request.limit {
            self.told.next = self.last.take();
            self.done = true;
            return false;
        }
        self.within.clone_from(&common);
        if let Some(prefix) = common {
            self.last = Some((prefix.clone(), String::new()));
            self.told.prefixes.push(prefix);
        } else {
            self.last = Some((upload.key.as_str().to_owned(), upload.id.clone()));
            self.told.uploads.push(upload);
        }
        true
    }
}

/// The part of a key up to and including the first delimiter after the prefix.
fn common_prefix(request: &UploadsRequest, key: &str) -> Option<String> {
    let delimiter = request.delimiter.as_deref()?;
    let below = key.strip_prefix(&*request.prefix)?;
    let found = below.find(delimiter)?;
    Some(key[..request.prefix.len() + found + delimiter.len()].to_owned())
}
