//! How long it takes to judge a root: 200 snapshots of 200 indices with 5 shards each, 1,000,000 blobs.
//!
//! CPU time of one thread. `cargo run --release --ignore-rust-version -p policies --example judge_commit` prints the times; more than 50 ms
//! or 64 MiB for one judgement ends it with an error.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use policies::format::closure::{Facts, Knowledge};
use policies::format::digest::{self, Digest};
use policies::format::name::BlobName;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::format::shard::{File, ShardIndex, ShardSnapshot};
use policies::format::snapshot::{IndexMetadata, SnapshotInfo};
use policies::guard::{Guard, Rules};
use policies::identity::Repository;
use policies::key::{ObjectKey, Shard};
use serde_json::{Map, json};

const SNAPSHOTS: usize = 200;
const INDICES: usize = 200;
const SHARDS: u32 = 5;
const BLOBS: usize = 1_000;
/// Blobs of one shard in one snapshot; each snapshot brings `BLOBS / SNAPSHOTS` new ones.
const WINDOW: usize = 200;
const LENGTH: u64 = 4_096;
const LIMIT: Duration = Duration::from_millis(50);
const MEMORY: u64 = 64 << 20;

/// Every shard directory holds the same names, so that one digest serves them all.
struct Store {
    snapshots: Vec<Arc<Digest>>,
    index: Arc<Digest>,
}

fn uuid(snapshot: usize) -> String {
    format!("snapshot-uuid-{snapshot:08}")
}

impl Store {
    fn new() -> Self {
        let blob = |number: usize| File {
            name: BlobName::new(&format!("__blob-{number:017}")),
            length: LENGTH,
            part_size: File::WHOLE,
            checksum: Some(number as u32),
        };
        let blobs: Vec<File> = (0..BLOBS + WINDOW).map(blob).collect();
        let step = BLOBS / SNAPSHOTS;
        let files = |snapshot: usize| blobs[snapshot * step..snapshot * step + WINDOW].into();
        let body = |snapshot: usize| ShardSnapshot {
            name: uuid(snapshot).into(),
            files: files(snapshot),
        };
        Self {
            snapshots: (0..=SNAPSHOTS)
                .map(|snapshot| Arc::new(Digest::ShardSnapshot(body(snapshot))))
                .collect(),
            index: Arc::new(Digest::ShardIndex(ShardIndex {
                files: blobs.into(),
                snapshots: Vec::new(),
            })),
        }
    }
}

impl Facts for Store {
    fn size(&self, _key: &ObjectKey) -> Option<Option<u64>> {
        Some(Some(LENGTH))
    }

    fn digest(&self, key: &ObjectKey) -> Option<digest::Read> {
        let key = key.as_str();
        let name = key.rsplit('/').next()?;
        let digest = match (
            key.contains('/'),
            name.strip_prefix("snap-")
                .and_then(|rest| rest.strip_suffix(".dat")),
        ) {
            (true, Some(uuid)) => self.snapshots[uuid[14..].parse::<usize>().ok()?].clone(),
            (true, None) if name.starts_with("index-") => self.index.clone(),
            (true, None) => Arc::new(Digest::IndexMetadata(index_metadata(key)?)),
            (false, Some(uuid)) => Arc::new(Digest::SnapshotInfo(info(uuid))),
            (false, None) => Arc::new(Digest::GlobalMetadata),
        };
        Some(Ok(digest))
    }

    fn highest_numbered(&self, _shard: &Shard, _directory: &str) -> Option<Option<u64>> {
        Some(None)
    }
}

/// Of `indices/index-id-<number>/meta-*`.
fn index_metadata(key: &str) -> Option<IndexMetadata> {
    let number: usize = key
        .rsplit('/')
        .nth(1)?
        .strip_prefix("index-id-")?
        .parse()
        .ok()?;
    Some(IndexMetadata {
        index: format!("logs-{number}").into(),
        shards: SHARDS,
    })
}

fn info(uuid: &str) -> SnapshotInfo {
    SnapshotInfo {
        name: uuid.into(),
        uuid: uuid.into(),
        version_id: None,
        state: "SUCCESS".into(),
        indices: Vec::new(),
        failures: std::collections::BTreeSet::new(),
        start_time: None,
        end_time: None,
        total_shards: None,
        include_global_state: None,
        shallow: false,
    }
}

/// The root after `taken` snapshots; only from `listed` on do roots name shard generations, to build up faster.
fn root(generation: usize, taken: std::ops::Range<usize>, listed: bool) -> Vec<u8> {
    let snapshots: Vec<_> = taken
        .clone()
        .map(|snapshot| {
            let lookup: Map<_, _> =
                (0..INDICES).map(|index| (format!("index-id-{index:013}"), json!(format!("identifier-of-index-{index}")))).collect();
            json!({"name": uuid(snapshot), "uuid": uuid(snapshot), "state": 1, "index_metadata_lookup": lookup, "version": "8.11.0"})
        })
        .collect();
    let uuids: Vec<_> = taken.map(uuid).collect();
    let indices: Map<_, _> = (0..INDICES)
        .map(|index| {
            let generations: Vec<_> =
                (0..SHARDS).map(|shard| if listed { format!("gen-{generation:06}-{shard}-{index:06}") } else { "_new".into() }).collect();
            (format!("logs-{index}"), json!({"id": format!("index-id-{index:013}"), "snapshots": uuids, "shard_generations": generations}))
        })
        .collect();
    let identifiers: Map<_, _> = (0..INDICES)
        .map(|index| {
            (
                format!("identifier-of-index-{index}"),
                json!(format!("meta-of-{index:012}")),
            )
        })
        .collect();
    let root = json!({"min_version": "7.12.0", "uuid": "R", "cluster_id": "C", "snapshots": snapshots, "indices": indices, "index_metadata_identifiers": identifiers});
    serde_json::to_vec(&root).expect("it is a tree of text")
}

/// Time this thread ran so far: what a busy machine took from it does not count.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(
        stat.split(' ')
            .next()
            .and_then(|first| first.parse().ok())
            .unwrap_or(0),
    )
}

/// Peak and present resident memory in bytes, as the kernel counts them.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| {
        rest.trim_matches([':', '\t', ' ', 'k', 'B'])
            .trim()
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or(0) << 10
}

fn main() -> ExitCode {
    let store = Store::new();
    let layout = Layout::new("backups/prod").expect("it is short");
    let mut knowledge = Knowledge::new(layout);
    let before = memory("VmRSS");
    for generation in 0..SNAPSHOTS {
        let listed = generation + 2 >= SNAPSHOTS;
        let body = root(generation, 0..generation + 1, listed);
        let parsed = Root::parse(generation as u64, &body).expect("it is a root");
        let proposal = knowledge
            .propose(Arc::new(parsed), &store)
            .expect("all facts are there");
        assert_eq!(proposal.problems, []);
        knowledge.commit(proposal);
        knowledge.root_deleted((generation as u64).saturating_sub(1));
    }
    println!(
        "{} snapshots, {} members known in {} MiB",
        SNAPSHOTS,
        knowledge.members().count(),
        (memory("VmRSS") - before) >> 20
    );

    let guard = Guard::adopted(Repository::new("prod"), knowledge);
    let mut good = true;
    for (what, taken) in [
        ("one snapshot more", 0..SNAPSHOTS + 1),
        ("one snapshot less", 1..SNAPSHOTS),
    ] {
        let body = root(SNAPSHOTS, taken, true);
        let peak = memory("VmHWM");
        let mut times: Vec<Duration> = (0..15)
            .map(|_| {
                let start = on_cpu();
                let candidate = guard
                    .candidate(SNAPSHOTS as u64, &body)
                    .expect("it is a root");
                let verdict = guard
                    .admit(&candidate, Rules::default(), &store)
                    .expect("all facts are there");
                let time = on_cpu().saturating_sub(start);
                assert!(verdict.is_ok(), "{verdict:?}");
                time
            })
            .collect();
        times.sort();
        let extra = memory("VmHWM") - peak;
        println!(
            "{what}: root of {} KiB, all shards changed: {:?} on the CPU, {} MiB more",
            body.len() >> 10,
            times[0],
            extra >> 20
        );
        good &= times[0] < LIMIT && extra < MEMORY;
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
