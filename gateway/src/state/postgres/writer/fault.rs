//! Why a request fails, and how PostgreSQL's errors become the trait's.

use deadpool_postgres::PoolError;
use deadpool_postgres::tokio_postgres::error::SqlState;

use crate::state::postgres::open;
use crate::state::postgres::rows::Sql;
use crate::state::{Error, WriteError};

/// Why a request fails: the world is not as its caller thought, or PostgreSQL failed.
#[derive(Debug)]
pub(in crate::state::postgres) enum Fault {
    Refused(WriteError),
    Sql(Sql),
}

impl From<WriteError> for Fault {
    fn from(e: WriteError) -> Self {
        Self::Refused(e)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Self::Refused(WriteError::Failed(e))
    }
}

impl From<Sql> for Fault {
    fn from(e: Sql) -> Self {
        Self::Sql(e)
    }
}

impl From<Sql> for Error {
    fn from(e: Sql) -> Self {
        failed(&e)
    }
}

/// PostgreSQL's error as the trait's.
pub(super) fn failed(e: &Sql) -> Error {
    match e.code() {
        Some(code) if *code == SqlState::DISK_FULL => Error::Full,
        Some(_) | None => Error::Failed(open::describe(e).into()),
    }
}

pub(super) fn no_connection(e: &PoolError) -> Error {
    Error::Failed(format!("no connection: {e}").into())
}

/// A statement of many records failed: the transaction is lost, and all its requests are told so.
pub(super) fn undo_all(fault: Fault) -> Error {
    match fault {
        Fault::Sql(e) => failed(&e),
        Fault::Refused(e) => Error::Failed(e.to_string().into()),
    }
}
