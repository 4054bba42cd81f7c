//! Records of the audit table, chained by their hashes.

use policies::identity::{Epoch, Repository};

use super::Millis;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    pub at_ms: Millis,
    /// Who: an operator's name or a cluster.
    pub principal: String,
    /// What: `lock`, `unlock`, `freeze`, …
    pub action: String,
    pub repository: Option<Repository>,
    pub epoch: Option<Epoch>,
    /// Why, and what followed, as JSON.
    pub detail: serde_json::Value,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRecord {
    pub sequence: u64,
    pub entry: AuditEntry,
    /// SHA-256 over the previous record's hash and this record, hex.
    pub hash: String,
    pub previous: String,
}
