//! What a repository is built from; `config` makes it from what a user wrote.

use std::collections::BTreeSet;
use std::time::Duration;

use policies::identity::{Bucket, Cluster, Repository, StoreName};
use policies::key::Configured;
use policies::lock::Mode;

use crate::state::RepositoryIdentity;

#[derive(Debug, Clone)]
pub struct RepositoryPlan {
    pub bucket: Bucket,
    /// Without slashes at its ends; may be empty.
    pub base_path: String,
    pub store: StoreName,
    pub writers: BTreeSet<Cluster>,
    pub readers: Readers,
    pub mode: Mode,
    pub retention: Duration,
    /// Uploads in parts that were begun so much uptime ago and not completed are ended; None = never.
    pub uploads_end_after: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    Everyone,
    These(BTreeSet<Cluster>),
}

impl Readers {
    #[must_use]
    pub fn admit(&self, cluster: &Cluster) -> bool {
        match self {
            Self::Everyone => true,
            Self::These(these) => these.contains(cluster),
        }
    }
}

impl RepositoryPlan {
    /// What every key below the base path starts with: empty, or the path with its slash.
    #[must_use]
    pub fn prefix(&self) -> String {
        if self.base_path.is_empty() {
            String::new()
        } else {
            format!("{}/", self.base_path)
        }
    }

    /// What the state database knows the repository `name` by.
    #[must_use]
    pub fn identity(&self, name: &Repository) -> RepositoryIdentity {
        RepositoryIdentity {
            name: name.clone(),
            bucket: self.bucket.clone(),
            base_path: self.base_path.clone(),
            store: self.store.clone(),
        }
    }

    /// Which keys are those of the repository `name`.
    #[must_use]
    pub fn place(&self, name: &Repository) -> Configured {
        Configured {
            repository: name.clone(),
            bucket: self.bucket.clone(),
            base_path: self.base_path.clone(),
        }
    }
}
