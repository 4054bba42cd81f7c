//! One page of a bucket, as a walk over keys in byte order that seeks past what it need not read.
//!
//! A common prefix is reported at the first of its rows that the caller may see, and the walk goes on behind
//! the last key that could start with it: what lies below costs one seek, however much it is. The position
//! `after` is passed over the same way: if it is, or lies inside, a common prefix, that prefix was reported on
//! an earlier page. Page and walk see one snapshot of the catalog.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{bare_object, key_text, object_columns};
use crate::state::paging::{after_all_of, common_prefix, start};
use crate::state::{Entry, ListQuery, Listing, Result};

/// From a key on, up to the end of the prefix.
pub(super) const WALK: &str = concat!(
    "SELECT ",
    object_columns!(),
    " FROM objects WHERE bucket = ?1 AND key >= ?2 AND key < ?3 ORDER BY key"
);

pub(super) fn list(db: &Connection, query: &ListQuery) -> Result<Listing> {
    let end = after_all_of(&query.prefix);
    page(db, query, WALK, |from| {
        vec![
            query.bucket.0.into(),
            from.to_vec().into(),
            end.clone().into(),
        ]
    })
}

/// One page of what `sql` walks over, given its parameters for where to begin.
pub(super) fn page(
    db: &Connection,
    query: &ListQuery,
    sql: &str,
    parameters: impl Fn(&[u8]) -> Vec<Value>,
) -> Result<Listing> {
    let mut listing = Listing::default();
    if query.limit == 0 || query.repositories.is_empty() {
        return Ok(listing);
    }
    let snapshot = db.unchecked_transaction()?;
    let mut from = start(query);
    while let Some(next) = walk(&snapshot, query, sql, parameters(&from), &mut listing)? {
        from = next;
    }
    snapshot.finish()?;
    Ok(listing)
}

/// Lists up to the next common prefix; where to go on behind it, None = the page is done.
fn walk(
    db: &Connection,
    query: &ListQuery,
    sql: &str,
    parameters: Vec<Value>,
    listing: &mut Listing,
) -> Result<Option<Vec<u8>>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(parameters))?;
    while let Some(row) = rows.next()? {
        let repository: i64 = row.get(1)?;
        if !query
            .repositories
            .iter()
            .any(|allowed| allowed.0 == repository)
        {
            continue;
        }
        if listing.entries.len() == query.limit {
            listing.truncated = true;
            return Ok(None);
        }
        if query.delimiter.is_some()
            && let Some(common) = common_prefix(query, key_text(row, 0)?)
        {
            listing.entries.push(Entry::Prefix(common.to_owned()));
            return Ok(Some(after_all_of(common)));
        }
        listing.entries.push(Entry::Object(bare_object(row, 0)?));
    }
    Ok(None)
}
