//! What the guard costs a snapshot of 10,000 small blobs: everything that it adds to the PUTs of one snapshot.
//!
//! CPU time of one thread: the footers of all data blobs (of 4 KiB), the digests of all metadata and what is kept of them,
//! what the guard is told of every object, and the judgement of the root. Divide by the CPU time that the gateway
//! spends on 10,000 PUTs to get its share; `loadtest/RESULTS.md` has both.
//!
//! `cargo run --release --ignore-rust-version -p policies --features testing --example guard_cost`

use std::time::Duration;

use policies::format::build::{Cluster, Request, Style, Take};
use policies::format::closure::Observed;
use policies::format::digest::{self, kept};
use policies::format::footer::LuceneFooter;
use policies::format::frame::Limits;
use policies::format::paths::Layout;
use policies::guard::{Guard, Rules, Scope};
use policies::identity::Repository;
use policies::key::Class;

const SHARDS: u32 = 10;
const FILES: u32 = 1_000;
const BLOB: usize = 4 << 10;
const ROUNDS: usize = 10;

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

fn main() {
    let mut cluster = Cluster::new(1, "", Style::default());
    let layout = Layout::new("").expect("it is short");
    let mut guard = Guard::new(Repository::new("prod"), layout, Scope::Complete);
    let mut facts = Observed::default();
    let blob = vec![7; BLOB];
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let take = Take {
            index: "logs",
            shards: SHARDS,
            new_files: FILES,
            merged_away: FILES.min(FILES * round as u32),
            failed_shard: None,
        };
        cluster.create(&format!("nightly-{round}"), &[take]);
        let requests = cluster.requests();
        // What the catalog knows is no work of the guard.
        for request in &requests {
            if let Request::Put { key, bytes, .. } = request {
                facts.sizes.insert(key.clone(), Some(bytes.len() as u64));
            }
        }
        let (mut data, start) = (0_u32, on_cpu());
        for request in requests {
            match request {
                Request::Put { key, class, bytes } => {
                    data += told(&mut guard, &mut facts, &key, &class, &bytes, &blob);
                }
                Request::Delete { key, class } => {
                    guard
                        .delete(&key, &class)
                        .expect("a correct cluster deletes it");
                    guard.deleted(&key, &class);
                }
            }
        }
        let time = on_cpu().saturating_sub(start);
        println!("snapshot {round}: {data} data blobs, {time:?} on the CPU");
        times.push(time);
    }
    times.sort();
    println!("median: {:?}", times[ROUNDS / 2]);
}

/// What the gateway does for one object beyond storing it; 1 for a data blob.
fn told(
    guard: &mut Guard,
    facts: &mut Observed,
    key: &policies::key::ObjectKey,
    class: &Class,
    bytes: &[u8],
    blob: &[u8],
) -> u32 {
    if let Class::Root(generation) = class {
        let candidate = guard.candidate(*generation, bytes).expect("it is a root");
        let verdict = guard
            .admit(&candidate, Rules::default(), facts)
            .expect("all facts are there");
        guard.committed(verdict.expect("a correct cluster wrote it"));
        return 0;
    }
    if matches!(class, Class::Data { .. }) {
        let mut footer = LuceneFooter::default();
        footer.update(blob);
        std::hint::black_box(footer.finish().is_ok());
        guard.written(key, class, None);
        return 1;
    }
    let digest = digest::read(class, bytes, Limits::default());
    if let Some(read) = &digest {
        if let Ok(digest) = read {
            std::hint::black_box(kept::encode(digest));
        }
        facts.digests.insert(key.clone(), read.clone());
    }
    guard.written(key, class, digest.as_ref());
    0
}
