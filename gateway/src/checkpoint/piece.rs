//! One piece: a header, one JSON document a line, and the hash of all of that. Text, so that a person can read it.

use policies::format::closure::NewestSnapshot;
use policies::identity::Repository;
use policies::key::ObjectKey;
use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::state::{Details, Millis, Object, Pin, RestorePoint, SnapshotName};

/// The form that this version writes.
const VERSION: u32 = 1;
/// Bytes and rows after which a piece is closed.
const FULL_BYTES: usize = 2 << 20;
const FULL_ROWS: usize = 5_000;
/// A larger one is not ours: one row more than a full piece, with all that its details may hold.
pub(super) const LARGEST: u64 = 16 << 20;

/// An object as the checkpoint keeps it: the catalog's row without what only its own store can say.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    pub key: String,
    pub size: u64,
    pub etag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    pub modified_ms: Millis,
    pub sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// A snapshot's two names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
    pub uuid: String,
}

/// A committed root, as [`RestorePoint`] says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    pub generation: u64,
    pub sequence: u64,
    pub committed_ms: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    pub epoch: u64,
    pub snapshots: Vec<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    pub complete: bool,
}

/// Which snapshot of a root ended last, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    pub name: String,
    pub ended_ms: Millis,
}

/// A pinned snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    pub snapshot: Named,
    pub pinned_ms: Millis,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Later rows of a chain replace earlier ones.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    Put(Stored),
    Delete(String),
    Point(Point),
    /// All of them.
    Pins(Vec<Pinned>),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub snapgate_checkpoint: u32,
    pub repository: String,
    pub series: String,
    pub piece: u32,
    /// Hash of the piece before; of a series that goes on from another one: of the last piece it goes on from.
    pub previous: Option<String>,
    /// Name of the last piece of another series, of which this one is the continuation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Journal sequence that the chain describes with this piece applied.
    pub sequence: u64,
    /// The base is whole with this piece; before that the chain describes nothing.
    pub whole: bool,
    /// Rows since the base was whole, for deciding when to write a new one.
    pub changes: u64,
    /// Rows of the base.
    pub base: u64,
    /// Pieces of the chain, with this one.
    pub length: u64,
}

impl Header {
    pub fn new(repository: &Repository, series: String, piece: u32) -> Self {
        Self {
            snapgate_checkpoint: VERSION,
            repository: repository.as_str().to_owned(),
            series,
            piece,
            previous: None,
            after: None,
            sequence: 0,
            whole: false,
            changes: 0,
            base: 0,
            length: 1,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    blake3: String,
}

/// Rows on their way into a piece.
#[derive(Debug, Default)]
pub(super) struct Rows {
    text: Vec<u8>,
    pub count: usize,
}

impl Rows {
    pub fn push(&mut self, row: &Row) {
        serde_json::to_writer(&mut self.text, row).expect("text and numbers are always JSON");
        self.text.push(b'\n');
        self.count += 1;
    }

    pub fn is_full(&self) -> bool {
        self.text.len() >= FULL_BYTES || self.count >= FULL_ROWS
    }
}

/// The piece's bytes, and their hash for its successor.
pub(super) fn encode(header: &Header, rows: &Rows) -> (Vec<u8>, String) {
    let mut bytes = serde_json::to_vec(header).expect("text and numbers are always JSON");
    bytes.push(b'\n');
    bytes.extend_from_slice(&rows.text);
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let seal = Seal {
        blake3: hash.clone(),
    };
    serde_json::to_writer(&mut bytes, &seal).expect("text is always JSON");
    bytes.push(b'\n');
    (bytes, hash)
}

/// Header, rows' text and hash of a piece whose seal is right.
pub(super) fn open<'a>(name: &str, bytes: &'a [u8]) -> Result<(Header, &'a [u8], String)> {
    let damaged = |why: &str| Error::Damaged(format!("'{name}' {why}").into());
    let body = bytes
        .strip_suffix(b"\n")
        .ok_or_else(|| damaged("is cut short"))?;
    let end = memchr::memrchr(b'\n', body).ok_or_else(|| damaged("is cut short"))?;
    let (sealed, seal) = (&bytes[..=end], &body[end + 1..]);
    let seal: Seal = serde_json::from_slice(seal).map_err(|_| damaged("has no seal"))?;
    if blake3::hash(sealed).to_hex().as_str() != seal.blake3 {
        return Err(damaged("is not what was written"));
    }
    let first = memchr::memchr(b'\n', sealed).ok_or_else(|| damaged("has no header"))?;
    let header: Header = serde_json::from_slice(&sealed[..first]).map_err(|e| {
        Error::Damaged(format!("'{name}' has a header that this version cannot read ({e})").into())
    })?;
    if header.snapgate_checkpoint != VERSION {
        return Err(damaged("was written by a newer version"));
    }
    Ok((header, &sealed[first + 1..], seal.blake3))
}

pub(super) fn rows(name: &str, text: &[u8]) -> Result<Vec<Row>> {
    text.split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line).map_err(|e| {
                Error::Damaged(format!("'{name}' has a row that cannot be read ({e})").into())
            })
        })
        .collect()
}

impl From<&Object> for Stored {
    fn from(object: &Object) -> Self {
        Self {
            key: object.key.as_str().to_owned(),
            size: object.size,
            etag: object.etag.to_string(),
            hash: object.hash.map(hex::encode),
            modified_ms: object.modified_ms,
            sequence: object.sequence,
            details: object.details.as_deref().cloned(),
        }
    }
}

impl Stored {
    pub fn object_key(&self) -> Result<ObjectKey> {
        ObjectKey::parse(&self.key).map_err(|e| Error::Damaged(e.to_string().into()))
    }

    pub fn content_hash(&self) -> Result<Option<[u8; 32]>> {
        let Some(text) = &self.hash else {
            return Ok(None);
        };
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|e| Error::Damaged(e.to_string().into()))?;
        Ok(Some(hash))
    }
}

impl From<&SnapshotName> for Named {
    fn from(snapshot: &SnapshotName) -> Self {
        Self {
            name: snapshot.name.to_string(),
            uuid: snapshot.uuid.to_string(),
        }
    }
}

impl From<Named> for SnapshotName {
    fn from(named: Named) -> Self {
        Self {
            name: named.name.into(),
            uuid: named.uuid.into(),
        }
    }
}

impl From<&NewestSnapshot> for Newest {
    fn from(newest: &NewestSnapshot) -> Self {
        Self {
            name: newest.name.to_string(),
            ended_ms: newest.ended_ms,
        }
    }
}

impl From<Newest> for NewestSnapshot {
    fn from(newest: Newest) -> Self {
        Self {
            name: newest.name.into(),
            ended_ms: newest.ended_ms,
        }
    }
}

impl From<&RestorePoint> for Point {
    fn from(point: &RestorePoint) -> Self {
        Self {
            generation: point.root.generation,
            sequence: point.sequence,
            committed_ms: point.committed_ms,
            cluster: point.root.cluster.as_ref().map(ToString::to_string),
            epoch: point.root.epoch.0,
            snapshots: point.root.snapshots.iter().map(Named::from).collect(),
            newest: point.root.newest.as_ref().map(Newest::from),
            complete: point.root.complete,
        }
    }
}

impl From<&Pin> for Pinned {
    fn from(pin: &Pin) -> Self {
        Self {
            snapshot: Named::from(&pin.snapshot),
            pinned_ms: pin.pinned_ms,
            by: pin.by.clone(),
            reason: pin.reason.clone(),
        }
    }
}

impl From<Pinned> for Pin {
    fn from(pinned: Pinned) -> Self {
        Self {
            snapshot: pinned.snapshot.into(),
            pinned_ms: pinned.pinned_ms,
            by: pinned.by,
            reason: pinned.reason,
        }
    }
}
