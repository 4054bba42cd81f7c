//! Follows a repository's journal onto another store, so that the other store restores at every instant.

pub mod plan;
