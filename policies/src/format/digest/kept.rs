//! A digest as bytes, kept so that a restart reads no metadata again.
//!
//! Decides: [`Digest`] <-> bytes with a version in front. Invariants: what is decoded is what was encoded; bytes of another
//! version, or cut or changed ones, decode to nothing (then the object itself is read again), never to another
//! digest by panicking or by growing: every count is checked against the bytes that are left. Smaller than the object
//! it stands for, since names of 22 characters take 17 bytes and nothing else of a file is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Digest;
use crate::format::name::BlobName;
use crate::format::shard::{File, ShardIndex, ShardSnapshot};
use crate::format::snapshot::{IndexMetadata, SnapshotInfo};

/// The first byte. What is written with another one is read from the object again.
const VERSION: u8 = 2;
const PREFIX: &str = "__";
/// Marks a name that is no short base64 text.
const WHOLE: u8 = u8::MAX;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[must_use]
pub fn encode(digest: &Digest) -> Vec<u8> {
    let mut out = Out(vec![VERSION]);
    match digest {
        Digest::SnapshotInfo(info) => {
            out.0.push(0);
            out.info(info);
        }
        Digest::GlobalMetadata => out.0.push(1),
        Digest::IndexMetadata(IndexMetadata { index, shards }) => {
            out.0.push(2);
            out.text(index);
            out.number(u64::from(*shards));
        }
        Digest::ShardSnapshot(body) => {
            out.0.push(3);
            out.text(&body.name);
            out.files(&body.files);
        }
        Digest::ShallowShardSnapshot => out.0.push(4),
        Digest::ShardIndex(body) => {
            out.0.push(5);
            out.number(body.snapshots.len() as u64);
            for name in &body.snapshots {
                out.text(name);
            }
            out.files(&body.files);
        }
    }
    out.0
}

/// None = read the object itself.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Digest> {
    let mut input = In(bytes);
    if input.byte()? != VERSION {
        return None;
    }
    let digest = match input.byte()? {
        0 => Digest::SnapshotInfo(input.info()?),
        1 => Digest::GlobalMetadata,
        2 => Digest::IndexMetadata(IndexMetadata {
            index: input.text()?,
            shards: u32::try_from(input.number()?).ok()?,
        }),
        3 => Digest::ShardSnapshot(ShardSnapshot {
            name: input.text()?,
            files: input.files()?,
        }),
        4 => Digest::ShallowShardSnapshot,
        5 => Digest::ShardIndex(ShardIndex {
            snapshots: input.many(In::text)?,
            files: input.files()?,
        }),
        _unknown => return None,
    };
    input.0.is_empty().then_some(digest)
}

struct Out(Vec<u8>);

impl Out {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn maybe(&mut self, number: Option<i64>) {
        match number {
            None => self.0.push(0),
            Some(number) => {
                self.0.push(1);
                self.0.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    fn info(&mut self, info: &SnapshotInfo) {
        let SnapshotInfo {
            name,
            uuid,
            version_id,
            state,
            indices,
            failures,
            start_time,
            end_time,
            total_shards,
            include_global_state,
            shallow,
        } = info;
        for text in [name, uuid, state] {
            self.text(text);
        }
        for number in [version_id, start_time, end_time, total_shards] {
            self.maybe(*number);
        }
        self.maybe(include_global_state.map(i64::from));
        self.0.push(u8::from(*shallow));
        self.number(indices.len() as u64);
        for index in indices {
            self.text(index);
        }
        self.number(failures.len() as u64);
        for (index, shard) in failures {
            self.text(index);
            self.number(u64::from(*shard));
        }
    }

    /// Part sizes are few: they stand once, in front.
    fn files(&mut self, files: &[File]) {
        let mut sizes: Vec<u64> = files.iter().map(|file| file.part_size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        self.number(sizes.len() as u64);
        for size in &sizes {
            self.number(*size);
        }
        self.number(files.len() as u64);
        for file in files {
            self.name(&file.name);
            self.number(file.length);
            self.number(sizes.partition_point(|size| *size < file.part_size) as u64);
            self.0.push(u8::from(file.checksum.is_some()));
            if let Some(checksum) = file.checksum {
                self.0.extend_from_slice(&checksum.to_le_bytes());
            }
        }
    }

    fn name(&mut self, name: &BlobName) {
        let (prefix, rest) = name.pieces();
        let short = prefix == PREFIX && rest.len() < usize::from(WHOLE);
        if !short || rest.bytes().any(|byte| digit(byte) == NO_DIGIT) {
            self.0.push(WHOLE);
            return self.text(&name.to_string());
        }
        self.0.push(rest.len() as u8);
        let (mut bits, mut held) = (0_u32, 0);
        for byte in rest.bytes() {
            bits = bits << 6 | u32::from(digit(byte));
            held += 6;
            if held >= 8 {
                held -= 8;
                self.0.push((bits >> held) as u8);
            }
        }
        if held > 0 {
            self.0.push((bits << (8 - held)) as u8);
        }
    }
}

const NO_DIGIT: u8 = u8::MAX;

/// The place of a character in [`ALPHABET`]; names are many, so it is looked up.
fn digit(byte: u8) -> u8 {
    const DIGITS: [u8; 256] = {
        let mut digits = [NO_DIGIT; 256];
        let mut at = 0;
        while at < ALPHABET.len() {
            digits[ALPHABET[at] as usize] = at as u8;
            at += 1;
        }
        digits
    };
    DIGITS[usize::from(byte)]
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok().map(Into::into)
    }

    /// A number of things, each of at least one byte.
    fn many<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        if count > self.0.len() {
            return None;
        }
        (0..count).map(|_| one(self)).collect()
    }

    fn maybe(&mut self) -> Option<Option<i64>> {
        match self.byte()? {
            0 => Some(None),
            1 => Some(Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))),
            _unknown => None,
        }
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _unknown => None,
        }
    }

    fn info(&mut self) -> Option<SnapshotInfo> {
        let (name, uuid, state) = (self.text()?, self.text()?, self.text()?);
        let (version_id, start_time) = (self.maybe()?, self.maybe()?);
        let (end_time, total_shards) = (self.maybe()?, self.maybe()?);
        let include_global_state = self.maybe()?.map(|flag| flag != 0);
        let shallow = self.flag()?;
        let indices = self.many(Self::text)?;
        let failures: BTreeSet<_> = self
            .many(|input| Some((input.text()?, u32::try_from(input.number()?).ok()?)))?
            .into_iter()
            .collect();
        Some(SnapshotInfo {
            name,
            uuid,
            version_id,
            state,
            indices,
            failures,
            start_time,
            end_time,
            total_shards,
            include_global_state,
            shallow,
        })
    }

    fn files(&mut self) -> Option<Box<[File]>> {
        let sizes = self.many(Self::number)?;
        let files = self.many(|input| {
            Some(File {
                name: input.name()?,
                length: input.number()?,
                part_size: *sizes.get(usize::try_from(input.number()?).ok()?)?,
                checksum: match input.flag()? {
                    false => None,
                    true => Some(u32::from_le_bytes(input.take(4)?.try_into().ok()?)),
                },
            })
        })?;
        Some(files.into_boxed_slice())
    }

    fn name(&mut self) -> Option<BlobName> {
        let length = self.byte()?;
        if length == WHOLE {
            return self.text().map(|name| BlobName::new(&name));
        }
        let length = usize::from(length);
        let packed = self.take((length * 6).div_ceil(8))?;
        let mut name = String::with_capacity(PREFIX.len() + length);
        name.push_str(PREFIX);
        let (mut bits, mut held, mut bytes) = (0_u32, 0, packed.iter());
        for _ in 0..length {
            if held < 6 {
                bits = bits << 8 | u32::from(*bytes.next()?);
                held += 8;
            }
            held -= 6;
            name.push(char::from(ALPHABET[(bits >> held & 0x3f) as usize]));
        }
        Some(BlobName::new(&name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_file() -> impl Strategy<Value = File> {
        let name = prop_oneof!["__[A-Za-z0-9_-]{22}", "__[0-9a-z]{0,3}", "[a-zé_.]{1,40}"];
        let part_size = prop_oneof![Just(File::WHOLE), 1_u64..1 << 40];
        (name, any::<u64>(), part_size, any::<Option<u32>>()).prop_map(
            |(name, length, part_size, checksum)| File {
                name: BlobName::new(&name),
                length,
                part_size,
                checksum,
            },
        )
    }

    proptest! {
        #[test]
        fn files_come_back_as_they_were(files in prop::collection::vec(any_file(), 0..20)) {
            let digest = Digest::ShardIndex(ShardIndex {
                files: files.into(),
                snapshots: vec!["a".into(), "é".into()],
            });
            prop_assert_eq!(decode(&encode(&digest)), Some(digest));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..7) {
            let mut input = vec![VERSION, kind];
            input.extend(bytes);
            let _ = decode(&input);
        }

        #[test]
        fn cut_bytes_are_no_digest(at in 0_usize..100) {
            let files = vec![File { name: BlobName::new("__abcdefghijklmnopqrstuv"), length: 7, part_size: 3, checksum: Some(9) }; 4];
            let bytes = encode(&Digest::ShardSnapshot(ShardSnapshot { name: "s".into(), files: files.into() }));
            let at = at % bytes.len();
            prop_assert_eq!(decode(&bytes[..at]), None);
        }
    }

    #[test]
    fn a_uuid_name_with_its_size_and_checksum_takes_little_more_than_its_bits() {
        let file = File {
            name: BlobName::new("__abcdefghijklmnopqrstuv"),
            length: 1 << 20,
            part_size: File::WHOLE,
            checksum: Some(1),
        };
        let of = |count| {
            let files = vec![file.clone(); count].into();
            encode(&Digest::ShardSnapshot(ShardSnapshot {
                name: "s".into(),
                files,
            }))
            .len()
        };
        assert_eq!(of(11) - of(1), 10 * 27);
    }
}
