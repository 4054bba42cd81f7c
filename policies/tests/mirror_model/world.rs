//! The world of the model: a journal that grows, targets, appliers, and a network that keeps requests.
//!
//! What to do is decided by the production planner. The applier's steps are played one by one, each atomic only
//! where the real thing is: one request to the target. A request whose answer was lost may be delivered later; one
//! that was answered may be delivered again. Requests of a dead process reach the target before the next one
//! starts or never, except plain creations, which may come at any time. A removal whose answer is lost was done or
//! never will be: nothing can fence one that comes later (SEMANTICS.md, Not promised).

use std::hash::{Hash, Hasher};

use policies::key::{Class, ObjectKey};
use policies::mirror_order::{Change, Entry};

use crate::mutant::Mutant;
use crate::resync::{Phase, Taken};

/// One entry of the source's journal, by the position of its key in the scenario's names.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Put(usize),
    Delete(usize),
}

#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub names: &'static [&'static str],
    pub journal: &'static [Op],
    /// Of each root by its generation: what it needs, as (name, sequence of the content).
    pub closures: &'static [&'static [(usize, u64)]],
    pub targets: usize,
    pub crashes: u8,
    pub lost_answers: u8,
    pub duplicates: u8,
    pub promotions: u8,
    /// The bytes of this entry rotted at the source.
    pub poison: Option<u64>,
    /// Entries that were committed before the mirror was made; it begins with a reconciliation.
    pub before: usize,
    /// What lies on the target before the mirror is made.
    pub there: &'static [(usize, ContentId)],
    /// Roots on the target that the source does not know are kept aside: an old primary returns.
    pub aside: bool,
    /// How often the journal goes over its bound.
    pub lost_journals: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// The source commits its next entry.
    Commit,
    /// The applier of a target asks what is next, and sends the requests.
    Plan(usize),
    /// The target does what a request says, and the applier reads the answer.
    Deliver(usize, usize),
    /// As `Deliver`, but the answer is lost.
    DeliverUnheard(usize, usize),
    /// As `Deliver`, but the network keeps a copy of the request.
    DeliverTwice(usize, usize),
    /// The applier gives up waiting; the request is still on its way.
    GiveUp(usize, usize),
    Crash(usize),
    Restart(usize),
    /// The target becomes the primary of another gateway, which commits a root of its own.
    Promote(usize),
    /// What a mirror needs next of the journal is cut off: it is told to reconcile.
    LoseJournal(usize),
}

/// Contents are named by the sequence of their entry; a pointer's by 1 + the generation it names.
pub type ContentId = u64;
/// The root that a promoted target's new writer commits.
pub const FOREIGN: ContentId = 1000;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    Create {
        name: usize,
        content: ContentId,
    },
    /// A create or a replacement that its sender can abort for good.
    Fenced {
        name: usize,
        content: ContentId,
        replaces: bool,
    },
    Remove {
        name: usize,
    },
}

#[derive(Clone, Hash)]
pub struct Sent {
    pub request: Request,
    /// The applier waits for the answer.
    pub awaited: bool,
}

#[derive(Clone, Hash)]
pub struct Target {
    /// By name; 0 = absent.
    pub objects: Vec<ContentId>,
    pub network: Vec<Sent>,
    pub applied: u64,
    pub applier: Applier,
    pub promoted: bool,
    /// The newest root that was ever there.
    pub highest: Option<u64>,
    /// What was recorded in the action before this state.
    pub recorded: Option<Recorded>,
    /// Where a reconciliation is.
    pub resync: Option<Phase>,
    /// What the applier took up in this phase; it dies with it.
    pub taken: Option<Taken>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recorded {
    Step,
    Resync,
}

#[derive(Clone, Hash)]
pub enum Applier {
    Down,
    Fenced,
    Up {
        known: Vec<Option<Belief>>,
        /// The newest root and the pointer's content, as far as it saw.
        root: Option<u64>,
        pointer: ContentId,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Belief {
    Content(u64),
    Other,
    Absent,
}

#[derive(Clone)]
pub struct World {
    pub rules: &'static Scenario,
    pub mutant: Option<Mutant>,
    pub committed: usize,
    pub targets: Vec<Target>,
    pub left: [u8; 5],
}

const CRASHES: usize = 0;
const LOST: usize = 1;
const TWICE: usize = 2;
pub const PROMOTIONS: usize = 3;
const JOURNALS: usize = 4;

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.committed, self.left).hash(hasher);
        self.targets.hash(hasher);
    }
}

impl World {
    pub fn new(rules: &'static Scenario, mutant: Option<Mutant>) -> Self {
        let mut objects = vec![0; rules.names.len()];
        for (name, content) in rules.there {
            objects[*name] = *content;
        }
        let target = Target {
            objects,
            network: Vec::new(),
            applied: 0,
            applier: Applier::Up {
                known: vec![None; rules.names.len()],
                root: None,
                pointer: 0,
            },
            promoted: false,
            highest: None,
            recorded: None,
            resync: None,
            taken: None,
        };
        let mut world = Self {
            rules,
            mutant,
            committed: rules.before,
            targets: vec![target; rules.targets],
            left: [
                rules.crashes,
                rules.lost_answers,
                rules.duplicates,
                rules.promotions,
                rules.lost_journals,
            ],
        };
        for t in 0..rules.targets {
            if rules.before > 0 {
                world.begin_resync(t);
            }
            world.look(t);
            world.targets[t].highest = world.newest(t);
        }
        world
    }

    pub fn all_applied(&self) -> bool {
        let all = self.rules.journal.len() as u64;
        self.targets
            .iter()
            .all(|target| target.applied == all && target.resync.is_none())
    }

    pub fn highest_applied(&self) -> u64 {
        self.targets
            .iter()
            .map(|target| target.applied)
            .max()
            .unwrap_or(0)
    }

    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.committed < self.rules.journal.len() {
            actions.push(Action::Commit);
        }
        for (t, target) in self.targets.iter().enumerate() {
            match target.applier {
                Applier::Up { .. } => {
                    if !target.network.iter().any(|sent| sent.awaited) {
                        actions.push(Action::Plan(t));
                    }
                    if self.left[CRASHES] > 0 {
                        actions.push(Action::Crash(t));
                    }
                }
                Applier::Down => actions.push(Action::Restart(t)),
                Applier::Fenced => {}
            }
            for (r, sent) in target.network.iter().enumerate() {
                actions.push(Action::Deliver(t, r));
                if sent.awaited && self.left[LOST] > 0 {
                    actions.push(Action::DeliverUnheard(t, r));
                    actions.push(Action::GiveUp(t, r));
                }
                if self.left[TWICE] > 0 {
                    actions.push(Action::DeliverTwice(t, r));
                }
            }
            if self.left[PROMOTIONS] > 0 && self.newest(t).is_some() {
                actions.push(Action::Promote(t));
            }
            if self.left[JOURNALS] > 0 && self.committed > 0 {
                actions.push(Action::LoseJournal(t));
            }
        }
        actions
    }

    pub fn act(&mut self, action: Action) {
        for target in &mut self.targets {
            target.recorded = None;
        }
        match action {
            Action::Commit => self.committed += 1,
            Action::Plan(t) => self.plan(t),
            Action::Deliver(t, r) => self.deliver(t, r, true),
            Action::DeliverUnheard(t, r) => {
                self.left[LOST] -= 1;
                self.deliver(t, r, false);
            }
            Action::DeliverTwice(t, r) => {
                self.left[TWICE] -= 1;
                let copy = Sent {
                    request: self.targets[t].network[r].request,
                    awaited: false,
                };
                self.deliver(t, r, true);
                // The upload of a fenced request is used up; a removal is not kept beyond its answer.
                let unfenced = self.is(Mutant::UnfencedReplacement);
                match copy.request {
                    Request::Create { .. } => self.targets[t].network.push(copy),
                    Request::Fenced { .. } if unfenced => self.targets[t].network.push(copy),
                    Request::Fenced { .. } | Request::Remove { .. } => {}
                }
            }
            Action::GiveUp(t, r) => {
                self.left[LOST] -= 1;
                let gone = match self.targets[t].network[r].request {
                    Request::Create { .. } => false,
                    Request::Fenced { .. } => !self.is(Mutant::UnfencedReplacement),
                    Request::Remove { .. } => true,
                };
                if gone {
                    self.targets[t].network.remove(r);
                } else {
                    self.targets[t].network[r].awaited = false;
                }
                self.look(t);
            }
            Action::Crash(t) => {
                self.left[CRASHES] -= 1;
                self.targets[t].applier = Applier::Down;
                self.targets[t].taken = None;
                for sent in &mut self.targets[t].network {
                    sent.awaited = false;
                }
            }
            Action::Restart(t) => {
                let names = self.rules.names.len();
                let target = &mut self.targets[t];
                target
                    .network
                    .retain(|sent| matches!(sent.request, Request::Create { .. }));
                target.applier = Applier::Up {
                    known: vec![None; names],
                    root: None,
                    pointer: 0,
                };
                self.look(t);
            }
            Action::Promote(t) => self.promote(t),
            Action::LoseJournal(t) => {
                self.left[JOURNALS] -= 1;
                self.begin_resync(t);
            }
        }
        for t in 0..self.targets.len() {
            let newest = self.newest(t);
            let target = &mut self.targets[t];
            target.highest = target.highest.max(newest);
        }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn class(&self, name: usize) -> Class {
        Class::parse(self.rules.names[name])
    }

    pub fn key(&self, name: usize) -> ObjectKey {
        ObjectKey::parse(self.rules.names[name]).unwrap()
    }

    pub fn name(&self, key: &ObjectKey) -> usize {
        let all = self.rules.names;
        all.iter().position(|name| *name == key.as_str()).unwrap()
    }

    pub fn generation(&self, name: usize) -> Option<u64> {
        match self.class(name) {
            Class::Root(generation) => Some(generation),
            _other => None,
        }
    }

    pub fn newest(&self, t: usize) -> Option<u64> {
        let objects = self.targets[t].objects.iter().enumerate();
        objects
            .filter(|(_, content)| **content != 0)
            .filter_map(|(name, _)| self.generation(name))
            .max()
    }

    pub fn entries(&self, t: usize) -> Vec<Entry> {
        let after = self.targets[t].applied;
        let journal = self.rules.journal[..self.committed].iter().zip(1..);
        journal
            .filter(|(_, sequence)| *sequence > after)
            .map(|(op, sequence)| {
                let (name, change) = match op {
                    Op::Put(name) => (*name, Change::Put),
                    Op::Delete(name) => (*name, Change::Delete),
                };
                Entry {
                    sequence,
                    key: self.key(name),
                    class: self.class(name),
                    change,
                }
            })
            .collect()
    }

    pub fn pointer(&self) -> Option<usize> {
        (0..self.rules.names.len()).find(|name| self.class(*name) == Class::Pointer)
    }
}
