//! A campaign: a child executes, this watches. When the child dies, the round is found, and its input made small.
//!
//! A process of its own, because a stack that overflows, memory that runs out and a loop without end take the process with
//! them, and all three must end in a seed and a small input like any panic.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::child::{self, MARK, ROUNDS, TARGET};
use crate::corpus;
use crate::targets::Target;

/// Executions of each target without `SNAPGATE_FUZZ`.
const EXECUTIONS: u64 = 20_000;
/// Rounds between two signs of life.
const STEP: u64 = 1_000;
/// Without a sign of life for so long, a child hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// For making an input smaller.
const MINIMISING: Duration = Duration::from_secs(60);

/// Executes the target as often as `SNAPGATE_FUZZ` says; a failure says how to repeat it.
pub fn campaign(name: &str, target: Target) {
    let executions = number("SNAPGATE_FUZZ").unwrap_or(EXECUTIONS);
    let random = || RandomState::new().build_hasher().finish() >> 32;
    let seed = number("SNAPGATE_FUZZ_SEED").unwrap_or_else(random);
    println!("{name}: SNAPGATE_FUZZ_SEED={seed} SNAPGATE_FUZZ={executions}");
    let begun = Instant::now();
    if let Some(crash) = run(name, target, seed, 0..executions, PATIENCE) {
        panic!("{crash}");
    }
    println!("{name}: {executions} executions in {:?}", begun.elapsed());
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// An input that a target does not survive.
pub struct Crash {
    pub name: String,
    pub seed: u64,
    pub round: u64,
    /// As small as it became.
    pub input: Vec<u8>,
    pub how: String,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            seed,
            round,
            input,
            how,
        } = self;
        let shown = &input[..input.len().min(400)];
        writeln!(
            f,
            "{name} dies of {} bytes: {}",
            input.len(),
            String::from_utf8_lossy(shown)
        )?;
        writeln!(f, "in hex: {shown:02x?}")?;
        writeln!(
            f,
            "repeat: SNAPGATE_FUZZ_SEED={seed} SNAPGATE_FUZZ={} cargo test --ignore-rust-version -p policies --test fuzz {name}",
            round + 1
        )?;
        write!(f, "{how}")
    }
}

/// The first crash of these rounds.
pub fn run(
    name: &str,
    target: Target,
    seed: u64,
    rounds: Range<u64>,
    patience: Duration,
) -> Option<Crash> {
    let child = |rounds: Range<u64>, step| {
        let rounds = format!("{seed} {} {} {step}", rounds.start, rounds.end);
        watch(name, Some(&rounds), &[], patience)
    };
    let mut died = child(rounds.clone(), STEP).err()?;
    let from = died.round.unwrap_or(rounds.start);
    // Again, with a sign of life before each. What does not repeat is told as it was.
    if let Err(again) = child(from..rounds.end.min(from + STEP), 1) {
        died = again;
    }
    let round = died.round.unwrap_or(from);
    let input = child::input(&corpus::of(target), seed, round);
    let (input, how) = minimised(name, input, died.how, patience);
    Some(Crash {
        name: name.to_owned(),
        seed,
        round,
        input,
        how,
    })
}

struct Death {
    /// The last that was begun.
    round: Option<u64>,
    how: String,
}

/// Starts a child, feeds it, and waits for its end.
fn watch(name: &str, rounds: Option<&str>, input: &[u8], patience: Duration) -> Result<(), Death> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "one_process_of_a_campaign",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(TARGET, name)
        .env_remove(ROUNDS)
        .envs(rounds.map(|rounds| (ROUNDS, rounds)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A child that is dead already does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (send, lines) = sync_channel(16);
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let complaints = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = err.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut round = None;
    let hangs = loop {
        match lines.recv_timeout(patience) {
            Ok(line) => {
                let marked = line.split_once(MARK);
                round = marked.map_or(round, |(_, number)| number.parse().ok());
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if hangs {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    reading.join().unwrap();
    let complaints = complaints.join().unwrap();
    if status.success() {
        return Ok(());
    }
    let how = if hangs {
        format!("it says nothing for {patience:?}")
    } else {
        format!("{status}\n{complaints}")
    };
    Err(Death { round, how })
}

/// A smaller input that the target does not survive either, and how it dies of it.
fn minimised(
    name: &str,
    mut input: Vec<u8>,
    mut how: String,
    patience: Duration,
) -> (Vec<u8>, String) {
    let begun = Instant::now();
    let mut size = input.len();
    while size > 0 && begun.elapsed() < MINIMISING {
        let mut at = 0;
        while at < input.len() && begun.elapsed() < MINIMISING {
            let mut smaller = input.clone();
            smaller.drain(at..input.len().min(at + size));
            match watch(name, None, &smaller, patience) {
                Err(death) => (input, how) = (smaller, death.how),
                Ok(()) => at += size,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    (input, how)
}
