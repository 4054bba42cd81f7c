//! The epoch's anchor: an object in the store that says that an epoch was minted, and for whom.
//!
//! Decides: content of an anchor, and whether the anchors found form one chain. Invariants: an anchor is
//! created create-only before its epoch is held, so an epoch is minted once even if the state database is
//! lost, rolled back or cloned; each anchor carries its predecessor's SHA-256, so none can be changed or
//! taken out of the middle unnoticed. It carries no time: no clock takes part in safety.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identity::{Cluster, Epoch, Handover, Repository};
use crate::key::RESERVED;

/// The form that this version writes.
pub const VERSION: u32 = 1;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Anchor {
    pub repository: Repository,
    pub epoch: Epoch,
    /// None: the epoch was taken by a recovery, which fences but lets nobody write.
    pub holder: Option<Cluster>,
    pub handover: Handover,
    /// Hex SHA-256 of the previous anchor's bytes; None for the first one in this store.
    pub previous: Option<String>,
}

/// An anchor as it lies in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BrokenChain {
    #[error("'{name}' is not an anchor: {why}")]
    NotAnAnchor { name: String, why: String },
    #[error("'{name}' says that it is epoch {epoch} of repository '{repository}'")]
    Misplaced {
        name: String,
        repository: Repository,
        epoch: Epoch,
    },
    #[error("'{name}' does not follow from the anchor before it")]
    Unlinked { name: String },
}

/// `.snapgate/anchors/<repository>/<epoch as 20 digits>`: names sort as epochs do.
#[must_use]
pub fn name(repository: &Repository, epoch: Epoch) -> String {
    format!("{}{:020}", prefix(repository), epoch.0)
}

/// Where a repository's anchors lie in its store.
#[must_use]
pub fn prefix(repository: &Repository) -> String {
    format!("{RESERVED}anchors/{repository}/")
}

/// Hex SHA-256 of an anchor's bytes, for its successor's `previous`.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a String takes every write");
            hex
        })
}

#[must_use]
pub fn encode(anchor: &Anchor) -> Vec<u8> {
    let written = Written {
        version: VERSION,
        repository: anchor.repository.as_str().to_owned(),
        epoch: anchor.epoch.0,
        holder: anchor.holder.as_ref().map(|h| h.as_str().to_owned()),
        handover: anchor.handover.as_str().to_owned(),
        previous: anchor.previous.clone(),
    };
    let mut bytes = serde_json::to_vec(&written).expect("text and numbers are always JSON");
    bytes.push(b'\n');
    bytes
}

pub fn decode(name: &str, bytes: &[u8]) -> Result<Anchor, BrokenChain> {
    let not_an_anchor = |why: String| BrokenChain::NotAnAnchor {
        name: name.to_owned(),
        why,
    };
    let written: Written =
        serde_json::from_slice(bytes).map_err(|e| not_an_anchor(e.to_string()))?;
    if written.version != VERSION {
        return Err(not_an_anchor(format!(
            "version {} is newer than this gateway knows",
            written.version
        )));
    }
    Ok(Anchor {
        repository: Repository::new(written.repository),
        epoch: Epoch(written.epoch),
        holder: written.holder.map(Cluster::new),
        handover: Handover::new(written.handover),
        previous: written.previous,
    })
}

/// Checks all anchors of a repository, in the order of their names; returns the highest.
/// A recovery's anchor begins the chain anew: what was broken before it, an operator has looked at.
pub fn verify_chain<'a>(
    repository: &Repository,
    stored: impl IntoIterator<Item = Stored<'a>>,
) -> Result<Option<Anchor>, BrokenChain> {
    let mut last: Option<(Anchor, String)> = None;
    let mut broken = None;
    for Stored { name, bytes } in stored {
        match link(repository, name, bytes, last.as_ref()) {
            Ok(anchor) => {
                if anchor.holder.is_none() {
                    broken = None;
                }
                last = Some((anchor, hash(bytes)));
            }
            Err(e) => broken = broken.or(Some(e)),
        }
    }
    match broken {
        Some(broken) => Err(broken),
        None => Ok(last.map(|(anchor, _)| anchor)),
    }
}

fn link(
    repository: &Repository,
    name: &str,
    bytes: &[u8],
    before: Option<&(Anchor, String)>,
) -> Result<Anchor, BrokenChain> {
    let anchor = decode(name, bytes)?;
    if anchor.repository != *repository || self::name(repository, anchor.epoch) != name {
        return Err(BrokenChain::Misplaced {
            name: name.to_owned(),
            repository: anchor.repository,
            epoch: anchor.epoch,
        });
    }
    let follows = match before {
        None => anchor.previous.is_none(),
        Some((before, hash)) => {
            anchor.previous.as_ref() == Some(hash) && anchor.epoch > before.epoch
        }
    };
    if !follows && anchor.holder.is_some() {
        return Err(BrokenChain::Unlinked {
            name: name.to_owned(),
        });
    }
    Ok(anchor)
}

/// The durable form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    repository: String,
    epoch: u64,
    holder: Option<String>,
    handover: String,
    previous: Option<String>,
}
