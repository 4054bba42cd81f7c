//! What each step does: a write from admission to answer, resolving, the moves of a hand-over.

use policies::identity::Cluster;
use policies::key::Writing;
use policies::lock::{
    Event, Found, Freeze, IntentFacts, Lock, Mode, Next, Patience, Request, Resolution, Term,
    UploadFact, Verdict, admit, resolve,
};

use crate::world::{Action, At, Complete, Mutant, NodeState, Resolving, Upload, World, content};

impl World {
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
    pub fn overtaken(&self, node: usize) -> bool {
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

    pub fn gone(&self, op: usize) -> bool {
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
}
