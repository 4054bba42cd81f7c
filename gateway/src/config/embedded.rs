//! The embedded default: what runs when there is no configuration file.
//!
//! Everything lies below one directory; keys and the admin token are made once and found again. It never
//! listens beyond this machine.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use policies::identity::{Bucket, Cluster, Repository, StoreName};
use policies::key::Layout;
use policies::lock::Mode;
use serde::{Deserialize, Serialize};

use super::listeners::{AdminPlan, S3Plan};
use super::repositories::{DEFAULT_RETENTION, DEFAULT_UPLOADS_END_AFTER};
use super::state::StatePlan;
use super::{Error, Plan, Secret, Source, StorePlan, StoreUrl, secret};
use crate::frontend::limits::Limits;
use crate::mirror::plan::{DEFAULT_JOURNAL_LIMIT, MirrorsPlan, TargetPlan};
use crate::repository::incarnation;
use crate::repository::plan::{Readers, RepositoryPlan};
use crate::repository::sweep::Pace;

pub const BUCKET: &str = "snapshots";
pub const REPOSITORY: &str = "default";
pub const WRITERS: [&str; 2] = ["cluster-a", "cluster-b"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyPair {
    id: String,
    secret: String,
}

/// Makes or finds the directory with its keys and token, and plans the gateway on it.
pub fn plan(data: &Path) -> Result<Plan, Error> {
    let data = &absolute(data)?;
    let (pairs, token_file) = made_or_found(data)?;
    let mirror = StoreName::new("mirror");
    let repository = Repository::new(REPOSITORY);
    let planned = repository_plan();
    Ok(Plan {
        source: Source::Embedded(data.clone()),
        s3: S3Plan {
            listen: loopback(9000),
            domain: None,
            region: None,
            allow_unsigned_payload: None,
            tls: None,
            limits: Limits::default(),
        },
        admin: AdminPlan {
            listen: loopback(9001),
            token: secret::read(data, "admin-token", &token_file)?,
            token_file,
            client_ca: None,
            tls: None,
        },
        state: StatePlan::Sqlite(data.join("snapgate.db")),
        keys: pairs
            .into_iter()
            .map(|(cluster, pair)| (pair.id, (Cluster::new(cluster), Secret::new(pair.secret))))
            .collect::<HashMap<_, _>>(),
        stores: BTreeMap::from([
            (planned.store.clone(), directory(data, "local")),
            (mirror.clone(), directory(data, "mirror")),
        ]),
        layout: Layout::new([planned.place(&repository)]).map_err(|e| {
            Error::new(
                data,
                "repositories",
                e.to_string(),
                "report this as a defect",
            )
        })?,
        mirrors: BTreeMap::from([(
            repository.clone(),
            MirrorsPlan {
                targets: vec![TargetPlan::onto(mirror)],
                journal_limit: DEFAULT_JOURNAL_LIMIT,
            },
        )]),
        repositories: BTreeMap::from([(repository, planned)]),
    })
}

/// In the store `local`, for whoever has one of the keys.
fn repository_plan() -> RepositoryPlan {
    RepositoryPlan {
        bucket: Bucket::new(BUCKET),
        base_path: String::new(),
        store: StoreName::new("local"),
        writers: WRITERS.into_iter().map(Cluster::new).collect(),
        readers: Readers::Everyone,
        mode: Mode::Auto,
        retention: DEFAULT_RETENTION,
        uploads_end_after: Some(DEFAULT_UPLOADS_END_AFTER),
    }
}

/// The directory with its key pairs, by cluster, and the file of the admin token.
fn made_or_found(data: &Path) -> Result<(BTreeMap<String, KeyPair>, PathBuf), Error> {
    let made = |e: &std::io::Error| {
        Error::new(
            data,
            "SNAPGATE_DATA",
            format!("cannot be made or used ({e})"),
            "name a directory that this user may write",
        )
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|e| made(&e))?;
    let pairs = credentials(data)?;
    let token_file = data.join("admin-token");
    if !token_file.exists() {
        secret::write_new(&token_file, &format!("{}\n", crate::random::text(40)))
            .map_err(|e| made(&e))?;
    }
    Ok((pairs, token_file))
}

/// The embedded default is for this machine alone: its keys were made by a program, not by a person.
pub fn only_loopback(plan: &Plan) -> Result<(), Error> {
    for (flag, listen) in [
        ("--s3-listen", plan.s3.listen),
        ("--admin-listen", plan.admin.listen),
    ] {
        if !listen.ip().is_loopback() {
            return Err(Error::new(
                Path::new("embedded default"),
                flag,
                format!("{listen} is not a loopback address"),
                "write a snapgate.toml to serve other machines",
            ));
        }
    }
    Ok(())
}

/// How a cluster registers the repository, ready to paste.
#[must_use]
pub fn registration(plan: &Plan, s3: SocketAddr) -> String {
    let mut keys: Vec<_> = plan
        .keys
        .iter()
        .map(|(id, (cluster, secret))| (cluster.clone(), id, secret))
        .collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    let Some((cluster, id, secret)) = keys.first() else {
        return String::new();
    };
    format!(
        r#"
Register repository '{REPOSITORY}' from Elasticsearch or OpenSearch as {cluster} (all keys: credentials.toml):

  # elasticsearch.yml / opensearch.yml
  s3.client.default.endpoint: "http://{s3}"
  s3.client.default.path_style_access: true
  s3.client.default.region: us-east-1        # OpenSearch needs a region; any in small letters will do

  # keystore: elasticsearch-keystore / opensearch-keystore, then restart or POST /_nodes/reload_secure_settings
  printf %s '{id}' | bin/elasticsearch-keystore add --stdin s3.client.default.access_key
  printf %s '{secret}' | bin/elasticsearch-keystore add --stdin s3.client.default.secret_key

  # register
  curl -X PUT localhost:9200/_snapshot/{REPOSITORY} -H 'Content-Type: application/json' -d '
  {{"type": "s3", "settings": {{"bucket": "{BUCKET}"}}}}'
"#,
        secret = secret.expose(),
    )
}

fn directory(data: &Path, name: &str) -> StorePlan {
    StorePlan {
        url: StoreUrl::Directory(data.join("stores").join(name)),
        single_gateway: false,
        look_every: incarnation::INTERVAL,
        sweep: Some(Pace::default()),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn absolute(data: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(data).map_err(|e| {
        Error::new(
            data,
            "SNAPGATE_DATA",
            format!("is not a path ({e})"),
            "name a directory",
        )
    })
}

fn credentials(data: &Path) -> Result<BTreeMap<String, KeyPair>, Error> {
    let file = data.join("credentials.toml");
    if !file.exists() {
        let made: BTreeMap<&str, KeyPair> = WRITERS
            .into_iter()
            .map(|cluster| {
                (
                    cluster,
                    KeyPair {
                        id: format!("SG{}", crate::random::text(18).to_ascii_uppercase()),
                        secret: crate::random::text(40),
                    },
                )
            })
            .collect();
        let text = toml::to_string(&made).expect("two strings per table are always TOML");
        secret::write_new(&file, &text).map_err(|e| {
            Error::new(
                &file,
                "file",
                format!("cannot be written ({e})"),
                "make the directory writable",
            )
        })?;
    }
    secret::owned_by_us_alone(&file, "file", &file)?;
    let text = std::fs::read_to_string(&file).map_err(|e| {
        Error::new(
            &file,
            "file",
            format!("cannot be read ({e})"),
            "restore it, or delete it to make new keys",
        )
    })?;
    toml::from_str(&text).map_err(|e| {
        Error::new(
            &file,
            "syntax",
            e.message(),
            "restore it, or delete it to make new keys",
        )
    })
}
