//! From what was written to what will be built. Every check that needs no running part is here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policies::identity::{Bucket, Cluster, Repository, StoreName};
use policies::key::{Configured, Layout};
use policies::lock::Mode;

use super::pace::{self, pace};
use super::settings::{self, LockMode, Settings};
use super::state::StatePlan;
use super::{Error, Secret, Source, secret, units};
use crate::frontend::is_region;
use crate::frontend::limits::Limits;
use crate::mirror::plan::MirrorsPlan;
use crate::repository::plan::{Readers, RepositoryPlan};
use crate::repository::sweep::Pace;
use crate::stores::s3;
use crate::tls::Tls;

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

#[derive(Debug)]
pub struct S3Plan {
    pub listen: SocketAddr,
    pub domain: Option<String>,
    pub region: Option<String>,
    /// None: only on a loopback address.
    pub allow_unsigned_payload: Option<bool>,
    pub tls: Option<Tls>,
    pub limits: Limits,
}

#[derive(Debug)]
pub struct AdminPlan {
    pub listen: SocketAddr,
    pub token: Secret,
    pub token_file: PathBuf,
    pub client_ca: Option<PathBuf>,
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone)]
pub struct StorePlan {
    pub url: StoreUrl,
    pub single_gateway: bool,
    /// How often it is looked whether another state database works on it.
    pub look_every: Duration,
    /// None = it is not compared with the catalog.
    pub sweep: Option<Pace>,
}

#[derive(Debug, Clone)]
pub enum StoreUrl {
    Directory(PathBuf),
    S3(Box<s3::Settings>),
}

/// Deleted objects are kept this long unless the repository says otherwise.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 86_400);
/// A snapshot's file is never uploaded for so long.
pub const DEFAULT_UPLOADS_END_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// `file` is named in errors; relative paths in it are relative to its folder.
pub fn check(file: &Path, settings: Settings) -> Result<Plan, Error> {
    let folder = file
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let keys = keys(file, &folder, &settings.clusters)?;
    let clusters: BTreeSet<Cluster> = settings
        .clusters
        .keys()
        .map(|name| Cluster::new(name.as_str()))
        .collect();
    let stores = stores(file, &folder, settings.stores)?;
    let mut mirrors = BTreeMap::new();
    for (name, repository) in &settings.repositories {
        let at = format!("repositories.{name}");
        let plan = super::mirrors::check(file, &at, repository, &stores)?;
        mirrors.insert(Repository::new(name.as_str()), plan);
    }
    let repositories = repositories(file, settings.repositories, &clusters, &stores)?;
    apart_in_their_stores(file, &repositories)?;
    super::mirrors::apart(file, &repositories, &mirrors)?;
    let layout = Layout::new(repositories.iter().map(|(name, r)| Configured {
        repository: name.clone(),
        bucket: r.bucket.clone(),
        base_path: r.base_path.clone(),
    }))
    .map_err(|e| {
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
        state: super::state::check(file, &folder, settings.state, &stores, &mirrors)?,
        keys,
        stores,
        repositories,
        mirrors,
        layout,
    })
}

pub fn address(file: &Path, key: &str, text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| {
        Error::new(
            file,
            key,
            format!("'{text}' is not an address and port"),
            "write one such as 127.0.0.1:9000 or [::1]:9000",
        )
    })
}

fn s3(file: &Path, folder: &Path, s3: settings::S3) -> Result<S3Plan, Error> {
    if let Some(domain) = &s3.domain {
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !domain.split('.').all(label) {
            return Err(Error::new(
                file,
                "s3.domain",
                format!("'{domain}' is not a domain name"),
                "write one such as s3.backup.example",
            ));
        }
    }
    if let Some(region) = s3.region.as_deref().filter(|name| !is_region(name)) {
        return Err(Error::new(
            file,
            "s3.region",
            format!("'{region}' has characters other than a-z, 0-9 and '-'"),
            "write one such as eu-west-1",
        ));
    }
    Ok(S3Plan {
        listen: address(file, "s3.listen", &s3.listen)?,
        domain: s3.domain.map(|d| d.to_ascii_lowercase()),
        region: s3.region,
        allow_unsigned_payload: s3.allow_unsigned_payload,
        tls: s3.tls.map(|t| tls(file, folder, "s3.tls", t)).transpose()?,
        limits: s3.limits,
    })
}

fn tls(file: &Path, folder: &Path, key: &str, tls: Tls) -> Result<Tls, Error> {
    let tls = Tls {
        cert: folder.join(tls.cert),
        key: folder.join(tls.key),
    };
    if let Err(e) = std::fs::metadata(&tls.cert) {
        return Err(Error::new(
            file,
            format!("{key}.cert"),
            format!("'{}' cannot be read ({e})", tls.cert.display()),
            "name a PEM file with the certificate chain",
        ));
    }
    secret::owned_by_us_alone(file, &format!("{key}.key"), &tls.key)?;
    Ok(tls)
}

fn admin(file: &Path, folder: &Path, admin: settings::Admin) -> Result<AdminPlan, Error> {
    let Some(token_file) = admin.token_file else {
        return Err(Error::new(
            file,
            "admin.token_file",
            "is missing: there is no default token",
            "name a file with a random token of your own (mode 0600)",
        ));
    };
    let token_file = folder.join(token_file);
    let token = secret::read(file, "admin.token_file", &token_file)?;
    if token.expose().len() < 16 {
        return Err(Error::new(
            file,
            "admin.token_file",
            "the token is shorter than 16 characters",
            "write a longer random one",
        ));
    }
    let tls = admin
        .tls
        .map(|t| tls(file, folder, "admin.tls", t))
        .transpose()?;
    if admin.client_ca.is_some() && tls.is_none() {
        return Err(Error::new(
            file,
            "admin.client_ca",
            "needs admin.tls",
            "add tls = { cert = \"…\", key = \"…\" }",
        ));
    }
    Ok(AdminPlan {
        listen: address(file, "admin.listen", &admin.listen)?,
        token,
        token_file,
        client_ca: admin.client_ca.map(|p| folder.join(p)),
        tls,
    })
}

fn keys(
    file: &Path,
    folder: &Path,
    clusters: &BTreeMap<String, settings::Cluster>,
) -> Result<HashMap<String, (Cluster, Secret)>, Error> {
    let mut keys = HashMap::new();
    for (name, cluster) in clusters {
        let at = format!("clusters.{name}");
        plain_name(file, &at, name)?;
        for (n, pair) in cluster.keys.iter().enumerate() {
            let at = format!("{at}.keys[{n}]");
            if pair.id.is_empty()
                || !pair
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b'/' && b != b',')
            {
                return Err(Error::new(
                    file,
                    format!("{at}.id"),
                    "is empty or has characters that a signature cannot carry",
                    "use letters and digits",
                ));
            }
            let secret = secret::read(
                file,
                &format!("{at}.secret_file"),
                &folder.join(&pair.secret_file),
            )?;
            if keys
                .insert(pair.id.clone(), (Cluster::new(name.as_str()), secret))
                .is_some()
            {
                return Err(Error::new(
                    file,
                    format!("{at}.id"),
                    format!("'{}' is used twice", pair.id),
                    "each key belongs to one cluster",
                ));
            }
        }
    }
    Ok(keys)
}

fn stores(
    file: &Path,
    folder: &Path,
    stores: BTreeMap<String, settings::Store>,
) -> Result<BTreeMap<StoreName, StorePlan>, Error> {
    let mut planned = BTreeMap::new();
    for (name, store) in stores {
        let at = format!("stores.{name}");
        plain_name(file, &at, &name)?;
        let single_gateway = store.single_gateway;
        let look_every = pace::look_every(file, &at, store.other_gateways_every.as_deref())?;
        let sweep = pace(file, &at, store.sweep_every.as_deref(), store.sweep_rate)?;
        let url = store_url(file, folder, &at, store)?;
        planned.insert(
            StoreName::new(name),
            StorePlan {
                url,
                single_gateway,
                look_every,
                sweep,
            },
        );
    }
    Ok(planned)
}

fn store_url(
    file: &Path,
    folder: &Path,
    at: &str,
    store: settings::Store,
) -> Result<StoreUrl, Error> {
    let key = format!("{at}.url");
    let url = store.url.clone();
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Error::new(
            file,
            key,
            format!("'{url}' is not a URL"),
            "use file:///path or s3://bucket/prefix",
        ));
    };
    match scheme {
        "file" if rest.is_empty() => Err(Error::new(
            file,
            key,
            "names no directory",
            "use file:///path",
        )),
        "file" => Ok(StoreUrl::Directory(folder.join(rest))),
        "s3" => s3_settings(file, folder, at, store).map(|s| StoreUrl::S3(Box::new(s))),
        "az" | "gs" | "hdfs" => Err(Error::new(
            file,
            key,
            format!("{scheme}:// stores are not built yet"),
            "use file:///path or s3://bucket/prefix",
        )),
        other => Err(Error::new(
            file,
            key,
            format!("'{other}' is not a known kind of store"),
            "use file:///path or s3://bucket/prefix",
        )),
    }
}

/// The store's own settings; whatever else is wrong with them it says itself when it is opened.
fn s3_settings(
    file: &Path,
    folder: &Path,
    at: &str,
    store: settings::Store,
) -> Result<s3::Settings, Error> {
    let credentials = match store.credentials {
        Some(pair) => {
            let secret_file = folder.join(pair.secret_file);
            secret::owned_by_us_alone(
                file,
                &format!("{at}.credentials.secret_file"),
                &secret_file,
            )?;
            Some(s3::CredentialSettings {
                id: pair.id,
                secret_file,
            })
        }
        None => None,
    };
    let settings = s3::Settings {
        url: store.url,
        endpoint: store.endpoint,
        region: store.region.unwrap_or_else(|| "us-east-1".into()),
        credentials,
        ca_file: store.ca_file.map(|p| folder.join(p)),
        virtual_hosted: store.virtual_hosted,
        allow_link_local: store.allow_link_local,
        ..s3::Settings::default()
    };
    s3::S3Store::open(&settings).map_err(|e| Error::new(file, at, e.to_string(), "correct it"))?;
    Ok(settings)
}

fn repositories(
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
    let base_path = repository.base_path.trim_matches('/').to_owned();
    if base_path
        .split('/')
        .any(|s| s.is_empty() && !base_path.is_empty() || s == "." || s == "..")
        || base_path.starts_with(".snapgate")
    {
        return Err(Error::new(
            file,
            format!("{at}.base_path"),
            format!("'{base_path}' has an empty, '.' or '..' segment or a reserved name"),
            "choose another path",
        ));
    }
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
        readers: if repository.readers.iter().any(|r| r == "*") {
            Readers::Everyone
        } else {
            Readers::These(members(
                file,
                &format!("{at}.readers"),
                &repository.readers,
                clusters,
            )?)
        },
        mode: match repository.lock {
            LockMode::Auto => Mode::Auto,
            LockMode::Manual => Mode::Manual,
        },
        retention,
        uploads_end_after,
    })
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
fn apart_in_their_stores(
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

fn plain_name(file: &Path, key: &str, name: &str) -> Result<(), Error> {
    let fits = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::new(
        file,
        key,
        "the name has characters other than letters, digits, '-', '_' and '.'",
        "choose another name",
    ))
}

fn bucket_name(file: &Path, at: &str, name: &str) -> Result<(), Error> {
    let fits = (3..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err();
    if fits {
        return Ok(());
    }
    Err(Error::new(
        file,
        format!("{at}.bucket"),
        format!("'{name}' is not a bucket name"),
        "use 3 to 63 lower-case letters, digits, '-' and '.'",
    ))
}
