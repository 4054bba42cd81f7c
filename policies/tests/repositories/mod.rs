//! The repositories in `fixtures/`, unpacked into memory.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

pub mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use policies::format::closure::{Knowledge, Needs, Observed, Problem};
use policies::format::digest::{self, Digest};
use policies::format::frame::Limits;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::identity::{Bucket, Repository};
use policies::key::{Class, Configured, ObjectKey, Place};

/// One repository in one state: key from the bucket's root -> bytes.
pub struct Fixture {
    /// `<archive>/<state>`
    pub name: String,
    pub base_path: &'static str,
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Size of every object, from the cluster's side, where it was recorded.
    pub expected: serde_json::Value,
}

/// (archive, states inside it, base path)
const ARCHIVES: &[(&str, &[&str], &str)] = &[
    (
        "elasticsearch-5.6.16",
        &["before-delete", "after-delete"],
        "",
    ),
    (
        "elasticsearch-7.17.29",
        &["before-delete", "after-delete"],
        "",
    ),
    (
        "elasticsearch-8.19.21",
        &["before-delete", "after-delete"],
        "",
    ),
    (
        "mixed-elasticsearch-2.4-6.8",
        &["before-delete", "after-delete"],
        "",
    ),
    (
        "mixed-elasticsearch-6.8-8.19",
        &["before-delete", "after-delete", "after-snapshot"],
        "",
    ),
    (
        "mixed-life-elasticsearch-7.10.2",
        &["before-delete", "after-delete"],
        "",
    ),
    (
        "mixed-opensearch-1.3-3.8",
        &["before-delete", "after-delete"],
        "",
    ),
    ("opensearch-2.19.6-fs", &["bucket"], ""),
    ("opensearch-3.8.0", &["bucket"], "snaps/prod"),
    ("opensearch-3.8.0-hashed_prefix", &["bucket"], "base/path"),
];

/// Every state of every repository.
pub fn all() -> Vec<Fixture> {
    ARCHIVES
        .iter()
        .flat_map(|(archive, states, base_path)| states_of(archive, states, base_path))
        .collect()
}

fn states_of(archive: &str, states: &[&str], base_path: &'static str) -> Vec<Fixture> {
    let files = unpack(archive);
    let expected: serde_json::Value = serde_json::from_slice(&files["expected.json"]).unwrap();
    let state = |state: &&str| {
        let prefix = format!("{state}/");
        let objects = files
            .iter()
            .filter_map(|(path, bytes)| {
                Some((path.strip_prefix(&prefix)?.to_owned(), bytes.clone()))
            })
            .collect();
        Fixture {
            name: format!("{archive}/{state}"),
            base_path,
            objects,
            expected: expected.clone(),
        }
    };
    states.iter().map(state).collect()
}

/// Reads a ustar archive: blocks of 512 bytes, a header and then the file's bytes.
fn unpack(archive: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(format!("{archive}.tar.gz"));
    let mut tar = Vec::new();
    let packed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    flate2::read::GzDecoder::new(&*packed)
        .read_to_end(&mut tar)
        .unwrap();
    let mut files = BTreeMap::new();
    let mut at = 0;
    while tar[at] != 0 {
        let header = &tar[at..at + 512];
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(field.len());
            std::str::from_utf8(&field[..end])
                .unwrap()
                .trim()
                .to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        let (name, prefix) = (text(0..100), text(345..500));
        let path = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        };
        at += 512;
        if header[156] == b'0' {
            files.insert(
                path.trim_start_matches("./").to_owned(),
                tar[at..at + size].to_vec(),
            );
        }
        at += size.div_ceil(512) * 512;
    }
    files
}

/// A store for the closure's questions: answers [`Needs`] from objects in memory.
#[derive(Default)]
pub struct Store {
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Keys that the catalog has although the store may have lost them.
    pub listing: Option<BTreeSet<String>>,
}

impl Store {
    /// Asks `question` until it needs no more facts.
    pub fn ask<T>(&self, mut question: impl FnMut(&Observed) -> Result<T, Needs>) -> T {
        let mut observed = Observed::default();
        loop {
            match question(&observed) {
                Ok(answer) => return answer,
                Err(needs) => self.answer(needs, &mut observed),
            }
        }
    }

    pub fn answer(&self, needs: Needs, observed: &mut Observed) {
        assert!(!needs.is_empty());
        for key in needs.sizes {
            let size = self
                .objects
                .get(key.as_str())
                .map(|bytes| bytes.len() as u64);
            assert!(observed.sizes.insert(key, size).is_none(), "asked twice");
        }
        for (key, class) in needs.digests {
            let read =
                digest::read(&class, &self.objects[key.as_str()], Limits::default()).unwrap();
            assert!(observed.digests.insert(key, read).is_none(), "asked twice");
        }
        for (shard, directory) in needs.numbered {
            let prefix = format!("{directory}index-");
            let there = |key: &&String| key.starts_with(&prefix);
            let keys: Vec<_> = match &self.listing {
                Some(listing) => listing.iter().filter(there).collect(),
                None => self.objects.keys().filter(there).collect(),
            };
            let highest = keys
                .iter()
                .filter_map(|key| key[prefix.len()..].parse().ok())
                .max();
            observed.numbered.insert(shard, highest);
        }
    }

    /// The newest root and all that is known once it is committed.
    pub fn adopt(&self, base_path: &str) -> (Knowledge, Vec<Problem>) {
        let mut knowledge = Knowledge::new(Layout::new(base_path).unwrap());
        let root = Arc::new(newest_root(&self.objects, base_path));
        let proposal = self.ask(|facts| knowledge.propose(root.clone(), facts));
        let problems = proposal.problems.clone();
        knowledge.commit(proposal);
        knowledge.adopted();
        (knowledge, problems)
    }
}

pub fn newest_root(objects: &BTreeMap<String, Vec<u8>>, base_path: &str) -> Root {
    let base = if base_path.is_empty() {
        String::new()
    } else {
        format!("{base_path}/")
    };
    let generation = |key: &String| {
        key.strip_prefix(&base)?
            .strip_prefix("index-")?
            .parse::<u64>()
            .ok()
    };
    let Some(newest) = objects.keys().filter_map(generation).max() else {
        return list(objects, &base);
    };
    Root::parse(newest, &objects[&format!("{base}index-{newest}")]).unwrap()
}

/// What a 2.x repository has instead of a root.
fn list(objects: &BTreeMap<String, Vec<u8>>, base: &str) -> Root {
    let described = objects.iter().filter_map(|(key, bytes)| {
        let class = Class::parse(key.strip_prefix(base)?);
        let digest = matches!(class, Class::SnapshotInfo(_))
            .then(|| digest::read(&class, bytes, Limits::default()))??;
        match &*digest.unwrap() {
            Digest::SnapshotInfo(info) => info.stands_for_itself().then(|| info.clone()),
            other => panic!("{key}: {other:?}"),
        }
    });
    Root::of_snapshots(&described.collect::<Vec<_>>()).unwrap()
}

/// The class of a key, as the door of the gateway tells it.
pub fn class_of(base_path: &str, key: &str) -> Class {
    let layout = policies::key::Layout::new([Configured {
        repository: Repository::new("prod"),
        bucket: Bucket::new("bucket"),
        base_path: base_path.to_owned(),
    }])
    .unwrap();
    match layout.locate(&Bucket::new("bucket"), &ObjectKey::parse(key).unwrap()) {
        Place::In { class, .. } => class,
        elsewhere => panic!("{key}: {elsewhere:?}"),
    }
}
