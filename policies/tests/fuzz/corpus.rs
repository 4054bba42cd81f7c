//! What the mutations begin from: objects that real clusters wrote, as each target wants them.

use std::collections::BTreeSet;

use policies::format::digest::{self, kept};
use policies::format::frame::{self, Limits};
use policies::identity::{Cluster, Epoch, Handover, Repository};
use policies::key::Class;
use policies::lock::anchor::{self, Anchor};

use crate::repositories::{self, class_of};
use crate::targets::Target;

/// Larger objects are left out: they are more of the same, and slow.
fn largest(target: Target) -> usize {
    match target {
        Target::Footer | Target::Frame => 1 << 10,
        Target::MergedRoot | Target::MergedShardIndex => 4 << 10,
        _ => 8 << 10,
    }
}

/// The inputs of a target, each once, in an order that every run has.
pub fn of(target: Target) -> Vec<Vec<u8>> {
    let mut inputs = BTreeSet::new();
    match target {
        Target::Broken(_) => return vec![b"01234567".to_vec()],
        Target::Anchor => inputs.extend(anchors()),
        Target::MergedRoot => inputs.extend(pairs_of_roots()),
        _ => {
            for fixture in repositories::all() {
                for (key, bytes) in &fixture.objects {
                    let class = class_of(fixture.base_path, key);
                    inputs.extend(input(target, key, &class, bytes));
                }
            }
        }
    }
    inputs.retain(|input| input.len() <= largest(target));
    assert!(!inputs.is_empty(), "{target:?} has no corpus");
    inputs.into_iter().collect()
}

/// What one object of a repository gives a target.
fn input(target: Target, key: &str, class: &Class, bytes: &[u8]) -> Option<Vec<u8>> {
    let document = || {
        let frame = frame::open(bytes).ok()?;
        Some(frame.document(Limits::default()).ok()?.into_owned())
    };
    match (target, class) {
        (Target::Root | Target::Admission, Class::Root(_))
        | (Target::ShardPaths, Class::ShardPaths)
        | (Target::Footer, Class::Data { .. }) => Some(bytes.to_vec()),
        (Target::Smile, _) => document(),
        (Target::Frame, _) => frame::open(bytes).is_ok().then(|| bytes.to_vec()),
        (Target::SnapshotInfo, Class::SnapshotInfo(_))
        | (Target::IndexMetadata, Class::IndexMetadata { .. })
        | (Target::ShardSnapshot, Class::ShardSnapshot { .. })
        | (Target::ShardIndex, Class::ShardIndex { .. }) => document(),
        (Target::MergedShardIndex, Class::ShardSnapshot { .. } | Class::ShardIndex { .. }) => {
            document()
        }
        (Target::KeptDigest, _) => {
            let read = digest::read(class, bytes, Limits::default())?.ok()?;
            Some(kept::encode(&read))
        }
        (Target::Key, _) => Some(key.as_bytes().to_vec()),
        (_, _) => None,
    }
}

/// Any two roots of one repository, in either order, a NUL between them.
fn pairs_of_roots() -> Vec<Vec<u8>> {
    let mut roots: Vec<(String, Vec<u8>)> = Vec::new();
    for fixture in repositories::all() {
        let archive = fixture.name.split('/').next().unwrap_or_default();
        for (key, bytes) in fixture.objects {
            if let Class::Root(_) = class_of(fixture.base_path, &key) {
                roots.push((archive.to_owned(), bytes));
            }
        }
    }
    let two = |(archive, newest): &(String, Vec<u8>)| {
        let others = roots.iter().filter(|(other, _)| other == archive);
        let pairs: Vec<_> = others
            .map(|(_, donor)| [&**newest, donor].join(&0))
            .collect();
        pairs
    };
    roots.iter().flat_map(two).collect()
}

/// A chain of three epochs, its anchors apart by NUL.
fn anchors() -> Vec<Vec<u8>> {
    let mut previous = None;
    let chain: Vec<Vec<u8>> = (1..=3)
        .map(|epoch| {
            let bytes = anchor::encode(&Anchor {
                repository: Repository::new("prod"),
                epoch: Epoch(epoch),
                holder: (epoch != 2).then(|| Cluster::new("blue")),
                handover: Handover::new(format!("handover-{epoch}")),
                previous: previous.take(),
            });
            previous = Some(anchor::hash(&bytes));
            bytes
        })
        .collect();
    vec![chain.join(&0), chain[0].clone()]
}
