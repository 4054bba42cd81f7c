//! The clusters and their keys.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use policies::identity::Cluster;

use super::name::plain_name;
use super::{Error, Secret, secret, settings};

pub(super) fn keys(
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
