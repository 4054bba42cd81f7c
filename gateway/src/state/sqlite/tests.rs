//! What SQLite has to prove beyond the promises of every state database.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::state::conformance::{World, conformance};

async fn fresh() -> (Arc<dyn State>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (Arc::new(open_in(directory.path())), directory)
}

fn open_in(directory: &Path) -> Database {
    Database::open(&directory.join("state.db")).unwrap()
}

mod promises {
    use super::{conformance, fresh};

    conformance!(fresh);
}
