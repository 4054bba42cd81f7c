//! Cuts at random places: after every change of the target, the target alone must restore.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Instants that are looked at, each a place where the target may be cut off for good; CI asks for more.
const INSTANTS: u64 = 1_500;

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_instant_of_a_random_life_the_mirror_restores() {
    let first = asked("SNAPGATE_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let wanted = asked("SNAPGATE_INSTANTS").unwrap_or(INSTANTS);
    let mut instants = 0;
    for seed in first.. {
        let lived = life(seed).await;
        instants += lived;
        if instants >= wanted {
            println!("seeds {first} to {seed}: {instants} instants");
            return;
        }
    }
}

/// Snapshots, deletes, a target that fails, is away, and an applier that is killed.
async fn life(seed: u64) -> u64 {
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut m = Mirrored::seeded(World::new().await, seed).await;
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
    let seen = m.seen.lock();
    seen.instants
}
