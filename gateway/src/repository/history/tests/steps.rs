//! What may happen in the life of a repository, drawn at random and shrunk to what matters.

use policies::format::build::{Form, Style, Take};
use policies::format::paths::PathType;
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub enum Step {
    Create(u32),
    /// Two snapshots at once; the one that started last is finalised first.
    Pair(u32),
    Delete {
        which: u32,
        roots_last: bool,
    },
    Clone(u32),
    Cleanup,
    Upgrade,
    /// A master commits a root and is lost before the cluster knows of it.
    FailoverOfCreate(u32),
    FailoverOfDelete(u32),
    /// Somebody deletes a part of all keys by hand.
    Attack(u32),
    /// The other cluster tries to write.
    Intruder(u32),
    HandOver,
    /// Milliseconds pass, and the reaper looks.
    Time(u64),
    Pin(u32),
    Unpin,
    /// Cut off after so many steps of its work, if at all.
    Rollback {
        which: u32,
        cut: Option<usize>,
    },
    Undelete {
        which: u32,
        cut: Option<usize>,
    },
    Diff(u32),
    Restart,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cut = || prop::option::weighted(0.4, 1..160_usize);
    let step = prop_oneof![
        6 => any::<u32>().prop_map(Step::Create),
        2 => any::<u32>().prop_map(Step::Pair),
        4 => any::<(u32, bool)>().prop_map(|(which, roots_last)| Step::Delete { which, roots_last }),
        1 => any::<u32>().prop_map(Step::Clone),
        1 => Just(Step::Cleanup),
        1 => Just(Step::Upgrade),
        1 => any::<u32>().prop_map(Step::FailoverOfCreate),
        1 => any::<u32>().prop_map(Step::FailoverOfDelete),
        2 => any::<u32>().prop_map(Step::Attack),
        1 => any::<u32>().prop_map(Step::Intruder),
        1 => Just(Step::HandOver),
        3 => (0..90_000_u64).prop_map(Step::Time),
        2 => any::<u32>().prop_map(Step::Pin),
        1 => Just(Step::Unpin),
        3 => (any::<u32>(), cut()).prop_map(|(which, cut)| Step::Rollback { which, cut }),
        3 => (any::<u32>(), cut()).prop_map(|(which, cut)| Step::Undelete { which, cut }),
        2 => any::<u32>().prop_map(Step::Diff),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 3..18)
}

pub fn styles() -> impl Strategy<Value = Style> {
    let form = prop_oneof![
        Just((Form::Legacy { sequential: true }, PathType::Fixed)),
        Just((Form::Legacy { sequential: false }, PathType::Fixed)),
        Just((Form::Uuid { identified: true }, PathType::Fixed)),
        Just((Form::Uuid { identified: false }, PathType::Fixed)),
        Just((Form::Uuid { identified: false }, PathType::HashedPrefix)),
        Just((Form::Uuid { identified: false }, PathType::HashedInfix)),
    ];
    (form, any::<bool>(), prop::option::of(20..60_u64)).prop_map(
        |((form, path_type), deflate, part_size)| Style {
            form,
            path_type,
            deflate,
            part_size,
        },
    )
}

/// One or two indices with one or two shards each, as `shape` says.
pub fn takes(shape: u32) -> Vec<Take<'static>> {
    let bits = |at: u32, width: u32| shape >> at & ((1 << width) - 1);
    (0..=bits(0, 1))
        .map(|at| {
            let shards = 1 + bits(1 + at, 1);
            Take {
                index: ["books", "films", "songs"][((at + bits(3, 2)) % 3) as usize],
                shards,
                new_files: bits(5, 2),
                merged_away: bits(7, 2),
                failed_shard: (bits(9, 3) == 0 && at == 0).then(|| bits(12, 1) % shards),
            }
        })
        .collect()
}
