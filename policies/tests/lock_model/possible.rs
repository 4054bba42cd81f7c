//! Which steps are possible in a state.

use policies::lock::{Freeze, Lock, Outcome};

use crate::world::{Action, At, Complete, Mutant, Node, NodeState, Resolving, Upload, World};

impl World {
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = vec![];
        self.op_actions(&mut actions);
        self.db_actions(&mut actions);
        for node in 0..self.nodes.len() {
            self.node_actions(node, &mut actions);
        }
        actions
    }

    fn op_actions(&self, actions: &mut Vec<Action>) {
        for (op, state) in self.ops.iter().enumerate() {
            match state.at {
                At::Idle => actions.extend(
                    (0..self.nodes.len())
                        .filter(|n| self.nodes[*n].state == NodeState::Up)
                        .map(|node| Action::Admit { op, node }),
                ),
                At::Permitted => actions.push(Action::Upload(op)),
                At::Uploaded => actions.push(Action::InsertIntent(op)),
                At::Intended => actions.push(Action::Check(op)),
                At::Waiting => {
                    if matches!(state.complete, Complete::Answered { .. }) {
                        actions.push(Action::Commit(op));
                    }
                    if self.left.lost_answers > 0 {
                        actions.push(Action::LoseAnswer(op));
                    }
                }
                At::Ok | At::Failed | At::Unknown => {}
            }
            if state.complete == Complete::UnderWay {
                actions.push(match self.store.uploads[op] {
                    Upload::Completing => Action::FinishComplete(op),
                    Upload::Absent | Upload::Open | Upload::Published | Upload::Aborted => {
                        Action::DeliverComplete(op)
                    }
                });
            }
        }
    }

    fn db_actions(&self, actions: &mut Vec<Action>) {
        for (index, db) in self.dbs.iter().enumerate() {
            let served = self
                .nodes
                .iter()
                .any(|n| n.db == index && n.state == NodeState::Up);
            if !served {
                continue;
            }
            if self.left.hand_overs < self.rules.scenario.hand_overs.len()
                && !matches!(db.lock, Lock::Frozen { .. } | Lock::Fenced { .. })
            {
                actions.push(Action::Operator { db: index });
            }
            let drained = db.intents.is_empty() || self.is(Mutant::FenceWithOpenIntents);
            if matches!(db.lock, Lock::Fenced { .. }) {
                actions.push(Action::SendAnchor { db: index });
                actions.push(Action::ReadAnchors { db: index });
            }
            if matches!(db.lock, Lock::Draining { .. }) && drained {
                actions.push(Action::Drained { db: index });
            }
        }
        actions.extend((0..self.store.creates.len()).map(Action::DeliverAnchor));
        if self.left.restores > 0 {
            actions.push(match self.backup {
                None => Action::Backup,
                Some(_) => Action::Restore,
            });
        }
        if self.left.clones > 0 {
            actions.push(Action::Clone);
        }
    }

    fn node_actions(&self, node: usize, actions: &mut Vec<Action>) {
        let Node { db, state, .. } = self.nodes[node];
        if state == NodeState::Down {
            actions.push(Action::Start { node });
            return;
        }
        if self.left.crashes > 0 {
            actions.push(Action::Crash { node });
        }
        let resumed = state == NodeState::Up || matches!(self.resumption(node), Outcome::Stay(_));
        match &self.nodes[node].resolving {
            // a database in doubt does not touch the store
            None if !resumed
                || !(self.dbs[db].lock.catalog_is_current() || self.recovering(db)) => {}
            None => actions.extend(
                self.dbs[db]
                    .intents
                    .iter()
                    .map(|op| Action::Abort { node, op: *op }),
            ),
            Some(Resolving { read: None, .. }) => actions.push(Action::Read { node }),
            Some(Resolving { read: Some(_), .. }) => actions.push(Action::Decide { node }),
        }
        if state == NodeState::Starting {
            actions.push(match self.resumption(node) {
                Outcome::Move(_) => Action::Resume { node },
                Outcome::Stay(_) | Outcome::Deny(_) if self.may_listen(node) => {
                    Action::Ready { node }
                }
                Outcome::Stay(_) | Outcome::Deny(_) => Action::Sweep { node },
            });
            return;
        }
        match &self.dbs[db].lock {
            Lock::Frozen {
                reason: Freeze::Recovering,
                ..
            } => {
                actions.push(Action::Sweep { node });
                let swept = self.swept(db, false) || self.is(Mutant::RecoverWithoutSweep);
                if swept && self.dbs[db].intents.is_empty() {
                    actions.push(Action::Rebuild { node });
                }
            }
            Lock::Frozen { .. } if self.left.recoveries > 0 => {
                actions.push(Action::Recover { node });
            }
            Lock::Frozen { .. }
            | Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => {}
        }
    }
}
