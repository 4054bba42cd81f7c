//! The writer: a tree -> the bytes Jackson's `SmileGenerator` would have made of it.

use std::collections::HashMap;

use super::{MAGIC, SHARED, Value};

/// What the header announces. Clusters write [`Flags::CLUSTER`]; the others exist for tests of the reader.
#[derive(Debug, Clone, Copy)]
pub struct Flags {
    pub shared_names: bool,
    pub shared_values: bool,
    pub raw_binary: bool,
}

impl Flags {
    /// Byte 05, read back from Elasticsearch 2.4-9.5 and OpenSearch 1.3-3.8.
    pub const CLUSTER: Self = Self {
        shared_names: true,
        shared_values: false,
        raw_binary: true,
    };

    fn byte(self) -> u8 {
        u8::from(self.shared_names)
            | u8::from(self.shared_values) << 1
            | u8::from(self.raw_binary) << 2
    }
}

/// Writes one document, without an end marker, as the clusters do.
#[must_use]
pub fn encode(value: &Value, flags: Flags) -> Vec<u8> {
    let mut writer = Writer {
        out: MAGIC.to_vec(),
        names: flags.shared_names.then(Seen::default),
        values: flags.shared_values.then(Seen::default),
        raw_binary: flags.raw_binary,
    };
    writer.out.push(flags.byte());
    writer.value(value);
    writer.out
}

/// What can be referred to. Entries whose low byte would be FE or FF keep their place but are never referred to.
#[derive(Default)]
struct Seen<'a> {
    entries: HashMap<&'a str, usize>,
    count: usize,
}

impl<'a> Seen<'a> {
    fn remember(&mut self, text: &'a str) {
        if self.count == SHARED {
            self.entries.clear();
            self.count = 0;
        }
        if self.count & 0xFF < 0xFE {
            self.entries.insert(text, self.count);
        }
        self.count += 1;
    }
}

struct Writer<'a> {
    out: Vec<u8>,
    names: Option<Seen<'a>>,
    values: Option<Seen<'a>>,
    raw_binary: bool,
}

/// Longest name in characters, and for others than ASCII in bytes, that Jackson writes as a short one.
const SHORT_NAME: usize = 56;
/// Longest text in bytes that Jackson writes with its length in the token.
const SHORT_TEXT: usize = 64;
/// Jackson's output buffer: a text whose worst case of three bytes a character exceeds it is announced
/// as Unicode even if it is ASCII, because the announcement is sent before the text is seen.
const BUFFER: usize = 8000;

impl<'a> Writer<'a> {
    fn value(&mut self, value: &'a Value) {
        match value {
            Value::Null => self.out.push(0x21),
            Value::Bool(value) => self.out.push(0x22 + u8::from(*value)),
            Value::Int(value) => self.int(*value),
            Value::BigInteger(bytes) => {
                self.out.push(0x26);
                self.seven_bit(bytes);
            }
            Value::Float(value) => {
                self.out.push(0x28);
                self.groups(u64::from(value.to_bits()), 5);
            }
            Value::Double(value) => {
                self.out.push(0x29);
                self.groups(value.to_bits(), 10);
            }
            Value::Decimal { scale, unscaled } => {
                self.out.push(0x2A);
                self.vint(zigzag(i64::from(*scale)));
                self.seven_bit(unscaled);
            }
            Value::Text(text) => self.text(text),
            Value::Binary(bytes) if self.raw_binary => {
                self.out.push(0xFD);
                self.vint(bytes.len() as u64);
                self.out.extend_from_slice(bytes);
            }
            Value::Binary(bytes) => {
                self.out.push(0xE8);
                self.seven_bit(bytes);
            }
            Value::Array(items) => {
                self.out.push(0xF8);
                for item in items {
                    self.value(item);
                }
                self.out.push(0xF9);
            }
            Value::Object(fields) => {
                self.out.push(0xFA);
                for (name, value) in fields {
                    self.name(name);
                    self.value(value);
                }
                self.out.push(0xFB);
            }
        }
    }

    fn int(&mut self, value: i64) {
        let encoded = zigzag(value);
        if encoded < 32 {
            self.out.push(0xC0 + encoded as u8);
            return;
        }
        self.out.push(if i32::try_from(value).is_ok() {
            0x24
        } else {
            0x25
        });
        self.vint(encoded);
    }

    fn name(&mut self, name: &'a str) {
        if name.is_empty() {
            self.out.push(0x20);
            return;
        }
        if let Some(entry) = self
            .names
            .as_ref()
            .and_then(|seen| seen.entries.get(name).copied())
        {
            if entry < 64 {
                self.out.push(0x40 + entry as u8);
            } else {
                self.out
                    .extend_from_slice(&[0x30 + (entry >> 8) as u8, entry as u8]);
            }
            return;
        }
        if name.len() > SHORT_NAME {
            self.out.push(0x34);
            self.out.extend_from_slice(name.as_bytes());
            self.out.push(0xFC);
            return;
        }
        let token = if name.is_ascii() { 0x80 - 1 } else { 0xC0 - 2 };
        self.out.push(token + name.len() as u8);
        self.out.extend_from_slice(name.as_bytes());
        if let Some(seen) = &mut self.names {
            seen.remember(name);
        }
    }

    fn text(&mut self, text: &'a str) {
        if text.is_empty() {
            self.out.push(0x20);
            return;
        }
        if let Some(entry) = self
            .values
            .as_ref()
            .and_then(|seen| seen.entries.get(text).copied())
        {
            if entry < 31 {
                self.out.push(1 + entry as u8);
            } else {
                self.out
                    .extend_from_slice(&[0xEC + (entry >> 8) as u8, entry as u8]);
            }
            return;
        }
        let ascii = text.is_ascii();
        if text.len() > SHORT_TEXT {
            let fits = text.encode_utf16().count() * 3 <= BUFFER;
            self.out.push(if ascii && fits { 0xE0 } else { 0xE4 });
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(0xFC);
            return;
        }
        let token = if ascii { 0x40 - 1 } else { 0x80 - 2 };
        self.out.push(token + text.len() as u8);
        self.out.extend_from_slice(text.as_bytes());
        if let Some(seen) = &mut self.values {
            seen.remember(text);
        }
    }

    fn vint(&mut self, value: u64) {
        let mut shift = 6;
        while shift < 64 && value >> shift != 0 {
            shift += 7;
        }
        while shift > 6 {
            shift -= 7;
            self.out.push((value >> shift) as u8 & 0x7F);
        }
        self.out.push(0x80 | value as u8 & 0x3F);
    }

    fn groups(&mut self, value: u64, count: u32) {
        for group in (0..count).rev() {
            self.out.push((value >> (7 * group)) as u8 & 0x7F);
        }
    }

    fn seven_bit(&mut self, bytes: &[u8]) {
        self.vint(bytes.len() as u64);
        for chunk in bytes.chunks(7) {
            let value = chunk
                .iter()
                .fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
            let last_bits = chunk.len();
            for group in (0..chunk.len()).rev() {
                self.out
                    .push((value >> (last_bits + 7 * group)) as u8 & 0x7F);
            }
            self.out.push((value & ((1 << last_bits) - 1)) as u8);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}
