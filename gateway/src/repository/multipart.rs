//! Clients' multipart uploads: parts rest hidden in the store, Complete is a write like any other.
//!
//! Decides: which parts make the object, its ETag (MD5 of the parts' MD5s, `-N`), its content hash (BLAKE3 of
//! the parts' BLAKE3s in order) and its checksums (full object where the algorithm allows, else composite).
//! A repeated Complete gets the first one's answer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::door::Found;
use super::gate::state_failed;
use super::guarding::wanted_bytes;
use super::ingest::{ingest, store_failed};
use super::write::{Prepared, give_up, some};
use super::{
    Address, Body, Caller, CompletedPart, Door, Error, Expected, Refusal, WriteCondition, Written,
};
use crate::digest::{self, Algorithm};
use crate::state::{Checksum, Details, MultipartUpload, NewUpload, PartDetail, PartRow};
use crate::stores::Plan;
use crate::telemetry::clock;

/// S3's own limits: parts 1 to 10,000, each but the last at least 5 MiB.
const MAX_PARTS: u16 = 10_000;
const MIN_PART: u64 = 5 << 20;

impl Door {
    /// `checksum` = the algorithm the client chose, and whether it covers the full object.
    pub async fn create_upload(
        &self,
        caller: &Caller,
        to: &Address,
        details: Details,
        checksum: Option<(Algorithm, bool)>,
    ) -> Result<MultipartUpload, Error> {
        let found = self.find(to)?;
        let permit = self.permit(&found, caller, &to.key).await?;
        let store_upload = found
            .open
            .store
            .begin_multipart(&permit, &to.key)
            .await
            .map_err(|e| store_failed("begin an upload", &e))?;
        let upload = NewUpload {
            id: upload_id(),
            repository: found.open.id,
            bucket: found.open.bucket_id,
            key: to.key.clone(),
            store_upload,
            details: some(details),
            checksum: checksum.map(|(algorithm, full)| (algorithm.name().to_owned(), full)),
            now_ms: clock::now_ms(),
        };
        let id = upload.id.clone();
        self.state
            .create_upload(&permit, upload)
            .await
            .map_err(|e| found.open.write_failed(caller, e))?;
        self.known_upload(&found, to, &id).await
    }

    pub async fn put_part(
        &self,
        caller: &Caller,
        to: &Address,
        upload: &str,
        number: u16,
        mut body: Body,
    ) -> Result<Written, Error> {
        if number == 0 || number > MAX_PARTS {
            return Err(Error::InvalidArgument(
                "Part number must be an integer between 1 and 10000, inclusive.".into(),
            ));
        }
        let found = self.find(to)?;
        let permit = self.permit(&found, caller, &to.key).await?;
        let known = self.own_upload(caller, &found, to, upload).await?;
        if let Some((algorithm, _)) = &known.checksum {
            body.compute = body.compute.or_else(|| Algorithm::parse(algorithm));
        }
        let plan = Plan {
            size: body.size,
            fenced: true,
        };
        let store = &found.open.store;
        let mut part = store
            .begin_part(&permit, &to.key, &known.store_upload, number, plan)
            .await
            .map_err(|e| store_failed("begin a part", &e))?;
        let taken = match ingest(body, part.as_mut(), wanted_bytes(&found.class)).await {
            Ok(taken) => taken,
            Err(e) => {
                give_up(part).await;
                return Err(e);
            }
        };
        let stored = part
            .seal()
            .await
            .map_err(|e| store_failed("store the part", &e))?;
        let now_ms = clock::now_ms();
        let etag = taken.etag().ok_or_else(|| {
            Error::Unavailable("A part was stored without its MD5; this is a defect.".into())
        })?;
        let row = PartRow {
            stored,
            etag: Arc::clone(&etag),
            checksums: taken.checksums.clone(),
            hash: Some(taken.hash),
            modified_ms: now_ms,
        };
        if let Some(bytes) = taken.captured {
            self.state
                .keep_part(&permit, upload, number, bytes)
                .await
                .map_err(|e| found.open.write_failed(caller, e))?;
        }
        self.state
            .put_part(&permit, upload, row)
            .await
            .map_err(|e| found.open.write_failed(caller, e))?;
        Ok(Written {
            etag,
            checksums: taken.checksums,
            modified_ms: now_ms,
        })
    }

    /// `expected` = a checksum of the whole object that the client sent with Complete.
    pub async fn complete(
        &self,
        caller: &Caller,
        to: &Address,
        upload: &str,
        parts: Vec<CompletedPart>,
        expected: Option<Expected>,
        condition: WriteCondition,
    ) -> Result<Written, Error> {
        let found = self.find(to)?;
        let permit = self.permit(&found, caller, &to.key).await?;
        let known = match self.own_upload(caller, &found, to, upload).await {
            Err(Error::NoSuchUpload) => {
                let written = self.completed_before(&found, to, upload).await?;
                self.witnessed(&found, &to.key).await?;
                return Ok(written);
            }
            other => other?,
        };
        let rows = self
            .state
            .parts(upload, 0, usize::from(MAX_PARTS))
            .await
            .map_err(|e| state_failed("list the parts", &e))?;
        let chosen = choose(&parts, &rows)?;
        let whole = Whole::of(&chosen, known.checksum.as_ref())?;
        whole.verify(expected.as_ref())?;
        let stored: Vec<_> = chosen.iter().map(|row| row.stored.clone()).collect();
        let assembled = found
            .open
            .store
            .assemble(&permit, &to.key, &known.store_upload, &stored)
            .await
            .map_err(|e| store_failed("assemble the parts", &e))?;
        let mut details = known.details.as_deref().cloned().unwrap_or_default();
        details.parts = whole.parts;
        details.checksums = whole.checksum.clone().into_iter().collect();
        let prepared = Prepared {
            upload: assembled,
            size: whole.size,
            etag: Some(whole.etag.into()),
            hash: whole.hash,
            details: some(details),
            completes: Some(upload.to_owned()),
            root: None,
            listed: false,
            operation: "CompleteMultipartUpload",
            captured: self.captured(&found, upload, &chosen).await?,
            judged: None,
            footer: None,
        };
        // Whatever the class: the upload id is what a hand-over aborts, so it needs an intent.
        let (etag, modified_ms) = self
            .settle_under_intent(caller, &found, &permit, to, prepared, condition)
            .await?;
        self.witnessed(&found, &to.key).await?;
        Ok(Written {
            etag,
            checksums: whole.checksum.into_iter().collect(),
            modified_ms,
        })
    }

    async fn completed_before(
        &self,
        found: &Found,
        to: &Address,
        upload: &str,
    ) -> Result<Written, Error> {
        let done = self
            .state
            .completed_upload(found.open.bucket_id, upload)
            .await
            .map_err(|e| state_failed("look up the upload", &e))?;
        let object = done
            .filter(|o| o.key == to.key)
            .ok_or(Error::NoSuchUpload)?;
        let checksums = object
            .details
            .as_ref()
            .map_or_else(Vec::new, |d| d.checksums.clone());
        Ok(Written {
            etag: object.etag,
            checksums,
            modified_ms: object.modified_ms,
        })
    }

    pub async fn abort(&self, caller: &Caller, to: &Address, upload: &str) -> Result<(), Error> {
        let found = self.find(to)?;
        let permit = self.permit(&found, caller, &to.key).await?;
        let known = self.own_upload(caller, &found, to, upload).await?;
        let _turn = found.open.turn(&to.key).await;
        if !self
            .state
            .drop_upload(&permit, upload)
            .await
            .map_err(|e| found.open.write_failed(caller, e))?
        {
            return Err(Error::NoSuchUpload);
        }
        found
            .open
            .store
            .abort(&permit, &to.key, &known.store_upload)
            .await
            .map_err(|e| store_failed("abort the upload", &e))
    }

    /// Parts above `after`, and the upload itself.
    pub async fn parts(
        &self,
        caller: &Caller,
        to: &Address,
        upload: &str,
        after: u16,
        limit: usize,
    ) -> Result<(MultipartUpload, Vec<PartRow>), Error> {
        let found = self.find_readable(caller, to)?;
        let known = self.known_upload(&found, to, upload).await?;
        let rows = self
            .state
            .parts(upload, after, limit)
            .await
            .map_err(|e| state_failed("list the parts", &e))?;
        Ok((known, rows))
    }

    /// The bytes of metadata that came in parts, if all of them are kept.
    async fn captured(
        &self,
        found: &Found,
        upload: &str,
        chosen: &[&PartRow],
    ) -> Result<Option<Bytes>, Error> {
        let most = wanted_bytes(&found.class);
        let size: u64 = chosen.iter().map(|row| row.stored.size).sum();
        if size > most as u64 {
            return Ok(None);
        }
        let kept = self
            .state
            .kept_parts(upload)
            .await
            .map_err(|e| state_failed("read the parts of its metadata", &e))?;
        Ok(joined(&kept, chosen))
    }

    async fn known_upload(
        &self,
        found: &Found,
        to: &Address,
        upload: &str,
    ) -> Result<MultipartUpload, Error> {
        let known = self
            .state
            .upload(found.open.bucket_id, upload)
            .await
            .map_err(|e| state_failed("look up the upload", &e))?;
        known.filter(|u| u.key == to.key).ok_or(Error::NoSuchUpload)
    }

    async fn own_upload(
        &self,
        caller: &Caller,
        found: &Found,
        to: &Address,
        upload: &str,
    ) -> Result<MultipartUpload, Error> {
        let known = self.known_upload(found, to, upload).await?;
        if known.cluster == caller.cluster {
            return Ok(known);
        }
        Err(Refusal::ForeignUpload {
            key: to.key.clone(),
            owner: known.cluster,
            caller: caller.cluster.clone(),
        }
        .into())
    }
}

/// None = a part is missing, or is another one than its row says.
fn joined(kept: &[(u16, Bytes)], chosen: &[&PartRow]) -> Option<Bytes> {
    let mut bytes = Vec::new();
    for row in chosen {
        let (_, part) = kept.iter().find(|(n, _)| *n == row.stored.number)?;
        if row.hash != Some(*blake3::hash(part).as_bytes()) {
            return None;
        }
        bytes.extend_from_slice(part);
    }
    Some(bytes.into())
}

/// The rows that the client's list names: ascending, known, with the right ETags and sizes.
fn choose<'a>(parts: &[CompletedPart], rows: &'a [PartRow]) -> Result<Vec<&'a PartRow>, Error> {
    if parts.is_empty() {
        return Err(Error::InvalidArgument(
            "You must specify at least one part.".into(),
        ));
    }
    if !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(Error::InvalidPartOrder);
    }
    let mut chosen = Vec::with_capacity(parts.len());
    for part in parts {
        let row = rows
            .iter()
            .find(|r| r.stored.number == part.number)
            .ok_or(Error::InvalidPart)?;
        let etag = part.etag.trim_matches('"');
        let same_checksum = part
            .checksum
            .as_ref()
            .is_none_or(|c| row.checksums.contains(c));
        if !etag.eq_ignore_ascii_case(&row.etag) || !same_checksum {
            return Err(Error::InvalidPart);
        }
        chosen.push(row);
    }
    let small = |row: &&&PartRow| row.stored.size < MIN_PART;
    if chosen[..chosen.len() - 1].iter().find(small).is_some() {
        return Err(Error::EntityTooSmall);
    }
    Ok(chosen)
}

/// The object that parts make.
struct Whole {
    size: u64,
    etag: String,
    hash: [u8; 32],
    parts: Vec<PartDetail>,
    checksum: Option<Checksum>,
}

impl Whole {
    fn of(rows: &[&PartRow], wanted: Option<&(String, bool)>) -> Result<Self, Error> {
        let mut md5 = Md5::new();
        let mut hash = blake3::Hasher::new();
        for row in rows {
            md5.update(hex::decode(&*row.etag).map_err(|_| Error::InvalidPart)?);
            hash.update(&row.hash.unwrap_or_default());
        }
        let wanted = wanted
            .and_then(|(name, full)| Algorithm::parse(name).map(|algorithm| (algorithm, *full)));
        Ok(Self {
            size: rows.iter().map(|r| r.stored.size).sum(),
            etag: format!("{}-{}", hex::encode(md5.finalize()), rows.len()),
            hash: *hash.finalize().as_bytes(),
            parts: rows
                .iter()
                .map(|row| detail(row, wanted.map(|(a, _)| a)))
                .collect(),
            checksum: wanted.and_then(|(algorithm, full)| combined(rows, algorithm, full)),
        })
    }

    fn verify(&self, expected: Option<&Expected>) -> Result<(), Error> {
        let Some(expected) = expected else {
            return Ok(());
        };
        let known = self
            .checksum
            .as_ref()
            .filter(|c| c.algorithm == expected.algorithm.name());
        let value = STANDARD.encode(&expected.value);
        match known {
            Some(known) if known.value.split('-').next() == Some(value.as_str()) => Ok(()),
            Some(_) => Err(super::BodyError::BadChecksum(expected.algorithm.name()).into()),
            None => Err(Error::InvalidArgument(
                "The upload was created without this checksum algorithm.".into(),
            )),
        }
    }
}

fn detail(row: &PartRow, wanted: Option<Algorithm>) -> PartDetail {
    let checksum = wanted.and_then(|a| {
        row.checksums
            .iter()
            .find(|c| c.algorithm == a.name())
            .cloned()
    });
    PartDetail {
        number: row.stored.number,
        size: row.stored.size,
        checksum,
    }
}

fn combined(rows: &[&PartRow], algorithm: Algorithm, full: bool) -> Option<Checksum> {
    let values: Option<Vec<(Vec<u8>, u64)>> = rows
        .iter()
        .map(|row| {
            let checksum = row
                .checksums
                .iter()
                .find(|c| c.algorithm == algorithm.name())?;
            Some((STANDARD.decode(&checksum.value).ok()?, row.stored.size))
        })
        .collect();
    let values = values?;
    let value = if full {
        STANDARD.encode(digest::combine(algorithm, &values)?)
    } else {
        let joined: Vec<u8> = values
            .iter()
            .flat_map(|(value, _)| value.iter().copied())
            .collect();
        format!(
            "{}-{}",
            STANDARD.encode(digest::once(algorithm, &joined)),
            values.len()
        )
    };
    Some(Checksum {
        algorithm: algorithm.name().into(),
        value,
    })
}

/// Ids compare as text in the order of their making, which Elasticsearch's registers rely on.
fn upload_id() -> String {
    format!("{:012x}{}", clock::now_ms().max(0), crate::random::text(24))
}
