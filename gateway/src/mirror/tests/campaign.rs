//! Cuts at random places: after every change of the target, the target alone must restore.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::watched::Watched;
use super::*;
use crate::stores::directory::Directory;

/// Instants that are looked at, each a place where the target may be cut off for good; CI asks for more.
const INSTANTS: u64 = 1_500;
/// Of each of the slower targets: one instant for so many of the target in memory.
const SHARE: u64 = 5;

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn first_seed() -> u64 {
    asked("SNAPGATE_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()))
}

fn instants() -> u64 {
    asked("SNAPGATE_INSTANTS").unwrap_or(INSTANTS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_instant_of_a_random_life_the_mirror_restores() {
    let (first, mut lived) = (first_seed(), 0);
    for seed in first.. {
        lived += life(seed, Memory::new(seed)).await;
        if lived >= instants() {
            println!("seeds {first} to {seed}: {lived} instants");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_instant_of_a_random_life_the_mirror_in_a_directory_restores() {
    let (first, mut lived) = (first_seed(), 0);
    for seed in first.. {
        let files = tempfile::tempdir().unwrap();
        let store = Directory::open(files.path().to_owned()).await.unwrap();
        let target = Watched::new(Arc::new(store), seed);
        lived += life(seed, target.clone()).await;
        target.is_as_seen("").await;
        if lived >= instants() / SHARE {
            println!("seeds {first} to {seed}: {lived} instants in a directory");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_instant_of_a_random_life_the_mirror_in_a_bucket_restores() {
    let (first, mut lived) = (first_seed(), 0);
    for seed in first.. {
        let (service, store) = crate::stores::s3::lossy(seed, 0.03).await;
        let target = Watched::new(store, seed);
        lived += life(seed, target.clone()).await;
        target.is_as_seen("").await;
        drop(service);
        if lived >= instants() / SHARE {
            println!("seeds {first} to {seed}: {lived} instants in a bucket");
            return;
        }
    }
}

/// Snapshots, deletes, a target that fails, is away, and an applier that is killed.
async fn life<T: Target>(seed: u64, target: T) -> u64 {
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut m = Mirrored::onto(World::new().await, target).await;
    let mut names: Vec<String> = Vec::new();
    for n in 0..24 {
        m.target.fail(random.random_range(0.0..0.15));
        if names.len() > 1 && random.random_bool(0.4) {
            let gone = names.remove(random.random_range(0..names.len()));
            m.world.cluster.delete(&[&gone], random.random_bool(0.5));
        } else {
            let name = format!("s{n}");
            m.world.take(&name);
            names.push(name);
        }
        for request in m.world.cluster.requests() {
            m.send(request).await;
            if random.random_bool(0.05) {
                m.kill().await;
            }
            if random.random_bool(0.1) {
                let time = Duration::from_millis(random.random_range(0..30));
                tokio::time::sleep(time).await;
            }
        }
        m.target.cut(random.random_bool(0.2));
        if random.random_bool(0.1) {
            m.mirror.resync("by chance", false).await.unwrap();
        }
    }
    m.target.cut(false);
    m.target.fail(0.0);
    m.until(State::InSync).await;
    m.equal().await;
    m.mirror.stop().await;
    let seen = m.seen.lock();
    seen.instants
}
