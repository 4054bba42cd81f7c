//! Does a store alone restore? Judged from its own listing and bytes, by the closure of its newest root.

use std::collections::BTreeMap;
use std::sync::Arc;

use policies::format::closure::{Facts, Knowledge};
use policies::format::digest;
use policies::format::frame::Limits;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::key::{Class, ObjectKey, Shard, ShardGeneration};

pub type Objects = BTreeMap<ObjectKey, bytes::Bytes>;

/// The objects of a store, and the base path of the repository in it.
struct Alone<'a>(&'a Objects, &'a str);

fn class(base: &str, key: &ObjectKey) -> Class {
    let below = key.as_str().strip_prefix(base);
    Class::parse(below.and_then(|name| name.strip_prefix('/')).unwrap_or("?"))
}

impl Facts for Alone<'_> {
    fn size(&self, key: &ObjectKey) -> Option<Option<u64>> {
        Some(self.0.get(key).map(|bytes| bytes.len() as u64))
    }

    fn digest(&self, key: &ObjectKey) -> Option<digest::Read> {
        digest::read(&class(self.1, key), self.0.get(key)?, Limits::default())
    }

    fn highest_numbered(&self, shard: &Shard, _directory: &str) -> Option<Option<u64>> {
        let numbers = self.0.keys().filter_map(|key| match class(self.1, key) {
            Class::ShardIndex {
                shard: of,
                generation: ShardGeneration::Number(number),
            } if of == *shard => Some(number),
            _other => None,
        });
        Some(numbers.max())
    }
}

/// The generation of the newest root.
pub fn newest(objects: &Objects, base: &str) -> Option<u64> {
    let generations = objects.keys().filter_map(|key| match class(base, key) {
        Class::Root(generation) => Some(generation),
        _other => None,
    });
    generations.max()
}

/// What is wrong with the newest root of a store and all that it needs; None: it restores, or there is none yet.
pub fn broken(objects: &Objects, base: &str) -> Option<String> {
    let find = |name: &str| objects.get(&ObjectKey::parse(&format!("{base}/{name}")).unwrap());
    let newest = newest(objects, base);
    if let Some(pointed) = find("index.latest") {
        let named = u64::from_be_bytes(pointed[..].try_into().unwrap());
        if find(&format!("index-{named}")).is_none() {
            return Some(format!(
                "index.latest names index-{named}, which is not there"
            ));
        }
    }
    let generation = newest?;
    let body = find(&format!("index-{generation}"))?;
    let root = match Root::parse(generation, body) {
        Ok(root) => Arc::new(root),
        Err(e) => return Some(format!("root {generation} does not parse: {e}")),
    };
    let knowledge = Knowledge::new(Layout::new(base).unwrap());
    match knowledge.propose(root, &Alone(objects, base)) {
        Err(needs) => Some(format!("root {generation}: {needs:?}")),
        Ok(proposal) => proposal
            .problems
            .first()
            .map(|problem| format!("root {generation}: '{}' {}", problem.key, problem.kind)),
    }
}
