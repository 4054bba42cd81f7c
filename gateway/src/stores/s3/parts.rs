//! Uploads in parts: of one object, of a client's parts, of what they make together.
//!
//! Invariant: parts are invisible until Complete, and an upload that was aborted cannot be completed.
//! Parts of known size are streamed; those of unknown size are gathered, because S3 wants the length
//! of each part before its first byte.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use policies::key::ObjectKey;

use super::client::Client;
use super::multipart::backend_id;
use super::names;
use super::probe::Abilities;
use super::put::{Place, Put};
use super::upload::tagged;
use crate::stores::{Error, Plan, Publish, Published, Result, StoredPart, Upload, UploadId};

const LARGE_PART: u64 = 1 << 30;
const MOST_PARTS: u16 = 10_000;
/// Parts of an upload of unknown size start at this, double every 1,000 parts, and are gathered.
const FIRST_PART: u64 = 8 << 20;
/// A part of unknown size is gathered; S3's protocol announces all sizes.
const LARGEST_UNANNOUNCED: u64 = 16 << 20;

/// A multipart upload of one object.
pub(super) struct Parts {
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
    pub(super) async fn begin(
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
                    return Err(Error::Failed(
                        "a part of this size must be announced".into(),
                    ));
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
