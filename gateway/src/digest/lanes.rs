//! Eight MD5 streams in one pass: one 32-bit lane each.
//!
//! MD5 cannot be made faster for one stream, for every step waits for the one before. Eight streams beside
//! each other fill a vector register: about five times the bytes a second of one stream on the same core.

use multiversion::multiversion;
use wide::u32x8;

pub(super) const LANES: usize = 8;
pub(super) const BLOCK: usize = 64;

/// The four chaining words of one stream.
pub(super) type State = [u32; 4];

/// RFC 1321, section 3.3.
pub(super) const START: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// One stream alone: nothing beats the plain way.
pub(super) fn compress_one(state: &mut State, blocks: &[u8]) {
    let (blocks, rest) = blocks.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "whole blocks only");
    md5::block_api::compress(state, blocks);
}

/// Hashes as many blocks of every lane as the shortest one has; answers the number of bytes.
pub(super) fn compress_eight(states: &mut [State; LANES], data: &[&[u8]; LANES]) -> usize {
    let blocks = data
        .iter()
        .map(|lane| lane.len() / BLOCK)
        .min()
        .unwrap_or(0);
    let mut words: [u32x8; 4] =
        std::array::from_fn(|word| u32x8::new(std::array::from_fn(|lane| states[lane][word])));
    pass(&mut words, data, blocks);
    for (word, lanes) in words.into_iter().enumerate() {
        for (lane, value) in lanes.to_array().into_iter().enumerate() {
            states[lane][word] = value;
        }
    }
    blocks * BLOCK
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn pass(words: &mut [u32x8; 4], data: &[&[u8]; LANES], blocks: usize) {
    for block in 0..blocks {
        let at = block * BLOCK;
        let low = u32x8::transpose(std::array::from_fn(|lane| load(&data[lane][at..at + 32])));
        let high = u32x8::transpose(std::array::from_fn(|lane| {
            load(&data[lane][at + 32..at + 64])
        }));
        steps(words, &low, &high);
    }
}

#[inline(always)]
fn load(bytes: &[u8]) -> u32x8 {
    let (words, _) = bytes.as_chunks::<4>();
    u32x8::new(std::array::from_fn(|word| u32::from_le_bytes(words[word])))
}

/// `a`, the message word and the constant come first: only `f` waits for the step before.
macro_rules! step {
    ($f:ident, $a:ident, $b:ident, $c:ident, $d:ident, $m:expr, $r:literal, $k:literal) => {
        let early = $a + ($m + u32x8::splat($k));
        let sum = $f(early, $b, $c, $d);
        $a = $b + ((sum << $r) | (sum >> (32 - $r)));
    };
}

#[inline(always)]
fn f(sum: u32x8, x: u32x8, y: u32x8, z: u32x8) -> u32x8 {
    sum + (z ^ (x & (y ^ z)))
}

/// The two halves have no bit in common, so they can be added, and only one waits for `x`.
#[inline(always)]
fn g(sum: u32x8, x: u32x8, y: u32x8, z: u32x8) -> u32x8 {
    (sum + (y & !z)) + (x & z)
}

#[inline(always)]
fn h(sum: u32x8, x: u32x8, y: u32x8, z: u32x8) -> u32x8 {
    sum + (x ^ (y ^ z))
}

#[inline(always)]
fn i(sum: u32x8, x: u32x8, y: u32x8, z: u32x8) -> u32x8 {
    sum + (y ^ (x | !z))
}

/// The 64 steps of RFC 1321, section 3.4. A table in a loop would keep the shifts from being constants.
#[inline(always)]
#[rustfmt::skip]
fn steps(words: &mut [u32x8; 4], low: &[u32x8; 8], high: &[u32x8; 8]) {
    let [mut a, mut b, mut c, mut d] = *words;
    step!(f, a, b, c, d, low[0], 7, 0xd76a_a478);
    step!(f, d, a, b, c, low[1], 12, 0xe8c7_b756);
    step!(f, c, d, a, b, low[2], 17, 0x2420_70db);
    step!(f, b, c, d, a, low[3], 22, 0xc1bd_ceee);
    step!(f, a, b, c, d, low[4], 7, 0xf57c_0faf);
    step!(f, d, a, b, c, low[5], 12, 0x4787_c62a);
    step!(f, c, d, a, b, low[6], 17, 0xa830_4613);
    step!(f, b, c, d, a, low[7], 22, 0xfd46_9501);
    step!(f, a, b, c, d, high[0], 7, 0x6980_98d8);
    step!(f, d, a, b, c, high[1], 12, 0x8b44_f7af);
    step!(f, c, d, a, b, high[2], 17, 0xffff_5bb1);
    step!(f, b, c, d, a, high[3], 22, 0x895c_d7be);
    step!(f, a, b, c, d, high[4], 7, 0x6b90_1122);
    step!(f, d, a, b, c, high[5], 12, 0xfd98_7193);
    step!(f, c, d, a, b, high[6], 17, 0xa679_438e);
    step!(f, b, c, d, a, high[7], 22, 0x49b4_0821);
    step!(g, a, b, c, d, low[1], 5, 0xf61e_2562);
    step!(g, d, a, b, c, low[6], 9, 0xc040_b340);
    step!(g, c, d, a, b, high[3], 14, 0x265e_5a51);
    step!(g, b, c, d, a, low[0], 20, 0xe9b6_c7aa);
    step!(g, a, b, c, d, low[5], 5, 0xd62f_105d);
    step!(g, d, a, b, c, high[2], 9, 0x0244_1453);
    step!(g, c, d, a, b, high[7], 14, 0xd8a1_e681);
    step!(g, b, c, d, a, low[4], 20, 0xe7d3_fbc8);
    step!(g, a, b, c, d, high[1], 5, 0x21e1_cde6);
    step!(g, d, a, b, c, high[6], 9, 0xc337_07d6);
    step!(g, c, d, a, b, low[3], 14, 0xf4d5_0d87);
    step!(g, b, c, d, a, high[0], 20, 0x455a_14ed);
    step!(g, a, b, c, d, high[5], 5, 0xa9e3_e905);
    step!(g, d, a, b, c, low[2], 9, 0xfcef_a3f8);
    step!(g, c, d, a, b, low[7], 14, 0x676f_02d9);
    step!(g, b, c, d, a, high[4], 20, 0x8d2a_4c8a);
    step!(h, a, b, c, d, low[5], 4, 0xfffa_3942);
    step!(h, d, a, b, c, high[0], 11, 0x8771_f681);
    step!(h, c, d, a, b, high[3], 16, 0x6d9d_6122);
    step!(h, b, c, d, a, high[6], 23, 0xfde5_380c);
    step!(h, a, b, c, d, low[1], 4, 0xa4be_ea44);
    step!(h, d, a, b, c, low[4], 11, 0x4bde_cfa9);
    step!(h, c, d, a, b, low[7], 16, 0xf6bb_4b60);
    step!(h, b, c, d, a, high[2], 23, 0xbebf_bc70);
    step!(h, a, b, c, d, high[5], 4, 0x289b_7ec6);
    step!(h, d, a, b, c, low[0], 11, 0xeaa1_27fa);
    step!(h, c, d, a, b, low[3], 16, 0xd4ef_3085);
    step!(h, b, c, d, a, low[6], 23, 0x0488_1d05);
    step!(h, a, b, c, d, high[1], 4, 0xd9d4_d039);
    step!(h, d, a, b, c, high[4], 11, 0xe6db_99e5);
    step!(h, c, d, a, b, high[7], 16, 0x1fa2_7cf8);
    step!(h, b, c, d, a, low[2], 23, 0xc4ac_5665);
    step!(i, a, b, c, d, low[0], 6, 0xf429_2244);
    step!(i, d, a, b, c, low[7], 10, 0x432a_ff97);
    step!(i, c, d, a, b, high[6], 15, 0xab94_23a7);
    step!(i, b, c, d, a, low[5], 21, 0xfc93_a039);
    step!(i, a, b, c, d, high[4], 6, 0x655b_59c3);
    step!(i, d, a, b, c, low[3], 10, 0x8f0c_cc92);
    step!(i, c, d, a, b, high[2], 15, 0xffef_f47d);
    step!(i, b, c, d, a, low[1], 21, 0x8584_5dd1);
    step!(i, a, b, c, d, high[0], 6, 0x6fa8_7e4f);
    step!(i, d, a, b, c, high[7], 10, 0xfe2c_e6e0);
    step!(i, c, d, a, b, low[6], 15, 0xa301_4314);
    step!(i, b, c, d, a, high[5], 21, 0x4e08_11a1);
    step!(i, a, b, c, d, low[4], 6, 0xf753_7e82);
    step!(i, d, a, b, c, high[3], 10, 0xbd3a_f235);
    step!(i, c, d, a, b, low[2], 15, 0x2ad7_d2bb);
    step!(i, b, c, d, a, high[1], 21, 0xeb86_d391);
    words[0] += a;
    words[1] += b;
    words[2] += c;
    words[3] += d;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_lanes_compute_what_eight_streams_do() {
        let data: [Vec<u8>; LANES] = std::array::from_fn(|lane| {
            (0..BLOCK * (3 + lane))
                .map(|at| (at * 7 + lane * 31) as u8)
                .collect()
        });
        let mut together: [State; LANES] =
            std::array::from_fn(|lane| START.map(|word| word ^ lane as u32));
        let mut alone = together;
        let done = compress_eight(
            &mut together,
            &std::array::from_fn(|lane| data[lane].as_slice()),
        );
        assert_eq!(done, 3 * BLOCK);
        for (state, data) in alone.iter_mut().zip(&data) {
            compress_one(state, &data[..done]);
        }
        assert_eq!(together, alone);
    }
}
