//! What a roll-back or an undelete does after its root, written down before: content goes back to names that the old root
//! needed, numbered shard indexes that would count instead are hidden, the pointer moves.
//!
//! Invariant: no cluster writes on a root for which this is not done. It is done at once; after a crash or a failing
//! store by the next start, thaw, roll-back or undelete. A root that was never committed leaves nothing to do. It is not
//! one transaction with the root, because content moves in the store.

use std::sync::Arc;

use bytes::Bytes;
use policies::key::{Class, ObjectKey};
use serde::{Deserialize, Serialize};

use super::super::door::OpenRepository;
use super::super::gate::state_failed;
use super::super::{Door, Error};
use super::Plan;
use super::past::same_content;

/// The name under which the state database keeps it.
const WORK: &str = "bring-back";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Rest {
    version: u32,
    generation: u64,
    /// Hex BLAKE3 of the root.
    root: String,
    /// Journal sequence as of which `replaced` is read.
    sequence: u64,
    replaced: Vec<String>,
    hidden: Vec<String>,
}

impl Door {
    pub(super) async fn note_rest(&self, open: &OpenRepository, plan: &Plan) -> Result<(), Error> {
        let texts = |keys: &[ObjectKey]| keys.iter().map(ToString::to_string).collect();
        let rest = Rest {
            version: VERSION,
            generation: plan.generation,
            root: blake3::hash(&plan.body).to_hex().to_string(),
            sequence: plan.sequence,
            replaced: texts(&plan.replaced),
            hidden: texts(&plan.hidden),
        };
        let text = serde_json::to_string(&rest).expect("numbers and texts are JSON");
        self.keep_rest(open, Some(text)).await
    }

    async fn keep_rest(&self, open: &OpenRepository, text: Option<String>) -> Result<(), Error> {
        self.state
            .keep_position(open.id, WORK, text)
            .await
            .map_err(|e| state_failed("note what is left of a roll-back", &e))
    }

    /// Does what is left, and forgets it; true = there was something to do. The repository is frozen, and nobody else
    /// brings anything back.
    pub(in super::super) async fn finish_rest(&self, open: &OpenRepository) -> Result<bool, Error> {
        let carried = self.carry_rest(open).await?;
        if carried.is_some() {
            self.keep_rest(open, None).await?;
        }
        Ok(carried == Some(true))
    }

    /// As [`Self::finish_rest`], at a start: another node may be about to commit the root, so that one which is not there
    /// is not forgotten.
    pub(in super::super) async fn resume_rest(&self, open: &OpenRepository) -> Result<(), Error> {
        if self.carry_rest(open).await? == Some(true) {
            self.keep_rest(open, None).await?;
        }
        Ok(())
    }

    /// None = nothing is written down; false = its root was not committed.
    async fn carry_rest(&self, open: &OpenRepository) -> Result<Option<bool>, Error> {
        let kept = self.state.position(open.id, WORK).await;
        let Some(text) = kept.map_err(|e| state_failed("read what is left of a roll-back", &e))?
        else {
            return Ok(None);
        };
        let rest = serde_json::from_str::<Rest>(&text)
            .ok()
            .filter(|rest| rest.version == VERSION)
            .ok_or_else(|| {
                Error::Unavailable(
                    "What is left to do of a roll-back was written by another version of snapgate; start that one.".into(),
                )
            })?;
        let committed = self
            .newest_root(open)
            .await?
            .is_some_and(|(generation, root)| {
                let hash = root.hash.map(hex::encode);
                generation == rest.generation && hash.is_some_and(|hash| hash == rest.root)
            });
        if committed {
            self.do_rest(open, &rest).await?;
        }
        Ok(Some(committed))
    }

    async fn do_rest(&self, open: &OpenRepository, rest: &Rest) -> Result<(), Error> {
        let Some(open) = self.repository(&open.name) else {
            return Ok(());
        };
        let open: &Arc<OpenRepository> = &open;
        let permit = open.upkeep();
        for key in &rest.replaced {
            let key = ObjectKey::parse(key)?;
            let Some(past) = self.object_then(open, &key, rest.sequence).await? else {
                return Err(Error::Unavailable(format!(
                    "What '{key}' held at the restore point is gone; see the gateway's log."
                )));
            };
            let now = self.lookup(open, &key).await?.object;
            if !now.is_some_and(|now| same_content(&now, &past.object)) {
                self.put_back(open, &permit, &key, &past).await?;
            }
        }
        let keys = rest.hidden.iter().map(|key| ObjectKey::parse(key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        self.hide_newer(open, &permit, &keys).await?;
        if !(rest.replaced.is_empty() && keys.is_empty()) {
            self.restate(open, rest.generation).await?;
        }
        let pointer = open
            .guarding
            .with(|guard| guard.knowledge().layout().pointer());
        let value = Bytes::copy_from_slice(&rest.generation.to_be_bytes());
        self.put_own(open, &permit, &pointer, Class::Pointer, value, None)
            .await
    }

    /// What the root needs is there since now, not since its commit.
    async fn restate(&self, open: &OpenRepository, generation: u64) -> Result<(), Error> {
        let point = self.state.restore_point(open.id, generation).await;
        let Some(point) = point.map_err(|e| state_failed("look up a restore point", &e))? else {
            return Ok(());
        };
        let permit = open.upkeep();
        self.state
            .forget_restore_points(&permit, open.id, vec![generation])
            .await
            .map_err(|e| state_failed("note a restore point anew", &e))?;
        self.state
            .note_restore_point(&permit, open.id, point.root, point.committed_ms)
            .await
            .map_err(|e| state_failed("note a restore point anew", &e))
    }
}
