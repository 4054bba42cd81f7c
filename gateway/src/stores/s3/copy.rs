//! A second name for an object's content, copied by the service.
//!
//! Invariant: nothing is replaced, and success means that the second name was seen to hold the first
//! one's content. Where a copy's ETag differs from its source's (parts), a marker on the copy names
//! the source's.

use http::Method;
use http::header::{HeaderName, HeaderValue};
use policies::key::ObjectKey;

use super::client::{Answer, Call, Client, unquoted, value};
use super::failure::Failure;
use super::multipart::{SLOW, backend_id, success};
use super::names;
use super::sign::Headers;
use crate::stores::{Error, Publish, Result, Stat, StoredPart};

const SOURCE: HeaderName = HeaderName::from_static("x-amz-meta-snapgate-source");
const OPERATION: &str = "CopyObject";
/// S3's bound on one CopyObject.
const LARGEST_COPY: u64 = 5 << 30;
const PART: u64 = 1 << 30;

impl Client {
    pub(super) async fn set_aside(&self, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let Some((source, _)) = self.head(from).await? else {
            return Err(Error::Failed(
                "there is nothing to set aside under this name".into(),
            ));
        };
        if let Some(same) = self.holds(to, &source).await? {
            return if same { Ok(()) } else { Err(Error::Exists) };
        }
        let copied = if source.size > LARGEST_COPY {
            self.copy_in_parts(from, to, &source).await
        } else {
            self.copy_at_once(from, to, &source).await
        };
        match (self.holds(to, &source).await?, copied) {
            (Some(true), _) => Ok(()),
            (Some(false), Err(Error::Exists)) => Err(Error::Exists),
            (_, Err(error)) => Err(error),
            (Some(false) | None, Ok(())) => Err(Error::Failed(
                "the store's copy is not what was copied".into(),
            )),
        }
    }

    /// Whether the name holds this content; `None` = nothing.
    async fn holds(&self, name: &ObjectKey, source: &Stat) -> Result<Option<bool>> {
        let Some((found, headers)) = self.head(name).await? else {
            return Ok(None);
        };
        let tag = &*source.identity.0;
        let marked = headers
            .get(SOURCE)
            .is_some_and(|mark| mark.as_bytes() == tag.as_bytes());
        let same = found.size == source.size && (found.identity == source.identity || marked);
        Ok(Some(same))
    }

    async fn copy_at_once(&self, from: &ObjectKey, to: &ObjectKey, source: &Stat) -> Result<()> {
        let mut call = Call::new(OPERATION, Method::PUT, Some(to.as_str()))
            .header("content-type", super::upload::BINARY)
            .header(
                "x-amz-metadata-directive",
                HeaderValue::from_static("REPLACE"),
            )
            .header("if-none-match", HeaderValue::from_static("*"));
        call.headers.extend(self.source_headers(from, source)?);
        call.headers.push((SOURCE, value(&source.identity.0)?));
        let mut result = self.copied(&call).await;
        if result.as_ref().is_err_and(|failure| failure.is(501)) {
            // Services without conditional copies; that the name was free has just been seen.
            call.headers
                .retain(|(name, _)| *name != http::header::IF_NONE_MATCH);
            result = self.copied(&call).await;
        }
        match result {
            Ok(()) => Ok(()),
            Err(failure) if failure.is(412) || failure.is_conflict() => Err(Error::Exists),
            Err(failure) => Err(failure.into_error(OPERATION)),
        }
    }

    async fn copied(&self, call: &Call<'_>) -> Result<(), Failure> {
        let check = |answer: Answer| success("CopyObjectResult", &answer.body).map(drop);
        self.answer_checked(call, SLOW, check).await.result
    }

    async fn copy_in_parts(&self, from: &ObjectKey, to: &ObjectKey, source: &Stat) -> Result<()> {
        let marker = vec![(SOURCE, value(&source.identity.0)?)];
        let id = self.create_multipart(to, marker).await?;
        let upload = backend_id(&id).ok_or(Error::UploadGone)?;
        let result = match self.copy_parts(from, to, source, upload).await {
            Ok(parts) => self
                .complete(to, upload, &parts, Publish::CreateOnly)
                .await
                .map(drop),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.abort_multipart(to, upload).await?;
        }
        result
    }

    async fn copy_parts(
        &self,
        from: &ObjectKey,
        to: &ObjectKey,
        source: &Stat,
        upload: &str,
    ) -> Result<Vec<StoredPart>> {
        let operation = "UploadPartCopy";
        let mut parts = Vec::new();
        let mut start = 0;
        for number in 1..=10_000_u16 {
            let end = source.size.min(start + PART);
            let mut call = Call::new(operation, Method::PUT, Some(to.as_str()))
                .query(&[("partNumber", &number.to_string()), ("uploadId", upload)]);
            let range = value(&format!("bytes={start}-{}", end - 1))?;
            call = call.header("x-amz-copy-source-range", range);
            call.headers.extend(self.source_headers(from, source)?);
            let check = |answer: Answer| {
                let root = success("CopyPartResult", &answer.body)?;
                Ok(unquoted(root.text_of("ETag")?).into())
            };
            let tried = self.answer_checked(&call, SLOW, check).await;
            let locator = tried
                .result
                .map_err(|failure| failure.into_error(operation))?;
            let size = end - start;
            parts.push(StoredPart {
                number,
                size,
                locator,
            });
            start = end;
            if start == source.size {
                break;
            }
        }
        Ok(parts)
    }

    fn source_headers(&self, from: &ObjectKey, source: &Stat) -> Result<Headers> {
        let mut path = format!("/{}/", self.bucket());
        names::push_path(&mut path, self.prefix());
        names::push_path(&mut path, from.as_str());
        let tag = format!("\"{}\"", source.identity.0);
        let name = HeaderName::from_static;
        Ok(vec![
            (name("x-amz-copy-source"), value(&path)?),
            (name("x-amz-copy-source-if-match"), value(&tag)?),
        ])
    }
}
