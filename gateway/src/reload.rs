//! What changes without a restart: the clusters' keys, the listeners' certificates, the mirrors' limits.
//!
//! SIGHUP reads the configuration anew and takes all of this over, or, if anything of it is wrong, nothing.
//! Whatever else the file says waits for the next start.

use std::sync::Arc;

use crate::appliers::Appliers;
use crate::config::{self, Lookup, Plan};
use crate::keys::Keys;
use crate::state::{AuditEntry, State};
use crate::telemetry::clock;
use crate::tls::{self, Shown};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What each listener shows its clients; none = plain HTTP.
#[derive(Clone)]
pub struct Certificates {
    pub s3: Option<Shown>,
    pub admin: Option<Shown>,
}

impl Certificates {
    pub fn open(plan: &Plan) -> Result<Self, tls::Error> {
        let s3 = plan.s3.tls.as_ref().map(|pair| tls::server(pair, None));
        let admin = &plan.admin;
        let client_ca = admin.client_ca.as_deref();
        let admin = admin.tls.as_ref().map(|pair| tls::server(pair, client_ca));
        Ok(Self {
            s3: s3.transpose()?.map(Shown::new),
            admin: admin.transpose()?.map(Shown::new),
        })
    }

    /// A listener does not change between plain HTTP and TLS while it runs.
    fn replace(&self, new: &Self) {
        for (now, new) in [(&self.s3, &new.s3), (&self.admin, &new.admin)] {
            match (now, new) {
                (Some(now), Some(new)) => now.replace(new.current()),
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => {
                    tracing::warn!("a listener begins or ends to speak TLS at the next start");
                }
            }
        }
    }
}

pub struct Reload {
    pub lookup: Lookup,
    pub keys: Arc<Keys>,
    pub certificates: Certificates,
    pub appliers: Arc<Appliers>,
    pub state: Arc<dyn State>,
}

impl Reload {
    /// An error changes nothing.
    pub async fn take(&self) -> Result<(), Failure> {
        let plan = config::load(&self.lookup)?;
        let certificates = Certificates::open(&plan)?;
        self.state.append_audit(audited()).await?;
        self.keys.replace(plan.keys);
        self.certificates.replace(&certificates);
        self.appliers.reload(&plan.mirrors);
        Ok(())
    }
}

pub const WHAT: &str = "the clusters' keys, the certificates and the mirrors' limits";

fn audited() -> AuditEntry {
    AuditEntry {
        at_ms: clock::now_ms(),
        principal: "operator".into(),
        action: "reload".into(),
        repository: None,
        epoch: None,
        detail: serde_json::json!({ "what": WHAT }),
    }
}

#[cfg(test)]
mod tests;
