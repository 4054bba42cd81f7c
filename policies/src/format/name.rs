//! The base name of a data blob, small enough to keep a million of them.
//!
//! Decides only how a name rests in memory: a UUID name (`__` and 22 characters of base64) lies in place
//! without its prefix, 24 bytes in all; others are boxed. Invariant: order and equality are those of the text.

use std::cmp::Ordering;
use std::fmt;

/// `__<uuid>` or `__<base36 number>`, without `.partN`.
#[derive(Clone)]
pub struct BlobName(Form);

#[derive(Clone)]
enum Form {
    /// Length and bytes of what follows `__`.
    Short(u8, [u8; SHORT]),
    Whole(Box<str>),
}

const SHORT: usize = 22;
const PREFIX: &str = "__";

impl BlobName {
    #[must_use]
    pub fn new(name: &str) -> Self {
        match name.strip_prefix(PREFIX) {
            Some(rest) if rest.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..rest.len()].copy_from_slice(rest.as_bytes());
                Self(Form::Short(rest.len() as u8, bytes))
            }
            Some(_) | None => Self(Form::Whole(name.into())),
        }
    }

    /// The two pieces whose concatenation is the name.
    pub(in crate::format) fn pieces(&self) -> (&str, &str) {
        match &self.0 {
            Form::Short(length, bytes) => {
                let rest = &bytes[..usize::from(*length)];
                (
                    PREFIX,
                    std::str::from_utf8(rest).expect("it was copied from a str"),
                )
            }
            Form::Whole(name) => match name.strip_prefix(PREFIX) {
                Some(rest) => (PREFIX, rest),
                None => ("", name),
            },
        }
    }
}

/// The bytes as two numbers that order as they do; two bytes are in both.
fn halves(bytes: &[u8; SHORT]) -> (u128, u64) {
    let (first, last) = (bytes.first_chunk::<16>(), bytes.last_chunk::<8>());
    let (first, last) = first
        .zip(last)
        .expect("22 bytes have 16 first and 8 last ones");
    (u128::from_be_bytes(*first), u64::from_be_bytes(*last))
}

impl Ord for BlobName {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // Padding is zero and names have no NUL, so that the padded bytes order as the names do.
            (Form::Short(a, x), Form::Short(b, y)) => halves(x).cmp(&halves(y)).then(a.cmp(b)),
            (Form::Short(..) | Form::Whole(_), Form::Short(..) | Form::Whole(_)) => {
                let ((a, x), (b, y)) = (self.pieces(), other.pieces());
                a.bytes().chain(x.bytes()).cmp(b.bytes().chain(y.bytes()))
            }
        }
    }
}

impl PartialOrd for BlobName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BlobName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for BlobName {}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, rest) = self.pieces();
        f.write_str(prefix)?;
        f.write_str(rest)
    }
}

impl fmt::Debug for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uuid_name_takes_24_bytes() {
        assert_eq!(size_of::<BlobName>(), 24);
    }

    proptest! {
        #[test]
        fn it_orders_and_prints_as_its_text(a in "_{0,3}[a-c_é-]{0,30}", b in "_{0,3}[a-c_é-]{0,30}") {
            let (x, y) = (BlobName::new(&a), BlobName::new(&b));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.to_string(), a);
        }
    }
}
