//! Reads: conditions, ranges, and bytes whose identity the catalog knows.
//!
//! Invariants: a store failure is never a 404; the bytes sent are those of the row that was judged. A name
//! whose content may change is looked up again after its content was opened: if a write got in between, the
//! read starts over, so old or new content is served whole, never a mixture.

use std::ops::Range;
use std::sync::Arc;

use policies::key::{Place, Writing};

use super::door::{Found, OpenRepository};
use super::ingest::store_failed;
use super::{Address, Caller, Door, Error, RangeSpec, ReadCondition, Retrieved};
use crate::state::Object;
use crate::stores;

const ATTEMPTS: u32 = 40;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

impl Door {
    pub async fn head(
        &self,
        caller: &Caller,
        at: &Address,
        condition: &ReadCondition,
    ) -> Result<Object, Error> {
        if let Place::View(view) = self.place_of(at) {
            return self.head_view(caller, &view, condition).await;
        }
        let found = self.find_readable(caller, at)?;
        let object = self.visible(&found, at).await?;
        judge(&object, condition)?;
        Ok(object)
    }

    pub async fn get(
        &self,
        caller: &Caller,
        at: &Address,
        range: Option<RangeSpec>,
        condition: &ReadCondition,
    ) -> Result<Retrieved, Error> {
        if let Place::View(view) = self.place_of(at) {
            return self.get_view(caller, &view, range, condition).await;
        }
        let found = self.find_readable(caller, at)?;
        let settled = found.class.writing() == Writing::Once;
        for _ in 0..ATTEMPTS {
            let lookup = self.lookup(&found.open, &at.key).await?;
            if lookup.busy && !settled {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let object = lookup.object.ok_or(Error::NoSuchKey)?;
            judge(&object, condition)?;
            let range = range
                .map(|spec| resolve(&object, spec))
                .transpose()?
                .flatten();
            let content = match self.open_content(&found.open, &object, range.clone()).await {
                Ok(Some(content)) => Some((content.bytes, content.file)),
                failed @ (Ok(None) | Err(_)) => {
                    let elsewhere = self
                        .read_elsewhere(&found.open, &object, &found.class, range.clone())
                        .await;
                    match elsewhere {
                        Some(bytes) => Some((bytes, None)),
                        None => failed?.map(|content| (content.bytes, content.file)),
                    }
                }
            };
            if settled || self.unchanged(&found.open, at, object.sequence).await? {
                if let Some((bytes, file)) = content {
                    return Ok(Retrieved {
                        object,
                        range,
                        bytes,
                        file,
                    });
                }
                self.not_as_recorded(&found.open, &object).await;
                return Err(vanished(&found.open, &object));
            }
        }
        Err(Error::SlowDown(
            "This object is being written; try again.".into(),
        ))
    }

    /// None = the store has other content, or none, under the name.
    async fn open_content(
        &self,
        open: &OpenRepository,
        object: &Object,
        range: Option<Range<u64>>,
    ) -> Result<Option<stores::Content>, Error> {
        match open
            .store
            .read(&object.key, range, Some(&object.identity))
            .await
        {
            Ok(Some(content)) if content.size == object.size => Ok(Some(content)),
            Ok(Some(_) | None) | Err(stores::Error::Changed) => Ok(None),
            Err(e) => Err(store_failed("read the object", &e)),
        }
    }

    async fn unchanged(
        &self,
        open: &OpenRepository,
        at: &Address,
        sequence: u64,
    ) -> Result<bool, Error> {
        let again = self.lookup(open, &at.key).await?;
        Ok(!again.busy && again.object.is_some_and(|o| o.sequence == sequence))
    }

    /// The object as clients may see it now.
    pub(super) async fn visible(&self, found: &Found, at: &Address) -> Result<Object, Error> {
        self.lookup(&found.open, &at.key)
            .await?
            .object
            .ok_or(Error::NoSuchKey)
    }
}

/// The catalog knows it and the store does not have it: somebody changed the store behind the gateway.
fn vanished(open: &OpenRepository, object: &Object) -> Error {
    tracing::error!(repository = %open.name, key = %object.key, "the store lost or changed this object behind the gateway");
    Error::Unavailable(
        "The store lost or changed this object behind the gateway; see the gateway's log.".into(),
    )
}

/// RFC 9110, 13.2.2: the order of precedence.
pub(super) fn judge(object: &Object, condition: &ReadCondition) -> Result<(), Error> {
    let names = |tags: &[String]| tags.iter().any(|t| t == "*" || **t == *object.etag);
    let seconds = object.modified_ms.div_euclid(1000);
    match (&condition.if_match, condition.if_unmodified_since) {
        (Some(tags), _) if !names(tags) => return Err(Error::PreconditionFailed),
        (None, Some(since)) if seconds > since => return Err(Error::PreconditionFailed),
        (Some(_) | None, _) => {}
    }
    let not_modified = || {
        Err(Error::NotModified {
            etag: Arc::clone(&object.etag),
            modified_ms: object.modified_ms,
        })
    };
    match (&condition.if_none_match, condition.if_modified_since) {
        (Some(tags), _) if names(tags) => not_modified(),
        (None, Some(since)) if seconds <= since => not_modified(),
        (Some(_) | None, _) => Ok(()),
    }
}

/// From what the client asked for to bytes of this object; None = all of it, without a 206.
pub(super) fn resolve(object: &Object, spec: RangeSpec) -> Result<Option<Range<u64>>, Error> {
    let size = object.size;
    let unsatisfiable = Err(Error::RangeNotSatisfiable { size });
    match spec {
        RangeSpec::FromTo(first, last) if first >= size || last < first => unsatisfiable,
        RangeSpec::FromTo(first, last) => Ok(Some(first..last.saturating_add(1).min(size))),
        RangeSpec::From(first) if first >= size => unsatisfiable,
        RangeSpec::From(first) => Ok(Some(first..size)),
        RangeSpec::Last(0) => unsatisfiable,
        RangeSpec::Last(_) if size == 0 => unsatisfiable,
        RangeSpec::Last(count) => Ok(Some(size.saturating_sub(count)..size)),
        RangeSpec::Part(number) => part(object, number),
    }
}

fn part(object: &Object, number: u16) -> Result<Option<Range<u64>>, Error> {
    let parts = object.details.as_ref().map_or(&[][..], |d| &d.parts);
    if parts.is_empty() {
        return if number == 1 {
            Ok((object.size > 0).then_some(0..object.size))
        } else {
            Err(Error::RangeNotSatisfiable { size: object.size })
        };
    }
    let mut start = 0;
    for (position, part) in parts.iter().enumerate() {
        if position + 1 == usize::from(number) {
            return Ok(Some(start..start + part.size));
        }
        start += part.size;
    }
    Err(Error::RangeNotSatisfiable { size: object.size })
}
