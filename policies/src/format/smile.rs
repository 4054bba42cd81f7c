//! SMILE, the binary JSON in which both clusters write repository metadata.
//!
//! Decides: bytes -> events ([`Reader`]) or a tree ([`Value`]), and a tree -> the bytes a cluster would
//! have written ([`encode`]). Invariant: reading borrows from its input, never allocates by a length that the
//! input only claims, and ends after at most as many steps as there are bytes.
//! Own code, because a reader here must honour every header flag (shared names, shared values, raw
//! binary) whoever wrote the blob, and the writer must repeat Jackson's choices byte for byte.
//!
//! Source of the token tables: the SMILE 1.0 specification; of the choices: Jackson's `SmileGenerator`
//! as Elasticsearch 2.4-9.5 and OpenSearch 1.3-3.8 use it, read back from what they wrote.

mod reader;
mod writer;

pub use reader::{Event, Reader};
pub use writer::{Flags, encode};

/// The first three bytes of every SMILE document; the fourth carries the flags.
pub const MAGIC: [u8; 3] = *b":)\n";

/// Objects and arrays inside each other; the deepest mapping a cluster accepts has a few dozen levels.
pub const MAX_DEPTH: usize = 200;

/// Names and values that can be referred back to, at most; then the table starts anew.
const SHARED: usize = 1024;

/// One SMILE value. Objects keep their order; integers have no width, because the writer chooses it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Big-endian two's complement.
    BigInteger(Vec<u8>),
    Float(f32),
    Double(f64),
    Decimal {
        scale: i32,
        unscaled: Vec<u8>,
    },
    Text(Box<str>),
    Binary(Vec<u8>),
    Array(Vec<Value>),
    Object(Vec<(Box<str>, Value)>),
}

impl Value {
    #[must_use]
    pub fn text(text: impl Into<Box<str>>) -> Self {
        Self::Text(text.into())
    }

    /// The value of `key`, if this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields
                .iter()
                .find(|(name, _)| &**name == key)
                .map(|(_, value)| value),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Double(_)
            | Self::Decimal { .. }
            | Self::Text(_)
            | Self::Binary(_)
            | Self::Array(_) => None,
        }
    }
}

impl From<&serde_json::Value> for Value {
    /// Bodies of 1.x are JSON text; they are read through the same door.
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => number
                .as_i64()
                .map_or_else(|| Self::Double(number.as_f64().unwrap_or(0.0)), Self::Int),
            serde_json::Value::String(text) => Self::text(text.as_str()),
            serde_json::Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), value.into()))
                    .collect(),
            ),
        }
    }
}

/// Where and why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("SMILE at byte {at}: {fault}")]
pub struct SmileError {
    /// Offset into the document.
    pub at: usize,
    pub fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it does not start with the SMILE header")]
    NoHeader,
    #[error("it ends in the middle of a value")]
    Truncated,
    #[error("byte {0:#04x} starts no value or name here")]
    Token(u8),
    #[error("text is not UTF-8")]
    NotText,
    #[error("a reference names entry {0}, which was not written before")]
    Reference(usize),
    #[error("an integer does not fit 64 bits")]
    Overflow,
    #[error("more than {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("{0} was expected")]
    Expected(&'static str),
    #[error("bytes follow the end of the document")]
    Trailing,
}

/// Reads a whole document into a tree.
///
/// The tree takes a few times the size of the document; what can be large is read by [`Reader`] instead.
pub fn decode(document: &[u8]) -> Result<Value, SmileError> {
    let mut reader = Reader::new(document)?;
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
