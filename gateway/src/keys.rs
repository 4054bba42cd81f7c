//! The clusters' access keys, as they are now: SIGHUP replaces them.

use std::collections::HashMap;
use std::fmt;

use parking_lot::RwLock;
use policies::identity::Cluster;
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::frontend::Credentials;

pub struct Keys(RwLock<HashMap<String, (Cluster, Secret)>>);

impl Keys {
    #[must_use]
    pub fn new(keys: HashMap<String, (Cluster, Secret)>) -> Self {
        Self(RwLock::new(keys))
    }

    pub fn replace(&self, keys: HashMap<String, (Cluster, Secret)>) {
        *self.0.write() = keys;
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.0.read().len()).finish()
    }
}

impl Credentials for Keys {
    fn find(&self, access_key: &str) -> Option<(Cluster, Zeroizing<String>)> {
        let keys = self.0.read();
        let (cluster, secret) = keys.get(access_key)?;
        Some((cluster.clone(), Zeroizing::new(secret.expose().to_owned())))
    }
}
