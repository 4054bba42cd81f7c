//! Names as they travel: percent-encoding of paths and queries, and which names a store can hold.
//!
//! Decides: a name with an empty, `.` or `..` segment is refused. S3 itself takes it literally, but
//! proxies and file-backed services clean such paths, and the bytes would land under another name.
//! So is one with control characters: services that know no `encoding-type` cannot list it.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters, as SigV4 wants it.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// No segment is empty, `.` or `..`, and XML can name every character.
pub(super) fn is_storable(name: &str) -> bool {
    let unnameable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    !name.contains(unnameable)
        && name
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}

pub(super) fn push_path(into: &mut String, name: &str) {
    into.extend(utf8_percent_encode(name, PATH));
}

/// A query in canonical form: names in order, values encoded.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    debug_assert!(pairs.is_sorted(), "SigV4 signs the query sorted");
    let mut text = String::with_capacity(32 * pairs.len());
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        let name = utf8_percent_encode(name, QUERY);
        let value = utf8_percent_encode(value, QUERY);
        write!(text, "{name}={value}").expect("a String takes all text");
    }
    text
}

/// Decodes what a service sent under `encoding-type=url`, where a blank may be `+`.
pub(super) fn decode(text: &str) -> Option<String> {
    let blanks = text.replace('+', " ");
    percent_decode_str(&blanks)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_would_clean_are_refused() {
        for name in [
            "", "/", "/a", "a//b", "a/./b", "..", "a/..", "./a", "a//", "a/", "a\n", "a\u{1}",
        ] {
            assert!(!is_storable(name), "{name:?}");
        }
        for name in ["a", "a/b", "...", ".a", "a b", "%2e%2e/x", "ä"] {
            assert!(is_storable(name), "{name:?}");
        }
    }

    #[test]
    fn a_name_survives_its_way_through_a_listing() {
        let name = "a+b c%/ä?&=\u{1}";
        let mut path = String::new();
        push_path(&mut path, name);
        assert_eq!(path, "a%2Bb%20c%25/%C3%A4%3F%26%3D%01");
        assert_eq!(decode(&path).as_deref(), Some(name));
        assert_eq!(decode("a+b").as_deref(), Some("a b"));
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn a_query_is_encoded_value_by_value() {
        assert_eq!(
            query(&[("delete", ""), ("prefix", "a/b c")]),
            "delete=&prefix=a%2Fb%20c"
        );
    }
}
