//! Multipart uploads of the service: open, complete, abort, list.
//!
//! Invariant: an abort is believed only when the service then no longer knows the upload; its 204
//! alone promises nothing while a part is still on its way. A Complete counts only with S3's result
//! inside: services answer 200 first and put an error into the body. One that is repeated counts only when the
//! object is seen: versitygw 1.x that was killed while it completed calls the repetition done, and never does it.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{HeaderValue, Method, StatusCode};
use md5::{Digest, Md5};
use policies::key::ObjectKey;

use super::client::{Answer, Call, Client, unquoted};
use super::failure::{Failure, Refusal};
use super::find::{Doubtful, Proof};
use super::sign::Headers;
use super::xml;
use crate::stores::{Error, Identity, Publish, Result, StoredPart, UploadId};

/// Services put large uploads together before they answer.
pub(super) const SLOW: Duration = Duration::from_secs(180);
const ID: &str = "mpu:";

/// The service's id of an upload. Other ids are our own markers of plain PUTs: see [`super::upload`].
pub(super) fn backend_id(upload: &UploadId) -> Option<&str> {
    upload.0.strip_prefix(ID)
}

pub(super) fn upload_id(backend: &str) -> UploadId {
    UploadId(format!("{ID}{backend}").into())
}

impl Client {
    pub(super) async fn create_multipart(
        &self,
        name: &ObjectKey,
        more: Headers,
    ) -> Result<UploadId> {
        let operation = "CreateMultipartUpload";
        let mut call = Call::new(operation, Method::POST, Some(name.as_str()))
            .query(&[("uploads", "")])
            .header("content-type", super::upload::BINARY);
        call.headers.extend(more);
        let check = |answer: Answer| {
            let root = xml::parse_as("InitiateMultipartUploadResult", &answer.body)?;
            match root.text_of("UploadId")? {
                "" => Err(Failure::Nonsense),
                id => Ok(upload_id(id)),
            }
        };
        let tried = self
            .answer_checked(&call, self.deadlines.answer, check)
            .await;
        // A lost answer leaves an upload nobody knows: invisible, and removed at the next start.
        tried.result.map_err(|failure| match failure {
            Failure::Lost => Error::Failed("the store did not answer in time".into()),
            other => other.into_error(operation),
        })
    }

    pub(super) async fn complete(
        &self,
        name: &ObjectKey,
        upload: &str,
        parts: &[StoredPart],
        mode: Publish,
    ) -> Result<(HeaderMap, Identity)> {
        let operation = "CompleteMultipartUpload";
        let mut call = Call::new(operation, Method::POST, Some(name.as_str()))
            .query(&[("uploadId", upload)])
            .header("content-type", HeaderValue::from_static("application/xml"))
            .body(complete_body(parts));
        if mode == Publish::CreateOnly {
            call = call.header("if-none-match", HeaderValue::from_static("*"));
        }
        let check = |answer: Answer| {
            let root = success("CompleteMultipartUploadResult", &answer.body)?;
            let tag = unquoted(root.text_of("ETag")?);
            if tag.is_empty() {
                return Err(Failure::Nonsense);
            }
            Ok((answer.headers, Identity(tag.into())))
        };
        let tried = self.answer_checked(&call, SLOW, check).await;
        match tried.result {
            Ok((_, told)) if tried.doubt => self.see(name, told).await,
            Ok(done) => Ok(done),
            Err(failure) => {
                let write = Doubtful {
                    operation,
                    failure,
                    doubt: tried.doubt,
                    mode,
                };
                self.settle(name, &Proof::PartsTag(parts_tag(parts)), write)
                    .await
            }
        }
    }

    /// Returns when the service no longer knows the upload.
    pub(super) async fn abort_multipart(&self, name: &ObjectKey, upload: &str) -> Result<()> {
        let abort = abort_call(name, upload);
        let look = Call::new("ListParts", Method::GET, Some(name.as_str()))
            .query(&[("max-parts", "1"), ("uploadId", upload)]);
        let mut attempts = self.attempts(self.deadlines.step);
        loop {
            match self.answer(&abort).await.result {
                Ok(_) => {}
                Err(failure) if failure.has_code("NoSuchUpload") => return Ok(()),
                Err(failure) => return Err(failure.into_error(abort.operation)),
            }
            match self.answer(&look).await.result {
                Ok(_) => {}
                Err(failure) if failure.has_code("NoSuchUpload") => return Ok(()),
                Err(failure) => return Err(failure.into_error(look.operation)),
            }
            if !attempts.again().await {
                let text = "AbortMultipartUpload: the store still lists the upload";
                return Err(Error::Failed(text.into()));
            }
        }
    }

    /// All uploads below the store's prefix. The whole bucket's are asked for and sifted here, because
    /// MinIO takes a prefix for the name of one object.
    pub(super) async fn multipart_uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        let operation = "ListMultipartUploads";
        let mut found = Vec::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let mut query = vec![("encoding-type", "url")];
            if let Some((key, upload)) = &after {
                query.push(("key-marker", key));
                query.push(("upload-id-marker", upload));
            }
            query.push(("uploads", ""));
            query.sort_unstable();
            let call = Call::new(operation, Method::GET, None).query(&query);
            let failed = |failure: Failure| failure.into_error(operation);
            let answer = self.answer(&call).await.result.map_err(failed)?;
            let next = self
                .read_uploads(&answer.body, &mut found)
                .map_err(failed)?;
            match next {
                None => return Ok(found),
                same if same == after => return Err(failed(Failure::Nonsense)),
                more => after = more,
            }
        }
    }

    fn read_uploads(
        &self,
        body: &[u8],
        found: &mut Vec<(ObjectKey, UploadId)>,
    ) -> Result<Option<(String, String)>, Failure> {
        let root = xml::parse_as("ListMultipartUploadsResult", body)?;
        let encoded = root.maybe("EncodingType")? == Some("url");
        for upload in root.all("Upload") {
            let key = super::listing::name_in(upload.text_of("Key")?, encoded)?;
            let id = upload.text_of("UploadId")?;
            // What is no name of ours cannot be an upload of ours.
            let name = key.strip_prefix(self.prefix()).map(ObjectKey::parse);
            if let Some(Ok(name)) = name {
                found.push((name, upload_id(id)));
            }
        }
        if !root.flag("IsTruncated")? {
            return Ok(None);
        }
        let key = super::listing::name_in(root.text_of("NextKeyMarker")?, encoded)?;
        let upload = root.text_of("NextUploadIdMarker")?;
        if key.is_empty() {
            return Err(Failure::Nonsense);
        }
        Ok(Some((key, upload.to_owned())))
    }
}

pub(super) fn abort_call<'a>(name: &'a ObjectKey, upload: &str) -> Call<'a> {
    Call::new("AbortMultipartUpload", Method::DELETE, Some(name.as_str()))
        .query(&[("uploadId", upload)])
}

/// The result inside a 200, or the error that some services put there.
pub(super) fn success(root: &str, body: &[u8]) -> Result<xml::Element, Failure> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::Lost);
    }
    if let Some(code) = xml::error_code(body) {
        let status = match &*code {
            "NoSuchUpload" | "NoSuchKey" | "NoSuchBucket" => StatusCode::NOT_FOUND,
            "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
            "ConditionalRequestConflict" => StatusCode::CONFLICT,
            "AccessDenied" => StatusCode::FORBIDDEN,
            "SlowDown" | "ServiceUnavailable" => StatusCode::SERVICE_UNAVAILABLE,
            "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        return Err(Failure::Refused(Refusal { status, code }));
    }
    // Cut off in the middle of the answer: the work may be done.
    xml::parse_as(root, body).map_err(|_| Failure::Lost)
}

fn complete_body(parts: &[StoredPart]) -> Bytes {
    let mut text = String::with_capacity(64 + 96 * parts.len());
    text.push_str("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for part in parts {
        let number = part.number;
        write!(text, "<Part><PartNumber>{number}</PartNumber><ETag>&quot;")
            .expect("a String takes all text");
        xml::push_escaped(&mut text, &part.locator);
        text.push_str("&quot;</ETag></Part>");
    }
    text.push_str("</CompleteMultipartUpload>");
    text.into()
}

/// MD5 of the parts' MD5s and their number, as S3 makes an upload's ETag.
fn parts_tag(parts: &[StoredPart]) -> Option<String> {
    let mut md5 = Md5::new();
    for part in parts {
        let mut digest = [0_u8; 16];
        hex::decode_to_slice(part.locator.as_bytes(), &mut digest).ok()?;
        md5.update(digest);
    }
    Some(format!("{}-{}", hex::encode(md5.finalize()), parts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u16, tag: &str) -> StoredPart {
        StoredPart {
            number,
            size: 1,
            locator: tag.into(),
        }
    }

    #[test]
    fn the_etag_of_an_upload_is_derived_from_its_parts() {
        let one = "d41d8cd98f00b204e9800998ecf8427e";
        let parts = [part(1, one), part(2, one)];
        let tag = parts_tag(&parts).unwrap();
        assert!(tag.ends_with("-2") && tag.len() == 34, "{tag}");
        assert_eq!(parts_tag(&[part(1, "0x8D")]), None);
    }

    #[test]
    fn an_error_inside_a_200_is_an_error() {
        let error = |code: &str| {
            let body = format!("  <Error><Code>{code}</Code><Message>m</Message></Error>");
            success("R", body.as_bytes()).unwrap_err()
        };
        assert!(error("NoSuchUpload").is(404));
        assert!(error("InternalError").may_have_acted());
        assert!(matches!(success("R", b" \n "), Err(Failure::Lost)));
        assert!(matches!(success("R", b"<R><ETag>"), Err(Failure::Lost)));
        assert!(success("R", b"\n<R/>").is_ok());
    }
}
