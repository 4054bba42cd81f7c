//! The audit chain: each record is hashed over the one before it, the same in every state database.
//!
//! The hash covers a canonical encoding of all fields, each with its length, so that no two records share one.

use policies::identity::Repository;
use sha2::{Digest, Sha256};

use super::AuditEntry;

/// The last record's number and hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    pub sequence: u64,
    pub hash: [u8; 32],
}

/// Nothing was recorded yet.
pub const START: End = End {
    sequence: 0,
    hash: [0; 32],
};

/// A record as it is stored.
pub struct Stored {
    pub sequence: u64,
    pub entry: AuditEntry,
    pub detail: String,
    pub previous: [u8; 32],
    pub hash: [u8; 32],
}

impl End {
    /// The record that comes next.
    pub fn append(&self, entry: &AuditEntry) -> Stored {
        let sequence = self.sequence + 1;
        let detail = entry.detail.to_string();
        Stored {
            sequence,
            entry: entry.clone(),
            previous: self.hash,
            hash: digest(&self.hash, sequence, entry, &detail),
            detail,
        }
    }

    /// The end after this record; None = it is not the one that was appended here.
    pub fn follow(&self, row: &Stored) -> Option<Self> {
        let expected = self.sequence + 1;
        let whole = row.sequence == expected
            && row.previous == self.hash
            && row.hash == digest(&self.hash, expected, &row.entry, &row.detail);
        whole.then_some(Self {
            sequence: expected,
            hash: row.hash,
        })
    }
}

fn digest(previous: &[u8; 32], sequence: u64, entry: &AuditEntry, detail: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"snapgate audit 1\n");
    hasher.update(previous);
    hasher.update(sequence.to_be_bytes());
    hasher.update(entry.at_ms.to_be_bytes());
    let repository = entry.repository.as_ref().map(Repository::as_str);
    let epoch = entry.epoch.map(|e| e.0.to_string());
    let texts = [
        Some(entry.principal.as_str()),
        Some(&entry.action),
        repository,
        epoch.as_deref(),
        Some(detail),
    ];
    for text in texts {
        // An absent field is not an empty one.
        hasher.update([u8::from(text.is_some())]);
        let text = text.unwrap_or_default();
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}
