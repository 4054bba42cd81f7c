//! Where the members of a repository lie.
//!
//! Decides: member -> key. Invariant: all keys come from here, so that what the guard asks the catalog for and what a
//! client names are the same text. Index metadata always lies below the base path; only shard directories move
//! (OpenSearch 2.17+ `shard_path_type`, read back from 2.19, 3.1 and 3.8 with and without a base path).

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::Deserialize;

use crate::key::{MAX_KEY, ObjectKey, Shard, ShardGeneration};

/// Longest base path in bytes, as configurations may have it.
pub const MAX_BASE_PATH: usize = 640;
/// Longest name of a snapshot, index or blob in bytes: a file name, as the clusters themselves demand.
pub const MAX_NAME: usize = 255;

/// `IndexId.shard_path_type` of OpenSearch; absent elsewhere, which means the same as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathType {
    /// 0: `R/indices/<id>/<shard>/`
    #[default]
    Fixed,
    /// 1: `<hash>/R/indices/<id>/<shard>/`, outside the base path.
    HashedPrefix,
    /// 2: `R/<hash>/indices/<id>/<shard>/`
    HashedInfix,
    /// One that does not exist yet; its directories are known only from a [`ShardPaths`] file.
    Other(i64),
}

impl From<i64> for PathType {
    fn from(code: i64) -> Self {
        match code {
            0 => Self::Fixed,
            1 => Self::HashedPrefix,
            2 => Self::HashedInfix,
            other => Self::Other(other),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the base path is longer than {MAX_BASE_PATH} bytes or contains NUL")]
pub struct InvalidBasePath;

/// A repository's base path, and the shard directories it was told of.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// With a slash at its end, or empty.
    base: Arc<str>,
    learnt: HashMap<Arc<str>, Arc<[Box<str>]>>,
}

impl Layout {
    /// Slashes at either end of `base_path` mean nothing.
    pub fn new(base_path: &str) -> Result<Self, InvalidBasePath> {
        let base = base_path.trim_matches('/');
        if base.len() > MAX_BASE_PATH || base.contains('\0') {
            return Err(InvalidBasePath);
        }
        let base = if base.is_empty() {
            String::new()
        } else {
            format!("{base}/")
        };
        Ok(Self {
            base: base.into(),
            learnt: HashMap::new(),
        })
    }

    /// What a shard-path file says about one index overrules the computed directories: it alone names the algorithm.
    pub fn learn(&mut self, paths: &ShardPaths) {
        let directories: Arc<[Box<str>]> = paths
            .paths
            .iter()
            .map(|path| path.as_str().into())
            .collect();
        self.learnt
            .insert(paths.index_id.as_str().into(), directories);
    }

    #[must_use]
    pub fn root(&self, generation: u64) -> ObjectKey {
        self.key(format_args!("index-{generation}"))
    }

    #[must_use]
    pub fn pointer(&self) -> ObjectKey {
        self.key("index.latest")
    }

    #[must_use]
    pub fn snapshot_info(&self, uuid: &str) -> ObjectKey {
        self.key(format_args!("snap-{uuid}.dat"))
    }

    #[must_use]
    pub fn global_metadata(&self, uuid: &str) -> ObjectKey {
        self.key(format_args!("meta-{uuid}.dat"))
    }

    #[must_use]
    pub fn index_metadata(&self, index: &str, id: &str) -> ObjectKey {
        self.key(format_args!("indices/{index}/meta-{id}.dat"))
    }

    /// The directory of a shard from the bucket's root, with a slash at its end.
    #[must_use]
    pub fn shard_directory(&self, shard: &Shard, path_type: PathType) -> String {
        let Shard { index, number } = shard;
        if path_type != PathType::Fixed
            && let Some(learnt) = self
                .learnt
                .get(index)
                .and_then(|all| all.get(*number as usize))
        {
            return learnt.to_string();
        }
        let base = &self.base;
        match path_type {
            PathType::Fixed | PathType::Other(_) => format!("{base}indices/{index}/{number}/"),
            PathType::HashedPrefix => {
                format!("{}/{base}indices/{index}/{number}/", hash_prefix(shard))
            }
            PathType::HashedInfix => {
                format!("{base}{}/indices/{index}/{number}/", hash_prefix(shard))
            }
        }
    }

    fn key(&self, relative: impl Display) -> ObjectKey {
        key(format_args!("{}{relative}", self.base))
    }
}

/// A key made of a base path, names and numbers that were checked when they were read. One that is too long for any object to
/// have it is cut: nothing lies there, and that is the answer.
fn key(text: impl Display) -> ObjectKey {
    let mut text = text.to_string();
    text.truncate(text.floor_char_boundary(MAX_KEY));
    ObjectKey::parse(&text).expect("it has a name, is short enough, and its pieces are free of NUL")
}

#[must_use]
pub fn shard_index(directory: &str, generation: &ShardGeneration) -> ObjectKey {
    match generation {
        ShardGeneration::Number(number) => key(format_args!("{directory}index-{number}")),
        ShardGeneration::Uuid(uuid) => key(format_args!("{directory}index-{uuid}")),
    }
}

#[must_use]
pub fn shard_snapshot(directory: &str, uuid: &str, shallow: bool) -> ObjectKey {
    let shallow = if shallow { "shallow-" } else { "" };
    key(format_args!("{directory}{shallow}snap-{uuid}.dat"))
}

/// The object of a blob or of one of its parts.
#[must_use]
pub fn data(directory: &str, blob: impl Display, part: Option<u64>) -> ObjectKey {
    match part {
        Some(part) => key(format_args!("{directory}{blob}.part{part}")),
        None => key(format_args!("{directory}{blob}")),
    }
}

/// The first directory of a hashed shard path, algorithm 1 `FNV_1A_COMPOSITE_1`: FNV-1a of 64 bits over shard number and
/// index id; its first six bits as one character of base64url, the next fourteen as binary digits.
#[must_use]
pub fn hash_prefix(shard: &Shard) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let text = format!("{}{}", shard.number, shard.index);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let first = char::from(ALPHABET[(hash >> 58) as usize]);
    format!("{first}{:014b}", hash >> 44 & 0x3FFF)
}

/// A file `snapshot_shard_paths/*` of OpenSearch 2.17+: where the shards of one index lie.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ShardPaths {
    #[serde(rename = "indexId")]
    pub index_id: String,
    /// One per shard, from the bucket's root, each ending in a slash.
    pub paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a list of shard paths")]
pub struct InvalidShardPaths;

impl ShardPaths {
    pub fn parse(json: &[u8]) -> Result<Self, InvalidShardPaths> {
        let file: Self = serde_json::from_slice(json).map_err(|_| InvalidShardPaths)?;
        let bounded = |path: &String| {
            path.len() <= 700 && path.ends_with('/') && path.len() > 1 && !path.contains('\0')
        };
        if !is_name(&file.index_id) || !file.paths.iter().all(bounded) {
            return Err(InvalidShardPaths);
        }
        Ok(file)
    }
}

/// Whether `text` can be one segment of a key.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(number: u32) -> Shard {
        Shard {
            index: "N1fG6vZdTDSvM4VsaJvhFA".into(),
            number,
        }
    }

    #[test]
    fn the_hash_of_a_shard_path_is_that_of_opensearch() {
        assert_eq!(hash_prefix(&shard(0)), "W11010011000010");
        assert_eq!(hash_prefix(&shard(1)), "S11101101001001");
    }

    #[test]
    fn each_path_type_has_its_directory() {
        let layout = Layout::new("/base/path/").unwrap();
        let directory = |path_type| layout.shard_directory(&shard(1), path_type);
        assert_eq!(
            directory(PathType::Fixed),
            "base/path/indices/N1fG6vZdTDSvM4VsaJvhFA/1/"
        );
        assert_eq!(
            directory(PathType::HashedPrefix),
            "S11101101001001/base/path/indices/N1fG6vZdTDSvM4VsaJvhFA/1/"
        );
        assert_eq!(
            directory(PathType::HashedInfix),
            "base/path/S11101101001001/indices/N1fG6vZdTDSvM4VsaJvhFA/1/"
        );
        assert_eq!(Layout::new("").unwrap().root(7).as_str(), "index-7");
    }

    #[test]
    fn a_shard_path_file_overrules_the_computed_directory() {
        let json =
            br#"{"indexId":"N1fG6vZdTDSvM4VsaJvhFA","indexName":"docs","paths":["x/0/","x/1/"]}"#;
        let mut layout = Layout::new("base").unwrap();
        layout.learn(&ShardPaths::parse(json).unwrap());
        assert_eq!(
            layout.shard_directory(&shard(1), PathType::Other(9)),
            "x/1/"
        );
        assert_eq!(
            layout.shard_directory(&shard(1), PathType::Fixed),
            "base/indices/N1fG6vZdTDSvM4VsaJvhFA/1/"
        );
        assert!(ShardPaths::parse(br#"{"indexId":"a","paths":["x"]}"#).is_err());
    }

    #[test]
    fn a_key_too_long_to_exist_is_cut() {
        let layout = Layout::new(&"b".repeat(MAX_BASE_PATH)).unwrap();
        let shard = Shard {
            index: "é".repeat(MAX_NAME / 2).into(),
            number: u32::MAX,
        };
        let directory = layout.shard_directory(&shard, PathType::HashedPrefix);
        let key = data(&directory, "d".repeat(MAX_NAME), Some(999_999));
        assert_eq!(key.as_str().len(), MAX_KEY);
        assert!(Layout::new(&"b".repeat(MAX_BASE_PATH + 1)).is_err());
    }
}
