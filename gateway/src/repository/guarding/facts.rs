//! The facts that the guard asks for: from what passed, from what is kept, and only then from the store.

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use policies::format::closure::{Needs, Observed};
use policies::format::digest;
use policies::key::{Class, ObjectKey};

use super::super::door::OpenRepository;
use super::super::gate::state_failed;
use super::super::ingest::store_failed;
use super::super::list::next_page;
use super::super::{Door, Error};
use super::{LARGEST_ROOT, read_digest};
use crate::state::digests::content_of;
use crate::watch::Warning;

/// Metadata read from the store at once.
const PARALLEL: usize = 16;
const PAGE: usize = 1000;

impl Door {
    pub(in crate::repository) async fn fetch(
        &self,
        open: &OpenRepository,
        needs: Needs,
        facts: &mut Observed,
    ) -> Result<(), Error> {
        for page in needs.sizes.chunks(PAGE) {
            let sizes = self.state.sizes(open.bucket_id, page).await;
            let sizes = sizes.map_err(|e| state_failed("read its catalog", &e))?;
            facts.sizes.extend(page.iter().cloned().zip(sizes));
        }
        let mut missing = Vec::new();
        for (key, class) in needs.digests {
            let known = open.guarding.recent.lock().get(&key);
            match known {
                Some(digest) => {
                    facts.digests.insert(key, digest);
                }
                None => missing.push((key, class)),
            }
        }
        let missing = self.kept_digests(open, missing, facts).await?;
        let mut read = futures::stream::iter(
            missing
                .into_iter()
                .map(|(key, class)| self.digest_of(open, key, class)),
        )
        .buffer_unordered(PARALLEL);
        while let Some((key, digest)) = read.try_next().await? {
            facts.digests.insert(key, digest);
        }
        drop(read);
        self.write_digests_now(open).await;
        for (shard, directory) in needs.numbered {
            let highest = self.highest_numbered(open, &directory).await?;
            facts.numbered.insert(shard, highest);
        }
        Ok(())
    }

    async fn digest_of(
        &self,
        open: &OpenRepository,
        key: ObjectKey,
        class: Class,
    ) -> Result<(ObjectKey, digest::Read), Error> {
        let object = self.lookup(open, &key).await?.object;
        let body = self.body(open, &key, LARGEST_ROOT).await?;
        let hash = *blake3::hash(&body).as_bytes();
        let digest = read_digest(&class, body).await.ok_or_else(|| {
            Error::Unavailable(format!("'{key}' has no digest; this is a defect."))
        })?;
        if let Some(object) = object {
            self.keep_digest(open, &key, content_of(&object), hash, Some(&digest));
        }
        Ok((key, digest))
    }

    /// A visible object's bytes; one that is too large is not read, so that its digest is "cannot be read".
    pub(in crate::repository) async fn body(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        most: usize,
    ) -> Result<Bytes, Error> {
        let content = open
            .store
            .read(key, None, None)
            .await
            .map_err(|e| store_failed("read metadata", &e))?;
        let Some(mut content) = content else {
            tracing::error!(repository = %open.name, key = %key, "the store lost this object behind the gateway");
            self.raise(open, Warning::ObjectVanished { key: key.clone() })
                .await;
            return Ok(Bytes::new());
        };
        if content.size > most as u64 {
            return Ok(Bytes::new());
        }
        let mut body = Vec::with_capacity(usize::try_from(content.size).unwrap_or(0));
        while let Some(chunk) = content
            .bytes
            .try_next()
            .await
            .map_err(|e| store_failed("read metadata", &e))?
        {
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    /// The highest N of the `index-N` that are visible in a shard's directory.
    pub(in crate::repository) async fn highest_numbered(
        &self,
        open: &OpenRepository,
        directory: &str,
    ) -> Result<Option<u64>, Error> {
        let start = format!("{directory}index-");
        let number_of = |key: &ObjectKey| {
            let text = key.as_str().strip_prefix(&start)?;
            let number = text.parse::<u64>().ok()?;
            (number.to_string() == text).then_some(number)
        };
        let mut highest = None;
        let mut walk = self.walk(open).beside(start.clone());
        while let Some(page) = next_page(&mut walk).await? {
            let numbers = page.iter().filter_map(|object| number_of(&object.key));
            highest = highest.max(numbers.max());
        }
        Ok(highest)
    }
}
