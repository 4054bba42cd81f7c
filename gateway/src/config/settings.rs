//! The configuration file, field by field, as a user writes it. Unknown keys are errors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::frontend::limits::Limits;
use crate::tls::Tls;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub s3: S3,
    pub admin: Admin,
    pub state: State,
    pub clusters: BTreeMap<String, Cluster>,
    pub stores: BTreeMap<String, Store>,
    pub repositories: BTreeMap<String, Repository>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    pub listen: String,
    pub domain: Option<String>,
    pub region: Option<String>,
    pub allow_unsigned_payload: Option<bool>,
    pub tls: Option<Tls>,
    pub limits: Limits,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9000".into(),
            domain: None,
            region: None,
            allow_unsigned_payload: None,
            tls: None,
            limits: Limits::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    pub listen: String,
    pub token_file: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub tls: Option<Tls>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9001".into(),
            token_file: None,
            client_ca: None,
            tls: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    pub url: String,
    /// The password of the user in `url`, for PostgreSQL.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the PostgreSQL server's certificate.
    pub ca_file: Option<PathBuf>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            url: "sqlite:snapgate.db".into(),
            password_file: None,
            ca_file: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    #[serde(default)]
    pub keys: Vec<KeyPair>,
}

/// An access key; the secret stands in a file of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    pub id: String,
    pub secret_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub credentials: Option<KeyPair>,
    /// `https://bucket.host/key` instead of `https://host/bucket/key`.
    #[serde(default)]
    pub virtual_hosted: bool,
    /// PEM file of the authority that signed the store's certificate.
    pub ca_file: Option<PathBuf>,
    /// For a store without create-only writes: no other gateway works on it.
    #[serde(default)]
    pub single_gateway: bool,
    /// How often it is looked whether another state database works on the store.
    pub other_gateways_every: Option<String>,
    /// How often the store is compared with the catalog, or `off`.
    pub sweep_every: Option<String>,
    /// Objects per second of that comparison.
    pub sweep_rate: Option<u32>,
    /// Link-local endpoints (169.254.0.0/16) are refused unless this is set.
    #[serde(default)]
    pub allow_link_local: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    pub bucket: String,
    #[serde(default)]
    pub base_path: String,
    pub store: String,
    #[serde(default)]
    pub writers: Vec<String>,
    #[serde(default = "everyone")]
    pub readers: Vec<String>,
    #[serde(default)]
    pub lock: LockMode,
    pub delete_retention: Option<String>,
    /// When uploads in parts that nobody completes are ended, or `never`.
    pub uploads_end_after: Option<String>,
    #[serde(default)]
    pub mirrors: Vec<Mirror>,
    /// Entries of the journal that are kept for mirrors that are behind.
    pub journal_limit: Option<u64>,
}

fn everyone() -> Vec<String> {
    vec!["*".into()]
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    #[default]
    Auto,
    Manual,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    pub store: String,
    #[serde(default)]
    pub mode: MirrorMode,
    pub bandwidth: Option<String>,
    /// What the scrub may read on each side; `0` turns it off.
    pub scrub: Option<String>,
    pub alarms: Option<MirrorAlarms>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorMode {
    #[default]
    Async,
    Barrier,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorAlarms {
    pub lag: Option<String>,
    pub operations: Option<u64>,
    pub failed_percent: Option<f64>,
}
