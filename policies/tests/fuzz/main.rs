//! Fuzzing: whatever bytes they are given, the parsers come back, in bounded memory and time.
//!
//! Objects of real clusters, mutated. `SNAPGATE_FUZZ` is the number of executions of each target (1,000,000 in CI,
//! 100,000,000 in `.ci/long`), `SNAPGATE_FUZZ_SEED` repeats a run. A crash is told with its seed and a small input.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../repositories/mod.rs"]
mod repositories;

mod broken;
mod child;
mod corpus;
mod mutate;
mod runner;
mod targets;

use std::time::Duration;

use broken::{BAD, Broken};
use targets::Target;

macro_rules! campaigns {
    ($($name:ident => $target:ident,)*) => {
        const TARGETS: &[(&str, Target)] = &[
            $((stringify!($name), Target::$target),)*
            ("panics", Target::Broken(Broken::Panics)),
            ("overflows", Target::Broken(Broken::Overflows)),
            ("hoards", Target::Broken(Broken::Hoards)),
            ("dawdles", Target::Broken(Broken::Dawdles)),
            ("hangs", Target::Broken(Broken::Hangs)),
        ];

        $(#[test]
        fn $name() {
            runner::campaign(stringify!($name), Target::$target);
        })*
    };
}

campaigns! {
    roots => Root,
    admission => Admission,
    merged_roots => MergedRoot,
    shard_paths => ShardPaths,
    frames => Frame,
    smile => Smile,
    snapshot_infos => SnapshotInfo,
    index_metadata => IndexMetadata,
    shard_snapshots => ShardSnapshot,
    shard_indexes => ShardIndex,
    merged_shard_indexes => MergedShardIndex,
    kept_digests => KeptDigest,
    footers => Footer,
    anchors => Anchor,
    keys => Key,
}

/// Not a test: what the others start, over and over.
#[test]
#[ignore = "a campaign starts it"]
fn one_process_of_a_campaign() {
    if let Ok(name) = std::env::var(child::TARGET) {
        let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
        child::live(*target);
    }
}

#[test]
fn whatever_way_a_reader_is_broken_the_input_is_found_and_made_small() {
    for (name, how, patience) in [
        ("panics", "a byte that it does not know", 30),
        ("overflows", "overflowed its stack", 30),
        ("hoards", "an execution took", 30),
        ("dawdles", "of CPU", 30),
        ("hangs", "it says nothing for 5s", 5),
    ] {
        let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
        let patience = Duration::from_secs(patience);
        let crash = runner::run(name, *target, 7, 0..20_000, patience).expect(name);
        assert_eq!(crash.input, [BAD], "{crash}");
        assert!(crash.how.contains(how), "{crash}");
        assert!(crash.to_string().contains("SNAPGATE_FUZZ_SEED=7"));
    }
}
