//! How the state database says no: it failed, or the world is not as the caller thought.

use std::sync::Arc;

use super::{LockRow, Object};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// We failed. Never to be read as "absent" or "refused".
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the state database failed: {0}")]
    Failed(Arc<str>),
    #[error("the state database is full")]
    Full,
    #[error("the journal's reserved numbers are used up")]
    NumbersUsedUp,
    #[error("the state database is shutting down")]
    Closed,
    #[error("{0}")]
    Mismatch(String),
}

/// The transaction found that the world is not as the caller thought. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    #[error("the writer lock has moved")]
    LockMoved(Box<LockRow>),
    #[error("the key is taken by another object")]
    Exists(Option<Box<Object>>),
    #[error("another write to this key is under way")]
    KeyBusy,
    #[error("the intent has ended")]
    IntentGone,
    #[error("the upload is unknown")]
    UploadGone,
    /// A root without a pinned snapshot; or a pin of a snapshot that the newest root does not hold.
    #[error("the newest root and the pin of snapshot '{0}' contradict each other")]
    Pinned(Arc<str>),
    #[error(transparent)]
    Failed(#[from] Error),
}
