//! The part a key plays in its repository, told from its name alone.
//!
//! Invariant: a class is only given to a name that the clusters themselves could have written;
//! everything else is [`Class::Unknown`], which obeys the strictest way of writing. A name is never
//! split on `_` or `-`.

use std::sync::Arc;

/// One shard's directory: the index id and the shard number, wherever its path type puts it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Shard {
    pub index: Arc<str>,
    pub number: u32,
}

/// The part an object plays in its repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Class {
    /// `index-N`: the commit point.
    Root(u64),
    /// `index.latest`
    Pointer,
    /// `index`: the list of snapshots of 1.x and 2.x.
    LegacyList,
    /// `incompatible-snapshots`
    Incompatible,
    /// `snap-<uuid>.dat` at the root level.
    SnapshotInfo(Arc<str>),
    /// `meta-<uuid>.dat` at the root level.
    GlobalMetadata(Arc<str>),
    /// `snapshot-<name>` and `metadata-<name>` of 1.x.
    LegacySnapshot,
    /// `pending-*`: written, copied to its name and deleted by 2.x to 6.1.
    Pending,
    /// `tests-*`: registering and verifying.
    Registration,
    /// `temp-analysis-*`
    Analysis,
    /// `snapshot_shard_paths/*` and `snapshot_path_*` of OpenSearch.
    ShardPaths,
    /// `indices/<index>/meta-<id>.dat`
    IndexMetadata { index: Arc<str>, id: Arc<str> },
    /// A data blob or one of its parts; `blob` is the name without `.partN`.
    Data {
        shard: Shard,
        blob: Arc<str>,
        part: Option<u32>,
    },
    /// Shard level `index-<generation>`.
    ShardIndex {
        shard: Shard,
        generation: ShardGeneration,
    },
    /// Shard level `snap-<uuid>.dat`; `shallow-snap-<uuid>.dat` has its data in another repository.
    ShardSnapshot {
        shard: Shard,
        uuid: Arc<str>,
        shallow: bool,
    },
    /// Shard level `snapshot-<name>` of 1.x.
    LegacyShardSnapshot { shard: Shard },
    /// Of no known kind: plain S3 rules, kept and mirrored.
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShardGeneration {
    Number(u64),
    Uuid(Arc<str>),
}

/// How a class may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writing {
    /// The name is used once; its content never changes.
    Once,
    /// Bytes under the name may change, or the name commits something: written under an intent.
    Commit,
    /// Registration and analysis: plain S3 rules, not guarded, not mirrored.
    Free,
}

impl Class {
    #[must_use]
    pub fn writing(&self) -> Writing {
        match self {
            Self::Registration | Self::Analysis => Writing::Free,
            Self::Data { blob, .. } if !is_reused_name(blob) => Writing::Once,
            Self::ShardIndex {
                generation: ShardGeneration::Uuid(_),
                ..
            } => Writing::Once,
            Self::Root(_)
            | Self::Pointer
            | Self::LegacyList
            | Self::Incompatible
            | Self::SnapshotInfo(_)
            | Self::GlobalMetadata(_)
            | Self::LegacySnapshot
            | Self::Pending
            | Self::ShardPaths
            | Self::IndexMetadata { .. }
            | Self::Data { .. }
            | Self::ShardIndex { .. }
            | Self::ShardSnapshot { .. }
            | Self::LegacyShardSnapshot { .. }
            | Self::Unknown => Writing::Commit,
        }
    }

    /// The label of metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Root(_) => "root",
            Self::Pointer => "pointer",
            Self::LegacyList => "legacy_list",
            Self::Incompatible => "incompatible",
            Self::SnapshotInfo(_) => "snapshot_info",
            Self::GlobalMetadata(_) => "global_metadata",
            Self::LegacySnapshot => "legacy_snapshot",
            Self::Pending => "pending",
            Self::Registration => "registration",
            Self::Analysis => "analysis",
            Self::ShardPaths => "shard_paths",
            Self::IndexMetadata { .. } => "index_metadata",
            Self::Data { .. } => "data",
            Self::ShardIndex { .. } => "shard_index",
            Self::ShardSnapshot { .. } => "shard_snapshot",
            Self::LegacyShardSnapshot { .. } => "legacy_shard_snapshot",
            Self::Unknown => "unknown",
        }
    }
}

impl Class {
    /// The class of a key relative to its repository's base path.
    ///
    /// Source of the names: `BlobStoreRepository`, `BlobStoreFormat` and `S3BlobContainer` of
    /// Elasticsearch 1-9 and OpenSearch 1-3. What matches none of them exactly is [`Class::Unknown`].
    #[must_use]
    pub fn parse(relative: &str) -> Self {
        let place = split_hash(relative).map_or(relative, |(_, rest)| rest);
        let hashed = place.len() != relative.len();
        if let Some(below) = place.strip_prefix("indices/") {
            return below_indices(below, hashed);
        }
        if place.starts_with("tests-") {
            return Self::Registration;
        }
        if hashed {
            return Self::Unknown;
        }
        if relative.starts_with("temp-analysis-") {
            return Self::Analysis;
        }
        if relative
            .strip_prefix("snapshot_shard_paths/")
            .is_some_and(|name| !name.is_empty())
        {
            return Self::ShardPaths;
        }
        if relative.contains('/') {
            return Self::Unknown;
        }
        root_level(relative)
    }
}

/// Splits off the hash of OpenSearch's hashed shard paths, `FNV_1A_COMPOSITE_1`: one base64url
/// character and 14 binary digits.
pub(super) fn split_hash(path: &str) -> Option<(&str, &str)> {
    let (hash, rest) = path.split_once('/')?;
    is_hash(hash).then_some((hash, rest))
}

pub(super) fn is_hash(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    bytes.len() == 15
        && is_base64url(bytes[0])
        && bytes[1..].iter().all(|b| matches!(b, b'0' | b'1'))
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn root_level(name: &str) -> Class {
    match name {
        "index.latest" => return Class::Pointer,
        "index" => return Class::LegacyList,
        "incompatible-snapshots" => return Class::Incompatible,
        _ => {}
    }
    if let Some(generation) = name.strip_prefix("index-").and_then(decimal) {
        return Class::Root(generation);
    }
    if let Some(uuid) = between(name, "snap-", ".dat") {
        return Class::SnapshotInfo(uuid.into());
    }
    if let Some(uuid) = between(name, "meta-", ".dat") {
        return Class::GlobalMetadata(uuid.into());
    }
    if begins(name, "snapshot-") || begins(name, "metadata-") {
        return Class::LegacySnapshot;
    }
    if begins(name, "pending-") {
        return Class::Pending;
    }
    if begins(name, "snapshot_path_") {
        return Class::ShardPaths;
    }
    Class::Unknown
}

/// `path` is what follows `indices/`. Only shard directories move under a hash; index metadata stays.
fn below_indices(path: &str, hashed: bool) -> Class {
    let mut segments = path.split('/');
    let (Some(index), Some(second)) = (segments.next(), segments.next()) else {
        return Class::Unknown;
    };
    if index.is_empty() {
        return Class::Unknown;
    }
    match (segments.next(), segments.next()) {
        (None, _) if hashed => Class::Unknown,
        (None, _) => index_level(index, second),
        (Some(name), None) => match decimal(second).map(u32::try_from) {
            Some(Ok(number)) => shard_level(
                Shard {
                    index: index.into(),
                    number,
                },
                name,
            ),
            Some(Err(_)) | None => Class::Unknown,
        },
        (Some(_), Some(_)) => Class::Unknown,
    }
}

fn index_level(index: &str, name: &str) -> Class {
    if let Some(id) = between(name, "meta-", ".dat") {
        return Class::IndexMetadata {
            index: index.into(),
            id: id.into(),
        };
    }
    if begins(name, "snapshot-") {
        return Class::LegacySnapshot;
    }
    if begins(name, "pending-") {
        return Class::Pending;
    }
    Class::Unknown
}

fn shard_level(shard: Shard, name: &str) -> Class {
    if begins(name, "__") {
        let (blob, part) = split_part(name);
        return Class::Data {
            shard,
            blob: blob.into(),
            part,
        };
    }
    for (prefix, shallow) in [("snap-", false), ("shallow-snap-", true)] {
        if let Some(uuid) = between(name, prefix, ".dat") {
            return Class::ShardSnapshot {
                shard,
                uuid: uuid.into(),
                shallow,
            };
        }
    }
    if let Some(generation) = name.strip_prefix("index-").and_then(shard_generation) {
        return Class::ShardIndex { shard, generation };
    }
    if begins(name, "snapshot-") {
        return Class::LegacyShardSnapshot { shard };
    }
    if begins(name, "pending-") {
        return Class::Pending;
    }
    Class::Unknown
}

/// `__abc.part3` -> (`__abc`, 3). A UUID contains no dot, so the last `.part` is the only one.
fn split_part(name: &str) -> (&str, Option<u32>) {
    name.rsplit_once(".part")
        .filter(|(blob, _)| blob.len() > "__".len())
        .and_then(|(blob, part)| Some((blob, u32::try_from(decimal(part)?).ok()?)))
        .map_or((name, None), |(blob, part)| (blob, Some(part)))
}

/// A number is a generation of the legacy form; otherwise only a UUID of 20 or 22 characters names one.
fn shard_generation(text: &str) -> Option<ShardGeneration> {
    if let Some(number) = decimal(text) {
        return Some(ShardGeneration::Number(number));
    }
    let uuid = matches!(text.len(), 20 | 22)
        && text.bytes().all(is_base64url)
        && !text.bytes().all(|b| b.is_ascii_digit());
    uuid.then(|| ShardGeneration::Uuid(text.into()))
}

/// A decimal number as the clusters write it: no sign, no leading zero, within Java's `long`.
fn decimal(text: &str) -> Option<u64> {
    let canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse()
        .ok()
        .filter(|n| canonical && i64::try_from(*n).is_ok())
}

fn between<'a>(name: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?
        .strip_suffix(suffix)
        .filter(|middle| !middle.is_empty())
}

fn begins(name: &str, prefix: &str) -> bool {
    name.len() > prefix.len() && name.starts_with(prefix)
}

/// Names `__<base36 number>` of writers before UUID naming are used again with other content;
/// a UUID is 20 or 22 characters long, a number in base 36 of 64 bits at most 13.
fn is_reused_name(blob: &str) -> bool {
    blob.strip_prefix("__").is_some_and(|name| {
        name.len() <= 13
            && name
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    })
}
