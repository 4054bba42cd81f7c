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
        let mut query = PastQuery {
            bucket: open.bucket_id,
            repository: open.id,
            sequence: point.sequence,
            prefix: view.real_of(&request.prefix).unwrap_or_default(),
            delimiter: request.delimiter.clone(),
            after,
            limit: request.limit,
        };
        let mut page = Page::of(&request, pointer(&open, view, &point)?, view)?;
        loop {
            let listing = self
                .state
                .list_at(&query)
                .await
                .map_err(|e| state_failed("list its earlier catalog", &e))?;
            query.after = listing.entries.last().map(|e| name_of(e).to_owned());
            for entry in listing.entries {
                if let Some(entry) = spelt(&open, view, entry)? {
                    page.push(entry);
                }
            }
            if !listing.truncated || page.is_full() {
                return Ok(page.end());
            }
        }
    }
}

fn name_of(entry: &Entry) -> &str {
    match entry {
        Entry::Object(object) => object.key.as_str(),
        Entry::Prefix(prefix) => prefix,
    }
}

/// An entry as the view shows it; none for other roots, and for the pointer, which says what it said then.
fn spelt(open: &OpenRepository, view: &View, entry: Entry) -> Result<Option<Entry>, Error> {
    let Some(name) = view.spelt_of(name_of(&entry)) else {
        return Ok(None);
    };
    let object = match entry {
        Entry::Prefix(_) => return Ok(Some(Entry::Prefix(name))),
        Entry::Object(object) => object,
    };
    let relative = object.key.as_str().strip_prefix(&*open.plan.prefix());
    let hidden = match relative.map(Class::parse) {
        Some(Class::Root(generation)) => generation != view.generation,
        Some(Class::Pointer) => true,
        _other => false,
    };
    let key = ObjectKey::parse(&name)?;
    Ok((!hidden).then_some(Entry::Object(Object { key, ..object })))
}

/// One page of a view: the pointer stands among the entries where its name belongs, whatever is left out is made up for.
struct Page {
    limit: usize,
    pointer: Option<Entry>,
    entries: Vec<Entry>,
}

impl Page {
    fn of(request: &ListRequest, pointer: Object, view: &View) -> Result<Self, Error> {
        let name = format!("{}index.latest", view.spelt);
        let entry = name.strip_prefix(&*request.prefix).map(|rest| {
            let delimiter = request.delimiter.as_deref().filter(|d| !d.is_empty());
            let folded = delimiter.and_then(|d| Some(rest.find(d)? + d.len()));
            folded.map(|end| format!("{}{}", request.prefix, &rest[..end]))
        });
        let entry = match entry {
            None => None,
            Some(Some(prefix)) => Some(Entry::Prefix(prefix)),
            Some(None) => Some(Entry::Object(Object {
                key: ObjectKey::parse(&name)?,
                ..pointer
            })),
        };
        let after = request.after.as_deref().unwrap_or_default();
        Ok(Self {
            limit: request.limit,
            pointer: entry.filter(|entry| name_of(entry) > after),
            entries: Vec::new(),
        })
    }

    fn push(&mut self, entry: Entry) {
        if let Some(pointer) = self
            .pointer
            .take_if(|pointer| name_of(pointer) <= name_of(&entry))
            && name_of(&pointer) != name_of(&entry)
        {
            self.entries.push(pointer);
        }
        self.entries.push(entry);
    }

    fn is_full(&self) -> bool {
        self.entries.len() > self.limit
    }

    fn end(mut self) -> Listing {
        self.entries.extend(self.pointer.take());
        let truncated = self.is_full();
        self.entries.truncate(self.limit);
        Listing {
            entries: self.entries,
            truncated,
        }
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
