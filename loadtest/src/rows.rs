//! The rows of every table: one kind of load each.
//!
//! Decides: a name -> what one operation of that row is, and what must lie in the bucket before it.
//! Adding a row is adding an entry to [`ROWS`].

use crate::keys::{KIB, MIB, Naming};
use crate::work::Work;

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub work: Work,
}

pub const ROWS: &[Row] = &[
    Row {
        name: "put-4k",
        work: Work::Put(4 * KIB, Naming::Data),
    },
    Row {
        name: "put-commit-4k",
        work: Work::Put(4 * KIB, Naming::Commit),
    },
    Row {
        name: "get-4k",
        work: Work::Get(4 * KIB),
    },
    Row {
        name: "put-1m",
        work: Work::Put(MIB, Naming::Data),
    },
    Row {
        name: "get-1m",
        work: Work::Get(MIB),
    },
    Row {
        name: "put-64m",
        work: Work::Put(64 * MIB, Naming::Data),
    },
    Row {
        name: "put-64m-multipart",
        work: Work::Multipart(64 * MIB),
    },
    Row {
        name: "get-64m",
        work: Work::Get(64 * MIB),
    },
    Row {
        name: "list-1000",
        work: Work::List(1000),
    },
    Row {
        name: "list-1000-folders",
        work: Work::Folders(1000),
    },
    Row {
        name: "delete-1000",
        work: Work::Delete(1000),
    },
    Row {
        name: "cluster",
        work: Work::Cluster,
    },
];

/// # Errors
/// A sentence with the names there are.
pub fn find(name: &str) -> Result<Row, String> {
    ROWS.iter()
        .find(|row| row.name == name)
        .copied()
        .ok_or_else(|| {
            let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            format!("no row '{name}'; there are {}", names.join(", "))
        })
}
