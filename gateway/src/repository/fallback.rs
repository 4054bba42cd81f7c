//! Reads from a mirror while the store fails.
//!
//! Invariant: the bytes sent are those of the catalog's row, never another generation's. A name that is written once
//! has one content, so its size tells; every other name is read whole and hashed before its first byte is sent. A
//! whole object's last chunk is held back until its hash is right, so that a wrong one is cut and never completed.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use policies::key::{Class, Writing};

use super::Door;
use super::door::OpenRepository;
use crate::digest::Whole;
use crate::state::Object;
use crate::stores::{self, ByteStream, Store};
use crate::telemetry::names;

/// Larger content under a name that may change is not served from a mirror.
const LARGEST_CHANGEABLE: u64 = 64 << 20;

impl Door {
    /// None = no mirror surely has this content.
    pub(super) async fn read_elsewhere(
        &self,
        open: &OpenRepository,
        object: &Object,
        class: &Class,
        range: Option<Range<u64>>,
    ) -> Option<ByteStream> {
        let mirrors = self.state.mirrors(open.id).await.ok()?;
        for mirror in mirrors {
            let applied = mirror.resync.is_none() && mirror.applied >= object.sequence;
            let Some(store) = self.store(&mirror.store).filter(|_| applied) else {
                continue;
            };
            match read(store.as_ref(), object, class, range.clone()).await {
                Ok(Some(bytes)) => {
                    tracing::warn!(repository = %open.name, key = %object.key, store = %mirror.store, "the store failed; served from a mirror");
                    metrics::counter!(names::FALLBACK_READS, "repository" => open.name.to_string(), "store" => mirror.store.to_string()).increment(1);
                    return Some(bytes);
                }
                Ok(None) => {
                    tracing::warn!(repository = %open.name, key = %object.key, store = %mirror.store, "the mirror does not hold this content");
                }
                Err(e) => {
                    tracing::warn!(repository = %open.name, key = %object.key, store = %mirror.store, cause = %e, "the mirror fails as well");
                }
            }
        }
        None
    }
}

async fn read(
    store: &dyn Store,
    object: &Object,
    class: &Class,
    range: Option<Range<u64>>,
) -> stores::Result<Option<ByteStream>> {
    match (class.writing(), object.hash) {
        (Writing::Once, hash) => {
            let whole = range.is_none();
            let read = store.read(&object.key, range, None).await?;
            let right = read.filter(|content| content.size == object.size);
            Ok(right.map(|content| match hash.filter(|_| whole) {
                Some(hash) => verified(content.bytes, hasher(object), hash),
                None => content.bytes,
            }))
        }
        (Writing::Commit, Some(hash)) if object.size <= LARGEST_CHANGEABLE => {
            let Some(content) = store.read(&object.key, None, None).await? else {
                return Ok(None);
            };
            if content.size != object.size {
                return Ok(None);
            }
            let mut body = Vec::with_capacity(usize::try_from(object.size).unwrap_or(0));
            let mut bytes = verified(content.bytes, hasher(object), hash);
            loop {
                match bytes.try_next().await {
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    Ok(None) => break,
                    Err(stores::Error::Changed) => return Ok(None),
                    Err(e) => return Err(e),
                }
            }
            let body = Bytes::from(body);
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
            let wanted = match range {
                Some(range) => body.slice(index(range.start)..index(range.end)),
                None => body,
            };
            Ok(Some(stream::once(async move { Ok(wanted) }).boxed()))
        }
        (Writing::Commit | Writing::Free, _) => Ok(None),
    }
}

fn hasher(object: &Object) -> Whole {
    let parts = object.details.as_ref().map_or(&[][..], |d| &d.parts);
    Whole::of_parts(parts.iter().map(|p| p.size))
}

struct Checked {
    bytes: ByteStream,
    hasher: Whole,
    held: Option<Bytes>,
}

/// The same bytes, one chunk late; the last one comes only if all of them have this hash.
fn verified(bytes: ByteStream, hasher: Whole, hash: [u8; 32]) -> ByteStream {
    let begin = Some(Checked {
        bytes,
        hasher,
        held: None,
    });
    stream::try_unfold(begin, move |state| async move {
        let Some(mut checked) = state else {
            return Ok(None);
        };
        loop {
            let Some(chunk) = checked.bytes.try_next().await? else {
                if checked.hasher.finish() != hash {
                    return Err(stores::Error::Changed);
                }
                return Ok(checked.held.map(|last| (last, None)));
            };
            checked.hasher.update(&chunk);
            if let Some(held) = checked.held.replace(chunk) {
                return Ok(Some((held, Some(checked))));
            }
        }
    })
    .boxed()
}
