//! The checksums that S3 clients send and ask for.

use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Algorithm;

/// One checksum being computed.
#[derive(Clone, Debug)]
pub(super) enum Running {
    Crc(Algorithm, crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme => Self::Crc(
                algorithm,
                crc_fast::Digest::new(crc(algorithm).expect("the three CRCs")),
            ),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, crc) => crc.update(bytes),
            Self::Sha1(sha) => sha.update(bytes),
            Self::Sha256(sha) => sha.update(bytes),
        }
    }

    pub fn finish(self) -> (Algorithm, Box<[u8]>) {
        match self {
            Self::Crc(algorithm, crc) => (algorithm, big_endian(algorithm, crc.finalize()).into()),
            Self::Sha1(sha) => (Algorithm::Sha1, sha.finalize().as_slice().into()),
            Self::Sha256(sha) => (Algorithm::Sha256, sha.finalize().as_slice().into()),
        }
    }
}

fn crc(algorithm: Algorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    }
}

/// S3 writes checksums in network order: four bytes, or eight.
fn big_endian(algorithm: Algorithm, value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    match algorithm {
        Algorithm::Crc32 | Algorithm::Crc32c => bytes[4..].to_vec(),
        Algorithm::Crc64Nvme | Algorithm::Sha1 | Algorithm::Sha256 => bytes.to_vec(),
    }
}

/// The checksum of bytes at hand.
#[must_use]
pub fn once(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let mut running = Running::new(algorithm);
    running.update(bytes);
    running.finish().1.into()
}

/// The checksum of a whole object from those of its parts and their sizes in bytes.
/// `None`: a SHA has no such thing, or a part's checksum has the wrong length.
#[must_use]
pub fn combine(algorithm: Algorithm, parts: &[(Vec<u8>, u64)]) -> Option<Vec<u8>> {
    let crc = crc(algorithm)?;
    let width = big_endian(algorithm, 0).len();
    let mut whole: Option<u64> = None;
    for (value, size) in parts {
        if value.len() != width {
            return None;
        }
        let value = value
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        whole = Some(match whole {
            None => value,
            Some(before) => crc_fast::checksum_combine(crc, before, value, *size),
        });
    }
    Some(big_endian(algorithm, whole?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex_of(algorithm: Algorithm, text: &str) -> String {
        hex::encode(once(algorithm, text.as_bytes()))
    }

    /// The `check` values of the CRC catalogue and the examples of FIPS 180.
    #[test]
    fn published_check_values() {
        assert_eq!(hex_of(Algorithm::Crc32, "123456789"), "cbf43926");
        assert_eq!(hex_of(Algorithm::Crc32c, "123456789"), "e3069283");
        assert_eq!(
            hex_of(Algorithm::Crc64Nvme, "123456789"),
            "ae8b14860a799888"
        );
        assert_eq!(
            hex_of(Algorithm::Sha1, "abc"),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(
            hex_of(Algorithm::Sha256, "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_sha_of_parts_is_not_the_sha_of_the_whole() {
        assert_eq!(combine(Algorithm::Sha256, &[(vec![0; 32], 1)]), None);
        assert_eq!(combine(Algorithm::Crc32, &[(vec![0; 8], 1)]), None);
        assert_eq!(combine(Algorithm::Crc32, &[]), None);
    }

    proptest! {
        #[test]
        fn checksums_of_parts_combine_to_that_of_the_whole(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let known: Vec<_> = parts.iter().map(|part| (once(algorithm, part), part.len() as u64)).collect();
                prop_assert_eq!(combine(algorithm, &known), Some(once(algorithm, &parts.concat())));
            }
        }
    }
}
