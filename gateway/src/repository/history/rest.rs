//! What a roll-back or an undelete does after its root, written down before: content goes back to names that the old root
//! needed, numbered shard indexes that would count instead are hidden, the pointer moves.
//!
//! Invariant: no cluster writes on a root for which this is not done. It is done at once; after a crash or a failing
//! store by the next start, thaw, recovery, roll-back or undelete. A root that was never committed leaves nothing to do. It is
//! not one transaction with the root, because content moves in the store. It is written down in the store, not in the
//! state database, so that a recovery which has lost that one finds it beside the root.

use std::sync::Arc;

use bytes::Bytes;
use policies::key::{Class, ObjectKey, RESERVED, ShardGeneration};
use serde::{Deserialize, Serialize};

use super::super::door::OpenRepository;
use super::super::gate::state_failed;
use super::super::ingest::store_failed;
use super::super::recovery::is_recovering;
use super::super::{Door, Error};
use super::Plan;
use super::past::LARGEST;
use crate::state::{CommittedRoot, PastObject};
use crate::stores::own;

const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Rest {
    version: u32,
    generation: u64,
    /// Hex BLAKE3 of the root.
    root: String,
    /// Numbered shard indexes of the root: an older state database may know them as deleted.
    counted: Vec<String>,
    replaced: Vec<Replaced>,
    hidden: Vec<String>,
}

/// Content that goes back to its name.
#[derive(Serialize, Deserialize)]
struct Replaced {
    key: String,
    /// Where it is kept.
    location: String,
    /// Bytes.
    size: u64,
    /// Hex BLAKE3; adopted content has none.
    hash: Option<String>,
}

impl Rest {
    fn of(plan: &Plan) -> Self {
        let replaced = |(key, past): &(ObjectKey, PastObject)| Replaced {
            key: key.to_string(),
            location: past.location().to_string(),
            size: past.object.size,
            hash: past.object.hash.map(hex::encode),
        };
        Self {
            version: VERSION,
            generation: plan.generation,
            root: blake3::hash(&plan.body).to_hex().to_string(),
            counted: plan.counted.iter().map(ToString::to_string).collect(),
            replaced: plan.replaced.iter().map(replaced).collect(),
            hidden: plan.hidden.iter().map(ToString::to_string).collect(),
        }
    }

    fn parse(text: &[u8]) -> Result<Self, Error> {
        let rest = serde_json::from_slice::<Self>(text).ok();
        rest.filter(|rest| rest.version == VERSION).ok_or_else(|| {
            Error::Unavailable(
                "What is left to do of a roll-back was written by another version of snapgate; start that one.".into(),
            )
        })
    }
}

/// Whether this numbered shard index counts for its shard only by its name.
pub(super) fn is_numbered(class: &Class) -> bool {
    matches!(
        class,
        Class::ShardIndex {
            generation: ShardGeneration::Number(_),
            ..
        }
    )
}

fn prefix(open: &OpenRepository) -> String {
    format!("{RESERVED}brought-back/{}/", open.name)
}

impl Door {
    pub(super) async fn note_rest(&self, open: &OpenRepository, plan: &Plan) -> Result<(), Error> {
        let text = serde_json::to_vec(&Rest::of(plan)).expect("numbers and texts are JSON");
        let name = format!(
            "{}{:020}-{}",
            prefix(open),
            plan.generation,
            crate::random::text(12)
        );
        own::create(open.store.as_ref(), &open.upkeep(), &name, text)
            .await
            .map_err(|e| store_failed("note what is left of a roll-back", &e))
    }

    /// Does what is left, and forgets it; true = there was something to do. The repository is frozen, and nobody else
    /// brings anything back.
    pub(in super::super) async fn finish_rest(&self, open: &OpenRepository) -> Result<bool, Error> {
        let (done, undone) = self.carry_rest(open).await?;
        let carried = !done.is_empty();
        self.forget_rest(open, [done, undone].concat()).await?;
        Ok(carried)
    }

    /// As [`Self::finish_rest`], at a start: another node may be about to commit the root, so that one which is not there
    /// is not forgotten.
    pub(in super::super) async fn resume_rest(&self, open: &OpenRepository) -> Result<(), Error> {
        let (done, _) = self.carry_rest(open).await?;
        self.forget_rest(open, done).await
    }

    async fn forget_rest(&self, open: &OpenRepository, names: Vec<ObjectKey>) -> Result<(), Error> {
        for removed in open.store.delete(&open.upkeep(), &names).await {
            removed.map_err(|e| store_failed("forget what was left of a roll-back", &e))?;
        }
        Ok(())
    }

    /// What is written down of a root that is the newest, and was done; and of roots that are not.
    async fn carry_rest(
        &self,
        open: &OpenRepository,
    ) -> Result<(Vec<ObjectKey>, Vec<ObjectKey>), Error> {
        let (mut done, mut undone) = (Vec::new(), Vec::new());
        let noted = own::names(open.store.as_ref(), &prefix(open))
            .await
            .map_err(|e| store_failed("look for what is left of a roll-back", &e))?;
        for name in noted {
            let rest = Rest::parse(&self.body(open, &name, LARGEST).await?)?;
            if self.is_newest(open, &rest).await? {
                tracing::warn!(repository = %open.name, generation = rest.generation, "what comes after the root of a roll-back is done");
                self.do_rest(open, &rest).await?;
                done.push(name);
            } else {
                undone.push(name);
            }
        }
        Ok((done, undone))
    }

    async fn is_newest(&self, open: &OpenRepository, rest: &Rest) -> Result<bool, Error> {
        let Some((generation, root)) = self.newest_root(open).await? else {
            return Ok(false);
        };
        if generation != rest.generation {
            return Ok(false);
        }
        let hash = match root.hash {
            Some(hash) => hash,
            // Read from the store by a recovery.
            None => *blake3::hash(&self.body(open, &root.key, LARGEST).await?).as_bytes(),
        };
        Ok(hex::encode(hash) == rest.root)
    }

    async fn do_rest(&self, open: &OpenRepository, rest: &Rest) -> Result<(), Error> {
        let Some(open) = self.repository(&open.name) else {
            return Ok(());
        };
        let open: &Arc<OpenRepository> = &open;
        let permit = open.upkeep();
        let mut counted = Vec::new();
        for key in &rest.counted {
            let key = ObjectKey::parse(key)?;
            if self.lookup(open, &key).await?.object.is_none() {
                counted.push(key);
            }
        }
        self.revive(open, &permit, &counted).await?;
        for replaced in &rest.replaced {
            self.put_again(open, replaced).await?;
        }
        let keys = rest.hidden.iter().map(|key| ObjectKey::parse(key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        self.hide_newer(open, &permit, &keys).await?;
        if !(rest.replaced.is_empty() && keys.is_empty()) {
            let point = self.state.restore_point(open.id, rest.generation).await;
            let point = point.map_err(|e| state_failed("look up a restore point", &e))?;
            if let Some(point) = point {
                self.restate(open, point.root, point.committed_ms).await?;
            }
        }
        let pointer = open
            .guarding
            .with(|guard| guard.knowledge().layout().pointer());
        let value = Bytes::copy_from_slice(&rest.generation.to_be_bytes());
        self.put_own(open, &permit, &pointer, Class::Pointer, value, None)
            .await
    }

    /// Puts content back to its name, unless it is there. What is gone for good holds up no recovery: that one tells
    /// what the root lacks.
    async fn put_again(
        &self,
        open: &Arc<OpenRepository>,
        replaced: &Replaced,
    ) -> Result<(), Error> {
        let key = ObjectKey::parse(&replaced.key)?;
        let location = ObjectKey::parse(&replaced.location)?;
        let now = self.lookup(open, &key).await?.object;
        let is_there = now.is_some_and(|now| {
            let hash = now.hash.map(hex::encode);
            now.size == replaced.size && hash.is_some() && hash == replaced.hash
        });
        if is_there {
            return Ok(());
        }
        let kept = open.store.stat(&location).await;
        let kept = kept.map_err(|e| store_failed("look at what was kept", &e))?;
        if kept.is_none() && is_recovering(&open.gate.told().lock) {
            tracing::error!(repository = %open.name, key = %key, "what it held at the restore point is gone");
            return Ok(());
        }
        self.put_back(open, &open.upkeep(), &key, &location, replaced.size)
            .await
    }

    /// What the root needs is there since now, not since its commit.
    pub(in super::super) async fn restate(
        &self,
        open: &OpenRepository,
        root: CommittedRoot,
        committed_ms: i64,
    ) -> Result<(), Error> {
        let permit = open.upkeep();
        self.state
            .forget_restore_points(&permit, open.id, vec![root.generation])
            .await
            .map_err(|e| state_failed("note a restore point anew", &e))?;
        self.state
            .note_restore_point(&permit, open.id, root, committed_ms)
            .await
            .map_err(|e| state_failed("note a restore point anew", &e))
    }
}
