//! The footer of Lucene files: how a data blob proves its own bytes.
//!
//! Decides: a stream of chunks -> stored and computed CRC. Invariant: constant memory, any chunking, and
//! the parts of a file are simply fed one after the other. The last 16 bytes are
//! `c02893e8 00000000` and the CRC-32 of all bytes before the checksum itself; repository metadata repeats it as
//! `checksum`, in base 36 (Lucene's `CodecUtil`, Elasticsearch's `Store.digestToString`; equal for every file of 2.4-9.5).

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

use super::frame::{FOOTER, FOOTER_CRC, stored_checksum};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    #[error("it does not end with a Lucene footer: it is cut short or overwritten")]
    NoFooter,
    #[error("its footer says {stored:08x} but its bytes have {computed:08x}")]
    Mismatch { stored: u64, computed: u64 },
    #[error("it is intact, but another file: its checksum is {found:08x}, listed is {listed:08x}")]
    OtherFile { found: u32, listed: u32 },
}

/// Fed with a file's bytes in order, answers whether its footer holds.
pub struct LuceneFooter {
    /// Of all bytes but the held back ones.
    crc: Digest,
    /// The last 16 bytes so far, or all if fewer.
    tail: Vec<u8>,
}

impl std::fmt::Debug for LuceneFooter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LuceneFooter")
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

impl Default for LuceneFooter {
    fn default() -> Self {
        Self {
            crc: Digest::new(CrcAlgorithm::Crc32IsoHdlc),
            tail: Vec::with_capacity(FOOTER),
        }
    }
}

impl LuceneFooter {
    pub fn update(&mut self, chunk: &[u8]) {
        if chunk.len() >= FOOTER {
            let (body, tail) = chunk.split_at(chunk.len() - FOOTER);
            self.crc.update(&self.tail);
            self.crc.update(body);
            self.tail.clear();
            self.tail.extend_from_slice(tail);
        } else {
            let settled = (self.tail.len() + chunk.len()).saturating_sub(FOOTER);
            self.crc.update(&self.tail[..settled]);
            self.tail.drain(..settled);
            self.tail.extend_from_slice(chunk);
        }
    }

    /// The file's checksum, if its footer holds it.
    pub fn finish(mut self) -> Result<u32, FooterError> {
        let stored = stored_checksum(&self.tail).ok_or(FooterError::NoFooter)?;
        self.crc.update(&self.tail[..FOOTER - FOOTER_CRC]);
        let computed = self.crc.finalize();
        if stored != computed {
            return Err(FooterError::Mismatch { stored, computed });
        }
        u32::try_from(computed).map_err(|_| FooterError::NoFooter)
    }

    /// As [`Self::finish`], and the file is the one that the metadata lists. Without a listed checksum (files of
    /// Lucene before 4.8) any intact file will do.
    pub fn finish_listed(self, listed: Option<u32>) -> Result<(), FooterError> {
        let found = self.finish()?;
        match listed {
            Some(listed) if listed != found => Err(FooterError::OtherFile { found, listed }),
            Some(_) | None => Ok(()),
        }
    }
}

/// The CRC-32 of a part, recorded when it passed through: a whole file is verified from its parts without reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartCrc {
    pub crc: u32,
    /// Bytes.
    pub length: u64,
}

impl PartCrc {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let crc = crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, bytes);
        Self {
            crc: crc as u32,
            length: bytes.len() as u64,
        }
    }

    /// The CRC of this part followed by `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let crc = checksum_combine(
            CrcAlgorithm::Crc32IsoHdlc,
            self.crc.into(),
            next.crc.into(),
            next.length,
        );
        Self {
            crc: crc as u32,
            length: self.length + next.length,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame;

    #[test]
    fn any_chunking_gives_the_same_answer() {
        let file = frame::close((0..200_u8).collect());
        let stored = u32::from_be_bytes(file[file.len() - 4..].try_into().unwrap());
        for size in 1..file.len() {
            let mut footer = LuceneFooter::default();
            file.chunks(size).for_each(|chunk| footer.update(chunk));
            assert_eq!(footer.finish(), Ok(stored), "chunks of {size}");
        }
    }

    #[test]
    fn a_cut_a_flip_and_another_file_are_told_apart() {
        let file = frame::close(vec![7; 50]);
        let check = |bytes: &[u8], listed| {
            let mut footer = LuceneFooter::default();
            footer.update(bytes);
            footer.finish_listed(listed)
        };
        assert_eq!(check(&file, None), Ok(()));
        assert_eq!(
            check(&file[..file.len() - 1], None),
            Err(FooterError::NoFooter)
        );
        assert_eq!(check(b"short", None), Err(FooterError::NoFooter));
        let mut flipped = file.clone();
        flipped[3] ^= 1;
        assert!(matches!(
            check(&flipped, None),
            Err(FooterError::Mismatch { .. })
        ));
        assert!(matches!(
            check(&file, Some(1)),
            Err(FooterError::OtherFile { listed: 1, .. })
        ));
    }

    #[test]
    fn parts_combine_to_the_crc_of_the_whole() {
        let file = frame::close((0..100_u8).collect());
        let (covered, crc) = file.split_at(file.len() - FOOTER_CRC);
        let (first, second) = covered.split_at(33);
        let whole = PartCrc::of(first).then(PartCrc::of(second));
        assert_eq!(
            u64::from(whole.crc),
            u64::from_be_bytes(crc.try_into().unwrap())
        );
        assert_eq!(whole.length, 108);
    }
}
