//! The bodies of what a [`Cluster`] writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, json};

use super::known::{IndexState, Stored, Taken};
use super::{Cluster, Form};
use crate::format::frame::{self, Codec};
use crate::format::paths::{self, PathType};
use crate::format::shard::File;
use crate::format::smile::{self, Value};
use crate::key::{Class, ObjectKey, Shard, ShardGeneration};

fn object(fields: Vec<(&str, Value)>) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
    )
}

fn file_info(stored: &Stored) -> Value {
    let File {
        name,
        length,
        part_size,
        checksum,
    } = &stored.file;
    let mut fields = vec![
        ("name", Value::text(name.to_string())),
        ("physical_name", Value::text("_0.cfs")),
        ("length", Value::Int(length.cast_signed())),
    ];
    if let Some(checksum) = checksum {
        fields.push(("checksum", Value::text(base36(*checksum))));
    }
    fields.push((
        "part_size",
        Value::Int((*part_size).min(i64::MAX as u64).cast_signed()),
    ));
    fields.push(("written_by", Value::text("9.12.0")));
    if let Some(content) = &stored.content {
        fields.push(("meta_hash", Value::Binary(content.clone())));
    }
    object(fields)
}

fn base36(number: u32) -> String {
    super::files::base36(number.into())
}

impl Cluster {
    fn put_framed(&mut self, key: ObjectKey, class: Class, codec: Codec, body: &Value) {
        let document = smile::encode(body, smile::Flags::CLUSTER);
        self.put(
            key,
            class,
            frame::seal(codec, &document, self.style.deflate),
        );
    }

    pub(super) fn put_index_metadata(&mut self, index: &Arc<str>, id: &Arc<str>, shards: u32) {
        let settings = object(vec![(
            "index.number_of_shards",
            Value::text(shards.to_string()),
        )]);
        let name = self
            .indices
            .iter()
            .find(|known| known.id == *index)
            .map_or("gone", |known| &known.name);
        let body = object(vec![(
            name,
            object(vec![("version", Value::Int(3)), ("settings", settings)]),
        )]);
        let class = Class::IndexMetadata {
            index: index.clone(),
            id: id.clone(),
        };
        self.put_framed(
            self.layout.index_metadata(index, id),
            class,
            Codec::IndexMetadata,
            &body,
        );
    }

    pub(super) fn put_shard_snapshot(
        &mut self,
        at: usize,
        number: u32,
        taken: &Taken,
        files: &[Stored],
    ) {
        let body = object(vec![
            ("name", Value::text(&*taken.name)),
            ("index_version", Value::Int(0)),
            ("start_time", Value::Int(1_795_228_048_510)),
            ("time", Value::Int(7)),
            ("number_of_files", Value::Int(files.len() as i64)),
            ("total_size", Value::Int(0)),
            ("files", Value::Array(files.iter().map(file_info).collect())),
        ]);
        let shard = Shard {
            index: self.indices[at].id.clone(),
            number,
        };
        let key = paths::shard_snapshot(&self.directory(at, number), &taken.uuid, false);
        let class = Class::ShardSnapshot {
            shard,
            uuid: taken.uuid.clone(),
            shallow: false,
        };
        self.put_framed(key, class, Codec::Snapshot, &body);
    }

    /// Writes the next index of a shard; the key of the one it replaces.
    pub(super) fn put_shard_index(&mut self, at: usize, number: u32) -> Vec<ObjectKey> {
        let directory = self.directory(at, number);
        let old = self.indices[at].shards[number as usize].generation.clone();
        let generation = match (self.style.form, &old) {
            (Form::List | Form::Legacy { .. }, Some(ShardGeneration::Number(last))) => {
                ShardGeneration::Number(last + 1)
            }
            (Form::List | Form::Legacy { .. }, Some(ShardGeneration::Uuid(_)) | None) => {
                ShardGeneration::Number(0)
            }
            (Form::Uuid { .. }, _) => ShardGeneration::Uuid(self.identifier(22)),
        };
        let state = &self.indices[at].shards[number as usize];
        let files: BTreeMap<String, Value> = state
            .listed
            .iter()
            .flat_map(|(_, _, files)| files)
            .map(|stored| (stored.file.name.to_string(), file_info(stored)))
            .collect();
        let listing = |(name, _, files): &(Arc<str>, Arc<str>, Vec<Stored>)| {
            let files = files
                .iter()
                .map(|stored| Value::text(stored.file.name.to_string()))
                .collect();
            (
                (**name).into(),
                object(vec![("files", Value::Array(files))]),
            )
        };
        let body = object(vec![
            ("files", Value::Array(files.into_values().collect())),
            (
                "snapshots",
                Value::Object(state.listed.iter().map(listing).collect()),
            ),
        ]);
        let shard = Shard {
            index: self.indices[at].id.clone(),
            number,
        };
        let class = Class::ShardIndex {
            shard,
            generation: generation.clone(),
        };
        self.put_framed(
            paths::shard_index(&directory, &generation),
            class,
            Codec::Snapshots,
            &body,
        );
        self.indices[at].shards[number as usize].generation = Some(generation);
        // A numbered index is not in the list of what a create of the 7.6 form deletes: it leaks until a delete.
        let legacy = self.legacy();
        old.filter(|old| legacy || matches!(old, ShardGeneration::Uuid(_)))
            .map(|old| paths::shard_index(&directory, &old))
            .into_iter()
            .collect()
    }

    pub(super) fn put_snapshot(&mut self, taken: &Taken) {
        let uuid = taken.uuid.clone();
        let metadata = object(vec![(
            "meta-data",
            object(vec![("version", Value::Int(9))]),
        )]);
        self.put_framed(
            self.layout.global_metadata(&uuid),
            Class::GlobalMetadata(uuid.clone()),
            Codec::Metadata,
            &metadata,
        );
        let failure = |(index, shard): &(Arc<str>, u32)| {
            object(vec![
                ("index", Value::text(&**index)),
                ("index_uuid", Value::text(&**index)),
                ("shard_id", Value::Int((*shard).into())),
                ("reason", Value::text("primary shard is not allocated")),
                ("status", Value::text("INTERNAL_SERVER_ERROR")),
            ])
        };
        let named = self
            .indices
            .iter()
            .filter(|index| taken.indices.contains_key(&index.id));
        let mut fields = vec![("name", Value::text(&*taken.name))];
        if self.lists() {
            fields.push(("version_id", Value::Int(2_040_699)));
        } else {
            fields.push(("uuid", Value::text(&*uuid)));
            fields.push(("version_id", Value::Int(8_537_000)));
        }
        fields.extend([
            (
                "indices",
                Value::Array(named.map(|index| Value::text(&*index.name)).collect()),
            ),
            (
                "state",
                Value::text(if taken.failures.is_empty() {
                    "SUCCESS"
                } else {
                    "PARTIAL"
                }),
            ),
            ("include_global_state", Value::Bool(true)),
            ("start_time", Value::Int(1_795_228_048_510)),
            ("end_time", Value::Int(1_795_228_048_710)),
            (
                "failures",
                Value::Array(taken.failures.iter().map(failure).collect()),
            ),
        ]);
        let body = object(vec![("snapshot", object(fields))]);
        self.put_framed(
            self.layout.snapshot_info(&uuid),
            Class::SnapshotInfo(uuid.clone()),
            Codec::Snapshot,
            &body,
        );
    }

    pub(super) fn root_json(&self) -> Vec<u8> {
        let modern = matches!(self.style.form, Form::Uuid { .. });
        let snapshots: Vec<_> = self
            .snapshots
            .iter()
            .map(|taken| snapshot_json(taken, modern))
            .collect();
        let used = |index: &&IndexState| {
            self.snapshots
                .iter()
                .any(|taken| taken.indices.contains_key(&index.id))
        };
        let indices: Map<_, _> = self
            .indices
            .iter()
            .filter(used)
            .map(|index| (index.name.to_string(), self.index_json(index, modern)))
            .collect();
        let mut root = Map::new();
        if self.style.form == (Form::Uuid { identified: true }) {
            root.insert("min_version".into(), json!("7.12.0"));
            root.insert("uuid".into(), json!(&*self.uuid));
            root.insert("cluster_id".into(), json!(&*self.cluster_id));
        }
        root.insert("snapshots".into(), json!(snapshots));
        root.insert("indices".into(), json!(indices));
        if modern {
            let all = self
                .snapshots
                .iter()
                .flat_map(|taken| taken.indices.values());
            let identifiers: Map<_, _> = all
                .filter_map(|metadata| {
                    Some((
                        metadata.identifier.as_ref()?.to_string(),
                        json!(&*metadata.id),
                    ))
                })
                .collect();
            root.insert("index_metadata_identifiers".into(), json!(identifiers));
        }
        serde_json::to_vec(&root).expect("a map of text is JSON")
    }

    fn index_json(&self, index: &IndexState, modern: bool) -> serde_json::Value {
        let named = self
            .snapshots
            .iter()
            .filter(|taken| taken.indices.contains_key(&index.id));
        let snapshots: Vec<_> = named.map(|taken| &*taken.uuid).collect();
        let mut json = Map::new();
        json.insert("id".into(), json!(&*index.id));
        if self.style.form == (Form::Uuid { identified: false }) {
            let code = match index.path_type {
                PathType::Fixed => 0,
                PathType::HashedPrefix => 1,
                PathType::HashedInfix => 2,
                PathType::Other(code) => code,
            };
            json.insert("shard_path_type".into(), json!(code));
        }
        json.insert("snapshots".into(), json!(snapshots));
        if modern {
            let generations = index.shards.iter().map(|shard| match &shard.generation {
                Some(ShardGeneration::Uuid(uuid)) => json!(&**uuid),
                None if shard.failed => json!("_new"),
                Some(ShardGeneration::Number(_)) | None => json!(null),
            });
            json.insert("shard_generations".into(), generations.collect());
        }
        json.into()
    }
}

fn snapshot_json(taken: &Taken, modern: bool) -> serde_json::Value {
    let mut json = Map::new();
    json.insert("name".into(), json!(&*taken.name));
    json.insert("uuid".into(), json!(&*taken.uuid));
    json.insert(
        "state".into(),
        json!(if taken.failures.is_empty() { 1 } else { 3 }),
    );
    if modern {
        let lookup: Map<_, _> = taken
            .indices
            .iter()
            .filter_map(|(index, metadata)| {
                Some((index.to_string(), json!(&**metadata.identifier.as_ref()?)))
            })
            .collect();
        json.insert("index_metadata_lookup".into(), json!(lookup));
        json.insert("version".into(), json!("8.11.0"));
    }
    json.into()
}
