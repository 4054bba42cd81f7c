//! Mutated repositories through every parser and the closure: never a panic, never more than bounded memory.
//!
//! `FORMAT_MUTATIONS` sets how many (default 6,000), `FORMAT_SEED` repeats a run; a failure prints both.

#![allow(clippy::unwrap_used, reason = "a test")]

mod repositories;

use std::panic::{AssertUnwindSafe, catch_unwind};

use policies::format::digest;
use policies::format::frame::{self, Limits};
use policies::format::paths::ShardPaths;
use policies::format::root::Root;
use policies::format::shard::{ShardIndex, ShardSnapshot};
use policies::format::smile;
use policies::format::snapshot::{SnapshotInfo, shard_count};
use policies::key::Class;
use repositories::class_of;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound.max(1) as u64) as usize
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => {
                bytes[at] = [0, 0x7F, 0x80, 0xFF, 0xFD, 0xE8, 0xF8, 0xFA][random.below(8)];
            }
            2 => bytes.truncate(at),
            3 => {
                let from = random.below(other.len());
                let to = from + random.below((other.len() - from).min(64));
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            4 => {
                let to = at + random.below((bytes.len() - at).min(64));
                bytes.drain(at..to);
            }
            _ => bytes.push(random.draw() as u8),
        }
    }
}

/// Everything that reads bytes from clients, with a small bound on inflation.
fn read_all(class: &Class, bytes: &[u8]) {
    let limits = Limits {
        size: 1 << 20,
        ratio: 1000,
    };
    let _ = digest::read(class, bytes, limits);
    let _ = Root::parse(1, bytes);
    let _ = ShardPaths::parse(bytes);
    if let Ok(frame) = frame::open(bytes)
        && let Ok(document) = frame.document(limits)
    {
        assert!(document.len() <= limits.size);
        read_document(&document);
    }
    read_document(bytes);
}

fn read_document(document: &[u8]) {
    let _ = smile::decode(document).map(|value| smile::encode(&value, smile::Flags::CLUSTER));
    let _ = ShardSnapshot::parse(document);
    let _ = ShardIndex::parse(document);
    let _ = SnapshotInfo::parse(document);
    let _ = shard_count(document);
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn mutated_objects_never_make_a_reader_panic() {
    let seed = number("FORMAT_SEED", 0x5EED);
    let mutations = number("FORMAT_MUTATIONS", 6_000);
    let mut corpus = Vec::new();
    for fixture in repositories::all() {
        for (key, bytes) in fixture.objects {
            let class = class_of(fixture.base_path, &key);
            if matches!(class, Class::Data { .. }) {
                continue;
            }
            if let Ok(frame) = frame::open(&bytes) {
                let document = frame.document(Limits::default()).unwrap().into_owned();
                corpus.push((class.clone(), document, Some(frame.codec)));
            }
            corpus.push((class, bytes, None));
        }
    }
    println!(
        "FORMAT_SEED={seed} FORMAT_MUTATIONS={mutations}, {} objects",
        corpus.len()
    );
    let mut random = Random(seed);
    for round in 0..mutations {
        let (class, original, codec) = &corpus[random.below(corpus.len())];
        let other = &corpus[random.below(corpus.len())].1;
        let mut bytes = original.clone();
        mutate(&mut random, &mut bytes, other);
        // A mutated document in a frame whose checksum is good, so that the readers behind it are reached.
        let bytes = match codec {
            Some(codec) => frame::seal(*codec, &bytes, random.below(2) == 0),
            None => bytes,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| read_all(class, &bytes)));
        assert!(
            outcome.is_ok(),
            "FORMAT_SEED={seed}, round {round}: {class:?} {bytes:02x?}"
        );
    }
}
