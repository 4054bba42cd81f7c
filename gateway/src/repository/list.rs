//! Listings: one range scan of the catalog, of the repositories that the caller may read.

use policies::key::Class;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::{Caller, Door, Error, ListRequest};
use crate::state::{Entry, ListQuery, Listing, Object};

/// Roots are few: a repository of a living cluster has one or two, an old one of 5.x some more.
const ROOTS: usize = 1000;

impl Door {
    /// The visible root with the highest generation.
    pub async fn newest_root(&self, open: &OpenRepository) -> Result<Option<(u64, Object)>, Error> {
        let roots = self.roots(open).await?;
        Ok(roots.into_iter().max_by_key(|(generation, _)| *generation))
    }

    /// All visible roots, in no order.
    pub(super) async fn roots(&self, open: &OpenRepository) -> Result<Vec<(u64, Object)>, Error> {
        let base = open.plan.prefix();
        let query = ListQuery {
            bucket: open.bucket_id,
            repositories: [open.id].into(),
            prefix: format!("{base}index-"),
            delimiter: Some("/".into()),
            after: None,
            limit: ROOTS,
        };
        let listing = self
            .state
            .list(&query)
            .await
            .map_err(|e| state_failed("list its catalog", &e))?;
        let roots = listing.entries.into_iter().filter_map(|entry| match entry {
            Entry::Object(object) => {
                let class = Class::parse(object.key.as_str().strip_prefix(&base)?);
                if let Class::Root(generation) = class {
                    Some((generation, object))
                } else {
                    None
                }
            }
            Entry::Prefix(_) => None,
        });
        Ok(roots.collect())
    }

    pub async fn list(&self, caller: &Caller, request: ListRequest) -> Result<Listing, Error> {
        if let Some(view) = self.layout.view_of_prefix(&request.bucket, &request.prefix) {
            return self.list_view(caller, &view, request).await;
        }
        let readable = self.readable(caller, &request.bucket)?;
        let Some(bucket) = readable.first().map(|open| open.bucket_id) else {
            return Err(Error::NoSuchBucket);
        };
        let query = ListQuery {
            bucket,
            repositories: readable.iter().map(|open| open.id).collect(),
            prefix: request.prefix,
            delimiter: request.delimiter,
            after: request.after,
            limit: request.limit,
        };
        self.state
            .list(&query)
            .await
            .map_err(|e| state_failed("list its catalog", &e))
    }
}
