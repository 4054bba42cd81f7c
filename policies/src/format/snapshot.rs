//! What a snapshot says of itself (`snap-<uuid>.dat` at the root level) and what index metadata says that matters here.
//!
//! Decides: SMILE -> [`SnapshotInfo`], and index metadata -> its name and number of shards. Invariant: unknown fields are skipped,
//! as the clusters do; nothing is kept that no decision or command needs.
//!
//! Source: `SnapshotInfo` and `IndexMetadata` of both clusters; fields read back from 2.4-9.5 and OpenSearch 1.3-3.8.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::shard::{BodyError, one_more};
use super::smile::{Event, Reader};

/// Root-level `snap-<uuid>.dat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    pub name: Arc<str>,
    /// Equals the name if the body has none (2.x).
    pub uuid: Arc<str>,
    /// Of the server that made it: 7172999 is 7.17.29.
    pub version_id: Option<i64>,
    /// "SUCCESS", "PARTIAL", "FAILED", …
    pub state: Arc<str>,
    pub indices: Vec<Arc<str>>,
    /// (index NAME, shard): what is legally absent. `failures[].index_uuid` holds a name in OpenSearch, so it is not used.
    pub failures: BTreeSet<(Arc<str>, u32)>,
    /// Milliseconds since 1970.
    pub start_time: Option<i64>,
    pub end_time: Option<i64>,
    pub total_shards: Option<i64>,
    pub include_global_state: Option<bool>,
    /// OpenSearch: shard data lies in a remote store repository, shard directories may hold `shallow-snap-*` or nothing.
    pub shallow: bool,
}

/// 5.0.0; the ids of 2.x are below it, those of OpenSearch far above.
const FIRST_WITH_ROOTS: i64 = 5_000_000;

impl SnapshotInfo {
    /// Whether a cluster of 2.x wrote it: then no root will name the snapshot, and it is there as long as this is.
    #[must_use]
    pub fn stands_for_itself(&self) -> bool {
        let old = |version| (1..FIRST_WITH_ROOTS).contains(&version);
        self.name == self.uuid && self.version_id.is_some_and(old)
    }

    pub fn parse(document: &[u8]) -> Result<Self, BodyError> {
        let mut info = None;
        let mut reader = Reader::new(document)?;
        reader.object(|reader, field| -> Result<(), BodyError> {
            match field {
                "snapshot" => info = Some(Self::read(reader)?),
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        reader.end()?;
        info.ok_or(BodyError::Lacks("snapshot"))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, BodyError> {
        let mut name: Option<Arc<str>> = None;
        let mut uuid = None;
        let mut state = None;
        let mut info = Self {
            name: "".into(),
            uuid: "".into(),
            version_id: None,
            state: "".into(),
            indices: Vec::new(),
            failures: BTreeSet::new(),
            start_time: None,
            end_time: None,
            total_shards: None,
            include_global_state: None,
            shallow: false,
        };
        reader.object(|reader, field| -> Result<(), BodyError> {
            match field {
                "name" => name = Some(reader.text()?.into()),
                "uuid" => uuid = Some(reader.text()?.into()),
                "version_id" => info.version_id = Some(reader.int()?),
                "state" => state = Some(reader.text()?.into()),
                "indices" => reader.array(|reader| -> Result<(), BodyError> {
                    one_more(info.indices.len(), "indices")?;
                    info.indices.push(reader.text()?.into());
                    Ok(())
                })?,
                "failures" => reader.array(|reader| -> Result<(), BodyError> {
                    one_more(info.failures.len(), "failures")?;
                    info.failures.extend(read_failure(reader)?);
                    Ok(())
                })?,
                "start_time" => info.start_time = Some(reader.int()?),
                "end_time" => info.end_time = Some(reader.int()?),
                "total_shards" => info.total_shards = Some(reader.int()?),
                // Null in some versions, absent in others.
                "include_global_state" => match reader.event()? {
                    Event::Bool(value) => info.include_global_state = Some(value),
                    Event::Null => {}
                    _ => return Err(BodyError::Lacks("include_global_state")),
                },
                "remote_store_index_shallow_copy" => info.shallow |= reader.boolean()?,
                // OpenSearch snapshots v2: no shard blobs at all.
                "pinned_timestamp" => info.shallow |= reader.int()? != 0,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        info.name = name.ok_or(BodyError::Lacks("name"))?;
        info.uuid = uuid.unwrap_or_else(|| info.name.clone());
        info.state = state.ok_or(BodyError::Lacks("state"))?;
        Ok(info)
    }
}

fn read_failure(reader: &mut Reader<'_>) -> Result<Option<(Arc<str>, u32)>, BodyError> {
    let mut index = None;
    let mut shard = None;
    reader.object(|reader, field| -> Result<(), BodyError> {
        match field {
            "index" => index = reader.optional_text()?.map(Into::into),
            "shard_id" => shard = u32::try_from(reader.int()?).ok(),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(index.zip(shard))
}

/// Shards an index may have; the clusters' own limit is 1,024 unless a system property raises it.
const MAX_SHARDS: i64 = 65_536;

/// `indices/<index>/meta-<id>.dat`: the only facts of it that the closure needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexMetadata {
    /// The index's name in the cluster, as the root has it too.
    pub index: Arc<str>,
    pub shards: u32,
}

impl IndexMetadata {
    /// Settings are flat names with text values.
    pub fn parse(document: &[u8]) -> Result<Self, BodyError> {
        let mut shards = None;
        let mut index: Arc<str> = "".into();
        let mut reader = Reader::new(document)?;
        reader.object(|reader, name| -> Result<(), BodyError> {
            index = name.into();
            reader.object(|reader, field| -> Result<(), BodyError> {
                match field {
                    "settings" => reader.object(|reader, setting| -> Result<(), BodyError> {
                        match setting {
                            "index.number_of_shards" => shards = Some(read_count(reader)?),
                            _ => reader.skip()?,
                        }
                        Ok(())
                    }),
                    _ => Ok(reader.skip()?),
                }
            })
        })?;
        reader.end()?;
        let shards = shards.ok_or(BodyError::Lacks("index.number_of_shards"))?;
        let shards = u32::try_from(shards)
            .ok()
            .filter(|_| (1..=MAX_SHARDS).contains(&shards))
            .ok_or(BodyError::Shards(shards))?;
        Ok(Self { index, shards })
    }
}

fn read_count(reader: &mut Reader<'_>) -> Result<i64, BodyError> {
    match reader.event()? {
        Event::Int(count) => Ok(count),
        Event::Text(text) => text
            .parse()
            .map_err(|_| BodyError::Lacks("index.number_of_shards")),
        _ => Err(BodyError::Lacks("index.number_of_shards")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::shard::MAX_LISTED;
    use crate::format::smile::{Flags, Value, encode};

    fn settings(shards: Value) -> Vec<u8> {
        let settings = Value::Object(vec![("index.number_of_shards".into(), shards)]);
        let index = Value::Object(vec![
            ("version".into(), Value::Int(3)),
            ("settings".into(), settings),
        ]);
        encode(&Value::Object(vec![("logs".into(), index)]), Flags::CLUSTER)
    }

    #[test]
    fn a_list_of_more_names_than_any_cluster_has_is_refused() {
        let listing = |count| {
            let fields = vec![
                ("name".into(), Value::text("nightly")),
                ("state".into(), Value::text("SUCCESS")),
                ("indices".into(), Value::Array(vec![Value::text(""); count])),
            ];
            let body = Value::Object(vec![("snapshot".into(), Value::Object(fields))]);
            SnapshotInfo::parse(&encode(&body, Flags::CLUSTER))
        };
        assert_eq!(listing(MAX_LISTED).unwrap().indices.len(), MAX_LISTED);
        assert_eq!(
            listing(MAX_LISTED + 1),
            Err(BodyError::TooManyNames("indices"))
        );
    }

    fn shard_count(document: &[u8]) -> Result<u32, BodyError> {
        let read = IndexMetadata::parse(document)?;
        assert_eq!(&*read.index, "logs");
        Ok(read.shards)
    }

    #[test]
    fn the_number_of_shards_is_text_and_bounded() {
        assert_eq!(shard_count(&settings(Value::text("3"))), Ok(3));
        assert_eq!(
            shard_count(&settings(Value::text("0"))),
            Err(BodyError::Shards(0))
        );
        assert_eq!(
            shard_count(&settings(Value::text("99999999"))),
            Err(BodyError::Shards(99_999_999))
        );
        assert_eq!(
            shard_count(&settings(Value::Null)),
            Err(BodyError::Lacks("index.number_of_shards"))
        );
    }
}
