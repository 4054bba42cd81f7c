//! The content hash of the catalog: BLAKE3 of the bytes, or, for an object made of parts, BLAKE3 of the parts'
//! BLAKE3s in order. Both can be computed from the bytes alone, given the sizes of the parts.

use std::collections::VecDeque;

#[derive(Debug)]
pub struct Whole {
    parts: VecDeque<u64>,
    of_parts: Option<blake3::Hasher>,
    current: blake3::Hasher,
    left: u64,
}

impl Whole {
    /// No sizes: the object was written in one piece.
    pub fn of_parts(sizes: impl IntoIterator<Item = u64>) -> Self {
        let mut parts: VecDeque<u64> = sizes.into_iter().collect();
        let first = parts.pop_front();
        Self {
            parts,
            of_parts: first.map(|_| blake3::Hasher::new()),
            current: blake3::Hasher::new(),
            left: first.unwrap_or(u64::MAX),
        }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        while self.left < bytes.len() as u64 {
            let (now, later) = bytes.split_at(usize::try_from(self.left).unwrap_or(bytes.len()));
            self.current.update(now);
            self.end_part();
            bytes = later;
        }
        self.current.update(bytes);
        self.left -= bytes.len() as u64;
    }

    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        match self.of_parts.take() {
            None => *self.current.finalize().as_bytes(),
            Some(mut whole) => {
                whole.update(self.current.finalize().as_bytes());
                *whole.finalize().as_bytes()
            }
        }
    }

    fn end_part(&mut self) {
        let part = std::mem::take(&mut self.current);
        if let Some(whole) = &mut self.of_parts {
            whole.update(part.finalize().as_bytes());
        }
        self.left = self.parts.pop_front().unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_parts_hashes_as_its_parts_do() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut parts = blake3::Hasher::new();
        for part in [
            &bytes[..300],
            &bytes[300..300],
            &bytes[300..999],
            &bytes[999..],
        ] {
            parts.update(blake3::hash(part).as_bytes());
        }
        for step in [1, 7, 300, 1000] {
            let mut whole = Whole::of_parts([300, 0, 699, 1]);
            bytes.chunks(step).for_each(|chunk| whole.update(chunk));
            assert_eq!(
                whole.finish(),
                *parts.clone().finalize().as_bytes(),
                "in steps of {step}"
            );
        }
        let mut plain = Whole::of_parts([]);
        plain.update(&bytes);
        assert_eq!(plain.finish(), *blake3::hash(&bytes).as_bytes());
    }
}
