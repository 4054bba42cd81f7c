//! How nodes and databases die, come back, are copied and recover.

use policies::lock::{Event, Findings, Freeze, Outcome, resume};

use crate::world::{At, Mutant, Node, NodeState, Upload, World};

impl World {
    pub fn crash(&mut self, node: usize) {
        self.nodes[node].state = NodeState::Down;
        self.nodes[node].resolving = None;
        for op in &mut self.ops {
            let under_way = match op.at {
                At::Permitted | At::Uploaded | At::Intended | At::Waiting => true,
                At::Idle | At::Ok | At::Failed | At::Unknown => false,
            };
            if under_way && op.node == node {
                op.at = At::Unknown;
            }
        }
    }

    pub fn claim_incarnation(&mut self, node: usize) {
        if self.rules.scenario.incarnations {
            self.store.incarnation += 1;
            self.nodes[node].incarnation = self.store.incarnation;
        }
    }

    pub fn resumption(&self, node: usize) -> Outcome {
        let db = self.nodes[node].db;
        let mut highest = self.highest_anchor().cloned();
        if self.is(Mutant::MintIgnoringAnchors) {
            let row = self.dbs[db].lock.epoch();
            highest = self.store.anchors.iter().find(|a| a.epoch == row).cloned();
        }
        resume(
            &self.dbs[db].lock,
            Findings {
                anchors: Ok(highest),
                intents_open: !self.dbs[db].intents.is_empty(),
                handover: self.fresh_id(db),
            },
        )
    }

    /// No upload of unknown origin can still be published.
    pub fn swept(&self, db: usize, spare_intents: bool) -> bool {
        (0..self.ops.len())
            .all(|op| (spare_intents && self.dbs[db].intents.contains(&op)) || self.gone(op))
    }

    pub fn may_listen(&self, node: usize) -> bool {
        let db = self.nodes[node].db;
        if self.frozen(db) || !self.rules.scenario.incarnations {
            return true;
        }
        self.dbs[db].intents.is_empty()
            && (self.swept(db, true) || self.is(Mutant::StartWithoutSweep))
    }

    pub fn sweep(&mut self, node: usize) {
        let db = self.nodes[node].db;
        let spare = !self.recovering(db);
        for op in 0..self.ops.len() {
            let spared = spare && self.dbs[db].intents.contains(&op);
            if self.store.uploads[op] == Upload::Open && !spared {
                self.store.uploads[op] = Upload::Aborted;
            }
        }
    }

    /// Looks at the key once more, then listens.
    pub fn ready(&mut self, node: usize) {
        let db = self.nodes[node].db;
        let appeared = self.dbs[db].catalog != self.store.object
            && self.rules.scenario.incarnations
            && !self.frozen(db);
        if appeared && !self.is(Mutant::StartWithoutRootCheck) {
            self.happens(db, Event::Doubt(Freeze::RootAppeared("index".into())));
        } else {
            self.nodes[node].state = NodeState::Up;
            self.judge_listening(db);
        }
    }

    /// The database is replaced by yesterday's copy while nothing runs.
    pub fn restore(&mut self) {
        self.left.restores -= 1;
        for node in 0..self.nodes.len() {
            self.crash(node);
        }
        if let Some(copy) = self.backup.take() {
            self.dbs[0] = copy;
            self.dbs[0].lineage += 1;
            self.ghost.restored = true;
        }
    }

    /// A second gateway starts on a copy of the database; the first goes on.
    pub fn clone_gateway(&mut self) {
        self.left.clones -= 1;
        let mut copy = self.dbs[0].clone();
        copy.lineage += 1;
        self.dbs.push(copy);
        self.nodes.push(Node {
            db: self.dbs.len() - 1,
            state: NodeState::Down,
            resolving: None,
            incarnation: 0,
        });
        self.ghost.restored = true;
    }

    pub fn recover(&mut self, node: usize) {
        let db = self.nodes[node].db;
        self.left.recoveries -= 1;
        self.claim_incarnation(node);
        let event = Event::Thaw {
            recover: true,
            anchor: self.highest_epoch(),
            drained: self.dbs[db].intents.is_empty(),
            handover: self.fresh_id(db),
        };
        self.happens(db, event);
    }
}
