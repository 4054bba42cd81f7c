//! From a client's body to a hidden upload, verified to the last byte.
//!
//! Invariant: [`ingest`] returns only if length, framing, signatures, trailers, Content-MD5 and every checksum
//! are right; before that nothing can become visible. Bytes go to the store and the hashers side by side,
//! chunk by chunk; a slow store slows the socket. The MD5 is computed here unless the store tells the one that it
//! computes itself and the client sent none to compare with: it is the dearest of all digests.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use super::{Body, BodyError, Error, Expected, unavailable};
use crate::digest::{Algorithm, Digests};
use crate::state::Checksum;
use crate::stores::{self, Upload};

/// What is known of a body once all of it was taken.
#[derive(Debug)]
pub(super) struct Ingested {
    pub size: u64,
    /// None: the store tells it.
    pub md5: Option<[u8; 16]>,
    pub hash: [u8; 32],
    pub checksums: Vec<Checksum>,
    /// The bytes themselves, if they were asked for and are not too many.
    pub captured: Option<Bytes>,
}

impl Ingested {
    pub fn etag(&self) -> Option<Arc<str>> {
        self.md5.map(|md5| hex::encode(md5).into())
    }
}

/// `capture`: keep up to this many bytes at hand, for metadata that must be judged before it is visible.
pub(super) async fn ingest(
    mut body: Body,
    upload: &mut dyn Upload,
    capture: usize,
) -> Result<Ingested, Error> {
    let mut captured = (capture > 0).then(Vec::new);
    let trailing = body.trailer.is_some();
    let wanted: Vec<Algorithm> = body
        .expected
        .iter()
        .map(|e| e.algorithm)
        .chain(body.compute)
        .collect();
    let md5 = body.md5.is_some() || !upload.tells_md5();
    let mut digests = Digests::new(&wanted, md5);
    let mut size = 0_u64;
    while let Some(chunk) = body.bytes.next().await {
        let chunk: Bytes = chunk?;
        size += chunk.len() as u64;
        if body.size.is_some_and(|announced| size > announced) {
            return Err(BodyError::Incomplete.into());
        }
        digests.update(&chunk).await;
        match &mut captured {
            Some(bytes) if bytes.len() + chunk.len() <= capture => bytes.extend_from_slice(&chunk),
            Some(_) | None => captured = None,
        }
        upload
            .write(chunk)
            .await
            .map_err(|e| store_failed("store the bytes", &e))?;
    }
    if body.size.is_some_and(|announced| size != announced) {
        return Err(BodyError::Incomplete.into());
    }
    let mut expected = body.expected;
    if trailing && let Some(trailer) = body.trailer.take() {
        expected.extend(trailer()?);
    }
    let sums = digests.finish().await;
    if body.md5.is_some() && body.md5 != sums.md5 {
        return Err(BodyError::BadMd5.into());
    }
    verify(&expected, &sums.checksums)?;
    let checksums = sums
        .checksums
        .iter()
        .map(|(algorithm, value)| checksum(*algorithm, value))
        .collect();
    Ok(Ingested {
        size,
        md5: sums.md5,
        hash: sums.hash,
        checksums,
        captured: captured.map(Bytes::from),
    })
}

fn verify(expected: &[Expected], computed: &[(Algorithm, Box<[u8]>)]) -> Result<(), BodyError> {
    for Expected { algorithm, value } in expected {
        let same = computed.iter().any(|(a, v)| a == algorithm && v == value);
        if !same {
            return Err(BodyError::BadChecksum(algorithm.name()));
        }
    }
    Ok(())
}

pub(super) fn checksum(algorithm: Algorithm, value: &[u8]) -> Checksum {
    use base64::Engine;
    Checksum {
        algorithm: algorithm.name().into(),
        value: base64::engine::general_purpose::STANDARD.encode(value),
    }
}

/// What a store's failure means for the client. "Surely absent" is not among them.
pub(super) fn store_failed(doing: &str, e: &stores::Error) -> Error {
    match e {
        stores::Error::Full => {
            tracing::error!(
                doing,
                "the store is full; writes are answered 503 until there is room"
            );
            Error::SlowDown("The store is full; try again later.".into())
        }
        stores::Error::Busy => Error::SlowDown("The store asks to slow down; try again.".into()),
        stores::Error::UploadGone => {
            Error::SlowDown("This write was ended by a hand-over; try again.".into())
        }
        stores::Error::Unstorable(why) if doing.starts_with("begin") => {
            Error::InvalidArgument(format!("The store cannot hold this key: {why}."))
        }
        // The name was good at the begin: it clashes with a folder that the store is removing, or with an object where its folder would be.
        stores::Error::Unstorable(why) => Error::SlowDown(format!(
            "The store cannot hold this key now: {why}; try again."
        )),
        stores::Error::Exists
        | stores::Error::Changed
        | stores::Error::Denied
        | stores::Error::Unknown
        | stores::Error::Failed(_) => unavailable(doing, e),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use md5::{Digest, Md5};

    use super::*;
    use crate::stores::{Publish, Published, StoredPart, UploadId};

    /// Takes everything; `tells` as of [`Upload::tells_md5`].
    struct Sink {
        id: UploadId,
        tells: bool,
    }

    #[async_trait]
    impl Upload for Sink {
        fn id(&self) -> &UploadId {
            &self.id
        }

        fn tells_md5(&self) -> bool {
            self.tells
        }

        async fn write(&mut self, _: Bytes) -> stores::Result<()> {
            Ok(())
        }

        async fn publish(self: Box<Self>, _: Publish) -> stores::Result<Published> {
            Err(stores::Error::UploadGone)
        }

        async fn seal(self: Box<Self>) -> stores::Result<StoredPart> {
            Err(stores::Error::UploadGone)
        }

        async fn abort(self: Box<Self>) -> stores::Result<()> {
            Ok(())
        }
    }

    async fn taken(tells: bool, md5: Option<[u8; 16]>) -> Result<Ingested, Error> {
        let body = Body {
            bytes: futures::stream::iter([Ok(Bytes::from_static(b"abc"))]).boxed(),
            size: Some(3),
            trailer: None,
            md5,
            expected: Vec::new(),
            compute: None,
        };
        let mut sink = Sink {
            id: UploadId("sink".into()),
            tells,
        };
        ingest(body, &mut sink, 0).await
    }

    #[tokio::test]
    async fn an_md5_is_computed_unless_the_store_tells_it_and_the_client_sent_none() {
        let md5: [u8; 16] = Md5::digest(b"abc").into();
        assert_eq!(taken(false, None).await.unwrap().md5, Some(md5));
        assert_eq!(taken(true, None).await.unwrap().md5, None);
        assert_eq!(taken(true, Some(md5)).await.unwrap().md5, Some(md5));
        let wrong = taken(true, Some([0; 16])).await.unwrap_err();
        assert!(matches!(wrong, Error::Body(BodyError::BadMd5)), "{wrong}");
    }
}
