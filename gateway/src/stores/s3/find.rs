//! Looking up what became of a write whose answer was lost, refused or doubtful.
//!
//! Decides: is what lies under the name ours? Invariant: "ours" needs proof (a marker only this upload
//! carries, the very bytes, or the ETag that S3 derives from the parts); without proof the outcome
//! stays [`Error::Unknown`], never success and never "not written".

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{HeaderName, Method};
use policies::key::ObjectKey;

use super::client::{Call, Client, header_number, identity};
use super::failure::Failure;
use crate::stores::{Error, Identity, Publish, Result};

pub(super) const MARKER: &str = "x-amz-meta-snapgate-upload";

/// How an upload recognises what it wrote.
#[derive(Debug)]
pub(super) enum Proof {
    Marker(String),
    Bytes(Bytes),
    /// What S3 makes of the parts' ETags, or says it has made; `None` where these are no MD5s.
    PartsTag(Option<String>),
}

#[derive(Debug)]
enum Found {
    Ours(HeaderMap, Identity),
    Other,
    Absent,
    Unclear,
}

/// A failed write: what it was, and whether it or an attempt before it may have acted.
#[derive(Debug)]
pub(super) struct Doubtful {
    pub operation: &'static str,
    pub failure: Failure,
    pub doubt: bool,
    pub mode: Publish,
}

impl Client {
    /// The outcome of a failed write. `Ok` = it had taken effect after all.
    pub(super) async fn settle(
        &self,
        name: &ObjectKey,
        proof: &Proof,
        write: Doubtful,
    ) -> Result<(HeaderMap, Identity)> {
        let Doubtful {
            operation,
            failure,
            doubt,
            mode,
        } = write;
        let doubt = doubt || failure.may_have_acted();
        let gone = failure.has_code("NoSuchUpload");
        let taken = mode == Publish::CreateOnly && failure.is(412);
        let conflict = mode == Publish::CreateOnly && failure.is_conflict();
        if !doubt && taken {
            return Err(Error::Exists);
        }
        if !doubt && !gone && !conflict {
            return Err(failure.into_error(operation));
        }
        match (self.find(name, proof).await, mode) {
            (Ok(Found::Ours(headers, identity)), _) => Ok((headers, identity)),
            (Ok(Found::Other | Found::Absent | Found::Unclear) | Err(_), _) if gone && !doubt => {
                Err(Error::UploadGone)
            }
            (Ok(Found::Other), Publish::CreateOnly) => Err(Error::Exists),
            (Ok(Found::Absent), Publish::CreateOnly) if conflict && !doubt => Err(Error::Busy),
            (
                Ok(Found::Other | Found::Absent | Found::Unclear) | Err(_),
                Publish::CreateOnly | Publish::Replace,
            ) => Err(Error::Unknown),
        }
    }

    /// The object that a service says it has put together, if it lies there.
    pub(super) async fn see(
        &self,
        name: &ObjectKey,
        told: Identity,
    ) -> Result<(HeaderMap, Identity)> {
        let proof = Proof::PartsTag(Some(told.0.to_string()));
        match self.find(name, &proof).await {
            Ok(Found::Ours(headers, identity)) => Ok((headers, identity)),
            Ok(Found::Other | Found::Absent | Found::Unclear) | Err(_) => Err(Error::Unknown),
        }
    }

    async fn find(&self, name: &ObjectKey, proof: &Proof) -> Result<Found, Failure> {
        let key = Some(name.as_str());
        let call = match proof {
            Proof::Bytes(_) => Call::new("GetObject", Method::GET, key),
            Proof::Marker(_) | Proof::PartsTag(_) => Call::new("HeadObject", Method::HEAD, key),
        };
        if let Proof::Bytes(bytes) = proof
            && self.size_differs(name, bytes.len() as u64).await?
        {
            return Ok(Found::Other);
        }
        let answer = match self.answer(&call).await.result {
            Ok(answer) => answer,
            Err(failure) if failure.is(404) => return Ok(Found::Absent),
            Err(failure) => return Err(failure),
        };
        let tag = identity(&answer.headers)?;
        let ours = match proof {
            Proof::Bytes(bytes) => answer.body == bytes,
            Proof::Marker(marker) => {
                let found = answer.headers.get(HeaderName::from_static(MARKER));
                found.is_some_and(|value| value.as_bytes() == marker.as_bytes())
            }
            Proof::PartsTag(Some(expected)) => *tag.0 == **expected,
            Proof::PartsTag(None) => return Ok(Found::Unclear),
        };
        Ok(if ours {
            Found::Ours(answer.headers, tag)
        } else {
            Found::Other
        })
    }

    /// A look before the bytes are fetched: what lies there may be large.
    async fn size_differs(&self, name: &ObjectKey, size: u64) -> Result<bool, Failure> {
        let call = Call::new("HeadObject", Method::HEAD, Some(name.as_str()));
        match self.answer(&call).await.result {
            Ok(answer) => Ok(header_number(&answer.headers, CONTENT_LENGTH) != Some(size)),
            Err(failure) if failure.is(404) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
