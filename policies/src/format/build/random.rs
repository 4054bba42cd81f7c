//! Names and bytes, all from the seed.

use std::sync::Arc;

use super::Cluster;

impl Cluster {
    /// SplitMix64.
    pub(super) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(super) fn identifier(&mut self, length: usize) -> Arc<str> {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // An identifier of digits alone would read as a number.
        let text: String = (0..length - 1)
            .map(|_| char::from(ALPHABET[(self.draw() % 64) as usize]))
            .collect();
        format!("{text}w").into()
    }
}
