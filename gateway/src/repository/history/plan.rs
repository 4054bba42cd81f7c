//! What a roll-back or an undelete will do, completely, before anything is done.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use policies::format::digest::Digest;
use policies::format::merge::{self, Part};
use policies::format::paths::{self, Layout};
use policies::format::root::{Generation, Root};
use policies::guard::Candidate;
use policies::key::{Class, ObjectKey, Shard, ShardGeneration};

use super::super::door::OpenRepository;
use super::super::guarding::{committed_root, read_digest, refused};
use super::super::{Address, Door, Error};
use super::past::{LARGEST, Then, same_content};
use super::rest::is_numbered;
use super::{Ask, PAGE, parse};
use crate::state::{CommittedRoot, PastObject, RestorePoint};

/// All the steps, in the order in which they are taken.
#[derive(Debug)]
pub struct Plan {
    /// The restore point it is taken from.
    pub from: u64,
    /// The root that it makes.
    pub generation: u64,
    /// Names of snapshots that the newest root has not, or will not have any more.
    pub came: Vec<Arc<str>>,
    pub went: Vec<Arc<str>>,
    /// Bytes of what is shown again or written anew.
    pub bytes: u64,
    /// Tombstones of hidden objects to show again.
    pub(super) shown: Vec<u64>,
    /// Content that lies under another name now and goes back to its own.
    pub(super) moved: Vec<(ObjectKey, PastObject)>,
    /// As `moved`, to names whose content of now the newest root needs: only after the new root. Names were used
    /// again before 2019 only.
    pub(super) replaced: Vec<(ObjectKey, PastObject)>,
    pub(super) written: Vec<(ObjectKey, Class, Bytes)>,
    pub(super) root: CommittedRoot,
    pub(super) body: Bytes,
    /// Numbered shard indexes that the root needs, and those that would count although it does not know them.
    pub(super) counted: Vec<ObjectKey>,
    pub(super) hidden: Vec<ObjectKey>,
}

impl Plan {
    #[must_use]
    pub fn objects(&self) -> usize {
        self.shown.len() + self.moved.len() + self.replaced.len() + self.written.len()
    }
}

/// Beyond every journal sequence, those of what is not journalled included.
const NOW: u64 = i64::MAX as u64 >> 1;

struct Newest {
    root: Arc<Root>,
    body: Bytes,
    layout: Layout,
}

impl Door {
    pub(super) async fn plan(&self, open: &OpenRepository, ask: &Ask) -> Result<Plan, Error> {
        let Some((generation, object)) = self.newest_root(open).await? else {
            return Err(Error::InvalidArgument(format!(
                "Repository '{}' has no root.",
                open.name
            )));
        };
        let body = self.body(open, &object.key, LARGEST).await?;
        let newest = Newest {
            root: Arc::new(parse(generation, &body)?),
            body,
            layout: open
                .guarding
                .with(|guard| guard.knowledge().layout().clone()),
        };
        match ask {
            Ask::Rollback(to) => self.plan_rollback(open, newest, *to).await,
            Ask::Undelete(snapshot) => self.plan_undelete(open, newest, snapshot).await,
        }
    }

    async fn plan_rollback(
        &self,
        open: &OpenRepository,
        newest: Newest,
        to: u64,
    ) -> Result<Plan, Error> {
        let point = self.held_point(open, to).await?;
        if to == newest.root.generation {
            return Err(Error::InvalidArgument(format!(
                "Restore point {to} is the newest one already."
            )));
        }
        let body = self.root_then(open, &point).await?;
        let mut then = Then::of(point.sequence);
        let mut plan = self
            .plan_root(open, &newest, &point, body, &mut then)
            .await?;
        let target = parse(to, &plan.body)?;
        for shard in numbered_shards(open, &target, &then) {
            let Some(index) = target.index(&shard.index) else {
                continue;
            };
            let directory = newest.layout.shard_directory(&shard, index.path_type);
            let highest = match then.facts.numbered.get(&shard) {
                Some(highest) => *highest,
                None => {
                    let numbers = self.numbers_at(open, &directory, point.sequence).await?;
                    numbers.into_iter().max()
                }
            };
            let now = self.numbers_at(open, &directory, NOW).await?;
            let newer = now
                .into_iter()
                .filter(|number| highest.is_none_or(|highest| *number > highest));
            plan.hidden
                .extend(newer.map(|number| {
                    paths::shard_index(&directory, &ShardGeneration::Number(number))
                }));
        }
        Ok(plan)
    }

    async fn plan_undelete(
        &self,
        open: &OpenRepository,
        newest: Newest,
        snapshot: &str,
    ) -> Result<Plan, Error> {
        let (point, uuid) = self.point_with(open, &newest.root, snapshot).await?;
        let donor_body = self.root_then(open, &point).await?;
        let donor = parse(point.root.generation, &donor_body)?;
        let conflict = |e: merge::Conflict| {
            Error::InvalidArgument(format!(
                "Snapshot '{snapshot}' cannot be put back into repository '{}': {e}; roll back to {}, or restore it from the read-only view '{}@{}'.",
                open.name, point.root.generation, open.plan.base_path, point.root.generation
            ))
        };
        let parts = merge::parts(&newest.root, &donor, &uuid).map_err(conflict)?;
        let mut then = Then::of_both(point.sequence);
        let mut generations = HashMap::new();
        for part in &parts {
            self.list_anew(open, &newest, part, &uuid, &mut then, &mut generations)
                .await?;
        }
        let body = merge::root(&newest.body, &donor_body, &uuid, &generations).map_err(conflict)?;
        self.plan_root(open, &newest, &point, body.into(), &mut then)
            .await
    }

    /// The newest restore point that holds a snapshot which the newest root has not.
    async fn point_with(
        &self,
        open: &OpenRepository,
        newest: &Root,
        snapshot: &str,
    ) -> Result<(RestorePoint, Arc<str>), Error> {
        let named = |name: &str, uuid: &str| name == snapshot || uuid == snapshot;
        if newest.snapshots.iter().any(|s| named(&s.name, &s.uuid)) {
            return Err(Error::InvalidArgument(format!(
                "Repository '{}' holds snapshot '{snapshot}'; there is nothing to bring back.",
                open.name
            )));
        }
        let mut before = None;
        loop {
            let points = self.restore_points(open, before, PAGE).await?;
            let more = points.len() == PAGE;
            for point in points {
                before = Some(point.root.generation);
                let held = point
                    .root
                    .snapshots
                    .iter()
                    .find(|s| named(&s.name, &s.uuid));
                if let Some(held) = held
                    && point.root.complete
                {
                    let uuid = Arc::clone(&held.uuid);
                    return Ok((point, uuid));
                }
            }
            if !more {
                return Err(Error::InvalidArgument(format!(
                    "No restore point of repository '{}' that is still held has a snapshot '{snapshot}'; see: snapgate restore-points {}",
                    open.name, open.name
                )));
            }
        }
    }

    /// New shard indexes of one index of the snapshot, for the shards in which it has files.
    async fn list_anew(
        &self,
        open: &OpenRepository,
        newest: &Newest,
        part: &Part,
        uuid: &str,
        then: &mut Then,
        generations: &mut HashMap<Shard, Arc<str>>,
    ) -> Result<(), Error> {
        let key = newest.layout.index_metadata(&part.index, &part.metadata);
        let class = Class::IndexMetadata {
            index: Arc::clone(&part.index),
            id: Arc::clone(&part.metadata),
        };
        let body = self.body_then(open, &key, then).await?;
        let Some(Ok(digest)) = read_digest(&class, body).await else {
            return Err(unreadable(&key));
        };
        let Digest::IndexMetadata(metadata) = &*digest else {
            return Err(unreadable(&key));
        };
        for number in 0..metadata.shards {
            let shard = Shard {
                index: Arc::clone(&part.index),
                number,
            };
            let directory = newest.layout.shard_directory(&shard, part.path_type);
            let key = paths::shard_snapshot(&directory, uuid, false);
            // A shard that failed has none.
            if self.look_then(open, &key, then).await?.is_none() {
                continue;
            }
            let added = self.body_then(open, &key, then).await?;
            let numbered = self.highest_numbered(open, &directory).await?;
            let current = newest
                .root
                .index(&part.index)
                .and_then(|index| current_index(index.generation(number), numbered));
            let current = match current {
                None => None,
                Some(generation) => {
                    let key = paths::shard_index(&directory, &generation);
                    Some(self.body_then(open, &key, then).await?)
                }
            };
            let body = merge::shard_index(current.as_deref(), &added).map_err(|e| {
                Error::InvalidArgument(format!(
                    "'{key}' or the current index of its shard cannot be read: {e}."
                ))
            })?;
            let generation = if newest.root.is_legacy_form() {
                ShardGeneration::Number(numbered.map_or(0, |highest| highest + 1))
            } else {
                let name: Arc<str> = crate::random::text(22).into();
                generations.insert(shard.clone(), Arc::clone(&name));
                ShardGeneration::Uuid(name)
            };
            let key = paths::shard_index(&directory, &generation);
            let class = Class::ShardIndex { shard, generation };
            then.written.insert(key, (class, body.into()));
        }
        Ok(())
    }

    /// The next root and all that must be visible before it is committed, admitted.
    async fn plan_root(
        &self,
        open: &OpenRepository,
        newest: &Newest,
        point: &RestorePoint,
        body: Bytes,
        then: &mut Then,
    ) -> Result<Plan, Error> {
        let generation = newest.root.generation + 1;
        let candidate = self.candidate(open, generation, &body)?;
        let pins = self.pins(open).await?;
        let pinned: Vec<Arc<str>> = pins.into_iter().map(|pin| pin.snapshot.uuid).collect();
        let admitted = loop {
            let judged = open
                .guarding
                .with(|guard| guard.admit_restored(&candidate, &pinned, &then.facts));
            match judged {
                Ok(verdict) => break verdict.map_err(|refusal| refused(&refusal))?,
                Err(needs) => self.fetch_then(open, needs, then).await?,
            }
        };
        let (came, went) = names(&newest.root, admitted.root());
        let mut plan = Plan {
            from: point.root.generation,
            generation,
            came,
            went,
            bytes: 0,
            shown: Vec::new(),
            moved: Vec::new(),
            replaced: Vec::new(),
            written: Vec::new(),
            root: CommittedRoot {
                complete: admitted.reports().is_empty(),
                epoch: open.gate.row().lock.epoch(),
                ..committed_root(admitted.root(), admitted.newest_snapshot())
            },
            body,
            counted: Vec::new(),
            hidden: Vec::new(),
        };
        for (key, past) in &then.found {
            self.plan_object(open, key, past, &mut plan).await?;
            if self
                .class_here(open, key)
                .is_some_and(|class| is_numbered(&class))
            {
                plan.counted.push(key.clone());
            }
        }
        for (key, (class, body)) in &then.written {
            plan.bytes += body.len() as u64;
            plan.written
                .push((key.clone(), class.clone(), body.clone()));
        }
        Ok(plan)
    }

    fn candidate(
        &self,
        open: &OpenRepository,
        generation: u64,
        body: &[u8],
    ) -> Result<Candidate, Error> {
        open.guarding
            .with(|guard| guard.candidate(generation, body))
            .map_err(|refusal| refused(&refusal))
    }

    /// What has to be done so that an object is what it was.
    async fn plan_object(
        &self,
        open: &OpenRepository,
        key: &ObjectKey,
        past: &PastObject,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let Some(hidden) = &past.hidden else {
            return Ok(());
        };
        let now = self.lookup(open, key).await?.object;
        if now
            .as_ref()
            .is_some_and(|now| same_content(now, &past.object))
        {
            return Ok(());
        }
        plan.bytes += past.object.size;
        if now.is_none() && hidden.location == *key {
            plan.shown.push(hidden.tombstone);
        } else if now.is_some() && self.is_needed_now(open, key)? {
            plan.replaced.push((key.clone(), past.clone()));
        } else {
            plan.moved.push((key.clone(), past.clone()));
        }
        Ok(())
    }
}

impl Door {
    /// Does the newest root need what lies under this name?
    fn is_needed_now(&self, open: &OpenRepository, key: &ObjectKey) -> Result<bool, Error> {
        let at = Address {
            bucket: open.plan.bucket.clone(),
            key: key.clone(),
        };
        let class = self.find(&at)?.class;
        let needed = |guard: &policies::guard::Guard| guard.delete(key, &class).is_err();
        Ok(open.guarding.with(needed))
    }
}

/// Shards of the target's indices whose numbered shard index was asked for, or counts now.
fn numbered_shards(open: &OpenRepository, target: &Root, then: &Then) -> BTreeSet<Shard> {
    let mut shards: BTreeSet<Shard> = then.facts.numbered.keys().cloned().collect();
    open.guarding.with(|guard| {
        for member in guard.knowledge().members() {
            if let Class::ShardIndex {
                shard,
                generation: ShardGeneration::Number(_),
            } = member.class
                && target.index(&shard.index).is_some()
            {
                shards.insert(shard);
            }
        }
    });
    shards
}

fn current_index(generation: &Generation, numbered: Option<u64>) -> Option<ShardGeneration> {
    match generation {
        Generation::Uuid(uuid) => Some(ShardGeneration::Uuid(Arc::clone(uuid))),
        Generation::Unknown => numbered.map(ShardGeneration::Number),
        Generation::New => None,
    }
}

/// Names of snapshots that only the second has, and that only the first has.
fn names(before: &Root, after: &Root) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let only = |a: &Root, b: &Root| {
        let mut names: Vec<Arc<str>> = a
            .snapshots
            .iter()
            .filter(|s| b.position(&s.uuid).is_none())
            .map(|s| Arc::clone(&s.name))
            .collect();
        names.sort();
        names
    };
    (only(after, before), only(before, after))
}

fn unreadable(key: &ObjectKey) -> Error {
    Error::InvalidArgument(format!(
        "'{key}' cannot be read, so that the shards of its index are not known."
    ))
}
