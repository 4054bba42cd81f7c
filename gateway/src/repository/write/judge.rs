//! What a write finds at its key, and what that makes of it.

use std::sync::Arc;

use policies::format::digest;
use policies::guard::Overwrite;
use policies::key::{Class, ObjectKey, Writing};

use super::Prepared;
use crate::repository::door::{Found, OpenRepository};
use crate::repository::{Door, Error, WriteCondition};
use crate::state::Object;

/// How often a write starts over when another one got in between.
const ATTEMPTS: usize = 8;

pub(super) enum Judged {
    /// The same is there: a replay.
    AlreadyThere(Arc<str>, i64),
    /// The row that is replaced, if there is one.
    Write(Option<Object>),
}

impl Door {
    /// Reads what other nodes did and what is there now, and judges.
    pub(super) async fn judged(
        &self,
        found: &Found,
        key: &ObjectKey,
        prepared: &mut Prepared,
        condition: &WriteCondition,
        digest: Option<&digest::Read>,
    ) -> Result<Judged, Error> {
        if found.class.writing() != Writing::Free {
            prepared.judged = self.follow(&found.open).await?;
        }
        let current = self.current(&found.open, key).await?;
        judge(found, key, current, prepared, condition, digest)
    }

    /// The row that a write replaces. Another node's open intent is waited for, briefly.
    async fn current(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
    ) -> Result<Option<Object>, Error> {
        for _ in 0..ATTEMPTS {
            let lookup = self.lookup(open, key).await?;
            if !lookup.busy {
                return Ok(lookup.object);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Err(Error::SlowDown(
            "Another write to this key is under way; try again.".into(),
        ))
    }
}

/// Conditions and the overwrite rule, on what is there now.
fn judge(
    found: &Found,
    key: &ObjectKey,
    current: Option<Object>,
    prepared: &Prepared,
    condition: &WriteCondition,
    digest: Option<&digest::Read>,
) -> Result<Judged, Error> {
    match (condition, &current) {
        (WriteCondition::IfAbsent, Some(_)) => return Err(Error::PreconditionFailed),
        (WriteCondition::IfMatch(_), None) => return Err(Error::NoSuchKey),
        (WriteCondition::IfMatch(etag), Some(current))
            if etag != "*" && **etag != *current.etag =>
        {
            return Err(Error::PreconditionFailed);
        }
        (WriteCondition::Always | WriteCondition::IfAbsent | WriteCondition::IfMatch(_), _) => {}
    }
    let guarding = &found.open.guarding;
    if let (Class::Pointer, Some(body)) = (&found.class, &prepared.captured) {
        guarding.pointer(body)?;
    }
    let Some(current) = current else {
        return Ok(Judged::Write(None));
    };
    let same_bytes = current.hash == Some(prepared.hash) && current.size == prepared.size;
    // What is none of a repository's own blobs is also what its headers and parts say.
    let same = same_bytes && (found.class != Class::Unknown || current.details == prepared.details);
    Ok(match guarding.overwrite(key, &found.class, same, digest)? {
        Overwrite::Same => Judged::AlreadyThere(current.etag, current.modified_ms),
        Overwrite::Replace => Judged::Write(Some(current)),
    })
}
