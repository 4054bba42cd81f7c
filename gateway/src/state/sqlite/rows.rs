//! Rows and columns <-> the domain's types.

use std::sync::Arc;

use policies::key::ObjectKey;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

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
        Ok(ToSqlOutput::Owned(etag_value(self.0)))
    }
}

pub(super) fn etag_value(etag: &str) -> Value {
    let mut md5 = [0; 16];
    let lower = !etag.bytes().any(|b| b.is_ascii_uppercase());
    if lower && hex::decode_to_slice(etag, &mut md5).is_ok() {
        Value::Blob(md5.to_vec())
    } else {
        Value::Text(etag.to_owned())
    }
}

/// Rows of one statement: a statement for each row would cost as much as the row.
const TOGETHER: usize = 64;

/// Inserts rows of N columns; `into` ends with VALUES.
pub(super) fn insert_many<T, const N: usize>(
    db: &Connection,
    into: &str,
    items: &[T],
    row: impl Fn(&T) -> [Value; N],
) -> rusqlite::Result<()> {
    let place = format!("({})", ["?"; N].join(","));
    let sql = |rows: usize| format!("{into}{}", vec![&*place; rows].join(","));
    let (whole, rest) = items.split_at(items.len() / TOGETHER * TOGETHER);
    for (items, together) in [(whole, TOGETHER), (rest, 1)] {
        if items.is_empty() {
            continue;
        }
        let mut statement = db.prepare_cached(&sql(together))?;
        for items in items.chunks(together) {
            statement.execute(params_from_iter(items.iter().flat_map(&row)))?;
        }
    }
    Ok(())
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
