//! Does the cluster that commits a root belong to the lock's holder?
//!
//! Elasticsearch from 7.12 on names the cluster that wrote a root (`cluster_id`). Access keys that were
//! copied to a second cluster make it look like the holder; this field gives it away at its first commit.
//! The binding is per epoch: a rebuilt cluster with the old keys gets in by `lock` to the current holder,
//! which mints an epoch and binds anew. Roots of OpenSearch and of older versions name nobody: those
//! neither bind nor are refused, for a cluster may drop the field while an old snapshot is left.

use std::fmt;
use std::sync::Arc;

use crate::identity::{Cluster, Epoch, Repository};

/// What a committed root does to the binding of its epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Binding {
    /// The root names nobody, or the one who is bound.
    Keep,
    /// The first root of this epoch that names a cluster.
    Bind(Arc<str>),
}

/// A second cluster uses the holder's keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherCluster {
    pub repository: Repository,
    pub holder: Cluster,
    pub epoch: Epoch,
    pub bound: Arc<str>,
    pub named: Arc<str>,
}

/// `bound` is the `cluster_id` bound in this epoch, `named` the one in the root that is to be committed.
pub fn identity_binding(
    repository: &Repository,
    holder: &Cluster,
    epoch: Epoch,
    bound: Option<&str>,
    named: Option<&str>,
) -> Result<Binding, OtherCluster> {
    match (bound, named) {
        (_, None) => Ok(Binding::Keep),
        (None, Some(named)) => Ok(Binding::Bind(named.into())),
        (Some(bound), Some(named)) if bound == named => Ok(Binding::Keep),
        (Some(bound), Some(named)) => Err(OtherCluster {
            repository: repository.clone(),
            holder: holder.clone(),
            epoch,
            bound: bound.into(),
            named: named.into(),
        }),
    }
}

impl std::error::Error for OtherCluster {}

impl fmt::Display for OtherCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            repository,
            holder,
            epoch,
            bound,
            named,
        } = self;
        write!(
            f,
            "Repository '{repository}' is written by the cluster with id '{bound}' as '{holder}' (epoch \
             {epoch}); this commit comes from the cluster with id '{named}' using the same access keys. \
             Give the second cluster keys of its own (snapgate keys create), or, if it replaces the \
             first, ask an operator for: snapgate lock {repository} --writer {holder}"
        )
    }
}
