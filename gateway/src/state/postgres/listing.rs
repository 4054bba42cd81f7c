//! One page of a bucket, as a walk over keys in byte order that seeks past what it need not read.
//!
//! As in SQLite: a common prefix is reported at the first of its rows that the caller may see, and the walk goes
//! on behind the last key that could start with it. Rows come in chunks; a chunk that ends inside a common prefix
//! is not followed by the rest of it. Page and walk see one snapshot of the catalog.

use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use futures::future::join;

use super::rows::{Sql, bare_object, int, key_text, object_columns, query};
use crate::state::paging::{after_all_of, common_prefix, start};
use crate::state::{Entry, ListQuery, Listing, Result};

/// From a key on, up to the end of the prefix.
const WALK: &str = concat!(
    "SELECT ",
    object_columns!(),
    " FROM objects WHERE bucket = $1 AND key >= $2 AND key < $3 AND repository = ANY ($4) ORDER BY key LIMIT $5"
);
/// The same as of a journal sequence.
const WALK_AT: &str = concat!(
    "SELECT ",
    object_columns!(),
    " FROM objects WHERE bucket = $1 AND key >= $2 AND key < $3 AND repository = ANY ($4) AND sequence <= $6
     UNION ALL SELECT ",
    object_columns!(),
    " FROM tombstones WHERE repository = ANY ($4) AND key >= $2 AND key < $3 AND sequence <= $6 AND removed > $6
     ORDER BY key LIMIT $5"
);
/// Rows read at once where most of them may lie below one common prefix.
const CHUNK: usize = 100;

pub(super) async fn list(db: &ClientWrapper, wanted: &ListQuery) -> Result<Listing> {
    page(db, wanted, None).await
}

/// `at` = as of this journal sequence.
pub(super) async fn page(
    db: &ClientWrapper,
    wanted: &ListQuery,
    at: Option<u64>,
) -> Result<Listing> {
    let mut listing = Listing::default();
    if wanted.limit == 0 || wanted.repositories.is_empty() {
        return Ok(listing);
    }
    let mut walk = Walk {
        end: after_all_of(&wanted.prefix),
        seen: wanted.repositories.iter().map(|r| r.0).collect(),
        from: start(wanted),
        at: at.map(int),
        wanted,
    };
    let snapshot = db.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    let (begun, rows) = join(snapshot, walk.chunk(db, &listing)).await;
    begun?;
    let mut rows = rows?;
    while walk.take(&rows, &mut listing)? {
        rows = walk.chunk(db, &listing).await?;
    }
    db.batch_execute("COMMIT").await?;
    Ok(listing)
}

struct Walk<'a> {
    wanted: &'a ListQuery,
    end: Vec<u8>,
    seen: Vec<i64>,
    from: Vec<u8>,
    at: Option<i64>,
}

impl Walk<'_> {
    fn most(&self, listing: &Listing) -> usize {
        let left = self.wanted.limit - listing.entries.len() + 1;
        match self.wanted.delimiter {
            Some(_) => left.min(CHUNK),
            None => left,
        }
    }

    async fn chunk(&self, db: &ClientWrapper, listing: &Listing) -> Result<Vec<Row>, Sql> {
        let limit = int(self.most(listing) as u64);
        let (bucket, from, end) = (&self.wanted.bucket.0, &self.from, &self.end);
        match &self.at {
            None => query(db, WALK, &[bucket, from, end, &self.seen, &limit]).await,
            Some(at) => query(db, WALK_AT, &[bucket, from, end, &self.seen, &limit, at]).await,
        }
    }

    /// True = there may be more behind these rows.
    fn take(&mut self, rows: &[Row], listing: &mut Listing) -> Result<bool> {
        let full = rows.len() == self.most(listing);
        for row in rows {
            let key = key_text(row, 0)?;
            if key.as_bytes() < self.from.as_slice() {
                continue;
            }
            if listing.entries.len() == self.wanted.limit {
                listing.truncated = true;
                return Ok(false);
            }
            if let Some(common) = common_prefix(self.wanted, key) {
                listing.entries.push(Entry::Prefix(common.to_owned()));
                self.from = after_all_of(common);
            } else {
                listing.entries.push(Entry::Object(bare_object(row, 0)?));
                self.from = [key.as_bytes(), &[0]].concat();
            }
        }
        Ok(full)
    }
}
