//! Facts as of a restore point: sizes and bodies of objects as they were, hidden ones included.

use std::collections::HashMap;

use bytes::Bytes;
use policies::format::closure::{Needs, Observed};
use policies::key::{Class, ObjectKey, Shard, ShardGeneration};

use super::super::door::OpenRepository;
use super::super::gate::state_failed;
use super::super::guarding::read_digest;
use super::super::{Door, Error};
use crate::state::{Entry, Object, PastObject, PastQuery};

pub(super) const LARGEST: usize = 256 << 20;
const PAGE: usize = 1000;

/// What will be visible when a restored root is committed, as far as it was asked for.
pub(super) struct Then {
    pub sequence: u64,
    /// What is visible now counts, and only where nothing is what was then.
    pub now_first: bool,
    /// Objects that are written before the root is.
    pub written: HashMap<ObjectKey, (Class, Bytes)>,
    pub found: HashMap<ObjectKey, PastObject>,
    pub facts: Observed,
}

impl Then {
    pub fn of(sequence: u64) -> Self {
        Self {
            sequence,
            now_first: false,
            written: HashMap::new(),
            found: HashMap::new(),
            facts: Observed::default(),
        }
    }

    pub fn of_both(sequence: u64) -> Self {
        Self {
            now_first: true,
            ..Self::of(sequence)
        }
    }
}

/// Whether both rows are of the same bytes.
pub(super) fn same_content(a: &Object, b: &Object) -> bool {
    let same = match (a.hash, b.hash) {
        (Some(a), Some(b)) => a == b,
        (_, _) => a.identity == b.identity,
    };
    same && a.size == b.size
}

impl Door {
    pub(in super::super) async fn object_then(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        sequence: u64,
    ) -> Result<Option<PastObject>, Error> {
        self.state
            .object_at(open.bucket_id, open.id, key, sequence)
            .await
            .map_err(|e| state_failed("read its earlier catalog", &e))
    }

    /// The object that will be there; one name with two contents that are both needed is refused.
    pub(super) async fn look_then(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        then: &mut Then,
    ) -> Result<Option<PastObject>, Error> {
        if let Some(known) = then.found.get(key) {
            return Ok(Some(known.clone()));
        }
        let mut found = self.object_then(open, key, then.sequence).await?;
        if then.now_first
            && let Some(now) = self.lookup(open, key).await?.object
        {
            if let Some(past) = &found
                && past.hidden.is_some()
                && !same_content(&past.object, &now)
            {
                return Err(Error::InvalidArgument(format!(
                    "'{key}' was written anew since then, and both contents are needed; roll back, or restore from the read-only view instead."
                )));
            }
            found = Some(PastObject {
                object: now,
                hidden: None,
            });
        }
        if let Some(found) = &found {
            then.found.insert(key.clone(), found.clone());
        }
        Ok(found)
    }

    pub(super) async fn fetch_then(
        &self,
        open: &OpenRepository,
        needs: Needs,
        then: &mut Then,
    ) -> Result<(), Error> {
        for key in needs.sizes {
            let size = match then.written.get(&key) {
                Some((_, body)) => Some(body.len() as u64),
                None => {
                    let found = self.look_then(open, &key, then).await?;
                    found.map(|past| past.object.size)
                }
            };
            then.facts.sizes.insert(key, size);
        }
        for (key, class) in needs.digests {
            let body = self.body_then(open, &key, then).await?;
            let digest = read_digest(&class, body).await.ok_or_else(|| {
                Error::Unavailable(format!("'{key}' has no digest; this is a defect."))
            })?;
            then.facts.digests.insert(key, digest);
        }
        for (shard, directory) in needs.numbered {
            let highest = self.numbered_then(open, &shard, &directory, then).await?;
            then.facts.numbered.insert(shard, highest);
        }
        Ok(())
    }

    /// Bytes of an object that will be there; none at all if it will not.
    pub(super) async fn body_then(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        then: &mut Then,
    ) -> Result<Bytes, Error> {
        if let Some((_, body)) = then.written.get(key) {
            return Ok(body.clone());
        }
        match self.look_then(open, key, then).await? {
            Some(past) => self.body(open, past.location(), LARGEST).await,
            None => Ok(Bytes::new()),
        }
    }

    async fn numbered_then(
        &self,
        open: &OpenRepository,
        shard: &Shard,
        directory: &str,
        then: &Then,
    ) -> Result<Option<u64>, Error> {
        let there = if then.now_first {
            self.highest_numbered(open, directory).await?
        } else {
            let all = self.numbers_at(open, directory, then.sequence).await?;
            all.into_iter().max()
        };
        let written = then.written.values().filter_map(|(class, _)| match class {
            Class::ShardIndex {
                shard: of,
                generation: ShardGeneration::Number(number),
            } if of == shard => Some(*number),
            _other => None,
        });
        Ok(written.chain(there).max())
    }

    /// The numbers of a shard's `index-<number>` as of a sequence.
    pub(super) async fn numbers_at(
        &self,
        open: &OpenRepository,
        directory: &str,
        sequence: u64,
    ) -> Result<Vec<u64>, Error> {
        let mut query = PastQuery {
            bucket: open.bucket_id,
            repository: open.id,
            sequence,
            prefix: format!("{directory}index-"),
            delimiter: None,
            after: None,
            limit: PAGE,
        };
        let mut numbers = Vec::new();
        loop {
            let page = self
                .state
                .list_at(&query)
                .await
                .map_err(|e| state_failed("list its earlier catalog", &e))?;
            for entry in page.entries {
                let Entry::Object(object) = entry else {
                    continue;
                };
                let name = object.key.as_str();
                query.after = Some(name.to_owned());
                let digits = &name[query.prefix.len()..];
                let number = digits.parse::<u64>().ok();
                numbers.extend(number.filter(|number| number.to_string() == digits));
            }
            if !page.truncated {
                return Ok(numbers);
            }
        }
    }
}
