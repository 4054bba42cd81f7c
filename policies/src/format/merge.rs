//! A snapshot put back into a newer root, as its cluster would have written it.
//!
//! Decides: newest root, an older one that holds the snapshot, and the snapshot's shard files -> the bodies of new shard
//! indexes and of the next root, or why they cannot be one ([`Conflict`]). Invariants: everything that the newest root
//! says of its own snapshots is kept as it is, unknown fields too; a shard's new index lists what its current one lists and
//! the snapshot; no field is written that neither root had.
//!
//! The shard's `snap-<uuid>.dat` is the source of its files, not an old shard index: it is what restores read. The
//! commit identity of a shard (`shard_state_id`) is lost; without it the next snapshot compares files, as before 7.8.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::digest::Unreadable;
use super::frame::{self, Codec, Limits, Packing};
use super::paths::PathType;
use super::root::{Root, RootError};
use super::smile::{self, Flags, Value};
use crate::key::Shard;

/// Why a snapshot cannot be put back into a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("the newest root holds it")]
    Present,
    #[error("the newest root holds another snapshot of that name")]
    NameTaken,
    #[error("the older root does not hold it")]
    Absent,
    #[error("the repository changed its form since then (Elasticsearch 7.6)")]
    Form,
    #[error("the repository got another uuid since then")]
    OtherRepository,
    #[error(
        "index '{0}' was since then written anew into another directory, or its directory has another name"
    )]
    IndexAnew(Arc<str>),
    #[error("the shards of index '{0}' lie elsewhere since then")]
    PathType(Arc<str>),
    #[error("a root cannot be read: {0}")]
    Root(#[from] RootError),
}

/// An index of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub index: Arc<str>,
    pub path_type: PathType,
    /// Of `indices/<index>/meta-<id>.dat`: says how many shards there are.
    pub metadata: Arc<str>,
}

/// Whether the snapshot `uuid` of `donor` fits into `newest`, and the indices whose shards need a new index.
pub fn parts(newest: &Root, donor: &Root, uuid: &str) -> Result<Vec<Part>, Conflict> {
    let snapshot = donor.snapshot(uuid).ok_or(Conflict::Absent)?;
    let position = donor.position(uuid).ok_or(Conflict::Absent)?;
    if newest.position(uuid).is_some() {
        return Err(Conflict::Present);
    }
    if newest.snapshots.iter().any(|s| s.name == snapshot.name) {
        return Err(Conflict::NameTaken);
    }
    if newest.is_legacy_form() != donor.is_legacy_form() {
        return Err(Conflict::Form);
    }
    if let (Some(now), Some(then)) = (&newest.uuid, &donor.uuid)
        && now != then
    {
        return Err(Conflict::OtherRepository);
    }
    let mut parts = Vec::new();
    for index in &donor.indices {
        if index.snapshots.binary_search(&position).is_err() {
            continue;
        }
        // One name and one directory belong together in both roots.
        if newest
            .indices
            .iter()
            .any(|now| (now.name == index.name) != (now.id == index.id))
        {
            return Err(Conflict::IndexAnew(index.name.clone()));
        }
        if newest
            .index(&index.id)
            .is_some_and(|now| now.path_type != index.path_type)
        {
            return Err(Conflict::PathType(index.name.clone()));
        }
        parts.push(Part {
            index: index.id.clone(),
            path_type: index.path_type,
            metadata: donor.index_metadata_id(index, position).clone(),
        });
    }
    Ok(parts)
}

/// The next root: `newest` with the snapshot of `donor`, and with new generations of the shards that list it anew
/// (none in the legacy form). The caller asked [`parts`] whether they fit.
pub fn root(
    newest: &[u8],
    donor: &[u8],
    uuid: &str,
    generations: &HashMap<Shard, Arc<str>>,
) -> Result<Vec<u8>, Conflict> {
    let mut merged = parse(newest)?;
    let donor = parse(donor)?;
    let entry = array(&donor, "snapshots")
        .iter()
        .find(|entry| uuid_of(entry) == Some(uuid))
        .ok_or(Conflict::Absent)?;
    push(&mut merged, "snapshots", entry.clone());
    for identifier in entry["index_metadata_lookup"]
        .as_object()
        .into_iter()
        .flat_map(Map::values)
        .filter_map(Json::as_str)
    {
        if let Some(id) = donor
            .get("index_metadata_identifiers")
            .and_then(|all| all.get(identifier))
            && let Some(all) = merged
                .entry("index_metadata_identifiers")
                .or_insert_with(|| Json::Object(Map::new()))
                .as_object_mut()
        {
            all.entry(identifier).or_insert_with(|| id.clone());
        }
    }
    let empty = Map::new();
    let indices = donor.get("indices").and_then(Json::as_object);
    for (name, index) in indices.unwrap_or(&empty) {
        let holds = |held: &&Json| held.as_str() == Some(uuid) || uuid_of(held) == Some(uuid);
        let Some(held) = index["snapshots"]
            .as_array()
            .and_then(|all| all.iter().find(holds))
        else {
            continue;
        };
        if let Some(all) = merged.get_mut("indices").and_then(Json::as_object_mut) {
            let there = all
                .entry(name.as_str())
                .or_insert_with(|| without_snapshots(index));
            if let Some(there) = there.as_object_mut() {
                push(there, "snapshots", held.clone());
                renew(there, index["id"].as_str().unwrap_or(name), generations);
            }
        }
    }
    Ok(write(merged))
}

/// The body of a shard's next index: what its current one lists, and the snapshot whose shard file is `snapshot`.
pub fn shard_index(current: Option<&[u8]>, snapshot: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let added = frame::open_as(snapshot, Codec::Snapshot)?;
    let packed = added.packing != Packing::Plain;
    let added = decode(&added.document(Limits::default())?)?;
    let name = match added.get("name") {
        Some(Value::Text(name)) => name.clone(),
        Some(_) | None => "".into(),
    };
    let (mut files, mut snapshots) = match current {
        None => (Vec::new(), Vec::new()),
        Some(current) => {
            let current = frame::open_as(current, Codec::Snapshots)?;
            let current = decode(&current.document(Limits::default())?)?;
            (items(&current, "files"), fields(&current, "snapshots"))
        }
    };
    let name_of = |file: &Value| match file.get("name") {
        Some(Value::Text(name)) => Some(name.clone()),
        Some(_) | None => None,
    };
    let mut known: HashSet<Box<str>> = files.iter().filter_map(name_of).collect();
    let mut listed = Vec::new();
    for file in items(&added, "files") {
        let Some(file_name) = name_of(&file) else {
            continue;
        };
        if known.insert(file_name.clone()) {
            files.push(file);
        }
        listed.push(Value::Text(file_name));
    }
    snapshots.retain(|(other, _)| *other != name);
    let listing = Value::Object(vec![("files".into(), Value::Array(listed))]);
    snapshots.push((name, listing));
    let body = Value::Object(vec![
        ("files".into(), Value::Array(files)),
        ("snapshots".into(), Value::Object(snapshots)),
    ]);
    Ok(frame::seal(
        Codec::Snapshots,
        &smile::encode(&body, Flags::CLUSTER),
        packed,
    ))
}

fn decode(document: &[u8]) -> Result<Value, Unreadable> {
    smile::decode(document).map_err(|e| Unreadable::Body(e.into()))
}

fn items(value: &Value, field: &str) -> Vec<Value> {
    match value.get(field) {
        Some(Value::Array(items)) => items.clone(),
        Some(_) | None => Vec::new(),
    }
}

fn fields(value: &Value, field: &str) -> Vec<(Box<str>, Value)> {
    match value.get(field) {
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) | None => Vec::new(),
    }
}

fn parse(json: &[u8]) -> Result<Map<String, Json>, Conflict> {
    serde_json::from_slice(json).map_err(|e| RootError::Json(e.to_string()).into())
}

fn array<'a>(root: &'a Map<String, Json>, field: &str) -> &'a [Json] {
    root.get(field)
        .and_then(Json::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Of a snapshot's entry; snapshots of 2.x have their name for one.
fn uuid_of(entry: &Json) -> Option<&str> {
    entry["uuid"].as_str().or_else(|| entry["name"].as_str())
}

fn push(object: &mut Map<String, Json>, field: &str, item: Json) {
    if let Some(items) = object
        .entry(field)
        .or_insert_with(|| Json::Array(Vec::new()))
        .as_array_mut()
    {
        items.push(item);
    }
}

/// An index of the older root as it is when none of its snapshots is left.
fn without_snapshots(index: &Json) -> Json {
    let mut index = index.clone();
    if let Some(fields) = index.as_object_mut() {
        fields.insert("snapshots".into(), Json::Array(Vec::new()));
        if let Some(generations) = fields.get_mut("shard_generations") {
            *generations = Json::Array(Vec::new());
        }
    }
    index
}

fn renew(index: &mut Map<String, Json>, id: &str, generations: &HashMap<Shard, Arc<str>>) {
    let mut new: Vec<_> = generations
        .iter()
        .filter(|(shard, _)| *shard.index == *id)
        .collect();
    new.sort_by_key(|(shard, _)| shard.number);
    if new.is_empty() {
        return;
    }
    if let Some(all) = index
        .entry("shard_generations")
        .or_insert_with(|| Json::Array(Vec::new()))
        .as_array_mut()
    {
        for (shard, generation) in new {
            let at = shard.number as usize;
            if all.len() <= at {
                all.resize(at + 1, Json::Null);
            }
            all[at] = Json::String(generation.to_string());
        }
    }
}

/// Parsers of every version want the snapshots before the indices.
fn write(mut root: Map<String, Json>) -> Vec<u8> {
    const ORDER: [&str; 6] = [
        "min_version",
        "uuid",
        "cluster_id",
        "snapshots",
        "indices",
        "index_metadata_identifiers",
    ];
    let known = ORDER
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), root.remove(*name)?)))
        .collect::<Vec<_>>();
    let mut out = vec![b'{'];
    for (name, value) in known.into_iter().chain(root) {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(Json::String(name).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(value.to_string().as_bytes());
    }
    out.push(b'}');
    out
}
