//! Uploads under way, one type per way to the name.
//!
//! | plan | way | published by |
//! |---|---|---|
//! | unfenced, size known, up to 5 GiB | `Plain`: one PUT, its end held back | the last bytes |
//! | fenced, unknown or larger | `parts::Parts`: a multipart upload, even when tiny | Complete |
//! | a client's part | `parts::OnePart` | never; sealed by its last bytes |
//! | a client's finished parts | `parts::Assembled` | Complete |
//!
//! A streamed `Plain` sends `If-None-Match: *` before it is known how it will be published, because
//! names that change content are written fenced (they have intents); so it can only be created.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HeaderMap, IF_NONE_MATCH};
use http::{HeaderName, HeaderValue};
use policies::key::ObjectKey;

use super::client::{Client, Tried, identity, value};
use super::failure::Failure;
use super::find::{Doubtful, MARKER, Proof};
use super::parts::Parts;
use super::probe::Abilities;
use super::put::{Place, Put};
use crate::stores::{
    Error, Identity, Plan, Publish, Published, Result, StoredPart, Upload, UploadId,
};

pub(super) const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// S3's bound on one PUT.
const LARGEST_PUT: u64 = 5 << 30;

pub(super) async fn begin(
    client: &Arc<Client>,
    name: &ObjectKey,
    plan: Plan,
    abilities: Abilities,
) -> Result<Box<dyn Upload>> {
    match plan.size {
        Some(size) if !plan.fenced && size <= LARGEST_PUT => {
            Ok(Box::new(Plain::begin(client, name, size, abilities).await?))
        }
        size => Ok(Box::new(Parts::begin(client, name, size, abilities).await?)),
    }
}

/// One PUT straight to the name.
struct Plain {
    id: UploadId,
    marker: String,
    client: Arc<Client>,
    put: Put,
    abilities: Abilities,
}

impl Plain {
    async fn begin(
        client: &Arc<Client>,
        name: &ObjectKey,
        size: u64,
        abilities: Abilities,
    ) -> Result<Self> {
        let marker = format!("{:032x}", rand::random::<u128>());
        let mut place = Place {
            operation: "PutObject",
            name: name.clone(),
            query: String::new(),
            headers: vec![(http::header::CONTENT_TYPE, BINARY)],
        };
        if size > super::put::GATHERED {
            if abilities.create_only {
                place.headers.push((IF_NONE_MATCH, ANY));
            }
            place
                .headers
                .push((HeaderName::from_static(MARKER), value(&marker)?));
        }
        Ok(Self {
            id: UploadId(format!("put:{marker}").into()),
            marker,
            client: client.clone(),
            put: Put::begin(client, place, size).await?,
            abilities,
        })
    }
}

#[async_trait]
impl Upload for Plain {
    fn id(&self) -> &UploadId {
        &self.id
    }

    fn tells_md5(&self) -> bool {
        self.abilities.tags_are_md5
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.put.write(bytes).await
    }

    async fn publish(mut self: Box<Self>, mode: Publish) -> Result<Published> {
        let streamed = self.put.is_streamed();
        match mode {
            Publish::Replace if streamed => {
                let text =
                    "an unfenced upload of this size can only be created; to replace, fence it";
                return Err(Error::Failed(text.into()));
            }
            Publish::CreateOnly | Publish::Replace => {}
        }
        let name = self.put.name().clone();
        let asked = self.abilities.ask(&self.client, &name, mode).await?;
        if asked == Publish::CreateOnly && !streamed {
            self.put.only_create();
        }
        let (tried, bytes) = self.put.finish().await?;
        let (headers, identity) = match tagged(tried) {
            Ok(done) => done,
            Err((failure, doubt)) => {
                let proof = match bytes {
                    Some(bytes) => Proof::Bytes(bytes),
                    None => Proof::Marker(self.marker),
                };
                let write = Doubtful {
                    operation: "PutObject",
                    failure,
                    doubt,
                    mode,
                };
                self.client.settle(&name, &proof, write).await?
            }
        };
        let md5 = (self.abilities.tags_are_md5 && is_md5_of_content(&headers, &identity))
            .then(|| identity.0.to_string());
        Ok(Published { identity, md5 })
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        Err(Error::Failed("an object is published, not sealed".into()))
    }

    /// The connection breaks before the last byte, so there is nothing that could become visible.
    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// The tag of what was written; a success without one is no answer of S3.
pub(super) fn tagged(tried: Tried<HeaderMap>) -> Result<(HeaderMap, Identity), (Failure, bool)> {
    let headers = tried.result.map_err(|failure| (failure, tried.doubt))?;
    match identity(&headers) {
        Ok(tag) => Ok((headers, tag)),
        Err(failure) => Err((failure, tried.doubt)),
    }
}

/// Under key management and customers' keys ETags look like MD5s and are none.
fn is_md5_of_content(headers: &HeaderMap, tag: &Identity) -> bool {
    let plain = headers
        .get("x-amz-server-side-encryption")
        .is_none_or(|kind| kind == "AES256")
        && !headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    plain && tag.0.len() == 32 && tag.0.bytes().all(hex)
}
