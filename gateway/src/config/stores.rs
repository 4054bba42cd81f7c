//! Where bytes will rest: which kind of store each URL names, and what that kind needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policies::identity::StoreName;

use super::name::plain_name;
use super::pace::{self, pace};
use super::{Error, secret, settings};
use crate::repository::sweep::Pace;
use crate::stores::s3;

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

pub(super) fn stores(
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
