//! SigV4 for the load's requests, as cheap as it gets: one key a day, one time stamp a second.
//!
//! Decides: a request line and its headers -> the `Authorization` header and the seed of chunk signatures.
//! Invariant: what is signed is what is sent; the caller passes the headers sorted, in lower case.
//! The signature itself is `aws-sigv4`'s; only the canonical request is written here, because a request
//! of this load has four headers and costs a microsecond that way.

use std::sync::Arc;
use std::time::SystemTime;

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

pub const REGION: &str = "us-east-1";
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// How a body is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Signing {
    /// `UNSIGNED-PAYLOAD`: the header signature only.
    Unsigned,
    /// The SHA-256 of the whole body in a header.
    Sha256,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`: a signature for every 128 KiB, as the clusters over HTTP.
    Chunked,
}

/// A key, a day and a moment: everything a signature needs besides the request.
#[derive(Debug)]
pub struct Signer {
    access: Arc<str>,
    secret: Arc<str>,
    second: i64,
    scope: Arc<Scope>,
}

/// What the signatures of one second have in common.
#[derive(Debug)]
pub struct Scope {
    pub stamp: String,
    name: String,
    key: Vec<u8>,
}

impl Signer {
    pub fn new(access: Arc<str>, secret: Arc<str>, now: OffsetDateTime) -> Self {
        let scope = Arc::new(Scope::at(&secret, now));
        Self {
            access,
            secret,
            second: now.unix_timestamp(),
            scope,
        }
    }

    /// The scope of the second that `now` is in.
    pub fn scope(&mut self, now: OffsetDateTime) -> &Arc<Scope> {
        if now.unix_timestamp() != self.second {
            self.second = now.unix_timestamp();
            self.scope = Arc::new(Scope::at(&self.secret, now));
        }
        &self.scope
    }

    /// The `Authorization` header and the signature in it.
    pub fn authorize(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        payload: &str,
    ) -> (String, String) {
        let mut canonical = String::with_capacity(512);
        for part in [method, "\n", path, "\n", query, "\n"] {
            canonical.push_str(part);
        }
        for (name, value) in headers {
            for part in [name, ":", value, "\n"] {
                canonical.push_str(part);
            }
        }
        canonical.push('\n');
        let names = canonical.len();
        for (index, (name, _)) in headers.iter().enumerate() {
            if index > 0 {
                canonical.push(';');
            }
            canonical.push_str(name);
        }
        let names = names..canonical.len();
        canonical.push('\n');
        canonical.push_str(payload);

        let scope = &self.scope;
        let signature = scope.sign(&format!(
            "AWS4-HMAC-SHA256\n{}\n{}\n{}",
            scope.stamp,
            scope.name,
            sha256_hex(canonical.as_bytes())
        ));
        let header = format!(
            "AWS4-HMAC-SHA256 Credential={}/{},SignedHeaders={},Signature={signature}",
            self.access, scope.name, &canonical[names]
        );
        (header, signature)
    }
}

impl Scope {
    fn at(secret: &str, now: OffsetDateTime) -> Self {
        let stamp = now
            .format(format_description!(
                "[year][month][day]T[hour][minute][second]Z"
            ))
            .expect("a date of these parts can always be written");
        Self {
            name: format!("{}/{REGION}/s3/aws4_request", &stamp[..8]),
            key: generate_signing_key(secret, SystemTime::from(now), REGION, "s3")
                .as_ref()
                .to_vec(),
            stamp,
        }
    }

    /// The signature of a chunk after the one signed with `previous`.
    pub fn sign_chunk(&self, previous: &str, sha256: &str) -> String {
        self.sign(&format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{EMPTY_SHA256}\n{sha256}",
            self.stamp, self.name
        ))
    }

    fn sign(&self, text: &str) -> String {
        calculate_signature(&self.key, text.as_bytes())
    }
}

/// The moment a request is signed for.
#[allow(
    clippy::disallowed_methods,
    reason = "a signature is for the real time"
)]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    /// The keys and the moment of the examples in Amazon's S3 API reference.
    fn example() -> Signer {
        Signer::new(
            "AKIAIOSFODNN7EXAMPLE".into(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            datetime!(2013-05-24 0:00 UTC),
        )
    }

    #[test]
    fn a_get_is_signed_as_in_amazons_reference() {
        let (header, signature) = example().authorize(
            "GET",
            "/test.txt",
            "",
            &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", EMPTY_SHA256),
                ("x-amz-date", "20130524T000000Z"),
            ],
            EMPTY_SHA256,
        );
        assert_eq!(
            signature,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert_eq!(
            header,
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                 SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature={signature}"
            )
        );
    }

    #[test]
    fn chunks_are_signed_as_in_amazons_reference() {
        let streaming = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
        let signer = example();
        let (_, seed) = signer.authorize(
            "PUT",
            "/examplebucket/chunkObject.txt",
            "",
            &[
                ("content-encoding", "aws-chunked"),
                ("content-length", "66824"),
                ("host", "s3.amazonaws.com"),
                ("x-amz-content-sha256", streaming),
                ("x-amz-date", "20130524T000000Z"),
                ("x-amz-decoded-content-length", "66560"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            streaming,
        );
        assert_eq!(
            seed,
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        );
        let mut previous = seed;
        for (size, expected) in [
            (
                65536,
                "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            ),
            (
                1024,
                "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            ),
            (
                0,
                "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ),
        ] {
            let data = sha256_hex(&vec![b'a'; size]);
            previous = signer.scope.sign_chunk(&previous, &data);
            assert_eq!(previous, expected);
        }
    }

    #[test]
    fn the_scope_follows_the_clock() {
        let mut signer = example();
        let next = datetime!(2013-05-25 23:59:58.9 UTC);
        assert_eq!(signer.scope(next).stamp, "20130525T235958Z");
        assert!(signer.scope(next).name.starts_with("20130525/"));
    }
}
