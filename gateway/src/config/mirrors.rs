//! The `mirrors` of a repository: which stores they may name.
//!
//! Names in a store are the clients' keys, on a target as on the source. So two repositories may meet in a store,
//! as primary or as mirror, only where their keys cannot be the same; that also refuses loops.

use std::collections::BTreeMap;
use std::path::Path;

use policies::identity::{Repository, StoreName};
use policies::mirror_order::Mode;

use super::stores::StorePlan;
use super::{Error, settings, units};
use crate::mirror::plan::{Alarms, DEFAULT_JOURNAL_LIMIT, DEFAULT_SCRUB, MirrorsPlan, TargetPlan};
use crate::repository::plan::RepositoryPlan;

/// A mirror must be able to fall behind by a snapshot of many shards.
const SHORTEST_JOURNAL: u64 = 1000;

pub fn check(
    file: &Path,
    at: &str,
    repository: &settings::Repository,
    stores: &BTreeMap<StoreName, StorePlan>,
) -> Result<MirrorsPlan, Error> {
    let mut targets: Vec<TargetPlan> = Vec::new();
    for (n, mirror) in repository.mirrors.iter().enumerate() {
        let at = format!("{at}.mirrors[{n}]");
        let target = target(file, &at, mirror)?;
        let name = &target.store;
        if !stores.contains_key(name) {
            return Err(Error::new(
                file,
                format!("{at}.store"),
                format!("there is no store '{name}'"),
                format!("add [stores.{name}]"),
            ));
        }
        if name.as_str() == repository.store {
            return Err(Error::new(
                file,
                format!("{at}.store"),
                format!("'{name}' is the store that is to be mirrored"),
                "name another store",
            ));
        }
        if targets.iter().any(|other| other.store == *name) {
            return Err(Error::new(
                file,
                format!("{at}.store"),
                format!("'{name}' is named twice"),
                "name each mirror once",
            ));
        }
        targets.push(target);
    }
    let journal_limit = repository.journal_limit.unwrap_or(DEFAULT_JOURNAL_LIMIT);
    if journal_limit < SHORTEST_JOURNAL {
        return Err(Error::new(
            file,
            format!("{at}.journal_limit"),
            format!("{journal_limit} entries are too few for a mirror to follow"),
            format!("write at least {SHORTEST_JOURNAL}"),
        ));
    }
    Ok(MirrorsPlan {
        targets,
        journal_limit,
    })
}

fn target(file: &Path, at: &str, mirror: &settings::Mirror) -> Result<TargetPlan, Error> {
    let rate = |key: &str, text: &Option<String>| {
        text.as_deref()
            .map(units::rate)
            .transpose()
            .map_err(|e| Error::new(file, format!("{at}.{key}"), e, "write one such as 200MB/s"))
    };
    let bandwidth = rate("bandwidth", &mirror.bandwidth)?;
    if bandwidth == Some(0) {
        return Err(Error::new(
            file,
            format!("{at}.bandwidth"),
            "is 0: nothing would ever be mirrored",
            "leave it out for no limit, or pause the mirror",
        ));
    }
    let defaults = Alarms::default();
    let alarms = match &mirror.alarms {
        None => defaults,
        Some(alarms) => Alarms {
            lag: match &alarms.lag {
                None => defaults.lag,
                Some(text) => units::duration(text).map_err(|e| {
                    Error::new(file, format!("{at}.alarms.lag"), e, "write one such as 30s")
                })?,
            },
            operations: alarms.operations.unwrap_or(defaults.operations),
            failed_percent: alarms.failed_percent.unwrap_or(defaults.failed_percent),
        },
    };
    Ok(TargetPlan {
        store: StoreName::new(mirror.store.as_str()),
        mode: match mirror.mode {
            settings::MirrorMode::Async => Mode::Async,
            settings::MirrorMode::Barrier => Mode::Barrier,
        },
        bandwidth,
        scrub: rate("scrub", &mirror.scrub)?.unwrap_or(DEFAULT_SCRUB),
        alarms,
    })
}

/// No two repositories keep the same names in one store, be it as primary or as mirror.
pub fn apart(
    file: &Path,
    repositories: &BTreeMap<Repository, RepositoryPlan>,
    mirrors: &BTreeMap<Repository, MirrorsPlan>,
) -> Result<(), Error> {
    for (name, plan) in repositories {
        for (n, target) in targets(mirrors, name).iter().enumerate() {
            for (other, occupant) in repositories.iter().filter(|(other, _)| *other != name) {
                // Of one bucket every key belongs to one repository.
                if occupant.bucket == plan.bucket || !overlap(&plan.base_path, &occupant.base_path)
                {
                    continue;
                }
                let primary = occupant.store == target.store;
                let mirrored = targets(mirrors, other)
                    .iter()
                    .any(|t| t.store == target.store);
                if primary || mirrored {
                    let role = if primary { "is kept" } else { "is mirrored" };
                    return Err(Error::new(
                        file,
                        format!("repositories.{name}.mirrors[{n}].store"),
                        format!(
                            "repository '{other}' of another bucket {role} in store '{}' under the same names",
                            target.store
                        ),
                        "give one of them another base_path, or mirror it to a store of its own",
                    ));
                }
            }
        }
    }
    Ok(())
}

fn targets<'a>(
    mirrors: &'a BTreeMap<Repository, MirrorsPlan>,
    repository: &Repository,
) -> &'a [TargetPlan] {
    mirrors.get(repository).map_or(&[], |plan| &plan.targets)
}

fn overlap(one: &str, other: &str) -> bool {
    let holds = |outer: &str, inner: &str| {
        outer.is_empty() || inner == outer || inner.starts_with(&format!("{outer}/"))
    };
    holds(one, other) || holds(other, one)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    /// Two stores, two repositories in buckets of their own; the texts are added to their sections.
    fn configured(first: &str, second: &str) -> Result<super::super::Plan, Error> {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&token)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"0123456789abcdef0123\n"))
            .unwrap();
        let text = format!(
            "[admin]\ntoken_file = 'token'\n\
             [stores.eu]\nurl = 'file:///srv/eu'\n[stores.us]\nurl = 'file:///srv/us'\n\
             [repositories.one]\nbucket = 'bucket-one'\nbase_path = 'p'\nstore = 'eu'\n{first}\n\
             [repositories.two]\nbucket = 'bucket-two'\nbase_path = 'q'\nstore = 'us'\n{second}\n"
        );
        let settings = toml::from_str(&text).unwrap();
        super::super::check::check(&folder.path().join("snapgate.toml"), settings)
    }

    fn refused(first: &str, second: &str) -> String {
        configured(first, second).unwrap_err().to_string()
    }

    #[test]
    fn two_sites_may_mirror_each_other() {
        let plan = configured(
            "mirrors = [{ store = 'us', mode = 'barrier', bandwidth = '200MB/s', alarms = { lag = '1m' } }]",
            "mirrors = [{ store = 'eu' }]",
        )
        .unwrap();
        let one = &plan.mirrors[&Repository::new("one")].targets[0];
        assert_eq!(one.mode, Mode::Barrier);
        assert_eq!(one.bandwidth, Some(200_000_000));
        assert_eq!(one.alarms.lag.as_secs(), 60);
        assert_eq!(one.alarms.operations, 1000);
        let two = &plan.mirrors[&Repository::new("two")].targets[0];
        assert_eq!((two.mode, two.bandwidth), (Mode::Async, None));
    }

    #[test]
    fn a_mirror_onto_its_own_store_or_names_of_another_is_refused() {
        let own = refused("mirrors = [{ store = 'eu' }]", "");
        assert!(own.contains("is the store that is to be mirrored"), "{own}");
        let unknown = refused("mirrors = [{ store = 'moon' }]", "");
        assert!(unknown.contains("there is no store 'moon'"), "{unknown}");
        let twice = refused("mirrors = [{ store = 'us' }, { store = 'us' }]", "");
        assert!(twice.contains("named twice"), "{twice}");
        let zero = refused("mirrors = [{ store = 'us', bandwidth = '0' }]", "");
        assert!(zero.contains("nothing would ever be mirrored"), "{zero}");
    }

    #[test]
    fn loops_and_overlapping_names_are_refused() {
        let same_names =
            "[repositories.three]\nbucket = 'bucket-three'\nbase_path = 'p/inner'\nstore = 'us'";
        let looped = refused(
            "mirrors = [{ store = 'us' }]",
            &format!("{same_names}\nmirrors = [{{ store = 'eu' }}]"),
        );
        assert!(looped.contains("under the same names"), "{looped}");
        let met = refused("mirrors = [{ store = 'us' }]", same_names);
        assert!(met.contains("is kept in store 'us'"), "{met}");
    }
}
