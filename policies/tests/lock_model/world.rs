//! The world of the model: databases, a store, nodes, clients, a network that holds messages back.
//!
//! The shell's order of steps is played here step by step, each one atomic only where the real thing is
//! (one transaction, one call to the store). Every decision is the production function: `admit`, `step`,
//! `resume`, `resolve`. A paused process needs no action of its own: any step may come arbitrarily late.

use policies::identity::{Cluster, Epoch, Handover, Repository};
use policies::lock::anchor::Anchor;
use policies::lock::{Event, Freeze, Lock, Outcome, step};

/// What a scenario allows to happen.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Writers of the operations that clients try, in no order. Their content is their number.
    pub ops: &'static [&'static str],
    /// Whom the operator hands the lock to, in this order.
    pub hand_overs: &'static [&'static str],
    /// Nodes on the one state database.
    pub nodes: usize,
    /// Complete takes time in the store, and an abort that comes meanwhile does not stop it.
    pub slow_complete: bool,
    /// The key is published create-only, as `index-N` is.
    pub create_only: bool,
    /// One process per database; each start claims an incarnation, each commit checks it.
    pub incarnations: bool,
    pub crashes: u8,
    pub lost_answers: u8,
    pub restores: u8,
    pub clones: u8,
    pub recoveries: u8,
}

/// A step left out or done wrongly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutant {
    FenceWithOpenIntents,
    HoldWithoutAnchor,
    AnchorNotCreateOnly,
    MintIgnoringAnchors,
    IntentWithoutLockCheck,
    TwoIntentsPerKey,
    CommitWithoutIntent,
    AcknowledgeBeforeCommit,
    LostAnswerIsFailure,
    ResolveWithoutAbort,
    AbortOnceIsEnough,
    ReadBeforeAbort,
    StartWithoutSweep,
    StartWithoutRootCheck,
    NoIncarnationCheck,
    IncarnationCheckBeforeUpload,
    RecoverWithoutSweep,
    PublishReplaces,
}

#[derive(Clone, Hash)]
pub struct World {
    pub dbs: Vec<Db>,
    pub backup: Option<Db>,
    pub store: Store,
    pub nodes: Vec<Node>,
    pub ops: Vec<Op>,
    pub left: Left,
    pub ghost: Ghost,
    pub rules: Rules,
}

/// The same in every state of one search.
#[derive(Clone)]
pub struct Rules {
    pub scenario: &'static Scenario,
    pub mutant: Option<Mutant>,
}

impl std::hash::Hash for Rules {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// What the scenario still allows.
#[derive(Clone, Hash)]
pub struct Left {
    pub hand_overs: usize,
    pub crashes: u8,
    pub lost_answers: u8,
    pub restores: u8,
    pub clones: u8,
    pub recoveries: u8,
}

#[derive(Clone, Hash)]
pub struct Db {
    /// Differs between a database and what was restored or cloned from it: makes hand-over ids random.
    pub lineage: u8,
    pub version: u8,
    pub lock: Lock,
    /// Open intents: their operations. All are for the one key.
    pub intents: Vec<usize>,
    /// How each operation's intent ended.
    pub outcomes: Vec<Option<bool>>,
    /// Content that is visible at the key; 0 = none.
    pub catalog: u8,
}

#[derive(Clone, Hash)]
pub struct Store {
    /// Content at the key; 0 = none.
    pub object: u8,
    /// Each operation's hidden upload.
    pub uploads: Vec<Upload>,
    pub anchors: Vec<Anchor>,
    /// Requests to create an anchor that are under way.
    pub creates: Vec<Anchor>,
    pub incarnation: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upload {
    Absent,
    Open,
    Completing,
    Published,
    Aborted,
}

#[derive(Clone, Hash)]
pub struct Node {
    pub db: usize,
    pub state: NodeState,
    pub resolving: Option<Resolving>,
    pub incarnation: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    Down,
    Starting,
    Up,
}

#[derive(Clone, Hash)]
pub struct Resolving {
    pub op: usize,
    pub gone: bool,
    /// Store's and catalog's content.
    pub read: Option<(u8, u8)>,
}

#[derive(Clone, Hash)]
pub struct Op {
    pub at: At,
    pub node: usize,
    pub epoch: Epoch,
    pub complete: Complete,
}

/// How far an operation is, as its node knows; the last three are what the client was told.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    Idle,
    Permitted,
    Uploaded,
    Intended,
    Waiting,
    Ok,
    Failed,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Complete {
    NotSent,
    UnderWay,
    Answered { done: bool },
}

/// What only the model knows: what happened, for the invariants.
#[derive(Clone, Hash, Default)]
pub struct Ghost {
    /// Epochs that were held, with holder and hand-over.
    pub held: Vec<(u64, Cluster, Handover)>,
    pub max_held: u64,
    /// Contents in the order in which they took effect at the key.
    pub effects: Vec<u8>,
    /// Contents in the order in which the catalog took them.
    pub commits: Vec<u8>,
    pub restored: bool,
    pub recovered: bool,
    pub broken: Option<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Admit { op: usize, node: usize },
    Upload(usize),
    InsertIntent(usize),
    Check(usize),
    DeliverComplete(usize),
    FinishComplete(usize),
    Commit(usize),
    LoseAnswer(usize),
    Abort { node: usize, op: usize },
    Read { node: usize },
    Decide { node: usize },
    Operator { db: usize },
    Drained { db: usize },
    SendAnchor { db: usize },
    DeliverAnchor(usize),
    ReadAnchors { db: usize },
    Crash { node: usize },
    Start { node: usize },
    Resume { node: usize },
    Sweep { node: usize },
    Ready { node: usize },
    Backup,
    Restore,
    Clone,
    Recover { node: usize },
    Rebuild { node: usize },
}

pub fn content(op: usize) -> u8 {
    u8::try_from(op).unwrap() + 1
}

impl World {
    pub fn new(scenario: &'static Scenario, mutant: Option<Mutant>) -> Self {
        let ops = scenario.ops.len();
        Self {
            dbs: vec![Db {
                lineage: 0,
                version: 0,
                lock: Lock::Vacant { epoch: Epoch(0) },
                intents: vec![],
                outcomes: vec![None; ops],
                catalog: 0,
            }],
            backup: None,
            store: Store {
                object: 0,
                uploads: vec![Upload::Absent; ops],
                anchors: vec![],
                creates: vec![],
                incarnation: 1,
            },
            nodes: vec![
                Node {
                    db: 0,
                    state: NodeState::Up,
                    resolving: None,
                    incarnation: 1,
                };
                scenario.nodes
            ],
            ops: vec![
                Op {
                    at: At::Idle,
                    node: 0,
                    epoch: Epoch(0),
                    complete: Complete::NotSent,
                };
                ops
            ],
            left: Left {
                hand_overs: 0,
                crashes: scenario.crashes,
                lost_answers: scenario.lost_answers,
                restores: scenario.restores,
                clones: scenario.clones,
                recoveries: scenario.recoveries,
            },
            ghost: Ghost::default(),
            rules: Rules { scenario, mutant },
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.rules.mutant == Some(mutant)
    }

    pub fn writer(&self, op: usize) -> Cluster {
        Cluster::new(self.rules.scenario.ops[op])
    }

    /// An id that no other hand-over has: in reality it is random.
    pub fn fresh_id(&self, db: usize) -> Handover {
        Handover::new(format!("{}.{}", self.dbs[db].lineage, self.dbs[db].version))
    }

    pub fn highest_anchor(&self) -> Option<&Anchor> {
        self.store.anchors.iter().max_by_key(|a| a.epoch)
    }

    pub fn highest_epoch(&self) -> Epoch {
        self.highest_anchor().map_or(Epoch(0), |a| a.epoch)
    }

    pub fn frozen(&self, db: usize) -> bool {
        matches!(self.dbs[db].lock, Lock::Frozen { .. })
    }

    pub fn recovering(&self, db: usize) -> bool {
        matches!(
            self.dbs[db].lock,
            Lock::Frozen {
                reason: Freeze::Recovering,
                ..
            }
        )
    }

    /// The row moves by compare-and-set.
    pub fn happens(&mut self, db: usize, event: Event) {
        let outcome = step(&self.dbs[db].lock, event);
        self.carry_out(db, outcome);
    }

    pub fn carry_out(&mut self, db: usize, outcome: Outcome) {
        match outcome {
            Outcome::Move(step) => self.move_to(db, step.lock),
            Outcome::Stay(_) | Outcome::Deny(_) => {}
        }
    }

    pub fn move_to(&mut self, db: usize, to: Lock) {
        let from = std::mem::replace(&mut self.dbs[db].lock, to.clone());
        self.dbs[db].version += 1;
        if let Lock::Held { epoch, holder } = to {
            let Lock::Fenced { handover, .. } = from else {
                self.break_with("W2: an epoch is held that was not fenced before");
                return;
            };
            self.holds(epoch, holder, handover);
            // a gateway that was overtaken and has not noticed yet holds, but commits nothing
            if self.newest_serves(db) {
                self.ghost.max_held = self.ghost.max_held.max(epoch.0);
            }
        }
    }

    fn holds(&mut self, epoch: Epoch, holder: Cluster, handover: Handover) {
        let held = (epoch.0, holder, handover);
        if self.ghost.held.iter().any(|h| h.0 == held.0 && *h != held) {
            self.break_with("W1, W2: one epoch was held by two hand-overs");
        }
        if !self.ghost.held.contains(&held) {
            self.ghost.held.push(held);
            self.ghost.held.sort();
        }
    }

    pub fn break_with(&mut self, what: &'static str) {
        self.ghost.broken.get_or_insert(what);
    }

    pub fn anchor(&self, epoch: Epoch, holder: Option<Cluster>, handover: Handover) -> Anchor {
        Anchor {
            repository: Repository::new("r"),
            epoch,
            holder,
            handover,
            previous: None,
        }
    }

    pub fn all_acknowledged(&self) -> bool {
        self.ops.iter().all(|op| op.at == At::Ok)
    }

    /// A recovery ended, and somebody wrote again.
    pub fn recovered(&self) -> bool {
        self.ghost.recovered
            && self.dbs.iter().any(
                |db| matches!(db.lock, Lock::Held { epoch, .. } if epoch.0 == self.ghost.max_held),
            )
    }
}
