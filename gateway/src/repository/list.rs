//! Listings: one range scan of the catalog, of the repositories that the caller may read.

use super::gate::state_failed;
use super::{Caller, Door, Error, ListRequest};
use crate::state::{ListQuery, Listing};

impl Door {
    pub async fn list(&self, caller: &Caller, request: ListRequest) -> Result<Listing, Error> {
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
        self.state.list(&query).await.map_err(|e| state_failed("list its catalog", &e))
    }
}
