//! Access keys: whose they are and what they sign with. They change while we run (SIGHUP).

use std::collections::HashMap;
use std::fmt;

use parking_lot::RwLock;
use policies::identity::Cluster;

use crate::config::Secret;

type Table = HashMap<String, (Cluster, Secret)>;

/// The table in force. Asked for every request, replaced as a whole.
pub struct Keys(RwLock<Table>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.read().len())
    }
}

impl Keys {
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self(RwLock::new(table))
    }

    pub fn replace(&self, table: Table) {
        *self.0.write() = table;
    }

    #[must_use]
    pub fn cluster(&self, access_key: &str) -> Option<Cluster> {
        self.0.read().get(access_key).map(|(cluster, _)| cluster.clone())
    }

    #[must_use]
    pub fn secret(&self, access_key: &str) -> Option<Secret> {
        self.0.read().get(access_key).map(|(_, secret)| secret.clone())
    }
}
