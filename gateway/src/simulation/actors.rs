//! Who makes a schedule: two clusters, an operator, and what goes wrong. Each follows its own seed.

use std::time::Duration;

use bytes::Bytes;
use policies::identity::Cluster;
use policies::lock::{Freeze, Lock};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::STARTS;
use super::history::{Asked, Event, Told};
use super::node::BASE;
use super::world::World;
use crate::repository::handover::Ask;
use crate::telemetry::clock;

const REPOSITORY: &str = "5Wr1DzvyT_O0zyRDUhUqzg";

/// Milliseconds from a range.
fn pause(random: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.random_range(from..to))
}

/// A root without snapshots; what follows it tells one write from another.
pub fn root(cluster: &str, operation: usize) -> Bytes {
    let text = format!(
        r#"{{"min_version":"7.12.0","uuid":"{REPOSITORY}","cluster_id":"id-of-{cluster}","snapshots":[],"indices":{{}}}}"#
    );
    let mark: String = format!("{operation:b}")
        .chars()
        .map(|bit| if bit == '1' { '\n' } else { ' ' })
        .collect();
    format!("{text}\t{mark}").into()
}

/// A cluster that writes, reads and lists, and repeats what it got no answer to.
pub async fn cluster(world: World, name: &'static str, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut again: Option<(usize, Asked)> = None;
    while !world.is_over() {
        tokio::time::sleep(pause(&mut random, 0, 2500)).await;
        let Some(node) = world.some_node(&mut random) else {
            continue;
        };
        let repeats = random.random_bool(0.6);
        let (invocation, asked) = match again.take().filter(|_| repeats) {
            Some(again) => again,
            None => {
                let number = world.next_operation();
                (number, choose(&world, &mut random, name, number))
            }
        };
        let operation = world.next_operation();
        world.history.add(Event::Asked {
            operation,
            cluster: name,
            life: node.life,
            asked: asked.clone(),
        });
        let told = {
            let (node, asked) = (node.clone(), asked.clone());
            let serving = node.clone();
            node.run(async move { serving.ask(name, &format!("i-{invocation}"), &asked).await })
                .await
                .unwrap_or_else(|| Told::Unknown("the gateway died".into()))
        };
        world.history.add(Event::Told {
            operation,
            told: told.clone(),
        });
        match (&asked, &told) {
            (Asked::Put { key, .. }, Told::Ok) => world.acknowledged(key),
            (Asked::Put { .. } | Asked::Delete { .. }, Told::Unknown(_)) => {
                again = Some((invocation, asked));
            }
            (Asked::Put { .. } | Asked::Delete { .. } | Asked::Get { .. } | Asked::List, _) => {}
        }
    }
}

fn choose(world: &World, random: &mut StdRng, cluster: &str, number: usize) -> Asked {
    let extra = |random: &mut StdRng| {
        let which = if random.random_bool(0.5) { "a" } else { "b" };
        format!("{BASE}extra/{which}")
    };
    let put = |key: String, content: Bytes| Asked::Put { key, content };
    let mark: Bytes = format!("{number} of {cluster}").into();
    match random.random_range(0..100) {
        0..30 => put(
            format!("{BASE}indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__{number:022}"),
            mark,
        ),
        30..55 => {
            let newest = world.newest_root();
            let next = newest + u64::from(random.random_bool(0.9));
            put(format!("{BASE}index-{next}"), root(cluster, number))
        }
        55..63 => {
            let newest = world.newest_root();
            put(
                format!("{BASE}index.latest"),
                Bytes::copy_from_slice(&newest.to_be_bytes()),
            )
        }
        63..75 => put(extra(random), mark),
        75..79 => Asked::Delete { key: extra(random) },
        79..83 => put(format!("{BASE}tests-{cluster}/master.dat"), mark),
        83..95 => Asked::Get {
            key: world
                .some_key(random)
                .unwrap_or_else(|| format!("{BASE}index-0")),
        },
        _ => Asked::List,
    }
}

/// Hands the lock about, freezes and thaws, and recovers what is in doubt.
pub async fn operator(world: World, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while !world.is_over() {
        tokio::time::sleep(pause(&mut random, 500, 15_000)).await;
        let Some(node) = world.some_node(&mut random) else {
            continue;
        };
        let ask = match node.lock() {
            Lock::Frozen { reason, .. } => remedy(&reason),
            Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => match random.random_range(0..10) {
                0..7 => Ask::Lock {
                    writer: Cluster::new(if random.random_bool(0.5) { "p" } else { "q" }),
                    force: random.random_bool(0.4),
                    wait_mirror: None,
                },
                7 => Ask::Unlock,
                _ => Ask::Freeze,
            },
        };
        let acting = node.clone();
        node.run(async move { acting.operate(ask).await }).await;
    }
}

/// What the sentence of a freeze tells the operator to do.
pub fn remedy(reason: &Freeze) -> Ask {
    match reason {
        Freeze::Operator(_) | Freeze::StoreUnreachable => Ask::Thaw { recover: false },
        // nothing comes into this store but through a gateway: a database that knows nothing of it is an old one
        Freeze::Unadopted
        | Freeze::UnadoptedMirror(_)
        | Freeze::Promoting(_)
        | Freeze::Promoted { .. }
        | Freeze::AnchorAhead { .. }
        | Freeze::AnchorBehind { .. }
        | Freeze::AnchorBroken(_)
        | Freeze::OtherGateway
        | Freeze::DatabaseMoved
        | Freeze::RootAppeared(_)
        | Freeze::Recovering => Ask::Thaw { recover: true },
    }
}

/// Pauses, kills, copies and restores gateways, and sets clocks wrong.
pub async fn nemesis(world: World, seed: u64, databases: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    while !world.is_over() {
        tokio::time::sleep(pause(&mut random, 500, 12_000)).await;
        let kinds = if databases { 10 } else { 6 };
        match random.random_range(0..kinds) {
            0 | 1 => {
                let Some(node) = world.some_node(&mut random) else {
                    continue;
                };
                let time = pause(&mut random, 100, 40_000);
                world
                    .history
                    .note(format!("{:?} pauses for {time:?}", node.life));
                tokio::spawn(async move {
                    node.pulse.pause(true);
                    tokio::time::sleep(time).await;
                    node.pulse.pause(false);
                });
            }
            2 | 3 => {
                if let Some(node) = world.some_node(&mut random) {
                    node.pulse.die_in(random.random_range(0..40));
                }
            }
            4 => {
                if let Some(node) = world.some_node(&mut random) {
                    world.kill(node.lineage);
                }
            }
            5 => {
                let years = random.random_range(-30..100_i64);
                clock::simulated::set(STARTS + time::Duration::days(365 * years));
                world
                    .history
                    .note(format!("the clock jumps to {years} years from now"));
            }
            6 => world.back_up(&mut random),
            7 => world.restore().await,
            8 => world.clone_one(&mut random).await,
            _ => world.retire_one(&mut random),
        }
    }
    clock::simulated::set(STARTS);
}

/// Starts again what died.
pub async fn supervisor(world: World, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while !world.is_over() {
        tokio::time::sleep(pause(&mut random, 50, 1500)).await;
        world.bury_dead();
        let dies_in = random.random_bool(0.25).then(|| random.random_range(0..60));
        world.start_missing(dies_in).await;
    }
}
