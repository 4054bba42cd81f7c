//! One MD5 stream whose bytes come in pieces and whose blocks may be hashed beside those of others.

use bytes::{Buf, Bytes};

use super::lanes::{BLOCK, START, State, compress_one};

#[derive(Clone, Debug)]
pub(super) struct Md5Stream {
    pub state: State,
    total: u64,
    /// Bytes of a block that is not complete yet.
    tail: [u8; BLOCK],
    filled: usize,
}

impl Md5Stream {
    pub fn new() -> Self {
        Self {
            state: START,
            total: 0,
            tail: [0; BLOCK],
            filled: 0,
        }
    }

    /// The whole blocks at the front of `piece` that can be hashed where they lie. What cannot (a block that
    /// began in an earlier piece, the rest behind the last block) is taken from `piece` here.
    pub fn whole_blocks<'a>(&mut self, piece: &'a mut Bytes) -> &'a [u8] {
        if self.filled > 0 {
            let n = (BLOCK - self.filled).min(piece.len());
            self.keep(piece, n);
            if self.filled == BLOCK {
                compress_one(&mut self.state, &self.tail);
                self.filled = 0;
            }
        }
        let whole = piece.len() / BLOCK * BLOCK;
        if whole == 0 {
            let rest = piece.len();
            self.keep(piece, rest);
        }
        &piece[..whole]
    }

    /// These bytes of whole blocks have gone into `state`.
    pub fn hashed(&mut self, piece: &mut Bytes, bytes: usize) {
        self.total += bytes as u64;
        piece.advance(bytes);
    }

    fn keep(&mut self, piece: &mut Bytes, n: usize) {
        piece.copy_to_slice(&mut self.tail[self.filled..self.filled + n]);
        self.filled += n;
        self.total += n as u64;
    }

    /// Hashes a piece on its own.
    pub fn update(&mut self, mut piece: Bytes) {
        while !piece.is_empty() {
            let whole = self.whole_blocks(&mut piece).len();
            compress_one(&mut self.state, &piece[..whole]);
            self.hashed(&mut piece, whole);
        }
    }

    /// RFC 1321, section 3.1 and 3.2: one bit, zeroes, and the length in bits.
    pub fn finish(mut self) -> [u8; 16] {
        let bits = self.total.wrapping_mul(8).to_le_bytes();
        let mut padding = [0; 2 * BLOCK];
        padding[..self.filled].copy_from_slice(&self.tail[..self.filled]);
        padding[self.filled] = 0x80;
        let end = if self.filled < BLOCK - 8 {
            BLOCK
        } else {
            2 * BLOCK
        };
        padding[end - 8..end].copy_from_slice(&bits);
        compress_one(&mut self.state, &padding[..end]);
        let mut digest = [0; 16];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use md5::Digest;
    use proptest::prelude::*;

    use super::*;

    fn md5(text: &[u8]) -> String {
        let mut stream = Md5Stream::new();
        stream.update(Bytes::copy_from_slice(text));
        hex::encode(stream.finish())
    }

    #[test]
    fn the_test_suite_of_rfc_1321() {
        assert_eq!(md5(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(md5(b"a"), "0cc175b9c0f1b6a831c399e269772661");
        assert_eq!(md5(b"abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(md5(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(
            md5(b"abcdefghijklmnopqrstuvwxyz"),
            "c3fcd3d76192e4007dfb496cca67e13b"
        );
        let digits =
            b"12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(md5(digits), "57edf4a22be3c955ac49da2e2107b67a");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_digest(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let mut stream = Md5Stream::new();
            for piece in &pieces {
                stream.update(Bytes::copy_from_slice(piece));
            }
            prop_assert_eq!(stream.finish().to_vec(), md5::Md5::digest(pieces.concat()).to_vec());
        }
    }
}
