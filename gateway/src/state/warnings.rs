//! Open warnings: what an operator should know of a repository, kept until its cause is gone.
//!
//! Invariants: a warning is one row per repository, kind and subject; of one kind at most [`MOST`] subjects are
//! kept by name, what comes beyond is one more row without a subject ([`OVERFLOW`]) that counts. So a
//! lifecycle rule that eats a million objects costs as many rows as a hand that removes twenty.

use async_trait::async_trait;

use super::{Millis, RepositoryId, Result};

/// Subjects of one kind that a repository's warnings name.
pub const MOST: u64 = 20;
/// The subject of the row that counts what is not named.
pub const OVERFLOW: &str = "";

#[async_trait]
pub trait Warnings {
    /// Opens a warning, or says that it holds still. The row that counts the unnamed ones is never acknowledged
    /// after it grew.
    async fn raise_warning(&self, repository: RepositoryId, warning: NewWarning) -> Result<Raised>;
    /// Forgets the warning of this kind and subject, or without a subject all of the kind; what was there.
    async fn clear_warnings(
        &self,
        repository: RepositoryId,
        kind: &str,
        subject: Option<&str>,
    ) -> Result<Vec<WarningRow>>;
    /// An operator has read them; they stay until their cause is gone. How many there were.
    async fn acknowledge_warnings(
        &self,
        repository: RepositoryId,
        kind: &str,
        subject: Option<&str>,
        at_ms: Millis,
    ) -> Result<u64>;
    /// Ordered by kind and subject, acknowledged ones too.
    async fn warnings(&self, repository: RepositoryId) -> Result<Vec<WarningRow>>;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewWarning {
    pub kind: &'static str,
    /// What it is about: a key, a cluster id, a store. Never empty.
    pub subject: String,
    pub sentence: String,
    pub at_ms: Millis,
}

/// What became of a raised warning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Raised {
    /// It was not open.
    New,
    /// It was open before.
    Again,
    /// Too many of its kind are: it is only counted.
    Counted,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WarningRow {
    /// Also one that this program does not know, of a newer one.
    pub kind: String,
    /// [`OVERFLOW`] for the row that counts the others of its kind.
    pub subject: String,
    pub sentence: String,
    pub raised_ms: Millis,
    pub last_ms: Millis,
    /// How often it was raised.
    pub times: u64,
    pub acknowledged_ms: Option<Millis>,
}
