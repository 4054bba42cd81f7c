//! How a listing walks over keys in byte order: common prefixes and where to go on behind them.

use super::ListQuery;

/// The first key that may be listed.
pub fn start(query: &ListQuery) -> Vec<u8> {
    let Some(after) = &query.after else {
        return query.prefix.as_bytes().to_vec();
    };
    let next = match common_prefix(query, after) {
        Some(common) => after_all_of(common),
        None => [after.as_bytes(), &[0]].concat(),
    };
    next.max(query.prefix.as_bytes().to_vec())
}

/// The part of a key up to and including the first delimiter after the query's prefix.
pub fn common_prefix<'a>(query: &ListQuery, key: &'a str) -> Option<&'a str> {
    let delimiter = query.delimiter.as_deref().filter(|d| !d.is_empty())?;
    let below = key.strip_prefix(&*query.prefix)?;
    let found = below.find(delimiter)?;
    Some(&key[..query.prefix.len() + found + delimiter.len()])
}

/// The first bytes that are greater than everything that starts with `prefix`. Keys are UTF-8, so no byte of a
/// prefix is 0xFF, and 0xFF alone is greater than every key.
pub fn after_all_of(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    match bytes.last_mut() {
        Some(last) => *last += 1,
        None => bytes.push(0xff),
    }
    bytes
}
