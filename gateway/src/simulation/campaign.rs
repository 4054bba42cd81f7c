//! Many schedules, one seed each.
//!
//! `SNAPGATE_SCHEDULES` sets how many (default 200), `SNAPGATE_SCHEDULES_FROM` the first seed (default 0; of each mutant's
//! search 1);
//! `SNAPGATE_SCHEDULE=n` runs that one and prints what happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::coverage::Coverage;
use super::history::Event;
use super::mutants::Mutant;
use super::{checker, files, run};

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn tell(seed: u64, history: &[Event], why: &str) -> String {
    let events: String = history
        .iter()
        .map(|event| match event {
            Event::Rest { .. } => "at rest\n".to_owned(),
            event => format!("{event:?}\n"),
        })
        .collect();
    format!("{events}seed {seed}: {why}")
}

/// Runs schedules until one fails; its seed and its history.
pub fn campaign(from: u64, schedules: u64, mutant: Option<Mutant>) -> (Coverage, Option<String>) {
    let met = Mutex::new(Coverage::default());
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let files = files();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + schedules {
                        return;
                    }
                    let history = run(seed, &files, mutant);
                    met.lock().add(&history);
                    if let Some(broken) = checker::judge(&history) {
                        stop.store(true, Ordering::Relaxed);
                        failed
                            .lock()
                            .get_or_insert_with(|| tell(seed, &history, &broken));
                    }
                }
            });
        }
    });
    (met.into_inner(), failed.into_inner())
}

#[test]
fn no_schedule_breaks_the_lock() {
    if let Some(seed) = number("SNAPGATE_SCHEDULE") {
        let history = run(seed, &files(), None);
        let broken = checker::judge(&history);
        let why = broken.clone().unwrap_or_else(|| "nothing is broken".into());
        println!("{}", tell(seed, &history, &why));
        assert_eq!(broken, None);
        return;
    }
    let from = number("SNAPGATE_SCHEDULES_FROM").unwrap_or(0);
    let schedules = number("SNAPGATE_SCHEDULES").unwrap_or(200);
    let began = std::time::Instant::now();
    let (met, failed) = campaign(from, schedules, None);
    println!(
        "{} schedules from seed {from} in {:.0?}: {met}",
        met.schedules,
        began.elapsed()
    );
    if let Some(failed) = failed {
        panic!("{failed}");
    }
    assert!(met.is_whole(), "hardly anything happened: {met}");
}

#[test]
fn a_seed_reproduces_its_schedule() {
    let files = files();
    for seed in 0..40 {
        let (first, again) = (run(seed, &files, None), run(seed, &files, None));
        let differs = first
            .iter()
            .zip(&again)
            .position(|(a, b)| shape(a) != shape(b));
        assert_eq!(
            differs.map(|at| (&first[at], &again[at])),
            None,
            "seed {seed}"
        );
        assert_eq!(first.len(), again.len(), "seed {seed}");
    }
}

/// An event without what is random on purpose: hand-over ids, tokens, and how second names end.
fn shape(event: &Event) -> String {
    match event {
        Event::Effect { name, .. } if name.starts_with(".snapgate/kept/") => {
            let (place, _random) = name.rsplit_once('-').unwrap();
            place.to_owned()
        }
        Event::Effect { name, .. } if name.starts_with(".snapgate/") => name.clone(),
        Event::Rest { .. } => "at rest".into(),
        event => format!("{event:?}"),
    }
}
