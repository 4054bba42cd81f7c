//! Listings: one range scan of the catalog, of the repositories that the caller may read.

use policies::key::Class;

use super::door::OpenRepository;
use super::gate::state_failed;
use super::{Caller, Door, Error, ListRequest};
use crate::state::{ListQuery, Listing, Object, Walk};

#[cfg(test)]
mod tests;

impl Door {
    /// The visible root with the highest generation.
    pub async fn newest_root(&self, open: &OpenRepository) -> Result<Option<(u64, Object)>, Error> {
        let roots = self.roots(open).await?;
        Ok(roots.into_iter().max_by_key(|(generation, _)| *generation))
    }

    /// All visible roots, in no order.
    pub(super) async fn roots(&self, open: &OpenRepository) -> Result<Vec<(u64, Object)>, Error> {
        let base = open.plan.prefix();
        let mut walk = self.walk(open).beside(format!("{base}index-"));
        let mut roots = Vec::new();
        while let Some(page) = next_page(&mut walk).await? {
            roots.extend(page.into_iter().filter_map(|object| {
                let class = Class::parse(object.key.as_str().strip_prefix(&base)?);
                if let Class::Root(generation) = class {
                    Some((generation, object))
                } else {
                    None
                }
            }));
        }
        Ok(roots)
    }

    /// What the catalog knows of a repository.
    pub(super) fn walk(&self, open: &OpenRepository) -> Walk<'_> {
        Walk::of(self.state.as_ref(), open.bucket_id, open.id)
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

pub(super) async fn next_page(walk: &mut Walk<'_>) -> Result<Option<Vec<Object>>, Error> {
    walk.page()
        .await
        .map_err(|e| state_failed("list its catalog", &e))
}
