//! Uploads under way: listing them with common prefixes, and ending those that nobody completes.
//!
//! Elasticsearch aborts every upload it is shown, so a caller sees only its own, in repositories whose lock it
//! holds or could take. Uploads under way are few: they are walked page by page and grouped here.

use std::sync::Arc;

use policies::identity::Bucket;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::reaper::settle_permit;
use super::{Caller, Door, Error, UploadsPage, UploadsRequest};
use crate::state::{BucketId, MultipartUpload, RepositoryId, UploadQuery, WriteError};

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

    /// A client that died leaves its upload behind, and no cluster ever looks for it. Nothing of it was acknowledged.
    pub(super) async fn end_old_uploads(
        &self,
        open: &OpenRepository,
        uptime_ms: u64,
    ) -> Result<(), Error> {
        let Some(age) = open.plan.uploads_end_after else {
            return Ok(());
        };
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let before = uptime_ms.saturating_sub(age);
        let Some(permit) = settle_permit(open) else {
            return Ok(());
        };
        let old = self
            .state
            .uploads_begun_before(open.id, before, STEP)
            .await
            .map_err(|e| state_failed("list old uploads", &e))?;
        for upload in old {
            let _turn = open.turn(&upload.key).await;
            match self.state.drop_upload(&permit, &upload.id).await {
                Ok(true) => {}
                // It came to its end meanwhile, or is being completed.
                Ok(false) | Err(WriteError::KeyBusy) => continue,
                Err(e) => return Err(super::unavailable("end an old upload", &e)),
            }
            tracing::info!(repository = %open.name, key = %upload.key, cluster = %upload.cluster, "an upload that nobody completed was ended");
            open.store
                .abort(&permit, &upload.key, &upload.store_upload)
                .await
                .map_err(|e| store_failed("end an old upload", &e))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::Error;
    use crate::repository::miniature::{UPLOADS_END_AFTER, World, body, caller};
    use crate::repository::{CompletedPart, WriteCondition};
    use crate::state::Details;

    #[tokio::test]
    async fn an_upload_that_nobody_completes_is_ended_after_its_time_and_not_before() {
        let world = World::new().await;
        let (open, to) = (&world.open, world.at("base/indices/i/0/__blob"));
        let caller = caller();
        let begun = world
            .door
            .create_upload(&caller, &to, Details::default(), None)
            .await
            .unwrap();
        let part = body(b"of an upload that is forgotten".to_vec());
        let part = world.door.put_part(&caller, &to, &begun.id, 1, part);
        let part = part.await.unwrap();
        let age = u64::try_from(UPLOADS_END_AFTER.as_millis()).unwrap();
        world.door.end_old_uploads(open, age).await.unwrap();
        let known = world.door.parts(&caller, &to, &begun.id, 0, 10).await;
        assert_eq!(known.unwrap().1.len(), 1);
        world.door.end_old_uploads(open, age + 1).await.unwrap();
        assert_eq!(world.store.uploads().await.unwrap(), []);
        let parts = vec![CompletedPart {
            number: 1,
            etag: part.etag.to_string(),
            checksum: None,
        }];
        let completed = world
            .door
            .complete(&caller, &to, &begun.id, parts, None, WriteCondition::Always)
            .await;
        assert!(matches!(completed, Err(Error::NoSuchUpload)));
    }
}
