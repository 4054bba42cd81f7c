//! A rehearsal: would a mirror restore, from which point, and how long would it take?
//!
//! Reads the mirror's store alone, as a gateway in another region would; production is not touched and nothing is
//! written. Every object that the snapshots of the mirror's newest root need is looked for with its size; the
//! metadata is read and parsed; some of the data is read to measure how fast it comes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use policies::format::closure::{Knowledge, Member, Needs, NewestSnapshot, Observed};
use policies::format::digest;
use policies::format::paths::Layout;
use policies::format::root::Root;
use policies::identity::StoreName;
use policies::key::{Class, ObjectKey};
use tokio::time::Instant;

use super::Door;
use super::door::OpenRepository;
use super::guarding::read_digest;
use super::handover::Error;
use super::ingest::store_failed;
use super::promotion::{newest_root, read_whole};
use super::verify::{Kind, Problem, Progress};
use crate::stores::Store;
use crate::stores::listing::Listing;

const PARALLEL: usize = 16;
const LARGEST_METADATA: u64 = 256 << 20;
/// Data read to see how fast it comes.
const SAMPLE: u64 = 64 << 20;

/// What a rehearsal found.
#[derive(Debug)]
pub struct Report {
    pub store: StoreName,
    pub generation: u64,
    pub snapshots: Vec<String>,
    /// The one of them that ended last; None = that is not known, or there is none.
    pub newest: Option<NewestSnapshot>,
    pub objects: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
    /// Bytes that were read, and how long that took.
    pub sampled: (u64, Duration),
}

impl Report {
    /// Seconds that reading everything would take, one stream at the speed that was seen.
    #[must_use]
    pub fn restore_seconds(&self) -> Option<u64> {
        let (bytes, took) = self.sampled;
        let micros = u64::try_from(took.as_micros()).ok()?.max(1);
        let per_second = bytes.checked_mul(1_000_000)? / micros;
        (per_second > 0).then(|| self.bytes.div_ceil(per_second))
    }
}

impl Door {
    /// `snapshot`: only what this one needs.
    pub async fn drill(
        &self,
        open: &OpenRepository,
        name: &StoreName,
        snapshot: Option<&str>,
        progress: &Progress<'_>,
    ) -> Result<Report, Error> {
        let store = self.target(name)?;
        let root = newest_root(store.as_ref(), open)
            .await
            .map_err(|e| Error::Refused(format!("store '{name}' cannot be read now: {e}")))?;
        let root = match root {
            Some(Ok(root)) => root,
            Some(Err(e)) => {
                return Err(Error::Refused(format!(
                    "the newest root on store '{name}' cannot be read: {e}"
                )));
            }
            None => {
                return Err(Error::Refused(format!(
                    "store '{name}' holds no root of repository '{}'",
                    open.name
                )));
            }
        };
        let snapshots: Vec<String> = root.snapshots.iter().map(|s| s.name.to_string()).collect();
        if let Some(wanted) = snapshot.filter(|wanted| !snapshots.iter().any(|s| s == wanted)) {
            return Err(Error::Refused(format!(
                "store '{name}' has no snapshot '{wanted}'; it has: {}",
                snapshots.join(", ")
            )));
        }
        let mut report = Report {
            store: name.clone(),
            generation: root.generation,
            newest: None,
            snapshots,
            objects: 0,
            bytes: 0,
            problems: Vec::new(),
            sampled: (0, Duration::ZERO),
        };
        let there = self.sizes_of(open, store.as_ref()).await?;
        let knowledge = closure(open, store.as_ref(), &there, root).await?;
        report.newest = knowledge.newest_snapshot();
        let mut members: Vec<Member> = knowledge.members().collect();
        if let Some(wanted) = snapshot {
            members.retain(|member| member.snapshots.iter().any(|s| &**s == wanted));
        }
        let total = members.len() as u64;
        for (position, member) in members.iter().enumerate() {
            progress(position as u64, total);
            look_at(member, &there, &mut report);
        }
        report.sampled = sample(store.as_ref(), &members).await?;
        progress(total, total);
        Ok(report)
    }

    /// Sizes of all that the store holds of this repository.
    async fn sizes_of(
        &self,
        open: &OpenRepository,
        store: &dyn Store,
    ) -> Result<HashMap<ObjectKey, u64>, Error> {
        let mut sizes = HashMap::new();
        let mut there = Listing::of(store, "");
        while let Some(listed) = there
            .next()
            .await
            .map_err(|e| store_failed("list the mirror's store", &e))?
        {
            if self.class_here(open, &listed.name).is_some() {
                sizes.insert(listed.name, listed.stat.size);
            }
        }
        Ok(sizes)
    }
}

fn look_at(member: &Member, there: &HashMap<ObjectKey, u64>, report: &mut Report) {
    let kind = match there.get(&member.key) {
        None => Some(Kind::Missing),
        Some(size) => {
            report.objects += 1;
            report.bytes += size;
            let wrong = member.size.is_some_and(|expected| expected != *size);
            wrong.then_some(Kind::Size)
        }
    };
    if let Some(kind) = kind {
        report.problems.push(Problem {
            key: member.key.clone(),
            kind,
            snapshots: member.snapshots.clone(),
        });
    }
}

/// What the root's snapshots need, as the store's own metadata says.
async fn closure(
    open: &OpenRepository,
    store: &dyn Store,
    there: &HashMap<ObjectKey, u64>,
    root: Root,
) -> Result<Knowledge, Error> {
    let layout = Layout::new(&open.plan.base_path).map_err(|e| Error::Refused(e.to_string()))?;
    let mut knowledge = Knowledge::new(layout);
    let mut facts = Observed::default();
    let root = Arc::new(root);
    let proposal = loop {
        match knowledge.propose(Arc::clone(&root), &facts) {
            Ok(proposal) => break proposal,
            Err(needs) => fetch(store, there, needs, &mut facts).await?,
        }
    };
    knowledge.commit(proposal);
    Ok(knowledge)
}

async fn fetch(
    store: &dyn Store,
    there: &HashMap<ObjectKey, u64>,
    needs: Needs,
    facts: &mut Observed,
) -> Result<(), Error> {
    for key in needs.sizes {
        let size = there.get(&key).copied();
        facts.sizes.insert(key, size);
    }
    let mut read = futures::stream::iter(
        needs
            .digests
            .into_iter()
            .map(|(key, class)| digest_of(store, key, class)),
    )
    .buffer_unordered(PARALLEL);
    while let Some((key, digest)) = read.try_next().await? {
        facts.digests.insert(key, digest);
    }
    for (shard, directory) in needs.numbered {
        let prefix = format!("{directory}index-");
        let numbers = there
            .keys()
            .filter_map(|key| key.as_str().strip_prefix(&prefix)?.parse::<u64>().ok());
        facts.numbered.insert(shard, numbers.max());
    }
    Ok(())
}

async fn digest_of(
    store: &dyn Store,
    key: ObjectKey,
    class: Class,
) -> Result<(ObjectKey, digest::Read), Error> {
    let body = read_whole(store, &key, LARGEST_METADATA)
        .await
        .map_err(|e| store_failed("read metadata of the mirror", &e))?;
    let digest = read_digest(&class, body.unwrap_or_default().into()).await;
    let digest = digest.ok_or_else(|| {
        Error::Failed(super::Error::Unavailable(format!(
            "'{key}' has no digest; this is a defect."
        )))
    })?;
    Ok((key, digest))
}

/// Reads some data, spread over the closure.
async fn sample(store: &dyn Store, members: &[Member]) -> Result<(u64, Duration), Error> {
    let data: Vec<&Member> = members
        .iter()
        .filter(|m| matches!(m.class, Class::Data { .. }))
        .collect();
    let step = (data.len() / 64).max(1);
    let began = Instant::now();
    let (mut bytes, mut seen) = (0, BTreeSet::new());
    for member in data.into_iter().step_by(step) {
        if bytes >= SAMPLE || !seen.insert(member.key.as_str()) {
            break;
        }
        let read = store
            .read(&member.key, None, None)
            .await
            .map_err(|e| store_failed("read data of the mirror", &e))?;
        let Some(mut content) = read else {
            continue;
        };
        while let Some(chunk) = content
            .bytes
            .try_next()
            .await
            .map_err(|e| store_failed("read data of the mirror", &e))?
        {
            bytes += chunk.len() as u64;
            if bytes >= SAMPLE {
                break;
            }
        }
    }
    Ok((bytes, began.elapsed()))
}
