//! The pull reader: one event a call, borrowed from the document.

use std::borrow::Cow;

use super::{Fault, MAGIC, MAX_DEPTH, SHARED, SmileError, Value};

/// One step through a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Name(&'a str),
    Null,
    Bool(bool),
    Int(i64),
    BigInteger(Vec<u8>),
    Float(f32),
    Double(f64),
    Decimal { scale: i32, unscaled: Vec<u8> },
    Text(&'a str),
    Binary(Cow<'a, [u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Array,
    ObjectBeforeName,
    ObjectBeforeValue,
}

/// What was written before and may be referred to; starts anew when full, as the writers do.
#[derive(Debug, Default)]
struct Shared<'a>(Vec<&'a str>);

impl<'a> Shared<'a> {
    fn remember(&mut self, text: &'a str) {
        if self.0.len() == SHARED {
            self.0.clear();
        }
        self.0.push(text);
    }
}

#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    inside: Vec<Inside>,
    names: Option<Shared<'a>>,
    values: Option<Shared<'a>>,
}

const FLAG_SHARED_NAMES: u8 = 0x01;
const FLAG_SHARED_VALUES: u8 = 0x02;
/// Low nibble of the fourth byte: flags; high nibble: version, 0 in all that exist.
const VERSION_MASK: u8 = 0xF0;

impl<'a> Reader<'a> {
    /// Reads the four header bytes. The flag "raw binary" only permits what the tokens say themselves.
    pub fn new(document: &'a [u8]) -> Result<Self, SmileError> {
        let no_header = SmileError {
            at: 0,
            fault: Fault::NoHeader,
        };
        let Some((header, _)) = document.split_at_checked(4) else {
            return Err(no_header);
        };
        let flags = header[3];
        if header[..3] != MAGIC || flags & VERSION_MASK != 0 {
            return Err(no_header);
        }
        Ok(Self {
            input: document,
            at: 4,
            inside: Vec::new(),
            names: (flags & FLAG_SHARED_NAMES != 0).then(Shared::default),
            values: (flags & FLAG_SHARED_VALUES != 0).then(Shared::default),
        })
    }

    /// The next event. At the end of the document: [`Fault::Truncated`]; ask [`Reader::end`] instead.
    pub fn event(&mut self) -> Result<Event<'a>, SmileError> {
        match self.inside.last().copied() {
            Some(Inside::ObjectBeforeName) => self.name(),
            Some(Inside::ObjectBeforeValue) => {
                if let Some(level) = self.inside.last_mut() {
                    *level = Inside::ObjectBeforeName;
                }
                self.any_value()
            }
            Some(Inside::Array) | None => self.any_value(),
        }
    }

    /// Checks that one whole value was read and nothing but an end marker follows.
    pub fn end(&self) -> Result<(), SmileError> {
        if !self.inside.is_empty() {
            return self.fail(Fault::Truncated);
        }
        match &self.input[self.at..] {
            [] | [0xFF] => Ok(()),
            _ => self.fail(Fault::Trailing),
        }
    }

    /// Reads one value of any kind as a tree.
    pub fn value(&mut self) -> Result<Value, SmileError> {
        let event = self.event()?;
        self.tree(event)
    }

    /// Skips one value of any kind.
    pub fn skip(&mut self) -> Result<(), SmileError> {
        let outer = self.inside.len();
        loop {
            self.event()?;
            if self.inside.len() <= outer {
                return Ok(());
            }
        }
    }

    /// Reads an object: calls `field` with every name; it must consume exactly that field's value.
    pub fn object<E: From<SmileError>>(
        &mut self,
        mut field: impl FnMut(&mut Self, &'a str) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.event()? {
            Event::ObjectStart => {}
            _ => return self.fail(Fault::Expected("an object")).map_err(E::from),
        }
        loop {
            match self.event()? {
                Event::Name(name) => field(self, name)?,
                Event::ObjectEnd => return Ok(()),
                _ => return self.fail(Fault::Expected("a name")).map_err(E::from),
            }
        }
    }

    /// Reads an array: calls `item` before every element; it must consume exactly that element.
    pub fn array<E: From<SmileError>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.event()? {
            Event::ArrayStart => {}
            _ => return self.fail(Fault::Expected("an array")).map_err(E::from),
        }
        while self.peek()? != ARRAY_END {
            item(self)?;
        }
        self.event()?;
        Ok(())
    }

    pub fn text(&mut self) -> Result<&'a str, SmileError> {
        match self.event()? {
            Event::Text(text) => Ok(text),
            _ => self.fail(Fault::Expected("text")),
        }
    }

    /// A text or null.
    pub fn optional_text(&mut self) -> Result<Option<&'a str>, SmileError> {
        match self.event()? {
            Event::Text(text) => Ok(Some(text)),
            Event::Null => Ok(None),
            _ => self.fail(Fault::Expected("text or null")),
        }
    }

    pub fn int(&mut self) -> Result<i64, SmileError> {
        match self.event()? {
            Event::Int(int) => Ok(int),
            _ => self.fail(Fault::Expected("an integer")),
        }
    }

    pub fn unsigned(&mut self) -> Result<u64, SmileError> {
        match self.event()? {
            Event::Int(int) if int >= 0 => Ok(int.cast_unsigned()),
            _ => self.fail(Fault::Expected("a non-negative integer")),
        }
    }

    pub fn boolean(&mut self) -> Result<bool, SmileError> {
        match self.event()? {
            Event::Bool(value) => Ok(value),
            _ => self.fail(Fault::Expected("true or false")),
        }
    }

    pub fn binary(&mut self) -> Result<Cow<'a, [u8]>, SmileError> {
        match self.event()? {
            Event::Binary(bytes) => Ok(bytes),
            _ => self.fail(Fault::Expected("binary")),
        }
    }

    fn tree(&mut self, event: Event<'a>) -> Result<Value, SmileError> {
        // Recursion is bounded by MAX_DEPTH, which `event` enforces.
        Ok(match event {
            Event::ObjectStart => {
                let mut fields = Vec::new();
                loop {
                    match self.event()? {
                        Event::Name(name) => fields.push((name.into(), self.value()?)),
                        Event::ObjectEnd => return Ok(Value::Object(fields)),
                        _ => return self.fail(Fault::Expected("a name")),
                    }
                }
            }
            Event::ArrayStart => {
                let mut items = Vec::new();
                loop {
                    match self.event()? {
                        Event::ArrayEnd => return Ok(Value::Array(items)),
                        event => items.push(self.tree(event)?),
                    }
                }
            }
            Event::Null => Value::Null,
            Event::Bool(value) => Value::Bool(value),
            Event::Int(value) => Value::Int(value),
            Event::BigInteger(value) => Value::BigInteger(value),
            Event::Float(value) => Value::Float(value),
            Event::Double(value) => Value::Double(value),
            Event::Decimal { scale, unscaled } => Value::Decimal { scale, unscaled },
            Event::Text(text) => Value::text(text),
            Event::Binary(bytes) => Value::Binary(bytes.into_owned()),
            Event::ObjectEnd | Event::ArrayEnd | Event::Name(_) => {
                return self.fail(Fault::Expected("a value"));
            }
        })
    }

    fn fail<T>(&self, fault: Fault) -> Result<T, SmileError> {
        Err(SmileError { at: self.at, fault })
    }

    fn peek(&self) -> Result<u8, SmileError> {
        self.input
            .get(self.at)
            .copied()
            .map_or_else(|| self.fail(Fault::Truncated), Ok)
    }

    fn byte(&mut self) -> Result<u8, SmileError> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], SmileError> {
        match self.input[self.at..].split_at_checked(length) {
            Some((bytes, _)) => {
                self.at += length;
                Ok(bytes)
            }
            None => self.fail(Fault::Truncated),
        }
    }

    fn utf8(&mut self, length: usize) -> Result<&'a str, SmileError> {
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).or_else(|_| self.fail(Fault::NotText))
    }

    /// Text up to the marker FC, which cannot occur inside UTF-8.
    fn long_utf8(&mut self) -> Result<&'a str, SmileError> {
        match self.input[self.at..]
            .iter()
            .position(|byte| *byte == STRING_END)
        {
            Some(length) => {
                let text = self.utf8(length)?;
                self.at += 1;
                Ok(text)
            }
            None => self.fail(Fault::Truncated),
        }
    }

    fn enter(&mut self, level: Inside) -> Result<(), SmileError> {
        if self.inside.len() == MAX_DEPTH {
            return self.fail(Fault::TooDeep);
        }
        self.inside.push(level);
        Ok(())
    }

    fn name(&mut self) -> Result<Event<'a>, SmileError> {
        let token = self.byte()?;
        let name = match token {
            OBJECT_END => {
                self.inside.pop();
                return Ok(Event::ObjectEnd);
            }
            0x20 => "",
            0x30..=0x33 => {
                let low = self.byte()?;
                self.shared(Table::Names, usize::from(token & 3) << 8 | usize::from(low))?
            }
            0x34 => self.long_utf8()?,
            0x40..=0x7F => self.shared(Table::Names, usize::from(token - 0x40))?,
            0x80..=0xBF => self.short(Table::Names, usize::from(token - 0x80) + 1)?,
            0xC0..=0xF7 => self.short(Table::Names, usize::from(token - 0xC0) + 2)?,
            _ => return self.fail(Fault::Token(token)),
        };
        if let Some(level) = self.inside.last_mut() {
            *level = Inside::ObjectBeforeValue;
        }
        Ok(Event::Name(name))
    }

    fn any_value(&mut self) -> Result<Event<'a>, SmileError> {
        let token = self.byte()?;
        Ok(match token {
            0x01..=0x1F => Event::Text(self.shared(Table::Values, usize::from(token - 1))?),
            0x20 => Event::Text(""),
            0x21 => Event::Null,
            0x22 => Event::Bool(false),
            0x23 => Event::Bool(true),
            0x24 => {
                let int = zigzag(self.vint()?);
                if i32::try_from(int).is_err() {
                    return self.fail(Fault::Overflow);
                }
                Event::Int(int)
            }
            0x25 => Event::Int(zigzag(self.vint()?)),
            0x26 => Event::BigInteger(self.seven_bit()?),
            0x28 => Event::Float(f32::from_bits(self.groups::<5>()? as u32)),
            0x29 => Event::Double(f64::from_bits(self.groups::<10>()?)),
            0x2A => {
                let scale = zigzag(self.vint()?);
                let Ok(scale) = i32::try_from(scale) else {
                    return self.fail(Fault::Overflow);
                };
                Event::Decimal {
                    scale,
                    unscaled: self.seven_bit()?,
                }
            }
            0x40..=0x7F => Event::Text(self.short(Table::Values, usize::from(token - 0x40) + 1)?),
            0x80..=0xBF => Event::Text(self.short(Table::Values, usize::from(token - 0x80) + 2)?),
            0xC0..=0xDF => Event::Int(zigzag(u64::from(token - 0xC0))),
            0xE0 | 0xE4 => Event::Text(self.long_utf8()?),
            0xE8 => Event::Binary(Cow::Owned(self.seven_bit()?)),
            0xEC..=0xEF => {
                let low = self.byte()?;
                Event::Text(self.shared(
                    Table::Values,
                    usize::from(token & 3) << 8 | usize::from(low),
                )?)
            }
            ARRAY_START => {
                self.enter(Inside::Array)?;
                Event::ArrayStart
            }
            ARRAY_END if self.inside.last() == Some(&Inside::Array) => {
                self.inside.pop();
                Event::ArrayEnd
            }
            OBJECT_START => {
                self.enter(Inside::ObjectBeforeName)?;
                Event::ObjectStart
            }
            0xFD => {
                let length = self.length()?;
                Event::Binary(Cow::Borrowed(self.bytes(length)?))
            }
            _ => return self.fail(Fault::Token(token)),
        })
    }

    fn shared(&self, table: Table, entry: usize) -> Result<&'a str, SmileError> {
        let table = match table {
            Table::Names => self.names.as_ref(),
            Table::Values => self.values.as_ref(),
        };
        match table.and_then(|table| table.0.get(entry)) {
            Some(text) => Ok(text),
            None => self.fail(Fault::Reference(entry)),
        }
    }

    fn short(&mut self, table: Table, length: usize) -> Result<&'a str, SmileError> {
        let text = self.utf8(length)?;
        let table = match table {
            Table::Names => self.names.as_mut(),
            Table::Values => self.values.as_mut(),
        };
        if let Some(table) = table {
            table.remember(text);
        }
        Ok(text)
    }

    /// Seven bits a byte, most significant first; the last byte has its high bit set and carries six.
    fn vint(&mut self) -> Result<u64, SmileError> {
        let mut value: u64 = 0;
        loop {
            let byte = self.byte()?;
            let (bits, low) = if byte & 0x80 == 0 {
                (7, byte)
            } else {
                (6, byte & 0x3F)
            };
            if value >> (64 - bits) != 0 {
                return self.fail(Fault::Overflow);
            }
            value = value << bits | u64::from(low);
            if bits == 6 {
                return Ok(value);
            }
        }
    }

    fn length(&mut self) -> Result<usize, SmileError> {
        let length = self.vint()?;
        usize::try_from(length).or_else(|_| self.fail(Fault::Overflow))
    }

    fn groups<const N: usize>(&mut self) -> Result<u64, SmileError> {
        let bytes = self.bytes(N)?;
        Ok(bytes
            .iter()
            .fold(0, |value: u64, byte| value << 7 | u64::from(byte & 0x7F)))
    }

    /// Binary in bytes below 80: eight for every seven, then one more than what is left.
    fn seven_bit(&mut self) -> Result<Vec<u8>, SmileError> {
        let length = self.length()?;
        let left = length % 7;
        let Some(encoded) = (length / 7)
            .checked_mul(8)
            .and_then(|n| n.checked_add(left + usize::from(left > 0)))
        else {
            return self.fail(Fault::Overflow);
        };
        let encoded = self.bytes(encoded)?;
        let mut bytes = Vec::with_capacity(length);
        for group in encoded.chunks(8) {
            let whole = group.len() - 1;
            let last_bits = if group.len() == 8 { 7 } else { whole };
            let bits = group[..whole]
                .iter()
                .fold(0, |value: u64, byte| value << 7 | u64::from(byte & 0x7F));
            let bits = bits << last_bits | u64::from(group[whole]) & ((1 << last_bits) - 1);
            bytes.extend_from_slice(&bits.to_be_bytes()[8 - whole..]);
        }
        Ok(bytes)
    }
}

#[derive(Clone, Copy)]
enum Table {
    Names,
    Values,
}

const ARRAY_START: u8 = 0xF8;
const ARRAY_END: u8 = 0xF9;
const OBJECT_START: u8 = 0xFA;
const OBJECT_END: u8 = 0xFB;
const STRING_END: u8 = 0xFC;

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}
