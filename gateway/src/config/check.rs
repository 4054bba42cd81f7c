//! From what was written to what will be built. Every check that needs no running part is made here,
//! section by section as in the file: `listeners`, `clusters`, `stores`, `repositories`, `mirrors`, `state`; then what holds between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use policies::identity::{Cluster, Repository, StoreName};
use policies::key::Layout;

use super::listeners::{AdminPlan, S3Plan, admin, s3};
use super::settings::Settings;
use super::state::StatePlan;
use super::stores::StorePlan;
use super::{Error, Secret, Source, clusters, mirrors, repositories, state, stores};
use crate::mirror::plan::MirrorsPlan;
use crate::repository::plan::RepositoryPlan;

/// Everything the program builds from.
#[derive(Debug)]
pub struct Plan {
    pub source: Source,
    pub s3: S3Plan,
    pub admin: AdminPlan,
    pub state: StatePlan,
    /// Access key id -> whose it is, and its secret.
    pub keys: HashMap<String, (Cluster, Secret)>,
    pub stores: BTreeMap<StoreName, StorePlan>,
    pub repositories: BTreeMap<Repository, RepositoryPlan>,
    pub mirrors: BTreeMap<Repository, MirrorsPlan>,
    pub layout: Layout,
}

/// `file` is named in errors; relative paths in it are relative to its folder.
pub fn check(file: &Path, settings: Settings) -> Result<Plan, Error> {
    let folder = file
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let keys = clusters::keys(file, &folder, &settings.clusters)?;
    let clusters: BTreeSet<Cluster> = settings
        .clusters
        .keys()
        .map(|name| Cluster::new(name.as_str()))
        .collect();
    let stores = stores::stores(file, &folder, settings.stores)?;
    let mut mirrored = BTreeMap::new();
    for (name, repository) in &settings.repositories {
        let at = format!("repositories.{name}");
        let plan = mirrors::check(file, &at, repository, &stores)?;
        mirrored.insert(Repository::new(name.as_str()), plan);
    }
    let planned = repositories::repositories(file, settings.repositories, &clusters, &stores)?;
    repositories::apart_in_their_stores(file, &planned)?;
    mirrors::apart(file, &planned, &mirrored)?;
    let places = planned.iter().map(|(name, plan)| plan.place(name));
    let layout = Layout::new(places).map_err(|e| {
        Error::new(
            file,
            "repositories",
            e.to_string(),
            "give each repository a base_path of its own",
        )
    })?;
    Ok(Plan {
        source: Source::File(file.to_path_buf()),
        s3: s3(file, &folder, settings.s3)?,
        admin: admin(file, &folder, settings.admin)?,
        state: state::check(file, &folder, settings.state, &stores, &mirrored)?,
        keys,
        stores,
        repositories: planned,
        mirrors: mirrored,
        layout,
    })
}
