//! The frame around every `.dat` blob and shard `index-*`.
//!
//! Decides: bytes -> codec and body, or why not. Invariant: a frame that opens has a good CRC, and
//! inflating it never takes more memory than [`Limits`] allow, whatever its bytes claim.
//! How a body is packed is sniffed from its first bytes and never taken from a setting: one repository
//! holds plain, DEFLATE and ZSTD bodies side by side (read back from a 1.3 > 2.19 > 3.8 chain).
//!
//! Source: `ChecksumBlobStoreFormat` and Lucene's `CodecUtil`, which stayed big-endian in Lucene 9.

use std::borrow::Cow;
use std::io::Read;

use crc_fast::{CrcAlgorithm, checksum};

use super::smile;

const HEADER_MAGIC: [u8; 4] = [0x3F, 0xD7, 0x6C, 0x17];
const FOOTER_MAGIC: [u8; 4] = [0xC0, 0x28, 0x93, 0xE8];
const VERSION: [u8; 4] = 1_u32.to_be_bytes();
/// Footer: magic, algorithm (0 = CRC-32), 64 bits that hold a CRC-32.
pub(super) const FOOTER: usize = 16;
/// The checksum covers all but itself.
pub(super) const FOOTER_CRC: usize = 8;

/// In front of a raw DEFLATE stream (no zlib header).
const DEFLATE_MARK: &[u8] = b"DFL\0";
/// In front of ZSTD frames; OpenSearch 2.10+.
const ZSTD_MARK: &[u8] = b"ZSTD\0";

/// The codec name in the frame. [`Codec::Snapshot`] frames both the description of a snapshot at the
/// root level and the file list of a shard: the key tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Snapshot,
    Metadata,
    IndexMetadata,
    Snapshots,
}

impl Codec {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Metadata => "metadata",
            Self::IndexMetadata => "index-metadata",
            Self::Snapshots => "snapshots",
        }
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        [
            Self::Snapshot,
            Self::Metadata,
            Self::IndexMetadata,
            Self::Snapshots,
        ]
        .into_iter()
        .find(|codec| codec.name().as_bytes() == name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Deflate,
    Zstd,
}

/// A frame whose checksum is good; the body is still packed.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub codec: Codec,
    pub packing: Packing,
    /// Without the mark of its packing.
    packed: &'a [u8],
}

/// How far a body may inflate. Shard indexes of tens of MB are real; a thousandfold is reached by the same
/// file names listed for hundreds of snapshots.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the inflated body.
    pub size: usize,
    /// Inflated bytes for every packed byte, on top of one free MiB.
    pub ratio: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: 256 << 20,
            ratio: 1000,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("it does not begin with a codec header")]
    NoHeader,
    #[error("its codec name is none of snapshot, metadata, index-metadata, snapshots")]
    Codec,
    #[error("its codec is '{found}' where '{expected}' belongs")]
    OtherCodec {
        found: &'static str,
        expected: &'static str,
    },
    #[error("its codec version is not 1")]
    Version,
    #[error("it does not end with a codec footer: it is cut short or overwritten")]
    NoFooter,
    #[error("its checksum is {stored:08x} but its bytes have {computed:08x}")]
    Checksum { stored: u64, computed: u64 },
    #[error("its body is neither SMILE nor packed in a known way")]
    Body,
    #[error("its body inflates beyond {limit} bytes")]
    TooLarge { limit: usize },
    #[error("its body does not inflate")]
    Inflate,
}

/// Opens a frame: header, codec, version, footer, CRC.
pub fn open(blob: &[u8]) -> Result<Frame<'_>, FrameError> {
    let rest = blob
        .strip_prefix(&HEADER_MAGIC)
        .ok_or(FrameError::NoHeader)?;
    // The name's length is a vInt, but no name reaches 128 bytes, so it is one byte.
    let (&length, rest) = rest.split_first().ok_or(FrameError::NoHeader)?;
    let (name, rest) = rest
        .split_at_checked(length.into())
        .ok_or(FrameError::NoHeader)?;
    let codec = Codec::of_name(name).ok_or(FrameError::Codec)?;
    let rest = rest.strip_prefix(&VERSION).ok_or(FrameError::Version)?;
    let body_length = rest.len().checked_sub(FOOTER).ok_or(FrameError::NoFooter)?;
    let (body, footer) = rest.split_at(body_length);
    let stored = stored_checksum(footer).ok_or(FrameError::NoFooter)?;
    let computed = checksum(CrcAlgorithm::Crc32IsoHdlc, &blob[..blob.len() - FOOTER_CRC]);
    if stored != computed {
        return Err(FrameError::Checksum { stored, computed });
    }
    let (packing, packed) = sniff(body).ok_or(FrameError::Body)?;
    Ok(Frame {
        codec,
        packing,
        packed,
    })
}

/// Opens a frame that must be of `expected` codec.
pub fn open_as(blob: &[u8], expected: Codec) -> Result<Frame<'_>, FrameError> {
    let frame = open(blob)?;
    if frame.codec != expected {
        return Err(FrameError::OtherCodec {
            found: frame.codec.name(),
            expected: expected.name(),
        });
    }
    Ok(frame)
}

/// The checksum in a footer of 16 bytes, if it is one.
pub(super) fn stored_checksum(footer: &[u8]) -> Option<u64> {
    let rest = footer.strip_prefix(&FOOTER_MAGIC)?.strip_prefix(&[0; 4])?;
    Some(u64::from_be_bytes(rest.try_into().ok()?))
}

fn sniff(body: &[u8]) -> Option<(Packing, &[u8])> {
    if let Some(packed) = body.strip_prefix(DEFLATE_MARK) {
        return Some((Packing::Deflate, packed));
    }
    if let Some(packed) = body.strip_prefix(ZSTD_MARK) {
        return Some((Packing::Zstd, packed));
    }
    (body.starts_with(&smile::MAGIC) || body.starts_with(b"{")).then_some((Packing::Plain, body))
}

impl<'a> Frame<'a> {
    /// The SMILE document inside, borrowed when it was not packed.
    pub fn document(&self, limits: Limits) -> Result<Cow<'a, [u8]>, FrameError> {
        let limit = limits
            .size
            .min((1 << 20) + self.packed.len().saturating_mul(limits.ratio));
        let body = match self.packing {
            Packing::Plain if self.packed.len() > limits.size => {
                return Err(FrameError::TooLarge { limit: limits.size });
            }
            Packing::Plain => Cow::Borrowed(self.packed),
            Packing::Deflate => Cow::Owned(bounded(
                flate2::read::DeflateDecoder::new(self.packed),
                limit,
            )?),
            Packing::Zstd => Cow::Owned(unpack_zstd(self.packed, limit)?),
        };
        if body.starts_with(b"{") {
            let json: serde_json::Value =
                serde_json::from_slice(&body).map_err(|_| FrameError::Body)?;
            return Ok(Cow::Owned(smile::encode(
                &smile::Value::from(&json),
                smile::Flags::CLUSTER,
            )));
        }
        Ok(body)
    }
}

fn unpack_zstd(mut packed: &[u8], limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut body = Vec::new();
    while !packed.is_empty() {
        let decoder = ruzstd::decoding::StreamingDecoder::new(&mut packed)
            .map_err(|_| FrameError::Inflate)?;
        let frame = bounded(decoder, limit - body.len()).map_err(|error| {
            if error == FrameError::Inflate {
                error
            } else {
                FrameError::TooLarge { limit }
            }
        })?;
        body.extend(frame);
    }
    Ok(body)
}

/// Reads to the end, but never more than `limit` bytes.
fn bounded(source: impl Read, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut body = Vec::new();
    source
        .take(limit as u64 + 1)
        .read_to_end(&mut body)
        .map_err(|_| FrameError::Inflate)?;
    if body.len() > limit {
        return Err(FrameError::TooLarge { limit });
    }
    Ok(body)
}

/// Frames a SMILE document as a cluster does. Never [`Packing::Zstd`]: nothing reads more than the packings
/// it finds, and every reader knows DEFLATE.
#[must_use]
pub fn seal(codec: Codec, document: &[u8], deflate: bool) -> Vec<u8> {
    let name = codec.name().as_bytes();
    let mut blob = HEADER_MAGIC.to_vec();
    blob.push(name.len() as u8);
    blob.extend_from_slice(name);
    blob.extend_from_slice(&VERSION);
    if deflate {
        blob.extend_from_slice(DEFLATE_MARK);
        let mut encoder = flate2::read::DeflateEncoder::new(document, flate2::Compression::new(3));
        encoder
            .read_to_end(&mut blob)
            .expect("reading from memory cannot fail");
    } else {
        blob.extend_from_slice(document);
    }
    close(blob)
}

/// Appends the footer of Lucene's `CodecUtil` to `bytes`.
#[must_use]
pub fn close(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(&FOOTER_MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    let crc = checksum(CrcAlgorithm::Crc32IsoHdlc, &bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_example_of_a_deflated_shard_index_opens() {
        let document = smile::encode(&smile::Value::Object(vec![]), smile::Flags::CLUSTER);
        for deflate in [false, true] {
            let blob = seal(Codec::Snapshots, &document, deflate);
            assert_eq!(blob[..5], [0x3f, 0xd7, 0x6c, 0x17, 9]);
            let frame = open(&blob).unwrap();
            assert_eq!(frame.codec, Codec::Snapshots);
            assert_eq!(&*frame.document(Limits::default()).unwrap(), document);
        }
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let document = smile::encode(&smile::Value::text("x"), smile::Flags::CLUSTER);
        let blob = seal(Codec::Snapshot, &document, false);
        for bit in 0..blob.len() * 8 {
            let mut blob = blob.clone();
            blob[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&blob).is_err(), "bit {bit}");
        }
        for length in 0..blob.len() {
            assert!(open(&blob[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_bomb_inflates_no_further_than_its_limit() {
        let zeros = vec![0; 64 << 20];
        let blob = seal(Codec::Snapshots, &zeros, true);
        assert!(blob.len() < 1 << 20);
        let frame = open(&blob).unwrap();
        let small = Limits {
            size: 1 << 20,
            ratio: 1000,
        };
        assert_eq!(
            frame.document(small),
            Err(FrameError::TooLarge { limit: 1 << 20 })
        );
        let steep = Limits {
            size: usize::MAX,
            ratio: 10,
        };
        assert!(matches!(
            frame.document(steep),
            Err(FrameError::TooLarge { .. })
        ));
    }
}
