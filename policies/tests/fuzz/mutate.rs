//! Inputs from a seed: a real object, changed a little.

/// Bytes that no input exceeds.
pub const LONGEST: usize = 64 << 10;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound.max(1) as u64) as usize
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Edges of SMILE's tokens, of UTF-8, of signs, and what JSON is made of.
const BYTES: &[u8] = &[
    0x00, 0x01, 0x20, 0x24, 0x25, 0x34, 0x40, 0x7F, 0x80, 0xC0, 0xE0, 0xE8, 0xEC, 0xF8, 0xF9, 0xFA,
    0xFB, 0xFC, 0xFD, 0xFE, 0xFF, b'"', b'{', b'}', b'[', b']', b',', b':', b'\\', b'-', b'9',
    b'/',
];

/// One to five changes of `bytes`; `other` is another input, for splices.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(5) {
        change(random, bytes, other);
    }
    bytes.truncate(LONGEST);
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len());
    match random.below(40) {
        0..=9 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        10..=19 if !bytes.is_empty() => bytes[at] = *random.one_of(BYTES),
        20..=21 => bytes.truncate(at),
        22..=25 => {
            let (from, to) = piece(random, other.len(), 64);
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        26..=30 => {
            let (from, to) = piece(random, bytes.len(), 64);
            bytes.drain(from..to);
        }
        31..=35 => {
            let (from, to) = piece(random, bytes.len(), 32);
            let copied = bytes[from..to].to_vec();
            bytes.splice(at..at, copied);
        }
        36 if random.below(50) == 0 => fill(random, bytes, at),
        _ => bytes.insert(at.min(bytes.len()), *random.one_of(BYTES)),
    }
}

/// A short piece over and over, as bombs have it.
fn fill(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let (from, to) = piece(random, bytes.len(), 8);
    let copied = bytes[from..to].to_vec();
    let times = random.below(LONGEST.saturating_sub(bytes.len()) / copied.len().max(1));
    bytes.splice(at..at, copied.repeat(times));
}

fn piece(random: &mut Random, length: usize, longest: usize) -> (usize, usize) {
    let from = random.below(length);
    (from, from + random.below((length - from).min(longest) + 1))
}
