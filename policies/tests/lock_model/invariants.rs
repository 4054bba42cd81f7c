//! The invariants W of the protocol that a state or a step can break.

use policies::lock::Lock;

use crate::world::{At, NodeState, World, content};

impl World {
    /// What is broken in this state, if anything is.
    pub fn broken(&self) -> Option<&'static str> {
        self.ghost.broken.or_else(|| self.broken_at_rest())
    }

    /// A content appeared at the key.
    pub fn judge_effect(&mut self, op: usize, replaces: bool) {
        if replaces {
            self.break_with("W10: a root that was there was replaced");
        }
        if self.ops[op].epoch.0 < self.ghost.max_held {
            self.break_with("W4: a commit of an old epoch took effect after a newer one was held");
        }
        if self.ops[op].at == At::Failed {
            self.break_with("W9: a write that was told to have failed took effect");
        }
        let writer = self.nodes[self.ops[op].node].incarnation;
        let newest = self
            .nodes
            .iter()
            .filter(|n| n.state == NodeState::Up && self.dbs[n.db].lock.catalog_is_current())
            .map(|n| n.incarnation)
            .max();
        if newest > Some(writer) {
            self.break_with("W13: a gateway that was overtaken still changed the store");
        }
    }

    /// An intent ends.
    pub fn judge_end(&mut self, db: usize, op: usize, took_effect: bool) {
        if !self.dbs[db].intents.contains(&op) {
            self.break_with("W8: an intent ended twice");
        }
        if took_effect && !self.ghost.effects.contains(&content(op)) {
            self.break_with("W9: a write without effect was recorded");
        }
        // a catalog that is to be rebuilt, or one that nobody will serve from, may still take it
        let counts = self.newest_serves(db) && self.dbs[db].lock.catalog_is_current();
        if took_effect && counts && self.ops[op].epoch.0 < self.ghost.max_held {
            self.break_with("W4: a commit of an old epoch was recorded after a newer one was held");
        }
    }

    /// A client reads 200.
    pub fn judge_ok(&mut self, op: usize, db: usize) {
        if self.dbs[db].outcomes[op] != Some(true) {
            self.break_with("W5: a write was acknowledged before it was in the database");
        }
        if !self.ghost.effects.contains(&content(op)) {
            self.break_with("W5: a write was acknowledged before it was in the store");
        }
    }

    /// A node begins to listen.
    pub fn judge_listening(&mut self, db: usize) {
        let (Lock::Vacant { epoch } | Lock::Held { epoch, .. } | Lock::Draining { epoch, .. }) =
            self.dbs[db].lock
        else {
            return;
        };
        if self.highest_epoch() != epoch {
            self.break_with("W13: a gateway listens although the store's anchors do not fit");
        }
        if matches!(self.dbs[db].lock, Lock::Held { .. }) {
            self.ghost.max_held = self.ghost.max_held.max(epoch.0);
        }
    }

    /// Nothing is under way at the key: store and catalog must agree.
    fn broken_at_rest(&self) -> Option<&'static str> {
        if let Some(broken) = self.broken_anchors() {
            return Some(broken);
        }
        for (index, db) in self.dbs.iter().enumerate() {
            if !db.lock.catalog_is_current() || !db.intents.is_empty() || !self.newest_serves(index)
            {
                continue;
            }
            if db.catalog != self.store.object {
                return Some("W6, W7: at rest the catalog is not what the store holds");
            }
            if !self.ghost.restored && self.ghost.commits != self.ghost.effects {
                return Some("W7: commits were recorded in another order than they took effect");
            }
            let acknowledged = self.ops.iter().any(|op| op.at == At::Ok);
            if acknowledged && self.store.object == 0 {
                return Some("W5: an acknowledged write is gone");
            }
        }
        None
    }

    /// This database has a node that listens, and no other gateway has claimed the store since.
    pub fn newest_serves(&self, db: usize) -> bool {
        self.nodes.iter().any(|n| {
            n.db == db
                && n.state == NodeState::Up
                && (!self.rules.scenario.incarnations || n.incarnation == self.store.incarnation)
        })
    }

    fn broken_anchors(&self) -> Option<&'static str> {
        for (epoch, holder, handover) in &self.ghost.held {
            let minted = self.store.anchors.iter().any(|a| {
                a.epoch.0 == *epoch && a.holder.as_ref() == Some(holder) && a.handover == *handover
            });
            if !minted {
                return Some("W2, W19: the anchor of a held epoch is missing or another one's");
            }
        }
        None
    }
}
