//! Uploads under way, one type per way to the name.
//!
//! | plan | way | published by |
//! |---|---|---|
//! | unfenced, size known, up to 5 GiB | [`Plain`]: one PUT, its end held back | the last bytes |
//! | fenced, unknown or larger | [`Parts`]: a multipart upload, even when tiny | Complete |
//! | a client's part | [`OnePart`] | never; sealed by its last bytes |
//! | a client's finished parts | [`Assembled`] | Complete |
//!
//! A streamed [`Plain`] sends `If-None-Match: *` before it is known how it will be published, because
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
use super::multipart::backend_id;
use super::names;
use super::probe::Abilities;
use super::put::{Place, Put};
use crate::stores::{Error, Identity, Plan, Publish, Published, Result, StoredPart, Upload, UploadId};

pub(super) const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// S3's bounds on one PUT and on the parts of an upload.
const LARGEST_PUT: u64 = 5 << 30;
const LARGE_PART: u64 = 1 << 30;
const MOST_PARTS: u16 = 10_000;
/// Parts of an upload of unknown size start at this, double every 1,000 parts, and are gathered.
const FIRST_PART: u64 = 8 << 20;
/// A part of unknown size is gathered; S3's protocol announces all sizes.
const LARGEST_UNANNOUNCED: u64 = 16 << 20;

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
            place.headers.push((HeaderName::from_static(MARKER), value(&marker)?));
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

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.put.write(bytes).await
    }

    async fn publish(mut self: Box<Self>, mode: Publish) -> Result<Published> {
        let streamed = self.put.is_streamed();
        match mode {
            Publish::Replace if streamed => {
                let text = "an unfenced upload of this size can only be created; to replace, fence it";
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

/// A multipart upload of one object.
struct Parts {
    id: UploadId,
    backend: String,
    client: Arc<Client>,
    name: ObjectKey,
    abilities: Abilities,
    size: Option<u64>,
    taken: u64,
    done: Vec<StoredPart>,
    /// Of known size.
    current: Option<Put>,
    /// Of unknown size.
    gathered: Vec<Bytes>,
    gathered_bytes: u64,
}

impl Parts {
    async fn begin(
        client: &Arc<Client>,
        name: &ObjectKey,
        size: Option<u64>,
        abilities: Abilities,
    ) -> Result<Self> {
        let id = client.create_multipart(name, Vec::new()).await?;
        Ok(Self {
            backend: backend_id(&id).unwrap_or_default().to_owned(),
            id,
            client: client.clone(),
            name: name.clone(),
            abilities,
            size,
            taken: 0,
            done: Vec::new(),
            current: None,
            gathered: Vec::new(),
            gathered_bytes: 0,
        })
    }

    fn next_number(&self) -> Result<u16> {
        let number = self.done.len() as u64 + 1;
        if number > u64::from(MOST_PARTS) {
            return Err(Error::Failed("the object has too many parts".into()));
        }
        Ok(u16::try_from(number).expect("is at most 10,000"))
    }

    fn place(&self) -> Result<Place> {
        Ok(part_place(&self.name, &self.backend, self.next_number()?))
    }

    async fn write_announced(&mut self, mut bytes: Bytes, size: u64) -> Result<()> {
        while !bytes.is_empty() {
            let mut put = match self.current.take() {
                Some(put) => put,
                None => {
                    let left = size - (self.taken - bytes.len() as u64);
                    Put::begin(&self.client, self.place()?, left.min(LARGE_PART)).await?
                }
            };
            let fits = put.room().min(bytes.len() as u64);
            let fits = usize::try_from(fits).expect("is at most the length of bytes at hand");
            put.write(bytes.split_to(fits)).await?;
            if put.room() == 0 && !bytes.is_empty() {
                self.finish(put).await?;
            } else {
                self.current = Some(put);
            }
        }
        Ok(())
    }

    async fn write_unannounced(&mut self, bytes: Bytes) -> Result<()> {
        self.gathered_bytes += bytes.len() as u64;
        self.gathered.push(bytes);
        if self.gathered_bytes >= FIRST_PART << (self.done.len() / 1000) {
            self.send_gathered().await?;
        }
        Ok(())
    }

    async fn send_gathered(&mut self) -> Result<()> {
        self.gathered_bytes = 0;
        let chunks = std::mem::take(&mut self.gathered);
        let put = Put::of(&self.client, self.place()?, chunks);
        self.finish(put).await
    }

    async fn finish(&mut self, put: Put) -> Result<()> {
        let number = self.next_number()?;
        self.done.push(finish_part(put, number).await?);
        Ok(())
    }

    async fn finish_last(&mut self) -> Result<()> {
        if self.size.is_some_and(|size| size != self.taken) {
            return Err(Error::Failed("fewer bytes came than were announced".into()));
        }
        if let Some(put) = self.current.take() {
            self.finish(put).await?;
        }
        if self.gathered_bytes > 0 || self.done.is_empty() {
            self.send_gathered().await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Upload for Parts {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.taken += bytes.len() as u64;
        match self.size {
            Some(size) if self.taken > size => {
                Err(Error::Failed("more bytes came than were announced".into()))
            }
            Some(size) => self.write_announced(bytes, size).await,
            None => self.write_unannounced(bytes).await,
        }
    }

    async fn publish(mut self: Box<Self>, mode: Publish) -> Result<Published> {
        self.finish_last().await?;
        let mode = self.abilities.ask(&self.client, &self.name, mode).await?;
        complete(&self.client, &self.name, &self.backend, &self.done, mode).await
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        Err(Error::Failed("an object is published, not sealed".into()))
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.current = None;
        self.client.abort_multipart(&self.name, &self.backend).await
    }
}

/// A client's finished parts.
struct Assembled {
    id: UploadId,
    backend: String,
    client: Arc<Client>,
    name: ObjectKey,
    abilities: Abilities,
    parts: Vec<StoredPart>,
}

pub(super) fn assemble(
    client: &Arc<Client>,
    name: &ObjectKey,
    id: &UploadId,
    parts: &[StoredPart],
    abilities: Abilities,
) -> Result<Box<dyn Upload>> {
    Ok(Box::new(Assembled {
        backend: backend_id(id).ok_or(Error::UploadGone)?.to_owned(),
        id: id.clone(),
        client: client.clone(),
        name: name.clone(),
        abilities,
        parts: parts.to_vec(),
    }))
}

#[async_trait]
impl Upload for Assembled {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn write(&mut self, _bytes: Bytes) -> Result<()> {
        Err(Error::Failed("assembled parts take no more bytes".into()))
    }

    async fn publish(self: Box<Self>, mode: Publish) -> Result<Published> {
        let mode = self.abilities.ask(&self.client, &self.name, mode).await?;
        complete(&self.client, &self.name, &self.backend, &self.parts, mode).await
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        Err(Error::Failed("an object is published, not sealed".into()))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.client.abort_multipart(&self.name, &self.backend).await
    }
}

/// One part of a client's upload.
struct OnePart {
    id: UploadId,
    number: u16,
    client: Arc<Client>,
    place: Place,
    way: PartWay,
}

enum PartWay {
    Announced(Put),
    Unannounced(Vec<Bytes>, u64),
}

pub(super) async fn begin_part(
    client: &Arc<Client>,
    name: &ObjectKey,
    id: &UploadId,
    number: u16,
    plan: Plan,
) -> Result<Box<dyn Upload>> {
    let backend = backend_id(id).ok_or(Error::UploadGone)?;
    let place = part_place(name, backend, number);
    let way = match plan.size {
        Some(size) => PartWay::Announced(Put::begin(client, place.clone(), size).await?),
        None => PartWay::Unannounced(Vec::new(), 0),
    };
    Ok(Box::new(OnePart {
        id: id.clone(),
        number,
        client: client.clone(),
        place,
        way,
    }))
}

#[async_trait]
impl Upload for OnePart {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.way {
            PartWay::Announced(put) => put.write(bytes).await,
            PartWay::Unannounced(chunks, size) => {
                *size += bytes.len() as u64;
                if *size > LARGEST_UNANNOUNCED {
                    return Err(Error::Failed("a part of this size must be announced".into()));
                }
                chunks.push(bytes);
                Ok(())
            }
        }
    }

    async fn publish(self: Box<Self>, _mode: Publish) -> Result<Published> {
        Err(Error::Failed("a part is sealed, not published".into()))
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        let put = match self.way {
            PartWay::Announced(put) => put,
            PartWay::Unannounced(chunks, _) => Put::of(&self.client, self.place, chunks),
        };
        finish_part(put, self.number).await
    }

    /// The connection breaks before the last byte; an earlier part of this number stays.
    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn part_place(name: &ObjectKey, upload: &str, number: u16) -> Place {
    let number = number.to_string();
    Place {
        operation: "UploadPart",
        name: name.clone(),
        query: names::query(&[("partNumber", &number), ("uploadId", upload)]),
        headers: Vec::new(),
    }
}

async fn finish_part(put: Put, number: u16) -> Result<StoredPart> {
    let size = put.taken();
    let (tried, _) = put.finish().await?;
    match tagged(tried) {
        Ok((_, tag)) => Ok(StoredPart {
            number,
            size,
            locator: tag.0,
        }),
        Err((failure, _)) if failure.has_code("NoSuchUpload") => Err(Error::UploadGone),
        Err((failure, _)) => Err(failure.into_error("UploadPart")),
    }
}

async fn complete(
    client: &Client,
    name: &ObjectKey,
    upload: &str,
    parts: &[StoredPart],
    mode: Publish,
) -> Result<Published> {
    match client.complete(name, upload, parts, mode).await {
        Ok((_, identity)) => Ok(Published {
            identity,
            md5: None,
        }),
        Err(Error::Exists) => {
            if let Err(error) = client.abort_multipart(name, upload).await {
                tracing::debug!(%error, "an upload to a taken name is left for the clean-up at start");
            }
            Err(Error::Exists)
        }
        Err(error) => Err(error),
    }
}

/// The tag of what was written; a success without one is no answer of S3.
fn tagged(tried: Tried<HeaderMap>) -> Result<(HeaderMap, Identity), (Failure, bool)> {
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
