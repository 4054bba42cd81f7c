//! XML documents of requests: read whole, proved intact, and harmless before they are parsed.
//!
//! The verifier runs on the head; the document is read after it, when the parser first asks. A document
//! with a wrong MD5, checksum or SHA-256 never reaches the parser, nor does one that is not plain:
//! document types (entities), deep nesting, crowds of attributes, other encodings or namespaces.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use md5::{Digest as _, Md5};
use s3s::StdError;
use sha1::Sha1;
use sha2::Sha256;

use super::answers::Answer;
use super::intake::Intake;
use super::precheck::Document;
use super::request::Context;
use crate::digest::Algorithm;
use crate::repository::{BodyError, Expected};

const NAMESPACE: &[u8] = b"http://s3.amazonaws.com/doc/2006-03-01/";
const MAX_DEPTH: usize = 16;
const MAX_TAG: usize = 1024;

/// The body that the parser reads.
#[must_use]
pub fn body(intake: Intake, context: Arc<Context>, document: Document) -> s3s::Body {
    let whole = async move {
        match read(intake, &document).await {
            Ok(bytes) => Ok(Frame::data(bytes)),
            Err(answer) => {
                context.answer(answer);
                Err(StdError::from(BodyError::Malformed("see the answer")))
            }
        }
    };
    s3s::Body::http_body_unsync(StreamBody::new(futures::stream::once(whole).boxed()))
}

async fn read(mut intake: Intake, document: &Document) -> Result<Bytes, Answer> {
    let mut whole = BytesMut::new();
    while let Some(frame) = intake.frame().await {
        let frame = frame.map_err(|e| match e.downcast_ref::<BodyError>() {
            Some(error) => Answer::from(error),
            None => Answer::from(&BodyError::Gone),
        })?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > document.limit {
                return Err(Answer::from(&super::precheck::Rejection::DocumentTooLarge));
            }
            whole.extend_from_slice(data);
        }
    }
    verify(&whole, document).map_err(|e| Answer::from(&e))?;
    if !whole.is_empty() && !is_plain(&whole) {
        return Err(Answer::malformed_xml());
    }
    Ok(whole.freeze())
}

fn verify(bytes: &[u8], document: &Document) -> Result<(), BodyError> {
    if let Some(md5) = document.md5
        && Md5::digest(bytes)[..] != md5
    {
        return Err(BodyError::BadMd5);
    }
    if let Some(Expected { algorithm, value }) = &document.expected
        && digest(*algorithm, bytes) != **value
    {
        return Err(BodyError::BadChecksum(algorithm.name()));
    }
    if let Some(sha256) = document.sha256
        && Sha256::digest(bytes)[..] != sha256
    {
        return Err(BodyError::Sha256Mismatch);
    }
    Ok(())
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let crc = |algorithm| crc_fast::checksum(algorithm, bytes).to_be_bytes();
    match algorithm {
        Algorithm::Crc32 => crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc)[4..].to_vec(),
        Algorithm::Crc32c => crc(crc_fast::CrcAlgorithm::Crc32Iscsi)[4..].to_vec(),
        Algorithm::Crc64Nvme => crc(crc_fast::CrcAlgorithm::Crc64Nvme).to_vec(),
        Algorithm::Sha1 => Sha1::digest(bytes).to_vec(),
        Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
    }
}

/// One pass over the bytes; false for anything that no S3 client writes.
fn is_plain(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if std::str::from_utf8(bytes).is_err() || bytes.contains(&0) {
        return false;
    }
    let mut depth = 0usize;
    let mut rest = bytes;
    while let Some(start) = memchr::memchr(b'<', rest) {
        rest = &rest[start..];
        if rest.starts_with(b"<!") {
            return false;
        }
        let Some(end) = memchr::memchr(b'>', rest) else {
            return false;
        };
        let tag = &rest[1..end];
        if !is_plain_tag(tag, &mut depth) {
            return false;
        }
        rest = &rest[end + 1..];
    }
    depth == 0
}

fn is_plain_tag(tag: &[u8], depth: &mut usize) -> bool {
    if tag.len() > MAX_TAG {
        return false;
    }
    match (tag.first(), tag.last()) {
        (Some(b'?'), _) => return *depth == 0,
        (Some(b'/'), _) => {
            let open = *depth > 0;
            *depth = depth.saturating_sub(1);
            return open;
        }
        (_, Some(b'/')) => {}
        (_, _) => *depth += 1,
    }
    if *depth > MAX_DEPTH {
        return false;
    }
    match memchr::memmem::find(tag, b"xmlns=") {
        None => true,
        Some(at) => {
            let value = &tag[at + b"xmlns=".len()..];
            value
                .get(1..=NAMESPACE.len())
                .is_some_and(|name| name == NAMESPACE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_clients_write_are_plain() {
        for text in [
            "<Delete><Object><Key>a</Key></Object><Quiet>true</Quiet></Delete>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b</Key></Object></Delete>",
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part></CompleteMultipartUpload>",
            "\u{feff}<Delete/>",
        ] {
            assert!(is_plain(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn bombs_and_oddities_are_not_plain() {
        let deep = "<a>".repeat(100_000);
        let crowd = format!("<Delete {}></Delete>", "a=\"\" ".repeat(1_000_000));
        let utf16: Vec<u8> = "<Delete/>"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let cases: [&[u8]; 9] = [
            b"<!DOCTYPE lolz [<!ENTITY lol \"lol\">]><Delete>&lol;</Delete>",
            b"<!DOCTYPE foo [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><Delete>&x;</Delete>",
            deep.as_bytes(),
            crowd.as_bytes(),
            &utf16,
            b"<Delete xmlns=\"urn:other\"></Delete>",
            b"<Delete><Object></Delete",
            b"<Delete>",
            b"</Delete>",
        ];
        for case in cases {
            assert!(!is_plain(case), "{:?}", &case[..case.len().min(60)]);
        }
    }

    #[test]
    fn a_document_that_is_not_what_the_client_signed_is_refused() {
        let bytes = b"<Delete/>";
        let document = Document {
            limit: 100,
            sha256: None,
            md5: Some([0; 16]),
            expected: None,
            object: None,
        };
        assert_eq!(verify(bytes, &document), Err(BodyError::BadMd5));
        for algorithm in Algorithm::ALL {
            let value = digest(algorithm, bytes);
            let mut document = Document {
                md5: None,
                expected: Some(Expected {
                    algorithm,
                    value: value.clone().into(),
                }),
                ..document.clone()
            };
            assert_eq!(verify(bytes, &document), Ok(()));
            let mut wrong = value;
            wrong[0] ^= 1;
            document.expected = Some(Expected {
                algorithm,
                value: wrong.into(),
            });
            assert_eq!(
                verify(bytes, &document),
                Err(BodyError::BadChecksum(algorithm.name()))
            );
        }
        let document = Document {
            md5: None,
            sha256: Some([0; 32]),
            ..document
        };
        assert_eq!(verify(bytes, &document), Err(BodyError::Sha256Mismatch));
    }
}
