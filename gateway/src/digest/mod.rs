//! Digests of bytes on their way: MD5 for ETags, BLAKE3 for the catalog, and what the client asked for.

use bytes::Bytes;
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

mod whole;

pub use whole::Whole;

/// A checksum that S3 clients send and ask for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// As in `x-amz-checksum-<name>`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Case does not matter.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(name))
    }

    fn crc(self) -> Option<crc_fast::CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(crc_fast::CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(crc_fast::CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Big-endian bytes, as S3 writes a CRC before base64.
    fn crc_bytes(self, value: u64) -> Vec<u8> {
        let bytes = value.to_be_bytes();
        match self {
            Self::Crc64Nvme => bytes.to_vec(),
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => bytes[4..].to_vec(),
        }
    }
}

enum Running {
    Crc(Algorithm, Box<crc_fast::Digest>),
    Sha1(Box<Sha1>),
    Sha256(Box<Sha256>),
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        match (algorithm, algorithm.crc()) {
            (Algorithm::Sha1, _) => Self::Sha1(Box::default()),
            (Algorithm::Sha256, _) | (_, None) => Self::Sha256(Box::default()),
            (Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme, Some(crc)) => {
                Self::Crc(algorithm, Box::new(crc_fast::Digest::new(crc)))
            }
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, digest) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> (Algorithm, Box<[u8]>) {
        match self {
            Self::Crc(algorithm, digest) => {
                (algorithm, algorithm.crc_bytes(digest.finalize()).into())
            }
            Self::Sha1(digest) => (Algorithm::Sha1, digest.finalize().to_vec().into()),
            Self::Sha256(digest) => (Algorithm::Sha256, digest.finalize().to_vec().into()),
        }
    }
}

/// All digests of one body.
pub struct Digests {
    md5: Md5,
    hash: blake3::Hasher,
    wanted: Vec<Running>,
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digests").finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sums {
    pub md5: [u8; 16],
    /// BLAKE3.
    pub hash: [u8; 32],
    pub checksums: Vec<(Algorithm, Box<[u8]>)>,
}

impl Digests {
    #[must_use]
    pub fn new(wanted: &[Algorithm]) -> Self {
        let mut once: Vec<Algorithm> = Vec::with_capacity(wanted.len());
        for algorithm in wanted {
            if !once.contains(algorithm) {
                once.push(*algorithm);
            }
        }
        Self {
            md5: Md5::new(),
            hash: blake3::Hasher::new(),
            wanted: once.into_iter().map(Running::new).collect(),
        }
    }

    #[expect(
        clippy::unused_async,
        reason = "large bodies are hashed off the I/O path"
    )]
    pub async fn update(&mut self, bytes: &Bytes) {
        self.md5.update(bytes);
        self.hash.update(bytes);
        for running in &mut self.wanted {
            running.update(bytes);
        }
    }

    #[expect(
        clippy::unused_async,
        reason = "large bodies are hashed off the I/O path"
    )]
    pub async fn finish(self) -> Sums {
        Sums {
            md5: self.md5.finalize().into(),
            hash: *self.hash.finalize().as_bytes(),
            checksums: self.wanted.into_iter().map(Running::finish).collect(),
        }
    }
}

#[must_use]
pub fn once(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let mut running = Running::new(algorithm);
    running.update(bytes);
    running.finish().1.into_vec()
}

/// The checksum of a whole from those of its parts with their lengths in bytes; None where that cannot be.
#[must_use]
pub fn combine(algorithm: Algorithm, parts: &[(Vec<u8>, u64)]) -> Option<Vec<u8>> {
    let crc = algorithm.crc()?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, b| sum << 8 | u64::from(*b));
    let combined = parts
        .iter()
        .map(|(value, size)| (number(value), *size))
        .reduce(|(a, n), (b, m)| (crc_fast::checksum_combine(crc, a, b, m), n + m));
    combined.map(|(value, _)| algorithm.crc_bytes(value))
}
