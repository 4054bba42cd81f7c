//! The ETag of an object written in one piece: the MD5 of its content, by whoever computed it.
//!
//! Invariant: where the gateway computed it and the store tells its own, the two are equal, or nothing becomes
//! visible.

use std::sync::Arc;

use super::Error;

/// `ours`: none was computed here. `told`: none came from the store, although it was expected.
pub(super) fn of(
    ours: Option<Arc<str>>,
    told: Option<String>,
    hash: &[u8; 32],
) -> Result<Arc<str>, Error> {
    match (ours, told) {
        (Some(ours), Some(told)) if *ours != *told => {
            tracing::error!(sent = %ours, stored = %told, "the store holds other bytes than it was sent");
            Err(Error::SlowDown(
                "The bytes were changed on their way to the store; try again.".into(),
            ))
        }
        (Some(ours), Some(_) | None) => Ok(ours),
        (None, Some(told)) => Ok(told.into()),
        (None, None) => Ok(without_md5(hash)),
    }
}

/// Looks like the ETag of an upload in one part, which clients do not compare with an MD5 of their own.
pub(super) fn without_md5(hash: &[u8; 32]) -> Arc<str> {
    format!("{}-1", hex::encode(&hash[..16])).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";

    #[test]
    fn an_etag_is_the_md5_by_whoever_computed_it() {
        let tag = |ours: Option<&str>, told: Option<&str>| {
            of(ours.map(Into::into), told.map(Into::into), &[0xab; 32]).unwrap()
        };
        assert_eq!(&*tag(Some(MD5), None), MD5);
        assert_eq!(&*tag(Some(MD5), Some(MD5)), MD5);
        assert_eq!(&*tag(None, Some(MD5)), MD5);
        assert_eq!(&*tag(None, None), format!("{}-1", "ab".repeat(16)));
    }

    #[test]
    fn bytes_that_changed_on_their_way_to_the_store_are_not_acknowledged() {
        let other = "d41d8cd98f00b204e9800998ecf8427e";
        let outcome = of(Some(MD5.into()), Some(other.into()), &[0; 32]);
        assert!(matches!(outcome, Err(Error::SlowDown(_))), "{outcome:?}");
    }
}
