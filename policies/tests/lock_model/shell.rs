//! Which steps are possible in a state, and what each of them does.

use policies::identity::Cluster;
use policies::key::Writing;
use policies::lock::{
    Event, Findings, Found, Freeze, IntentFacts, Lock, Mode, Next, Outcome, Patience, Request,
    Resolution, Term, UploadFact, Verdict, admit, resolve, resume,
};

use crate::world::{
    Action, At, Complete, Mutant, Node, NodeState, Resolving, Upload, World, content,
};

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

    pub fn act(&mut self, action: &Action) {
        match *action {
            Action::Admit { op, node } => self.admit(op, node),
            Action::Upload(op) => self.upload(op),
            Action::InsertIntent(op) => self.insert_intent(op),
            Action::Check(op) => self.check(op),
            Action::DeliverComplete(op) => self.deliver_complete(op),
            Action::FinishComplete(op) => self.take_effect(op),
            Action::Commit(op) => self.commit(op),
            Action::LoseAnswer(op) => {
                self.left.lost_answers -= 1;
                self.ops[op].at = if self.is(Mutant::LostAnswerIsFailure) {
                    At::Failed
                } else {
                    At::Unknown
                };
            }
            Action::Abort { node, op } => self.abort(node, op),
            Action::Read { node } => self.read(node),
            Action::Decide { node } => self.decide(node),
            Action::Operator { db } => self.operator(db),
            Action::Drained { db } => {
                let handover = self.fresh_id(db);
                self.happens(db, Event::Drained { handover });
            }
            Action::SendAnchor { db } => self.send_anchor(db),
            Action::DeliverAnchor(create) => self.deliver_anchor(create),
            Action::ReadAnchors { db } => self.read_anchors(db),
            Action::Crash { node } => {
                self.left.crashes -= 1;
                self.crash(node);
            }
            Action::Start { node } => {
                self.nodes[node].state = NodeState::Starting;
                self.claim_incarnation(node);
            }
            Action::Resume { node } => {
                let outcome = self.resumption(node);
                self.carry_out(self.nodes[node].db, outcome);
            }
            Action::Sweep { node } => self.sweep(node),
            Action::Ready { node } => self.ready(node),
            Action::Backup => self.backup = Some(self.dbs[0].clone()),
            Action::Restore => self.restore(),
            Action::Clone => self.clone_gateway(),
            Action::Recover { node } => self.recover(node),
            Action::Rebuild { node } => {
                let db = self.nodes[node].db;
                self.dbs[db].catalog = self.store.object;
                self.ghost.recovered = true;
                self.happens(db, Event::Rebuilt { drained: true });
            }
        }
    }

    fn admit(&mut self, op: usize, node: usize) {
        let caller = self.writer(op);
        let db = self.nodes[node].db;
        let verdict = admit(
            &self.dbs[db].lock,
            Request {
                repository: &policies::identity::Repository::new("r"),
                caller: &caller,
                may_write: true,
                writing: Writing::Commit,
                mode: Mode::Auto,
            },
        );
        match verdict {
            Verdict::Admit(permit) => {
                let Term::Held(epoch) = permit.term() else {
                    self.break_with("W3: a commit was admitted without the lock");
                    return;
                };
                if self.is(Mutant::IncarnationCheckBeforeUpload) && self.overtaken(node) {
                    return;
                }
                self.ops[op].at = At::Permitted;
                self.ops[op].node = node;
                self.ops[op].epoch = epoch;
                if !self.is(Mutant::IncarnationCheckBeforeUpload) {
                    self.upload(op);
                }
            }
            Verdict::Take => {
                let handover = self.fresh_id(db);
                self.happens(
                    db,
                    Event::Take {
                        writer: caller,
                        handover,
                    },
                );
            }
            Verdict::Wait | Verdict::Refuse(_) => {}
        }
    }

    fn upload(&mut self, op: usize) {
        self.store.uploads[op] = Upload::Open;
        self.ops[op].at = At::Uploaded;
    }

    /// One transaction.
    fn insert_intent(&mut self, op: usize) {
        let caller = self.writer(op);
        let epoch = self.ops[op].epoch;
        let db = self.nodes[self.ops[op].node].db;
        let held = matches!(&self.dbs[db].lock,
            Lock::Held { epoch: e, holder } if *e == epoch && *holder == caller);
        let busy = !self.dbs[db].intents.is_empty() && !self.is(Mutant::TwoIntentsPerKey);
        let taken = self.rules.scenario.create_only
            && self.dbs[db].catalog != 0
            && !self.is(Mutant::PublishReplaces);
        let unchecked = self.is(Mutant::IntentWithoutLockCheck);
        if (!held && !unchecked) || busy || taken {
            self.ops[op].at = At::Failed;
            return;
        }
        if !held {
            self.break_with("W3: an intent was opened under another lock than the row's");
        }
        self.dbs[db].intents.push(op);
        self.ops[op].at = At::Intended;
        if !self.rules.scenario.incarnations {
            self.send_complete(op);
        }
    }

    /// A node that pauses or dies before it sends is the same as a message that comes late or never.
    fn send_complete(&mut self, op: usize) {
        self.ops[op].complete = Complete::UnderWay;
        self.ops[op].at = At::Waiting;
    }

    /// Another gateway has taken over the store.
    fn overtaken(&self, node: usize) -> bool {
        self.store.incarnation > self.nodes[node].incarnation
    }

    /// After the upload exists: whoever takes the store over later sweeps it.
    fn check(&mut self, op: usize) {
        let node = self.ops[op].node;
        let skipped =
            self.is(Mutant::NoIncarnationCheck) || self.is(Mutant::IncarnationCheckBeforeUpload);
        let ahead = self.highest_epoch() > self.ops[op].epoch;
        if skipped || !(self.overtaken(node) || ahead) {
            self.send_complete(op);
            return;
        }
        self.ops[op].at = At::Unknown;
        let highest = self.highest_anchor().cloned();
        let db = self.nodes[node].db;
        self.happens(db, Event::Anchors { highest });
        if self.overtaken(node) {
            self.happens(db, Event::Doubt(Freeze::OtherGateway));
        }
    }

    fn deliver_complete(&mut self, op: usize) {
        match self.store.uploads[op] {
            Upload::Open if self.rules.scenario.slow_complete => {
                self.store.uploads[op] = Upload::Completing;
            }
            Upload::Open => self.take_effect(op),
            Upload::Absent | Upload::Completing | Upload::Published | Upload::Aborted => {
                self.ops[op].complete = Complete::Answered { done: false };
            }
        }
    }

    fn take_effect(&mut self, op: usize) {
        let replaces = self.store.object != 0 && self.rules.scenario.create_only;
        if replaces && !self.is(Mutant::PublishReplaces) {
            self.store.uploads[op] = Upload::Aborted;
            self.ops[op].complete = Complete::Answered { done: false };
            return;
        }
        self.store.uploads[op] = Upload::Published;
        self.ops[op].complete = Complete::Answered { done: true };
        self.store.object = content(op);
        self.ghost.effects.push(content(op));
        self.judge_effect(op, replaces);
    }

    /// One transaction, after the store said that the object is there.
    fn commit(&mut self, op: usize) {
        let db = self.nodes[self.ops[op].node].db;
        let done = self.ops[op].complete == Complete::Answered { done: true };
        let open = self.dbs[db].intents.contains(&op);
        let blind = self.is(Mutant::CommitWithoutIntent);
        if done && self.is(Mutant::AcknowledgeBeforeCommit) {
            self.tell_ok(op, db);
            return;
        }
        if done && (open || blind) {
            self.end_intent(db, op, true);
        }
        match self.dbs[db].outcomes[op] {
            Some(true) => self.tell_ok(op, db),
            Some(false) => self.ops[op].at = At::Failed,
            None => self.ops[op].at = At::Unknown,
        }
    }

    fn tell_ok(&mut self, op: usize, db: usize) {
        self.ops[op].at = At::Ok;
        self.judge_ok(op, db);
    }

    fn end_intent(&mut self, db: usize, op: usize, took_effect: bool) {
        self.judge_end(db, op, took_effect);
        let db = &mut self.dbs[db];
        db.intents.retain(|o| *o != op);
        db.outcomes[op] = Some(took_effect);
        if took_effect {
            db.catalog = content(op);
            self.ghost.commits.push(content(op));
        }
    }

    fn abort(&mut self, node: usize, op: usize) {
        let read_first = self.is(Mutant::ReadBeforeAbort);
        self.nodes[node].resolving = Some(Resolving {
            op,
            gone: !read_first && self.abort_upload(op),
            read: None,
        });
        if read_first {
            self.read(node);
        }
    }

    /// True if the store says that the upload is gone.
    fn abort_upload(&mut self, op: usize) -> bool {
        if self.is(Mutant::ResolveWithoutAbort) {
            return true;
        }
        if self.store.uploads[op] == Upload::Open {
            self.store.uploads[op] = Upload::Aborted;
        }
        self.gone(op) || self.is(Mutant::AbortOnceIsEnough)
    }

    fn gone(&self, op: usize) -> bool {
        match self.store.uploads[op] {
            Upload::Absent | Upload::Published | Upload::Aborted => true,
            Upload::Open | Upload::Completing => false,
        }
    }

    fn read(&mut self, node: usize) {
        let read = (self.store.object, self.dbs[self.nodes[node].db].catalog);
        if let Some(resolving) = &mut self.nodes[node].resolving {
            resolving.read = Some(read);
        }
    }

    fn decide(&mut self, node: usize) {
        let db = self.nodes[node].db;
        let Some(Resolving {
            op,
            gone,
            read: Some((object, catalog)),
        }) = self.nodes[node].resolving.take()
        else {
            return;
        };
        if !self.dbs[db].intents.contains(&op) {
            return;
        }
        let gone = gone || (self.is(Mutant::ReadBeforeAbort) && self.abort_upload(op));
        let some = |content: u8| (content != 0).then_some(content);
        let decision = resolve(&IntentFacts {
            upload: if gone {
                UploadFact::Gone
            } else {
                UploadFact::NotKnownGone
            },
            found: some(object).map_or(Found::Nothing, Found::Content),
            expects: content(op),
            catalog: some(catalog),
        });
        match decision {
            Resolution::Commit => self.end_intent(db, op, true),
            Resolution::Abort => self.end_intent(db, op, false),
            Resolution::AskAgain => {}
            // the rebuilt catalog will say what is there
            Resolution::Freeze if self.recovering(db) => self.end_intent(db, op, false),
            Resolution::Freeze => {
                self.happens(db, Event::Doubt(Freeze::RootAppeared("index".into())));
            }
        }
    }

    fn operator(&mut self, db: usize) {
        let writer = Cluster::new(self.rules.scenario.hand_overs[self.left.hand_overs]);
        self.left.hand_overs += 1;
        let handover = self.fresh_id(db);
        self.happens(
            db,
            Event::OperatorLock {
                writer,
                patience: Patience::Owners,
                handover,
            },
        );
    }

    fn send_anchor(&mut self, db: usize) {
        let Lock::Fenced {
            epoch,
            next,
            handover,
        } = self.dbs[db].lock.clone()
        else {
            return;
        };
        let holder = match next {
            Next::Hold(heir) => Some(heir),
            Next::Release | Next::Freeze(_) | Next::Recover => None,
        };
        let create = self.anchor(epoch.next(), holder, handover.clone());
        if self.is(Mutant::HoldWithoutAnchor) {
            let highest = Some(create);
            self.happens(db, Event::Anchors { highest });
        } else if !self.store.creates.contains(&create) && !self.store.anchors.contains(&create) {
            self.store.creates.push(create);
        }
    }

    fn deliver_anchor(&mut self, create: usize) {
        let create = self.store.creates.remove(create);
        let there = self
            .store
            .anchors
            .iter()
            .position(|a| a.epoch == create.epoch);
        match there {
            None => self.store.anchors.push(create),
            Some(at) if self.is(Mutant::AnchorNotCreateOnly) => self.store.anchors[at] = create,
            Some(_) => {}
        }
    }

    /// Reads the highest anchor, then moves the row if it still is the one that was read before: an
    /// anchor list that grew stale meanwhile can only be shorter, and then nothing moves.
    fn read_anchors(&mut self, db: usize) {
        let highest = self.highest_anchor().cloned();
        if self.is(Mutant::MintIgnoringAnchors)
            && let Lock::Fenced {
                epoch,
                next: Next::Hold(heir),
                ..
            } = self.dbs[db].lock.clone()
            && highest.as_ref().is_some_and(|a| a.epoch > epoch)
        {
            let epoch = epoch.next();
            self.move_to(
                db,
                Lock::Held {
                    epoch,
                    holder: heir,
                },
            );
            return;
        }
        self.happens(db, Event::Anchors { highest });
    }

    fn crash(&mut self, node: usize) {
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

    fn claim_incarnation(&mut self, node: usize) {
        if self.rules.scenario.incarnations {
            self.store.incarnation += 1;
            self.nodes[node].incarnation = self.store.incarnation;
        }
    }

    fn resumption(&self, node: usize) -> Outcome {
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
    fn swept(&self, db: usize, spare_intents: bool) -> bool {
        (0..self.ops.len())
            .all(|op| (spare_intents && self.dbs[db].intents.contains(&op)) || self.gone(op))
    }

    fn may_listen(&self, node: usize) -> bool {
        let db = self.nodes[node].db;
        if self.frozen(db) || !self.rules.scenario.incarnations {
            return true;
        }
        self.dbs[db].intents.is_empty()
            && (self.swept(db, true) || self.is(Mutant::StartWithoutSweep))
    }

    fn sweep(&mut self, node: usize) {
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
    fn ready(&mut self, node: usize) {
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
    fn restore(&mut self) {
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
    fn clone_gateway(&mut self) {
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

    fn recover(&mut self, node: usize) {
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
