//! Rows and columns <-> the domain's types; statements that are prepared once per connection.

use deadpool_postgres::ClientWrapper;
use deadpool_postgres::tokio_postgres::Row;
use deadpool_postgres::tokio_postgres::types::{FromSql, ToSql};
use policies::key::ObjectKey;

use crate::state::{Object, RepositoryId, Result, stored};
use crate::stores::Identity;

/// The columns of an object, in the order in which [`object`] reads them.
macro_rules! object_columns {
    () => {
        "key, repository, size, etag, hash, identity, modified_ms, sequence, details"
    };
}
pub(super) use object_columns;

pub(super) type Sql = deadpool_postgres::tokio_postgres::Error;
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// So that they are executed when they are sent.
pub(super) async fn prepare(db: &ClientWrapper, statements: &[&str]) -> Result<(), Sql> {
    for sql in statements {
        db.prepare_cached(sql).await?;
    }
    Ok(())
}

pub(super) async fn query(
    db: &ClientWrapper,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, Sql> {
    let statement = db.prepare_cached(sql).await?;
    db.query(&statement, parameters).await
}

pub(super) async fn first(
    db: &ClientWrapper,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Option<Row>, Sql> {
    Ok(query(db, sql, parameters).await?.into_iter().next())
}

/// The number of rows that were changed.
pub(super) async fn execute(
    db: &ClientWrapper,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<u64, Sql> {
    let statement = db.prepare_cached(sql).await?;
    db.execute(&statement, parameters).await
}

/// BIGINT is signed; sizes and sequences never reach 2^63, and a retention beyond it is for ever.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at)
        .map_err(|e| stored::unreadable(&e.to_string()))
}

pub(super) fn count(row: &Row, at: usize) -> Result<u64> {
    let number: i64 = column(row, at)?;
    u64::try_from(number).map_err(|e| stored::unreadable(&e.to_string()))
}

pub(super) fn maybe_count(row: &Row, at: usize) -> Result<Option<u64>> {
    column::<Option<i64>>(row, at)?
        .map(u64::try_from)
        .transpose()
        .map_err(|e| stored::unreadable(&e.to_string()))
}

pub(super) fn hash(row: &Row, at: usize) -> Result<Option<[u8; 32]>> {
    column::<Option<&[u8]>>(row, at)?
        .map(<[u8; 32]>::try_from)
        .transpose()
        .map_err(|_| stored::unreadable("a hash has not 32 bytes"))
}

pub(super) fn key_text(row: &Row, at: usize) -> Result<&str> {
    std::str::from_utf8(column(row, at)?).map_err(|e| stored::unreadable(&e.to_string()))
}

pub(super) fn key(row: &Row, at: usize) -> Result<ObjectKey> {
    ObjectKey::parse(key_text(row, at)?).map_err(|e| stored::unreadable(&e.to_string()))
}

pub(super) fn object(row: &Row, first: usize) -> Result<Object> {
    let details: Option<&str> = column(row, first + 8)?;
    Ok(Object {
        details: details.map(stored::details_from).transpose()?,
        ..bare_object(row, first)?
    })
}

/// An object without its details, which are not read.
pub(super) fn bare_object(row: &Row, first: usize) -> Result<Object> {
    Ok(Object {
        key: key(row, first)?,
        repository: RepositoryId(column(row, first + 1)?),
        size: count(row, first + 2)?,
        etag: column::<&str>(row, first + 3)?.into(),
        hash: hash(row, first + 4)?,
        identity: Identity(column::<&str>(row, first + 5)?.into()),
        modified_ms: column(row, first + 6)?,
        sequence: count(row, first + 7)?,
        details: None,
    })
}
