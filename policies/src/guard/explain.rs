//! What an object is and who needs it; what came and went between two roots.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Guard;
use super::delete::Deletion;
use super::refusal::Refusal;
use crate::format::closure::{Knowledge, Member, Problem};
use crate::key::{Class, ObjectKey};

/// What is known of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub key: ObjectKey,
    /// [`Class::label`]
    pub class: &'static str,
    /// Bytes it must have, where the format says so.
    pub size: Option<u64>,
    /// Snapshots of live roots that need it, oldest first.
    pub holders: Vec<Holder>,
    /// Live roots whose next create or delete reads it.
    pub indexed_by: Vec<u64>,
    /// What a delete would be answered now.
    pub delete: Result<Deletion, Refusal>,
    /// What is wrong with it, as far as known.
    pub problem: Option<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub name: Arc<str>,
    pub uuid: Arc<str>,
    /// Milliseconds since 1970, where the root says so (7.14+).
    pub since_millis: Option<i64>,
    /// Its file list cannot be read: it may need the object.
    pub unsure: bool,
    /// In the newest root, not only in an older live one.
    pub current: bool,
}

impl Guard {
    #[must_use]
    pub fn explain(&self, key: &ObjectKey, class: &Class) -> Explanation {
        let found = self.knowledge.holders(key, class).unwrap_or_default();
        let mut holders: Vec<Holder> = found
            .snapshots
            .iter()
            .filter_map(|slot| {
                let (snapshot, current) = self.knowledge.snapshot_of(slot)?;
                Some(Holder {
                    name: snapshot.name.clone(),
                    uuid: snapshot.uuid.clone(),
                    since_millis: snapshot.start_time_millis,
                    unsure: found.unsure.contains(slot),
                    current,
                })
            })
            .collect();
        holders.sort_by(|a, b| (a.since_millis, &a.name).cmp(&(b.since_millis, &b.name)));
        Explanation {
            key: key.clone(),
            class: class.label(),
            size: found.size,
            holders,
            indexed_by: found.indexed,
            delete: self.delete(key, class),
            problem: self.knowledge.problem(key).cloned(),
        }
    }
}

/// What came and went from one root to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Names, sorted.
    pub snapshots_came: Vec<Arc<str>>,
    pub snapshots_went: Vec<Arc<str>>,
    /// Sorted by key.
    pub objects_came: Vec<Member>,
    pub objects_went: Vec<Member>,
}

/// Compares the newest roots of two [`Knowledge`]s of the same repository.
#[must_use]
pub fn difference(before: &Knowledge, after: &Knowledge) -> Difference {
    let snapshots = |knowledge: &Knowledge| {
        let root = knowledge.newest().map(|newest| newest.root.clone());
        let mut all: Vec<_> = root
            .iter()
            .flat_map(|root| &root.snapshots)
            .map(|s| (s.name.clone(), s.uuid.clone()))
            .collect();
        all.sort();
        all
    };
    let members = |knowledge: &Knowledge| {
        let mut all: Vec<_> = knowledge.members().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    };
    let (snapshots_went, snapshots_came) = split(snapshots(before), snapshots(after), Ord::cmp);
    let (objects_went, objects_came) =
        split(members(before), members(after), |a, b| a.key.cmp(&b.key));
    let names = |all: Vec<(Arc<str>, Arc<str>)>| all.into_iter().map(|(name, _)| name).collect();
    Difference {
        snapshots_came: names(snapshots_came),
        snapshots_went: names(snapshots_went),
        objects_came,
        objects_went,
    }
}

/// What only the first has and what only the second has, of two sorted lists.
fn split<T>(first: Vec<T>, second: Vec<T>, order: impl Fn(&T, &T) -> Ordering) -> (Vec<T>, Vec<T>) {
    let (mut only_first, mut only_second) = (Vec::new(), Vec::new());
    let mut first = first.into_iter().peekable();
    let mut second = second.into_iter().peekable();
    loop {
        let next = match (first.peek(), second.peek()) {
            (Some(a), Some(b)) => order(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return (only_first, only_second),
        };
        match next {
            Ordering::Less => only_first.extend(first.next()),
            Ordering::Greater => only_second.extend(second.next()),
            Ordering::Equal => {
                first.next();
                second.next();
            }
        }
    }
}
