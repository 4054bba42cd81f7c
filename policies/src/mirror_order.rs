//! The order in which a mirror applies a repository's history, so that every prefix of it restores.
//!
//! Decides: the next entries of a journal -> a [`Step`] that may be applied as one; a step and what is known of
//! the target -> what to do [`Next`]. Invariants: the closure of the target's newest root is complete at every
//! instant; that root never goes back or vanishes; `index.latest` names a root that is there; a name that a newer
//! entry needs is neither overwritten nor removed by an older one, whatever is delivered twice or late.
//!
//! Within a step: first everything that is new under its name, in parallel; what replaces older content, in
//! journal order; then snapshots' own files, the newest root, the pointer (computed anew, never copied), removals.
//! A root waits for *all* that was committed before it, which is more than its closure: so the planner needs not
//! to know what a root is made of, and an object that cannot be copied stops the mirror at a root that restores.
//!
//! Steps are as long as they can be: a mirror that is behind skips the roots in between and what was made and
//! removed again. One thing ends a step early: a name that is used again (`__7`, `index-3`, a snapshot that was
//! deleted and made anew under its name). The root before it needs the old content, the root after it the new, so
//! the mirror must pass through the root in between. From one position steps only grow: after a crash the same
//! or a longer one is made, never one that would undo what a longer one did.

use std::collections::HashMap;

use crate::key::{Class, ObjectKey, ShardGeneration, Writing};

mod step;

pub use step::Step;

/// When a source's commit is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// At once; the mirror follows.
    Async,
    /// A root is acknowledged when the target has it.
    Barrier,
}

impl Mode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Barrier => "barrier",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Async, Self::Barrier]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// One entry of a journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub sequence: u64,
    pub key: ObjectKey,
    pub class: Class,
    pub change: Change,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Put,
    Delete,
}

/// An object to be put on the target: the content that the entry of this sequence committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    pub sequence: u64,
    pub key: ObjectKey,
    pub class: Class,
}

/// What lies at a name of the target, as far as it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Known {
    /// The content that the entry of this sequence committed; the target confirmed it.
    Content(u64),
    /// Something else.
    Other,
    Absent,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Pointer {
    #[default]
    Absent,
    /// It names the root of this generation.
    Names(u64),
    /// It is not what a cluster writes.
    Unreadable,
}

/// What is known of the target. What nobody looked at is unknown, and found out by trying.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub keys: HashMap<ObjectKey, Known>,
    /// The newest root there.
    pub root: Option<u64>,
    pub pointer: Pointer,
}

/// What is to be done now; all of it must be confirmed before the next question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// In parallel, in any order: put each under its name if the name is free. If it is not, find out whether
    /// the same content lies there.
    Copy(Vec<Put>),
    /// One after the other, in this order: put each in the place of what lies there.
    Replace(Vec<Put>),
    /// Publish a root, create-only, so that it cannot come late.
    Root { put: Put, generation: u64 },
    /// Let `index.latest` name this root.
    Point { key: ObjectKey, generation: u64 },
    /// In parallel, in any order. A missing one is removed.
    Remove(Vec<ObjectKey>),
    /// The step is done: the target is as the source was at this sequence.
    Applied(u64),
    /// It can never be done as it is; an operator has to look.
    Stuck { key: ObjectKey, why: Stuck },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stuck {
    #[error("the target has another root of this generation")]
    OtherRoot,
    #[error("the target has root {newest}, which the source does not know")]
    AheadOfSource { newest: u64 },
    #[error("the source removed its newest root")]
    NewestRootRemoved,
}

/// The journal is not complete after the mirror's position: reconcile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the journal lacks entry {missing}")]
pub struct Gap {
    pub missing: u64,
}

/// Puts of later entries that may be copied before their turn: their names are used once, nothing earlier names
/// them, and nothing can depend on their absence. `later` follows the step without a gap.
#[must_use]
pub fn ahead(step: &Step, later: &[Entry], facts: &Facts, most: usize) -> Vec<Put> {
    let mut named = std::collections::HashSet::new();
    let mut puts = Vec::new();
    for entry in later {
        let first = named.insert(&entry.key) && !step.names(&entry.key);
        let once = entry.class.writing() == Writing::Once && entry.change == Change::Put;
        if first && once && !facts.keys.contains_key(&entry.key) {
            if puts.len() == most {
                break;
            }
            puts.push(Put {
                sequence: entry.sequence,
                key: entry.key.clone(),
                class: entry.class.clone(),
            });
        }
    }
    puts
}

/// The name is used again with other content, after what needed the older one is gone.
fn is_reused(class: &Class) -> bool {
    match class {
        Class::Data { .. } => class.writing() != Writing::Once,
        Class::ShardIndex { generation, .. } => match generation {
            ShardGeneration::Number(_) => true,
            ShardGeneration::Uuid(_) => false,
        },
        Class::LegacyShardSnapshot { .. } | Class::Unknown => true,
        Class::Root(_)
        | Class::Pointer
        | Class::LegacyList
        | Class::Incompatible
        | Class::SnapshotInfo(_)
        | Class::GlobalMetadata(_)
        | Class::LegacySnapshot
        | Class::Pending
        | Class::Registration
        | Class::Analysis
        | Class::ShardPaths
        | Class::IndexMetadata { .. }
        | Class::ShardSnapshot { .. } => false,
    }
}

/// Where there are no roots (2.x), listing these files tells which snapshots there are: they come last and go first.
fn announces(class: &Class) -> bool {
    match class {
        Class::SnapshotInfo(_) | Class::LegacySnapshot | Class::LegacyList => true,
        Class::Root(_)
        | Class::Pointer
        | Class::Incompatible
        | Class::GlobalMetadata(_)
        | Class::Pending
        | Class::Registration
        | Class::Analysis
        | Class::ShardPaths
        | Class::IndexMetadata { .. }
        | Class::Data { .. }
        | Class::ShardIndex { .. }
        | Class::ShardSnapshot { .. }
        | Class::LegacyShardSnapshot { .. }
        | Class::Unknown => false,
    }
}
