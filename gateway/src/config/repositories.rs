//! The repositories: whose they are, where they are, and how long what was deleted is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use policies::identity::{Bucket, Cluster, Repository, StoreName};
use policies::lock::Mode;

use super::name::{bucket_name, plain_name};
use super::settings::{self, LockMode};
use super::stores::StorePlan;
use super::{Error, units};
use crate::repository::plan::{Readers, RepositoryPlan};

/// Deleted objects are kept this long unless the repository says otherwise.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// A snapshot's file is never uploaded for so long.
pub const DEFAULT_UPLOADS_END_AFTER: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn repositories(
    file: &Path,
    repositories: BTreeMap<String, settings::Repository>,
    clusters: &BTreeSet<Cluster>,
    stores: &BTreeMap<StoreName, StorePlan>,
) -> Result<BTreeMap<Repository, RepositoryPlan>, Error> {
    let mut planned = BTreeMap::new();
    for (name, repository) in repositories {
        let at = format!("repositories.{name}");
        plain_name(file, &at, &name)?;
        let plan = self::repository(file, &at, repository, clusters, stores)?;
        planned.insert(Repository::new(name), plan);
    }
    Ok(planned)
}

fn repository(
    file: &Path,
    at: &str,
    repository: settings::Repository,
    clusters: &BTreeSet<Cluster>,
    stores: &BTreeMap<StoreName, StorePlan>,
) -> Result<RepositoryPlan, Error> {
    bucket_name(file, at, &repository.bucket)?;
    let store = StoreName::new(repository.store.as_str());
    if !stores.contains_key(&store) {
        return Err(Error::new(
            file,
            format!("{at}.store"),
            format!("there is no store '{store}'"),
            format!("add [stores.{store}]"),
        ));
    }
    let base_path = base_path(file, at, &repository.base_path)?;
    let duration = |key: &str, text: &str, remedy: &str| {
        units::duration(text).map_err(|e| Error::new(file, format!("{at}.{key}"), e, remedy))
    };
    let retention = match &repository.delete_retention {
        Some(text) => duration("delete_retention", text, "write one such as 7d")?,
        None => DEFAULT_RETENTION,
    };
    let uploads_end_after = match repository.uploads_end_after.as_deref() {
        Some("never") => None,
        Some(text) => Some(duration(
            "uploads_end_after",
            text,
            "write one such as 7d, or never",
        )?),
        None => Some(DEFAULT_UPLOADS_END_AFTER),
    };
    Ok(RepositoryPlan {
        bucket: Bucket::new(repository.bucket),
        base_path,
        store,
        writers: members(
            file,
            &format!("{at}.writers"),
            &repository.writers,
            clusters,
        )?,
        readers: readers(file, at, &repository.readers, clusters)?,
        mode: match repository.lock {
            LockMode::Auto => Mode::Auto,
            LockMode::Manual => Mode::Manual,
        },
        retention,
        uploads_end_after,
    })
}

/// As it is told to the gateway, without slashes around it.
fn base_path(file: &Path, at: &str, written: &str) -> Result<String, Error> {
    let path = written.trim_matches('/');
    let odd =
        |segment: &str| segment.is_empty() && !path.is_empty() || segment == "." || segment == "..";
    if path.split('/').any(odd) || path.starts_with(".snapgate") {
        return Err(Error::new(
            file,
            format!("{at}.base_path"),
            format!("'{path}' has an empty, '.' or '..' segment or a reserved name"),
            "choose another path",
        ));
    }
    Ok(path.to_owned())
}

fn readers(
    file: &Path,
    at: &str,
    names: &[String],
    clusters: &BTreeSet<Cluster>,
) -> Result<Readers, Error> {
    if names.iter().any(|name| name == "*") {
        return Ok(Readers::Everyone);
    }
    members(file, &format!("{at}.readers"), names, clusters).map(Readers::These)
}

fn members(
    file: &Path,
    key: &str,
    names: &[String],
    clusters: &BTreeSet<Cluster>,
) -> Result<BTreeSet<Cluster>, Error> {
    names
        .iter()
        .map(|name| {
            let cluster = Cluster::new(name.as_str());
            if clusters.contains(&cluster) {
                Ok(cluster)
            } else {
                Err(Error::new(
                    file,
                    key,
                    format!("there is no cluster '{name}'"),
                    format!("add [clusters.{name}]"),
                ))
            }
        })
        .collect()
}

/// Names in a store are the clients' keys without the bucket: two repositories of one store must not share any.
pub(super) fn apart_in_their_stores(
    file: &Path,
    repositories: &BTreeMap<Repository, RepositoryPlan>,
) -> Result<(), Error> {
    let mut seen: BTreeMap<(&StoreName, &str), (&Repository, &Bucket)> = BTreeMap::new();
    for (name, plan) in repositories {
        let place = (&plan.store, plan.base_path.as_str());
        for ((store, path), (other, bucket)) in &seen {
            let nested = |outer: &str, inner: &str| {
                outer.is_empty() || inner == outer || inner.starts_with(&format!("{outer}/"))
            };
            if *store == place.0
                && **bucket != plan.bucket
                && (nested(path, place.1) || nested(place.1, path))
            {
                return Err(Error::new(
                    file,
                    format!("repositories.{name}.base_path"),
                    format!(
                        "repository '{other}' of another bucket uses the same names in store '{store}'"
                    ),
                    "give one of them another base_path or a store of its own",
                ));
            }
        }
        seen.insert(place, (name, &plan.bucket));
    }
    Ok(())
}
