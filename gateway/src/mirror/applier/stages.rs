//! The stages of a step: what the planner says is to be done now, done on the target.
//!
//! Invariants: whatever is told to the planner was confirmed by the target; nothing that cannot be undone is done without
//! a look at the fence; transfers run side by side, all else one after the other, and other orders end each wait.

use std::collections::VecDeque;

use policies::key::{Class, ObjectKey};
use policies::mirror_order::{self, Entry, Known, Next, Pointer, Put, Step};

use super::super::Trouble;
use super::super::transfer::Landed;
use super::super::work::{Ended, known, passes};
use super::Applier;
use crate::state::mirrors::MirrorChange;
/// Entries behind the step whose objects may be copied before their turn.
const AHEAD: usize = 2048;
const BATCH: usize = 500;

impl Applier {
    /// Does a whole step.
    pub(super) async fn apply(&mut self, step: &Step, entries: &[Entry]) -> Result<(), Trouble> {
        let behind = entries.partition_point(|entry| entry.sequence <= step.upto());
        loop {
            self.check_orders()?;
            match step.next(&self.facts) {
                Next::Copy(puts) => self.copy(step, puts, &entries[behind..]).await?,
                Next::Replace(puts) => self.replace(puts).await?,
                Next::Root { put, generation } => self.root(&put, generation).await?,
                Next::Point { key, generation } => self.point(&key, generation).await?,
                Next::Remove(keys) => self.remove(keys).await?,
                Next::Applied(_) => return Ok(()),
                Next::Stuck { key, why } => {
                    self.control.works_on(Some(&key));
                    return Err(Trouble::Stuck { key, why });
                }
            }
        }
    }

    /// The next transfer that ends; None: none is under way.
    pub async fn transferred(&mut self) -> Result<Option<Ended>, Trouble> {
        tokio::select! {
            ended = self.work.finished() => Ok(ended),
            () = self.control.told(self.round) => Err(Trouble::Interrupted),
        }
    }

    /// What lies under the name is known now.
    fn confirm(&mut self, put: &Put, landed: Landed) {
        let known = known(put, landed);
        let before = self.facts.keys.insert(put.key.clone(), known);
        self.confirmed += u64::from(before != Some(known));
    }

    /// As [`Self::confirm`], of a reconciliation.
    pub fn confirm_content(&mut self, put: Put) {
        self.confirmed += u64::from(self.reconciled.insert((put.key, put.sequence)));
    }

    /// All of the puts, and while there is room, some of later entries.
    async fn copy(&mut self, step: &Step, puts: Vec<Put>, later: &[Entry]) -> Result<(), Trouble> {
        let mut waiting = puts.iter().filter(|put| !self.work.is_under_way(&put.key));
        let mut queue: VecDeque<Put> = waiting.by_ref().cloned().collect();
        let mut ahead: Option<VecDeque<Put>> = None;
        let mut left = puts.len();
        let mut failed: Option<Trouble> = None;
        while left > 0 {
            self.check_orders()?;
            // What fails for a moment fails for all of them; what is wrong with one object is its own matter.
            let goes_on = failed.as_ref().is_none_or(|trouble| !passes(trouble));
            while goes_on && self.work.has_room() {
                let next = queue.pop_front().or_else(|| {
                    let more = ahead.get_or_insert_with(|| {
                        mirror_order::ahead(step, later, &self.facts, AHEAD).into()
                    });
                    more.pop_front()
                });
                let Some(put) = next else { break };
                self.work.start(put);
            }
            let Some((put, landed)) = self.transferred().await? else {
                break;
            };
            let due = put.sequence <= step.upto();
            match landed {
                Ok(landed) => {
                    if due || landed != Landed::Other {
                        self.confirm(&put, landed);
                    }
                    left -= usize::from(due);
                }
                // Its turn comes, and with it the trouble.
                Err(_) if !due => {}
                Err(trouble) => {
                    left -= 1;
                    if failed.is_none() {
                        self.control.works_on(Some(&put.key));
                    }
                    failed.get_or_insert(trouble);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn replace(&mut self, puts: Vec<Put>) -> Result<(), Trouble> {
        for put in puts {
            self.replace_one(&put).await?;
        }
        Ok(())
    }

    pub async fn replace_one(&mut self, put: &Put) -> Result<(), Trouble> {
        self.check_orders()?;
        self.control.works_on(Some(&put.key));
        let from = self.link.source.find(&put.key, put.sequence).await?;
        let landed = self.link.replace(&self.tenure, &from).await?;
        if landed == Landed::Written {
            self.control.counts.copied(from.object.size);
        }
        self.confirm(put, landed);
        Ok(())
    }

    pub async fn root(&mut self, put: &Put, generation: u64) -> Result<(), Trouble> {
        self.control.works_on(Some(&put.key));
        self.check_orders()?;
        let from = self.link.source.find(&put.key, put.sequence).await?;
        // Whoever takes the target over finds what the root needs in its record.
        let noted = self.checkpoint.advance_to(put.sequence).await;
        noted.map_err(Trouble::checkpoint)?;
        let landed = self.link.create_fenced(&self.tenure, &from).await?;
        self.confirm(put, landed);
        match landed {
            Landed::Written | Landed::Same => {
                self.facts.root = self.facts.root.max(Some(generation));
                if self.link.source.state.shared() {
                    self.change(vec![MirrorChange::Rooted(put.sequence)])
                        .await?;
                }
                self.control.rooted(put.sequence);
                tracing::info!(repository = %self.link.source.name, store = %self.link.target_name, generation, "the mirror has the root");
            }
            Landed::Other => {}
        }
        Ok(())
    }

    pub async fn point(&mut self, key: &ObjectKey, generation: u64) -> Result<(), Trouble> {
        self.control.works_on(Some(key));
        self.check_orders()?;
        let bytes = generation.to_be_bytes().to_vec();
        self.link.overwrite(&self.tenure, key, bytes).await?;
        self.facts.pointer = Pointer::Names(generation);
        Ok(())
    }

    pub async fn remove(&mut self, keys: Vec<ObjectKey>) -> Result<(), Trouble> {
        // A copy that ran ahead must not land after its removal.
        while keys.iter().any(|key| self.work.is_under_way(key)) {
            if let Some((put, Ok(landed))) = self.transferred().await? {
                self.confirm(&put, landed);
            }
        }
        for batch in keys.chunks(BATCH) {
            self.check_fence().await?;
            let permit = self.link.permit(self.tenure.epoch);
            let removed = self.link.target.delete(&permit, batch).await;
            for (key, removed) in batch.iter().zip(removed) {
                self.control.works_on(Some(key));
                removed.map_err(Trouble::target)?;
                self.facts.keys.insert(key.clone(), Known::Absent);
                if self.link.source.class(key) == Some(Class::Pointer) {
                    self.facts.pointer = Pointer::Absent;
                }
            }
        }
        Ok(())
    }
}
