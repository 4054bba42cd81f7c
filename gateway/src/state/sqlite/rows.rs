//! Rows and columns <-> the domain's types.

use std::sync::Arc;

use policies::key::ObjectKey;
use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};

use crate::state::{Error, Object, RepositoryId, Result, stored};
use crate::stores::Identity;

/// The columns of an object, in the order in which [`object`] reads them.
macro_rules! object_columns {
    () => {
        "key, repository, size, etag, hash, identity, modified_ms, sequence, details"
    };
}
pub(super) use object_columns;

impl From<rusqlite::Error> for Error {
    fn from(e: rusqlite::Error) -> Self {
        super::writer::failed(&e)
    }
}

/// SQLite's integers are signed; sizes and sequences never reach 2^63, and a retention beyond it is for ever.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn object(row: &Row<'_>, first: usize) -> Result<Object> {
    let details = match row.get_ref(first + 8)? {
        ValueRef::Null => None,
        other @ (ValueRef::Integer(_)
        | ValueRef::Real(_)
        | ValueRef::Text(_)
        | ValueRef::Blob(_)) => Some(stored::details_from(text(other)?)?),
    };
    Ok(Object {
        details,
        ..bare_object(row, first)?
    })
}

/// An object without its details, which are not read.
pub(super) fn bare_object(row: &Row<'_>, first: usize) -> Result<Object> {
    Ok(Object {
        key: key(row, first)?,
        repository: RepositoryId(row.get(first + 1)?),
        size: count(row, first + 2)?,
        etag: etag(row, first + 3)?,
        hash: row.get(first + 4)?,
        identity: Identity(text(row.get_ref(first + 5)?)?.into()),
        modified_ms: row.get(first + 6)?,
        sequence: count(row, first + 7)?,
        details: None,
    })
}

pub(super) fn key(row: &Row<'_>, column: usize) -> Result<ObjectKey> {
    ObjectKey::parse(key_text(row, column)?).map_err(|e| stored::unreadable(&e.to_string()))
}

pub(super) fn key_text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str> {
    match row.get_ref(column)? {
        ValueRef::Blob(bytes) => {
            std::str::from_utf8(bytes).map_err(|e| stored::unreadable(&e.to_string()))
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => {
            Err(stored::unreadable("a key is no BLOB"))
        }
    }
}

pub(super) fn text(value: ValueRef<'_>) -> Result<&str> {
    value
        .as_str()
        .map_err(|e| stored::unreadable(&e.to_string()))
}

/// An ETag for a column: the hex of an MD5 as 16 bytes, another one as it is.
pub(super) struct Etag<'a>(pub &'a str);

impl ToSql for Etag<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let mut md5 = [0; 16];
        let lower = !self.0.bytes().any(|b| b.is_ascii_uppercase());
        if lower && hex::decode_to_slice(self.0, &mut md5).is_ok() {
            return Ok(ToSqlOutput::Owned(Value::Blob(md5.to_vec())));
        }
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0.as_bytes())))
    }
}

pub(super) fn etag(row: &Row<'_>, column: usize) -> Result<Arc<str>> {
    match row.get_ref(column)? {
        ValueRef::Blob(md5) if md5.len() == 16 => {
            let mut digits = [0; 32];
            hex::encode_to_slice(md5, &mut digits)
                .map_err(|e| stored::unreadable(&e.to_string()))?;
            let digits =
                std::str::from_utf8(&digits).map_err(|e| stored::unreadable(&e.to_string()))?;
            Ok(digits.into())
        }
        other @ (ValueRef::Null
        | ValueRef::Integer(_)
        | ValueRef::Real(_)
        | ValueRef::Text(_)
        | ValueRef::Blob(_)) => Ok(text(other)?.into()),
    }
}

/// The first bytes that are greater than everything that starts with `prefix`. Keys are UTF-8, so no byte of a
/// prefix is 0xFF, and 0xFF alone is greater than every key.
pub(super) fn after_all_of(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    match bytes.last_mut() {
        Some(last) => *last += 1,
        None => bytes.push(0xff),
    }
    bytes
}
