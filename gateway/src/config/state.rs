//! Where the state database is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use policies::identity::{Repository, StoreName};

use super::stores::StorePlan;
use super::{Error, secret, settings};
use crate::mirror::plan::MirrorsPlan;
use crate::state::postgres::{self, SettingsError, without_password};

#[derive(Debug)]
pub enum StatePlan {
    /// A file of this gateway's own.
    Sqlite(PathBuf),
    /// Shared by several gateways.
    Postgres(Box<postgres::Settings>),
}

pub fn check(
    file: &Path,
    folder: &Path,
    state: settings::State,
    stores: &BTreeMap<StoreName, StorePlan>,
    mirrors: &BTreeMap<Repository, MirrorsPlan>,
) -> Result<StatePlan, Error> {
    let url = state.url;
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            for (key, given) in [
                ("password_file", &state.password_file),
                ("ca_file", &state.ca_file),
            ] {
                if given.is_some() {
                    return Err(Error::new(
                        file,
                        format!("state.{key}"),
                        "says nothing to SQLite",
                        "leave it out, or name a PostgreSQL server in state.url",
                    ));
                }
            }
            Ok(StatePlan::Sqlite(
                folder.join(path.trim_start_matches("//")),
            ))
        }
        Some(("postgres" | "postgresql", _)) => {
            targets_can_fence(file, stores, mirrors)?;
            let password = state
                .password_file
                .map(|path| secret::read(file, "state.password_file", &folder.join(path)))
                .transpose()?;
            let ca = state.ca_file.map(|path| folder.join(path));
            let settings = postgres::Settings::new(
                &url,
                password.as_ref().map(secret::Secret::expose),
                ca.as_deref(),
            )
            .map_err(|e| refused(file, &e))?;
            Ok(StatePlan::Postgres(Box::new(settings)))
        }
        Some(_) | None => Err(Error::new(
            file,
            "state.url",
            format!("'{}' is not known", without_password(&url)),
            "use sqlite:FILE or postgres://USER@HOST/DATABASE",
        )),
    }
}

/// Of several gateways one applies to a mirror, and whoever applied before it is fenced in the mirror's store.
fn targets_can_fence(
    file: &Path,
    stores: &BTreeMap<StoreName, StorePlan>,
    mirrors: &BTreeMap<Repository, MirrorsPlan>,
) -> Result<(), Error> {
    for (name, plan) in mirrors {
        for (n, target) in plan.targets.iter().enumerate() {
            let single = stores.get(&target.store).is_some_and(|s| s.single_gateway);
            if single {
                return Err(Error::new(
                    file,
                    format!("repositories.{name}.mirrors[{n}].store"),
                    format!(
                        "'{}' is a store for one gateway (single_gateway), and several may share this state database",
                        target.store
                    ),
                    "mirror to a store with create-only writes, or use sqlite:FILE with one gateway",
                ));
            }
        }
    }
    Ok(())
}

fn refused(file: &Path, e: &SettingsError) -> Error {
    match e {
        SettingsError::Url { .. } => Error::new(
            file,
            "state.url",
            e.to_string(),
            "write one such as postgres://snapgate@db.example/snapgate?sslmode=require",
        ),
        SettingsError::Tls(_) => Error::new(
            file,
            "state.ca_file",
            e.to_string(),
            "name a PEM file with the authority that signed the server's certificate",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::StoreUrl;
    use crate::mirror::plan::TargetPlan;

    fn checked(url: &str) -> Result<StatePlan, Error> {
        let state = settings::State {
            url: url.into(),
            ..settings::State::default()
        };
        check_alone(state)
    }

    fn check_alone(state: settings::State) -> Result<StatePlan, Error> {
        let (file, folder) = (Path::new("snapgate.toml"), Path::new("/etc"));
        check(file, folder, state, &BTreeMap::new(), &BTreeMap::new())
    }

    fn mirrored(single_gateway: bool) -> Result<StatePlan, Error> {
        let state = settings::State {
            url: "postgres://snapgate@db.example/snapgate".into(),
            ..settings::State::default()
        };
        let us = StoreName::new("us");
        let plan = MirrorsPlan {
            targets: vec![TargetPlan::onto(us.clone())],
            journal_limit: 1000,
        };
        let mirrors = BTreeMap::from([(Repository::new("prod"), plan)]);
        let store = StorePlan {
            url: StoreUrl::Directory("/mirror".into()),
            single_gateway,
            look_every: Duration::from_secs(5),
            sweep: None,
        };
        let stores = BTreeMap::from([(us, store)]);
        let (file, folder) = (Path::new("snapgate.toml"), Path::new("/etc"));
        check(file, folder, state, &stores, &mirrors)
    }

    #[test]
    fn gateways_that_share_a_database_mirror_to_stores_that_can_fence() {
        assert!(matches!(mirrored(false), Ok(StatePlan::Postgres(_))));
        let refused = mirrored(true).unwrap_err().to_string();
        for part in ["repositories.prod.mirrors[0].store", "single_gateway"] {
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn a_state_is_a_file_or_a_postgresql_database() {
        let file = checked("sqlite:snapgate.db").unwrap();
        assert!(matches!(file, StatePlan::Sqlite(path) if path == Path::new("/etc/snapgate.db")));
        for url in [
            "postgres://snapgate@db.example/snapgate",
            "postgresql://a@b:5433/c?sslmode=require",
        ] {
            assert!(matches!(checked(url), Ok(StatePlan::Postgres(_))), "{url}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_read_is_refused_without_its_password() {
        for url in [
            "mysql://root:s3cret@db/x",
            "postgres://snap:s3cret@db/x?sslmode=sometimes",
        ] {
            let refused = checked(url).unwrap_err().to_string();
            assert!(refused.contains("state.url"), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn what_says_nothing_to_sqlite_is_refused() {
        let state = settings::State {
            ca_file: Some("ca.pem".into()),
            ..settings::State::default()
        };
        let refused = check_alone(state).unwrap_err();
        assert!(refused.to_string().contains("state.ca_file"), "{refused}");
    }
}
