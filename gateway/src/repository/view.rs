//! Read-only views: `<base path>@N` is the repository exactly as of restore point N, while others go on writing.
//!
//! Invariants: nothing that was written after the root of N is seen, and no other root; what the retention no longer
//! holds is never answered as absent. The pointer says N. Writes are refused before their body is read.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use policies::key::{Class, ObjectKey, View};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::read::{judge, resolve};
use super::{Caller, Door, Error, ListRequest, RangeSpec, ReadCondition, Refusal, Retrieved};
use crate::state::{Entry, Listing, Object, PastObject, PastQuery, RestorePoint};
use crate::stores::{self, Identity};

const ATTEMPTS: usize = 3;

impl Door {
    /// The repository of a view and its restore point, for a caller that may read it.
    async fn open_view(
        &self,
        caller: &Caller,
        view: &View,
    ) -> Result<(Arc<OpenRepository>, RestorePoint), Error> {
        let open = self
            .repository(&view.repository)
            .ok_or(Error::NoSuchBucket)?;
        open.check_readable(caller)?;
        let point = self
            .state
            .restore_point(open.id, view.generation)
            .await
            .map_err(|e| state_failed("look up a restore point", &e))?;
        match point {
            Some(point) if point.root.complete => Ok((open, point)),
            found => Err(Refusal::NoView {
                repository: view.repository.clone(),
                generation: view.generation,
                gone: found.is_some(),
            }
            .into()),
        }
    }

    async fn seen(
        &self,
        open: &OpenRepository,
        view: &View,
        point: &RestorePoint,
    ) -> Result<PastObject, Error> {
        if matches!(view.class, Class::Root(other) if other != view.generation) {
            return Err(Error::NoSuchKey);
        }
        let key = ObjectKey::parse(&format!("{}{}", view.real, view.relative))?;
        self.object_then(open, &key, point.sequence)
            .await?
            .ok_or(Error::NoSuchKey)
    }

    pub(super) async fn head_view(
        &self,
        caller: &Caller,
        view: &View,
        condition: &ReadCondition,
    ) -> Result<Object, Error> {
        let (open, point) = self.open_view(caller, view).await?;
        let object = if view.class == Class::Pointer {
            pointer(&open, view, &point)?
        } else {
            self.seen(&open, view, &point).await?.object
        };
        judge(&object, condition)?;
        Ok(object)
    }

    pub(super) async fn get_view(
        &self,
        caller: &Caller,
        view: &View,
        spec: Option<RangeSpec>,
        condition: &ReadCondition,
    ) -> Result<Retrieved, Error> {
        let (open, point) = self.open_view(caller, view).await?;
        if view.class == Class::Pointer {
            let object = pointer(&open, view, &point)?;
            judge(&object, condition)?;
            let range = spec
                .map(|spec| resolve(&object, spec))
                .transpose()?
                .flatten();
            let value = Bytes::copy_from_slice(&view.generation.to_be_bytes());
            let part = match &range {
                // Both ends lie within the eight bytes.
                Some(range) => value.slice(range.start as usize..range.end as usize),
                None => value,
            };
            let bytes = futures::stream::once(async { Ok(part) }).boxed();
            return Ok(Retrieved {
                object,
                range,
                bytes,
                file: None,
            });
        }
        // Its bytes may be moved while it is opened: then it is looked up again.
        for _ in 0..ATTEMPTS {
            let past = self.seen(&open, view, &point).await?;
            judge(&past.object, condition)?;
            let range = spec
                .map(|spec| resolve(&past.object, spec))
                .transpose()?
                .flatten();
            let own_name = *past.location() == past.object.key;
            let expected = Some(&past.object.identity).filter(|_| own_name);
            match open
                .store
                .read(past.location(), range.clone(), expected)
                .await
            {
                Ok(Some(content)) if content.size == past.object.size => {
                    return Ok(Retrieved {
                        object: past.object,
                        range,
                        bytes: content.bytes,
                        file: content.file,
                    });
                }
                Ok(Some(_) | None) | Err(stores::Error::Changed) => {}
                Err(e) => return Err(store_failed("read the object", &e)),
            }
        }
        Err(Error::Unavailable(format!(
            "The store lost or changed an object of restore point {} behind the gateway; see: snapgate restore-points {}",
            view.generation, view.repository
        )))
    }

    pub(super) async fn list_view(
        &self,
        caller: &Caller,
        view: &View,
        request: ListRequest,
    ) -> Result<Listing, Error> {
        let (open, point) = self.open_view(caller, view).await?;
        let after = match &request.after {
            None => None,
            Some(after) => match view.real_of(after) {
                Some(after) => Some(after),
                None if **after < *view.spelt => None,
                None => return Ok(Listing::default()),
            },
        };
        let query = PastQuery {
            bucket: open.bucket_id,
            repository: open.id,
            sequence: point.sequence,
            prefix: view.real_of(&request.prefix).unwrap_or_default(),
            delimiter: request.delimiter,
            after,
            limit: request.limit,
        };
        let mut listing = self
            .state
            .list_at(&query)
            .await
            .map_err(|e| state_failed("list its earlier catalog", &e))?;
        let base = open.plan.prefix();
        let other_root = |object: &Object| {
            let relative = object.key.as_str().strip_prefix(&base);
            matches!(relative.map(Class::parse), Some(Class::Root(n)) if n != view.generation)
        };
        let mut entries = Vec::with_capacity(listing.entries.len());
        for entry in listing.entries {
            match entry {
                Entry::Object(object) if other_root(&object) => {}
                Entry::Object(object) => {
                    let Some(spelt) = view.spelt_of(object.key.as_str()) else {
                        continue;
                    };
                    entries.push(Entry::Object(Object {
                        key: ObjectKey::parse(&spelt)?,
                        ..object
                    }));
                }
                Entry::Prefix(prefix) => entries.extend(view.spelt_of(&prefix).map(Entry::Prefix)),
            }
        }
        listing.entries = entries;
        Ok(listing)
    }
}

/// The catalog keeps no older pointers, and this one can only say one thing.
fn pointer(open: &OpenRepository, view: &View, point: &RestorePoint) -> Result<Object, Error> {
    let etag = hex::encode(&blake3::hash(&view.generation.to_be_bytes()).as_bytes()[..16]);
    Ok(Object {
        key: ObjectKey::parse(&format!("{}{}", view.real, view.relative))?,
        repository: open.id,
        size: 8,
        etag: format!("{etag}-1").into(),
        hash: None,
        identity: Identity("".into()),
        modified_ms: point.committed_ms,
        sequence: point.sequence,
        details: None,
    })
}
