//! The JSON of a root, read in one pass that borrows from the text and shares what repeats.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Generation, Index, Root, RootError, Snapshot};

pub(super) fn parse(generation: u64, json: &[u8]) -> Result<Root, RootError> {
    let raw: Object<RawRoot<'_>> =
        serde_json::from_slice(json).map_err(|error| RootError::Json(error.to_string()))?;
    raw.0.root(generation)
}

/// Text that borrows from the input wherever it has no escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object whose fields are taken one by one, the unknown ones by name.
trait Fields<'de>: Default {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

struct Object<T>(T);

impl<'de, T: Fields<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fill<T>(PhantomData<T>);
        impl<'de, T: Fields<'de>> Visitor<'de> for Fill<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = T::default();
                while let Some(Text(name)) = map.next_key()? {
                    object.field(&name, &mut map)?;
                }
                Ok(Object(object))
            }
        }
        deserializer.deserialize_map(Fill(PhantomData))
    }
}

fn ignore<'de, A: MapAccess<'de>>(
    unknown: &mut Vec<String>,
    name: &str,
    map: &mut A,
) -> Result<(), A::Error> {
    /// A root with thousands of unknown fields is reported by a few of them.
    const REPORTED: usize = 8;
    map.next_value::<IgnoredAny>()?;
    if unknown.len() < REPORTED && !unknown.iter().any(|known| known == name) {
        unknown.push(name.to_owned());
    }
    Ok(())
}

#[derive(Default)]
struct RawRoot<'a> {
    min_version: Option<Text<'a>>,
    uuid: Option<Text<'a>>,
    cluster_id: Option<Text<'a>>,
    snapshots: Option<Vec<Object<RawSnapshot<'a>>>>,
    indices: Option<BTreeMap<Text<'a>, Object<RawIndex<'a>>>>,
    identifiers: Option<HashMap<Text<'a>, Text<'a>>>,
    unknown: Vec<String>,
}

impl<'de> Fields<'de> for RawRoot<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "min_version" => self.min_version = map.next_value()?,
            "uuid" => self.uuid = map.next_value()?,
            "cluster_id" => self.cluster_id = map.next_value()?,
            "snapshots" => self.snapshots = map.next_value()?,
            "indices" => self.indices = map.next_value()?,
            "index_metadata_identifiers" => self.identifiers = map.next_value()?,
            _ => ignore(&mut self.unknown, name, map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct RawSnapshot<'a> {
    name: Option<Text<'a>>,
    uuid: Option<Text<'a>>,
    state: Option<i64>,
    version: Option<Text<'a>>,
    index_version: Option<i64>,
    start_time_millis: Option<i64>,
    end_time_millis: Option<i64>,
    slm_policy: Option<Text<'a>>,
    lookup: Option<BTreeMap<Text<'a>, Text<'a>>>,
    unknown: Vec<String>,
}

impl<'de> Fields<'de> for RawSnapshot<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            "uuid" => self.uuid = map.next_value()?,
            "state" => self.state = map.next_value()?,
            "version" => self.version = map.next_value()?,
            "index_version" => self.index_version = map.next_value()?,
            "start_time_millis" => self.start_time_millis = map.next_value()?,
            "end_time_millis" => self.end_time_millis = map.next_value()?,
            "slm_policy" => self.slm_policy = map.next_value()?,
            "index_metadata_lookup" => self.lookup = map.next_value()?,
            _ => ignore(&mut self.unknown, name, map)?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct RawIndex<'a> {
    id: Option<Text<'a>>,
    path_type: Option<i64>,
    snapshots: Vec<SnapshotRef<'a>>,
    generations: Option<Vec<RawGeneration<'a>>>,
    unknown: Vec<String>,
}

impl<'de> Fields<'de> for RawIndex<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "id" => self.id = map.next_value()?,
            "shard_path_type" => self.path_type = map.next_value()?,
            "snapshots" => self.snapshots = map.next_value()?,
            "shard_generations" => self.generations = map.next_value()?,
            _ => ignore(&mut self.unknown, name, map)?,
        }
        Ok(())
    }
}

/// A uuid; in 5.0-5.4.0 an object with name and uuid.
struct SnapshotRef<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for SnapshotRef<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<'a> {
            Uuid(#[serde(borrow)] Cow<'a, str>),
            Pair {
                #[serde(borrow)]
                uuid: Cow<'a, str>,
            },
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Uuid(uuid) | Form::Pair { uuid } => Self(uuid),
        })
    }
}

/// Text, null, or (never seen, but harmless) a number.
struct RawGeneration<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for RawGeneration<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = RawGeneration<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shard generation or null")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(RawGeneration(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(RawGeneration(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(RawGeneration(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(RawGeneration(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(RawGeneration(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Every distinct text once.
#[derive(Default)]
struct Interner(HashSet<Arc<str>>);

impl Interner {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        self.0.insert(shared.clone());
        shared
    }

    fn option(&mut self, text: Option<&Text<'_>>) -> Option<Arc<str>> {
        text.map(|Text(text)| self.share(text))
    }
}

impl RawRoot<'_> {
    fn root(self, generation: u64) -> Result<Root, RootError> {
        let mut interner = Interner::default();
        let mut unknown_fields = self.unknown;
        let mut snapshots = Vec::new();
        for Object(raw) in self.snapshots.ok_or(RootError::Lacks("snapshots"))? {
            unknown_fields.extend(raw.unknown.iter().cloned());
            snapshots.push(raw.snapshot(&mut interner)?);
        }
        let mut positions = HashMap::new();
        for (position, snapshot) in snapshots.iter().enumerate() {
            positions.insert(snapshot.uuid.clone(), position as u32);
        }
        let mut indices = Vec::new();
        for (Text(name), Object(raw)) in self.indices.ok_or(RootError::Lacks("indices"))? {
            unknown_fields.extend(raw.unknown.iter().cloned());
            indices.push(raw.index(&name, &positions, &mut interner)?);
        }
        let identifiers = self.identifiers.map(|identifiers| {
            identifiers
                .iter()
                .map(|(Text(key), Text(id))| (interner.share(key), interner.share(id)))
                .collect()
        });
        unknown_fields.sort();
        unknown_fields.dedup();
        Root {
            generation,
            min_version: interner.option(self.min_version.as_ref()),
            uuid: interner.option(self.uuid.as_ref()),
            cluster_id: interner.option(self.cluster_id.as_ref()),
            snapshots,
            indices,
            identifiers,
            unknown_fields,
            of_list: false,
            positions: HashMap::new(),
            directories: HashMap::new(),
        }
        .checked()
    }
}

impl RawSnapshot<'_> {
    fn snapshot(&self, interner: &mut Interner) -> Result<Snapshot, RootError> {
        let name = interner
            .option(self.name.as_ref())
            .ok_or(RootError::Lacks("name"))?;
        let lookup = self.lookup.as_ref().map(|lookup| {
            lookup
                .iter()
                .map(|(Text(index), Text(id))| (interner.share(index), interner.share(id)))
                .collect()
        });
        Ok(Snapshot {
            uuid: interner
                .option(self.uuid.as_ref())
                .unwrap_or_else(|| name.clone()),
            name,
            state: self.state.map(Into::into),
            version: interner.option(self.version.as_ref()),
            index_version: self.index_version,
            start_time_millis: self.start_time_millis,
            end_time_millis: self.end_time_millis,
            slm_policy: interner.option(self.slm_policy.as_ref()),
            lookup,
        })
    }
}

impl RawIndex<'_> {
    fn index(
        &self,
        name: &str,
        positions: &HashMap<Arc<str>, u32>,
        interner: &mut Interner,
    ) -> Result<Index, RootError> {
        let name = interner.share(name);
        let mut snapshots = Vec::with_capacity(self.snapshots.len());
        for SnapshotRef(uuid) in &self.snapshots {
            let position = positions
                .get(&**uuid)
                .ok_or_else(|| RootError::UnknownSnapshot {
                    index: name.clone(),
                    snapshot: uuid.to_string(),
                })?;
            snapshots.push(*position);
        }
        snapshots.sort_unstable();
        snapshots.dedup();
        let generations = self.generations.as_ref().map(|all| {
            all.iter()
                .map(|RawGeneration(text)| match text.as_deref() {
                    None => Generation::Unknown,
                    Some("_new" | "_deleted") => Generation::New,
                    Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                        Generation::Unknown
                    }
                    Some(text) => Generation::Uuid(interner.share(text)),
                })
                .collect()
        });
        Ok(Index {
            id: interner
                .option(self.id.as_ref())
                .ok_or(RootError::Lacks("id"))?,
            name,
            path_type: self.path_type.unwrap_or(0).into(),
            snapshots,
            metadata: Vec::new(),
            generations,
        })
    }
}
