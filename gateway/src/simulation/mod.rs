//! The whole lock under simulation: real doors, gates, recoveries and hand-overs over real transactions, on a
//! store and a network that do what they can to break it.
//!
//! One thread, paused time, one seed: a schedule is a few minutes of two clusters, an operator, and a nemesis that
//! pauses, kills at any step, clones and restores gateways and sets clocks wrong, while the network loses, slows, holds
//! back, repeats and overtakes requests. What happened is judged afterwards by a [`checker`] that shares no
//! code with what it judges, and that must notice each of the [`mutants::Mutant`]s.
//!
//! Nothing in a schedule reads a real clock or draws from anything but its seed, tokens apart, whose content decides
//! nothing: so a seed is all that is needed to see a failure again.

mod actors;
mod campaign;
mod checker;
mod coverage;
mod healed;
mod history;
mod mutants;
mod network;
mod node;
mod pulse;
mod rows;
mod shelf;
mod wire;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::state::sqlite::simulated::mutant::leave_out;
use crate::state::sqlite::simulated::template;
use crate::telemetry::clock;
use history::{Event, History};
use mutants::Mutant;
use network::{CALM, Network, Weather};
use shelf::Shelf;
use world::World;

/// What the wall clocks show when a schedule begins.
const STARTS: time::OffsetDateTime = time::macros::datetime!(2027-01-15 08:00 UTC);
/// How long the clusters work, and how long late requests may take to come.
const WORKS: Duration = Duration::from_secs(90);
const LATE: Duration = Duration::from_secs(130);
/// How long what was paused may still be busy, in fair weather: writes wait 25 s for a hand-over.
const WAKES: Duration = Duration::from_secs(45);

fn weather(random: &mut StdRng) -> Weather {
    match random.random_range(0..5) {
        0 => CALM,
        1 => Weather {
            lost: 10,
            answer_lost: 20,
            ..CALM
        },
        2 => Weather {
            held: 25,
            twice: 25,
            ..CALM
        },
        3 => Weather { slow: 80, ..CALM },
        _ => Weather {
            lost: 15,
            answer_lost: 25,
            held: 15,
            twice: 15,
            busy: 10,
            slow: 30,
        },
    }
}

/// What happened in the schedule of this seed.
fn run(seed: u64, files: &Files, mutant: Option<Mutant>) -> Vec<Event> {
    let directory = tempfile::tempdir_in(&files.directory).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    leave_out(mutant.and_then(Mutant::left_out));
    let history = History::default();
    runtime.block_on(schedule(
        seed,
        directory.path(),
        files,
        mutant,
        history.clone(),
    ));
    leave_out(None);
    clock::simulated::unset();
    drop(runtime);
    history.take()
}

async fn schedule(
    seed: u64,
    directory: &Path,
    files: &Files,
    mutant: Option<Mutant>,
    history: History,
) {
    clock::simulated::set(STARTS);
    let mut random = StdRng::seed_from_u64(seed);
    let network = Network::new(random.random(), weather(&mut random));
    let shelf = Shelf::new(history.clone(), mutant);
    let world = World::new(directory, &files.template, shelf, network, history);
    let databases = random.random_bool(0.5);
    world.start_missing(None).await;
    let (p, q) = (random.random(), random.random());
    let (o, n, s) = (random.random(), random.random(), random.random());
    let clusters = [
        tokio::spawn(actors::cluster(world.clone(), "p", p)),
        tokio::spawn(actors::cluster(world.clone(), "q", q)),
    ];
    let others = [
        tokio::spawn(actors::operator(world.clone(), o)),
        tokio::spawn(actors::nemesis(world.clone(), n, databases)),
        tokio::spawn(actors::supervisor(world.clone(), s)),
    ];
    tokio::time::sleep(WORKS).await;
    world.end();
    world.network.heal();
    tokio::time::sleep(LATE).await;
    world.unpause_all();
    world.bury_dead();
    tokio::time::sleep(WAKES).await;
    for task in clusters.into_iter().chain(others) {
        if !task.is_finished() {
            world.history.note("somebody is stuck");
        }
        task.abort();
        if let Err(e) = task.await
            && e.is_panic()
        {
            world.history.add(Event::Broken(format!("a panic: {e}")));
        }
    }
    healed::healed(&world).await;
}

/// Where databases lie: in memory if there is such a place.
struct Files {
    directory: PathBuf,
    template: PathBuf,
    _kept: tempfile::TempDir,
}

fn files() -> Files {
    let memory = Path::new("/dev/shm");
    let kept = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let kept = kept.unwrap();
    let template_file = kept.path().join("template.db");
    template(&template_file);
    Files {
        directory: kept.path().to_owned(),
        template: template_file,
        _kept: kept,
    }
}
