//! The catalog's hash of content that is read back: of all of it, or of the hashes of its parts.

use std::collections::VecDeque;

/// BLAKE3 of the content; where part sizes were given, BLAKE3 over the BLAKE3 of each part, as the parts of
/// a multipart upload are hashed while nobody knows yet what object they become.
#[derive(Debug)]
pub struct Whole {
    content: blake3::Hasher,
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    hashes: blake3::Hasher,
    /// Bytes missing from the part under way.
    left: u64,
    rest: VecDeque<u64>,
}

impl Whole {
    /// No part sizes: the content is hashed as a whole.
    pub fn of_parts(sizes: impl IntoIterator<Item = u64>) -> Self {
        let mut rest: VecDeque<u64> = sizes.into_iter().collect();
        let parts = rest.pop_front().map(|left| Parts {
            hashes: blake3::Hasher::new(),
            left,
            rest,
        });
        Self {
            content: blake3::Hasher::new(),
            parts,
        }
    }

    /// Bytes beyond the last part make the hash another one: they belong to an unannounced part.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while let Some(parts) = &mut self.parts
            && bytes.len() as u64 >= parts.left
            && (parts.left > 0 || !parts.rest.is_empty())
        {
            let (part, behind) =
                bytes.split_at(usize::try_from(parts.left).expect("at most the slice's length"));
            self.content.update(part);
            bytes = behind;
            let Some(next) = parts.rest.pop_front() else {
                parts.left = 0;
                break;
            };
            parts.hashes.update(self.content.finalize().as_bytes());
            self.content.reset();
            parts.left = next;
        }
        self.content.update(bytes);
        if let Some(parts) = &mut self.parts {
            parts.left = parts.left.saturating_sub(bytes.len() as u64);
        }
    }

    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        self.update(&[]);
        match self.parts {
            None => self.content.finalize().into(),
            Some(mut parts) => {
                parts.hashes.update(self.content.finalize().as_bytes());
                parts.hashes.finalize().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_hashed_one_by_one(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            step in 1_usize..50,
        ) {
            let content = parts.concat();
            let mut whole = Whole::of_parts(parts.iter().map(|part| part.len() as u64));
            content.chunks(step).for_each(|chunk| whole.update(chunk));
            let expected = if parts.is_empty() {
                blake3::hash(&content)
            } else {
                let hashes: Vec<u8> = parts.iter().flat_map(|part| *blake3::hash(part).as_bytes()).collect();
                blake3::hash(&hashes)
            };
            prop_assert_eq!(whole.finish(), *expected.as_bytes());
        }
    }

    #[test]
    fn content_longer_or_shorter_than_its_parts_has_another_hash() {
        let of = |content: &[u8]| {
            let mut whole = Whole::of_parts([2, 2]);
            whole.update(content);
            whole.finish()
        };
        assert_ne!(of(b"abcd"), of(b"abcde"));
        assert_ne!(of(b"abcd"), of(b"abc"));
    }
}
