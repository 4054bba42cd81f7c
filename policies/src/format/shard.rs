//! The two bodies of a shard directory: `snap-<uuid>.dat`, which restores read, and `index-<generation>`, from
//! which creates and deletes work.
//!
//! Decides: SMILE -> the blobs that must be there, with sizes and checksums. Invariant: what is kept is as
//! small as the closure needs (files sorted by name, nothing else of them), and the parts of all files are bounded
//! together, so that a file of absurd size in absurd pieces costs nothing.
//!
//! Source: `BlobStoreIndexShardSnapshot`, `BlobStoreIndexShardSnapshots` and their `FileInfo`; field names read back
//! from 2.4-9.5 and OpenSearch 1.3-3.8.

use std::sync::Arc;

use super::name::BlobName;
use super::paths::MAX_NAME;
use super::smile::{Reader, SmileError};

/// Objects that one body may list. A shard of 1 TB in pieces of 1 MB has as many.
pub const MAX_OBJECTS: u64 = 1_000_000;

/// Names that one list of a body may have: indices, failures or snapshots. A list costs memory for each name even where a name
/// costs one byte, and a body of 256 MiB can be sent as 256 KiB. The clusters' own limits are far below.
pub const MAX_LISTED: usize = 1_000_000;

/// A file of the index, as far as the store holds bytes of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    pub name: BlobName,
    /// Bytes of the whole file.
    pub length: u64,
    /// Bytes of every part but the last; [`File::WHOLE`] if it was never split.
    pub part_size: u64,
    /// CRC-32 that its Lucene footer must have; absent for files of Lucene before 4.8.
    pub checksum: Option<u32>,
}

impl File {
    pub const WHOLE: u64 = u64::MAX;

    /// Number of objects. A file that fits one part lies under its bare name, also with a part size.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.length.div_ceil(self.part_size).max(1)
    }

    /// Every object of the file: its part number, if it is split, and its size in bytes.
    pub fn objects(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let parts = self.parts();
        (0..parts).map(move |part| {
            let rest = self.length - part * if parts > 1 { self.part_size } else { 0 };
            ((parts > 1).then_some(part), rest.min(self.part_size))
        })
    }

    /// The size of one object, if the file has it.
    #[must_use]
    pub fn object_size(&self, part: Option<u32>) -> Option<u64> {
        let parts = self.parts();
        match part {
            None => (parts == 1).then_some(self.length),
            Some(part) => {
                let part = u64::from(part);
                (parts > 1 && part < parts)
                    .then(|| (self.length - part * self.part_size).min(self.part_size))
            }
        }
    }
}

/// `snap-<uuid>.dat` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// The snapshot's name (not its uuid).
    pub name: Arc<str>,
    /// Sorted. Files of which no object exists (`v__`, their bytes are in the metadata) are left out.
    pub files: Box<[File]>,
}

/// `index-<generation>` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    /// Sorted, without `v__`.
    pub files: Box<[File]>,
    /// Names of the snapshots it lists; some may not be in any root.
    pub snapshots: Vec<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Smile(#[from] SmileError),
    #[error("it has no '{0}'")]
    Lacks(&'static str),
    #[error("a file is named '{0}'")]
    Name(String),
    #[error("file '{0}' should be in the metadata itself, but is not")]
    Virtual(String),
    #[error("it lists more than {MAX_OBJECTS} objects")]
    TooManyObjects,
    #[error("it lists more than {MAX_LISTED} names in '{0}'")]
    TooManyNames(&'static str),
    #[error("it has {0} shards")]
    Shards(i64),
}

impl ShardSnapshot {
    pub fn parse(document: &[u8]) -> Result<Self, BodyError> {
        let mut name = None;
        let mut files = Files::default();
        let mut reader = Reader::new(document)?;
        reader.object(|reader, field| -> Result<(), BodyError> {
            match field {
                "name" => name = Some(reader.text()?.into()),
                "files" => reader.array(|reader| files.read(reader))?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        reader.end()?;
        Ok(Self {
            name: name.ok_or(BodyError::Lacks("name"))?,
            files: files.sorted(),
        })
    }
}

impl ShardIndex {
    pub fn parse(document: &[u8]) -> Result<Self, BodyError> {
        let mut snapshots = Vec::new();
        let mut files = Files::default();
        let mut listed = false;
        let mut reader = Reader::new(document)?;
        reader.object(|reader, field| -> Result<(), BodyError> {
            match field {
                "files" => {
                    listed = true;
                    reader.array(|reader| files.read(reader))?;
                }
                "snapshots" => reader.object(|reader, snapshot| -> Result<(), BodyError> {
                    one_more(snapshots.len(), "snapshots")?;
                    snapshots.push(snapshot.into());
                    Ok(reader.skip()?)
                })?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        reader.end()?;
        if !listed {
            return Err(BodyError::Lacks("files"));
        }
        Ok(Self {
            files: files.sorted(),
            snapshots,
        })
    }
}

/// Whether a list that has `there` names may get another one.
pub(super) fn one_more(there: usize, list: &'static str) -> Result<(), BodyError> {
    if there < MAX_LISTED {
        Ok(())
    } else {
        Err(BodyError::TooManyNames(list))
    }
}

#[derive(Default)]
struct Files {
    files: Vec<File>,
    objects: u64,
}

impl Files {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), BodyError> {
        let mut name = None;
        let mut length = None;
        let mut part_size = None;
        let mut checksum = None;
        let mut written_by = None;
        let mut kept_bytes = None;
        reader.object(|reader, field| -> Result<(), BodyError> {
            match field {
                "name" => name = Some(reader.text()?),
                "length" => length = Some(reader.unsigned()?),
                "part_size" => part_size = Some(reader.unsigned()?),
                "checksum" => checksum = reader.optional_text()?,
                "written_by" => written_by = reader.optional_text()?,
                "meta_hash" => kept_bytes = Some(reader.binary()?.len() as u64),
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        let name = name.ok_or(BodyError::Lacks("name"))?;
        let length = length.ok_or(BodyError::Lacks("length"))?;
        if name.starts_with("v__") {
            return match kept_bytes {
                Some(kept) if kept == length => Ok(()),
                Some(_) | None => Err(BodyError::Virtual(name.to_owned())),
            };
        }
        if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', '\0']) {
            return Err(BodyError::Name(name.to_owned()));
        }
        let file = File {
            name: BlobName::new(name),
            length,
            part_size: part_size
                .filter(|size| *size > 0 && *size < i64::MAX as u64)
                .unwrap_or(File::WHOLE),
            checksum: checksum
                .filter(|_| has_footer(written_by))
                .and_then(|text| u32::from_str_radix(text, 36).ok()),
        };
        self.objects = self.objects.saturating_add(file.parts());
        if self.objects > MAX_OBJECTS {
            return Err(BodyError::TooManyObjects);
        }
        self.files.push(file);
        Ok(())
    }

    fn sorted(mut self) -> Box<[File]> {
        self.files.sort_unstable();
        self.files.dedup();
        self.files.into_boxed_slice()
    }
}

/// Lucene writes the footer since 4.8; before, `checksum` was an Adler-32 or nothing.
fn has_footer(written_by: Option<&str>) -> bool {
    let Some(version) = written_by else {
        return true;
    };
    let mut numbers = version
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (4, 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::smile::{Flags, Value, encode};

    fn file(length: u64, part_size: u64) -> File {
        File {
            name: BlobName::new("__a"),
            length,
            part_size,
            checksum: None,
        }
    }

    #[test]
    fn parts_are_counted_as_the_clusters_do() {
        let objects = |length, part_size| file(length, part_size).objects().collect::<Vec<_>>();
        assert_eq!(objects(100, File::WHOLE), [(None, 100)]);
        assert_eq!(objects(100, 100), [(None, 100)], "one part has no suffix");
        assert_eq!(objects(100, 3000), [(None, 100)]);
        assert_eq!(objects(0, 10), [(None, 0)], "an empty file is an object");
        assert_eq!(objects(101, 100), [(Some(0), 100), (Some(1), 1)]);
        assert_eq!(
            objects(300, 100),
            [(Some(0), 100), (Some(1), 100), (Some(2), 100)]
        );
        assert_eq!(file(101, 100).object_size(Some(1)), Some(1));
        assert_eq!(file(101, 100).object_size(Some(2)), None);
        assert_eq!(
            file(101, 100).object_size(None),
            None,
            "the base name does not exist"
        );
        assert_eq!(file(100, 100).object_size(None), Some(100));
    }

    fn snapshot_of(files: Vec<Value>) -> Result<ShardSnapshot, BodyError> {
        let body = Value::Object(vec![
            ("name".into(), Value::text("nightly")),
            ("files".into(), Value::Array(files)),
            (
                "new in 12.0".into(),
                Value::Array(vec![Value::Object(vec![])]),
            ),
        ]);
        ShardSnapshot::parse(&encode(&body, Flags::CLUSTER))
    }

    fn info(fields: &[(&str, Value)]) -> Value {
        Value::Object(
            fields
                .iter()
                .map(|(name, value)| ((*name).into(), value.clone()))
                .collect(),
        )
    }

    #[test]
    fn a_virtual_file_has_no_object_and_must_carry_its_bytes() {
        let name = ("name", Value::text("v__a"));
        let kept = [
            name.clone(),
            ("length", Value::Int(2)),
            ("meta_hash", Value::Binary(vec![1, 2])),
        ];
        assert!(snapshot_of(vec![info(&kept)]).unwrap().files.is_empty());
        let lost = [
            name,
            ("length", Value::Int(3)),
            ("meta_hash", Value::Binary(vec![1, 2])),
        ];
        assert_eq!(
            snapshot_of(vec![info(&lost)]),
            Err(BodyError::Virtual("v__a".into()))
        );
    }

    #[test]
    fn checksums_are_base_36_without_leading_zeros_and_only_of_lucene_4_8_on() {
        let with = |version: &str| {
            let fields = [
                ("name", Value::text("__a")),
                ("length", Value::Int(1)),
                ("checksum", Value::text("134567")),
                ("written_by", Value::text(version)),
            ];
            snapshot_of(vec![info(&fields)]).unwrap().files[0].checksum
        };
        assert_eq!(
            with("5.5.4"),
            Some(u32::from_str_radix("134567", 36).unwrap())
        );
        assert_eq!(with("10.1.0"), with("4.8"));
        assert_eq!(with("4.7.2"), None);
    }

    #[test]
    fn a_file_in_absurdly_many_parts_is_refused() {
        let fields = [
            ("name", Value::text("__a")),
            ("length", Value::Int(i64::MAX)),
            ("part_size", Value::Int(1)),
        ];
        assert_eq!(
            snapshot_of(vec![info(&fields)]),
            Err(BodyError::TooManyObjects)
        );
    }
}
