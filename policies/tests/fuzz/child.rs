//! The process that executes: it says where it is, and dies of whatever is wrong.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::corpus;
use crate::mutate::{Random, mutate};
use crate::targets::{Reader, Target};

/// What a child is told, in its environment: the target's name, and `seed from to step`; without the latter it reads one
/// input from its standard input.
pub const TARGET: &str = "SNAPGATE_FUZZ_TARGET";
pub const ROUNDS: &str = "SNAPGATE_FUZZ_ROUNDS";
/// In front of the number of the round that comes next.
pub const MARK: &str = "#round ";

/// CPU time that one execution may take on 64 KiB, inflated to at most 1 MiB.
pub const SLOW: Duration = Duration::from_millis(500);
/// What a child may grow by, resident, above its corpus: 96 bytes for every byte of an inflated body.
const HOARD: u64 = 96 << 20;
/// What it may ask for without touching it.
const CLAIM: u64 = 1 << 30;

/// The input of one round, the same in every process.
pub fn input(corpus: &[Vec<u8>], seed: u64, round: u64) -> Vec<u8> {
    let mut random = Random(seed ^ round.wrapping_mul(0xA24B_AED4_963E_E407));
    random.draw();
    let mut bytes = random.one_of(corpus).clone();
    let other = random.one_of(corpus);
    mutate(&mut random, &mut bytes, other);
    bytes
}

pub fn live(target: Target) {
    let reader = Reader::new(target);
    let Ok(rounds) = std::env::var(ROUNDS) else {
        let mut input = Vec::new();
        std::io::stdin().read_to_end(&mut input).unwrap();
        let memory = Memory::now();
        execute(&reader, &input);
        return memory.check();
    };
    let numbers: Vec<u64> = rounds.split(' ').map(|n| n.parse().unwrap()).collect();
    let [seed, from, to, step] = numbers[..] else {
        panic!("{ROUNDS}={rounds}");
    };
    let corpus = corpus::of(target);
    let memory = Memory::now();
    for round in from..to {
        if (round - from).is_multiple_of(step) {
            memory.check();
            println!("{MARK}{round}");
        }
        execute(&reader, &input(&corpus, seed, round));
    }
    memory.check();
}

fn execute(reader: &Reader, input: &[u8]) {
    let begun = Instant::now();
    reader.read(input);
    if begun.elapsed() > SLOW {
        // Perhaps the machine was busy: what counts is the time this thread ran.
        let before = on_cpu();
        reader.read(input);
        let took = on_cpu() - before;
        assert!(took < SLOW, "one execution takes {took:?} of CPU");
    }
}

/// What this thread ran so far.
pub fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// The peaks of this process so far, in bytes.
struct Memory {
    resident: u64,
    claimed: u64,
}

impl Memory {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.unwrap().trim().trim_end_matches(" kB");
            kib.parse::<u64>().unwrap() << 10
        };
        Self {
            resident: of("VmHWM:"),
            claimed: of("VmPeak:"),
        }
    }

    fn check(&self) {
        let now = Self::now();
        let (grew, claimed) = (now.resident - self.resident, now.claimed - self.claimed);
        assert!(grew < HOARD, "an execution took {} MiB", grew >> 20);
        assert!(
            claimed < CLAIM,
            "an execution asked for {} MiB",
            claimed >> 20
        );
    }
}
