//! Where in the tree a key's bytes lie.
//!
//! Decides: key -> path below the root. A key that a file system can hold lies at its own path, so that a
//! cluster reads the tree as a `type: fs` repository. All others lie below `.snapgate/escaped/` under a
//! spelling that is one to one: no hash, so the key can be read back from the path.
//! Spelling: every byte but `A-Z a-z 0-9 _ -` becomes `%XX`; the result is cut into segments of 200
//! characters; every segment but the last gets a `+` behind it. Directories end in `+` and files never do,
//! so two escaped keys never need the same name as file and as directory.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use policies::key::{ObjectKey, RESERVED};

use crate::stores::{Error, Result};

pub(super) const TEMPORARY: &str = ".snapgate/tmp/";
pub(super) const ESCAPED: &str = ".snapgate/escaped/";

/// `NAME_MAX` of every file system in use.
const LONGEST_SEGMENT: usize = 255;
const CUT: usize = 200;
const SPELLED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// The store keeps its own files below these two prefixes.
pub(super) fn check(key: &ObjectKey) -> Result<()> {
    let taken = [TEMPORARY, ESCAPED]
        .iter()
        .any(|own| key.as_str().starts_with(own));
    if taken {
        return Err(Error::Unstorable(
            "it lies where the directory store keeps its own files",
        ));
    }
    Ok(())
}

/// The key's own path, unless no file system can hold it.
pub(super) fn natural(key: &ObjectKey) -> Option<&str> {
    let holds =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.len() <= LONGEST_SEGMENT;
    key.as_str().split('/').all(holds).then_some(key.as_str())
}

/// The key's path in the escape area, relative to the root.
pub(super) fn escaped(key: &ObjectKey) -> String {
    let spelled = utf8_percent_encode(key.as_str(), SPELLED).to_string();
    let mut path = String::from(ESCAPED);
    let mut rest = spelled.as_str();
    while rest.len() > CUT {
        let (segment, behind) = rest.split_at(CUT);
        path.push_str(segment);
        path.push_str("+/");
        rest = behind;
    }
    path.push_str(rest);
    path
}

/// The key that [`escaped`] put at this path (relative to the escape area).
pub(super) fn unescape(path: &str) -> Option<ObjectKey> {
    let spelled = path.replace("+/", "");
    let text = percent_decode_str(&spelled).decode_utf8().ok()?;
    let key = ObjectKey::parse(&text).ok()?;
    (escaped(&key).strip_prefix(ESCAPED) == Some(path)).then_some(key)
}

/// Directory and name; the directory of a name at the top is empty.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The directory's own directory; `None` for the root.
pub(super) fn above(directory: &str) -> Option<&str> {
    (!directory.is_empty()).then(|| split(directory).0)
}

pub(super) fn is_reserved(text: &str) -> bool {
    text.starts_with(RESERVED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_that_no_file_system_holds_are_escaped() {
        let long = "l".repeat(256);
        for odd in [
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "//",
            long.as_str(),
        ] {
            let key = ObjectKey::parse(odd).unwrap();
            assert_eq!(natural(&key), None, "{odd:?}");
        }
        for plain in ["a", "a/b", ".a", "a/...", "index-0", "indices/x/0/__y"] {
            let key = ObjectKey::parse(plain).unwrap();
            assert_eq!(natural(&key), Some(plain));
        }
    }

    proptest! {
        #[test]
        fn an_escaped_key_is_read_back_from_its_path(text in "[^\u{0}]{1,250}") {
            let key = ObjectKey::parse(&text).unwrap();
            let path = escaped(&key);
            for segment in path.split('/') {
                prop_assert!(!matches!(segment, "" | "." | ".."));
                prop_assert!(segment.len() <= LONGEST_SEGMENT);
            }
            prop_assert_eq!(unescape(path.strip_prefix(ESCAPED).unwrap()), Some(key));
        }
    }
}
