//! What a service can do, found by trying under `.snapgate/probe/`.
//!
//! Decides nothing from a service's name or version: services of one name differ by back end and age,
//! and some answer 200 to a condition they have not looked at. Leaves nothing behind.

use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::{HeaderValue, Method};
use md5::{Digest as _, Md5};
use policies::key::{ObjectKey, RESERVED};

use super::client::{Call, Client, identity, value};
use super::failure::Failure;
use super::multipart::backend_id;
use crate::stores::{Capabilities, Error, Identity, Publish, Result, StoredPart};

const FIRST: Bytes = Bytes::from_static(b"snapgate probes what this store can do");
const SECOND: Bytes = Bytes::from_static(b"another content");

/// What uploads need to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    pub create_only: bool,
    pub tags_are_md5: bool,
}

/// Before the probe: conditions are sent and must be answered, ETags mean nothing.
pub(super) const UNPROBED: Abilities = Abilities {
    create_only: true,
    tags_are_md5: false,
};

impl Abilities {
    /// The way of publishing to ask the service for. One that knows no create-only is looked at
    /// first: not atomic, so such a store must have a single gateway.
    pub(super) async fn ask(
        self,
        client: &Client,
        name: &ObjectKey,
        mode: Publish,
    ) -> Result<Publish> {
        match mode {
            Publish::CreateOnly if !self.create_only => match client.stat(name).await? {
                Some(_) => Err(Error::Exists),
                None => Ok(Publish::Replace),
            },
            Publish::CreateOnly | Publish::Replace => Ok(mode),
        }
    }
}

#[derive(Debug)]
pub(super) struct Probed {
    pub capabilities: Capabilities,
    pub abilities: Abilities,
}

impl Client {
    pub(super) async fn probe(&self) -> Result<Probed> {
        let name = format!("{RESERVED}probe/{:032x}", rand::random::<u128>());
        let name = ObjectKey::parse(&name).expect("a short plain name");
        let probed = self.try_abilities(&name).await;
        let cleaned = self.delete_one(&name).await;
        let probed = probed?;
        cleaned?;
        Ok(probed)
    }

    async fn try_abilities(&self, name: &ObjectKey) -> Result<Probed> {
        let tag = self.put_plain(name, FIRST).await?;
        let tags_are_md5 = *tag.0 == *hex::encode(Md5::digest(&FIRST));
        let create_only = self.refuses_to_overwrite(name).await?;
        let complete_only = self.refuses_to_complete_over(name).await?;
        let tag = self.put_plain(name, FIRST).await?;
        let compare_and_set = self.compares(name, &tag).await?;
        let checksums = self.verifies(name).await?;
        self.delete_one(name).await?;
        let abort_beats_complete = self.aborted_stays_aborted(name).await?;
        let create_only = create_only && complete_only;
        Ok(Probed {
            capabilities: Capabilities {
                kind: "s3",
                create_only,
                compare_and_set,
                abort_beats_complete,
                checksums,
            },
            abilities: Abilities {
                create_only,
                tags_are_md5,
            },
        })
    }

    async fn put_plain(&self, name: &ObjectKey, body: Bytes) -> Result<Identity> {
        let call = put(name, body);
        let answer = self.answer(&call).await.result;
        answer
            .and_then(|answer| identity(&answer.headers))
            .map_err(|failure| failure.into_error(call.operation))
    }

    async fn refuses_to_overwrite(&self, name: &ObjectKey) -> Result<bool> {
        let mut call = put(name, SECOND);
        call.headers
            .push((IF_NONE_MATCH, HeaderValue::from_static("*")));
        self.is_refused(&call, &[412, 409]).await
    }

    async fn refuses_to_complete_over(&self, name: &ObjectKey) -> Result<bool> {
        let (upload, parts) = self.one_part(name).await?;
        match self
            .complete(name, &upload, &parts, Publish::CreateOnly)
            .await
        {
            Ok(_) => Ok(false),
            Err(Error::Exists) => {
                self.abort_multipart(name, &upload).await?;
                Ok(true)
            }
            Err(Error::Failed(_)) => {
                self.abort_multipart(name, &upload).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn compares(&self, name: &ObjectKey, tag: &Identity) -> Result<bool> {
        let with = |body: Bytes, tag: &str| -> Result<Call<'_>> {
            Ok(put(name, body).header("if-match", value(&format!("\"{tag}\""))?))
        };
        let wrong = with(SECOND, "00000000000000000000000000000000")?;
        if !self.is_refused(&wrong, &[412, 409]).await? {
            return Ok(false);
        }
        let right = with(SECOND, &tag.0)?;
        Ok(!self.is_refused(&right, &[412, 409]).await?)
    }

    async fn verifies(&self, name: &ObjectKey) -> Result<bool> {
        // MD5 of nothing.
        let wrong = HeaderValue::from_static("1B2M2Y8AsgTpgAmY7PhCfg==");
        self.is_refused(&put(name, FIRST).header("content-md5", wrong), &[400])
            .await
    }

    async fn aborted_stays_aborted(&self, name: &ObjectKey) -> Result<bool> {
        let (upload, parts) = self.one_part(name).await?;
        let abort = super::multipart::abort_call(name, &upload);
        let aborted = self.answer(&abort).await.result;
        aborted.map_err(|failure| failure.into_error(abort.operation))?;
        let completed = self.complete(name, &upload, &parts, Publish::Replace).await;
        let visible = self.stat(name).await?.is_some();
        Ok(completed.is_err() && !visible)
    }

    async fn one_part(&self, name: &ObjectKey) -> Result<(String, Vec<StoredPart>)> {
        let id = self.create_multipart(name, Vec::new()).await?;
        let upload = backend_id(&id).ok_or(Error::UploadGone)?.to_owned();
        let call = Call::new("UploadPart", Method::PUT, Some(name.as_str()))
            .query(&[("partNumber", "1"), ("uploadId", &upload)])
            .body(FIRST);
        let answer = self.answer(&call).await.result;
        let tag = answer
            .and_then(|answer| identity(&answer.headers))
            .map_err(|failure| failure.into_error(call.operation))?;
        let part = StoredPart {
            number: 1,
            size: FIRST.len() as u64,
            locator: tag.0,
        };
        Ok((upload, vec![part]))
    }

    /// True: refused as it should be. False: done, or the service does not know the condition.
    async fn is_refused(&self, call: &Call<'_>, with: &[u16]) -> Result<bool> {
        match self.answer(call).await.result {
            Ok(_) => Ok(false),
            Err(failure) if with.iter().any(|status| failure.is(*status)) => Ok(true),
            Err(failure @ Failure::Refused(_)) if failure.is(501) || failure.is(400) => Ok(false),
            Err(failure) => Err(failure.into_error(call.operation)),
        }
    }
}

fn put(name: &ObjectKey, body: Bytes) -> Call<'_> {
    Call::new("PutObject", Method::PUT, Some(name.as_str()))
        .header("content-type", super::upload::BINARY)
        .body(body)
}
