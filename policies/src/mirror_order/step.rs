//! A stretch of the journal that is applied as one, and the order within it.

use std::collections::{HashMap, HashSet};

use super::{Change, Entry, Facts, Gap, Known, Next, Pointer, Put, Stuck, announces, is_reused};
use crate::key::{Class, ObjectKey};

/// A stretch of the journal with one last change per key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    after: u64,
    upto: u64,
    /// The last change of each key, in the order of the journal.
    last: Vec<Entry>,
    named: HashMap<ObjectKey, usize>,
}

impl Step {
    /// The longest step that begins after a position; None if there is no entry. Called again for the same
    /// position with more entries it makes the same step or a longer one, as long as the caller's bound on the
    /// number of entries stays the same.
    pub fn cut(after: u64, entries: &[Entry]) -> Result<Option<Self>, Gap> {
        for (entry, expected) in entries.iter().zip(after + 1..) {
            if entry.sequence != expected {
                return Err(Gap { missing: expected });
            }
        }
        let length = length(entries);
        let Some(newest) = length.checked_sub(1).and_then(|at| entries.get(at)) else {
            return Ok(None);
        };
        let mut position = HashMap::new();
        for (at, entry) in entries[..length].iter().enumerate() {
            position.insert(&entry.key, at);
        }
        let mut kept: Vec<usize> = position.values().copied().collect();
        kept.sort_unstable();
        let last: Vec<Entry> = kept.iter().map(|at| entries[*at].clone()).collect();
        Ok(Some(Self {
            after,
            upto: newest.sequence,
            named: last
                .iter()
                .enumerate()
                .map(|(at, entry)| (entry.key.clone(), at))
                .collect(),
            last,
        }))
    }

    /// The step begins after this sequence.
    #[must_use]
    pub fn after(&self) -> u64 {
        self.after
    }

    #[must_use]
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// An entry of the step is about this key.
    #[must_use]
    pub fn names(&self, key: &ObjectKey) -> bool {
        self.named.contains_key(key)
    }

    /// What is to be done now.
    #[must_use]
    pub fn next(&self, facts: &Facts) -> Next {
        if let Some(stuck) = self.stuck(facts) {
            return stuck;
        }
        self.puts(facts, false)
            .or_else(|| self.puts(facts, true))
            .or_else(|| self.root(facts))
            .or_else(|| self.older_root(facts))
            .or_else(|| self.pointer(facts))
            .or_else(|| self.removals(facts, true))
            .or_else(|| self.removals(facts, false))
            .unwrap_or(Next::Applied(self.upto))
    }

    /// The newest root of the step that is there at its end.
    fn newest_root(&self) -> Option<(u64, &Entry)> {
        self.last
            .iter()
            .filter(|entry| entry.change == Change::Put)
            .filter_map(|entry| Some((generation(&entry.class)?, entry)))
            .max_by_key(|(generation, _)| *generation)
    }

    fn stuck(&self, facts: &Facts) -> Option<Next> {
        let newest = self.newest_root();
        let stuck = |key: &ObjectKey, why| {
            let key = key.clone();
            Some(Next::Stuck { key, why })
        };
        let other = self.last.iter().find(|entry| {
            entry.change == Change::Put
                && generation(&entry.class).is_some()
                && facts.keys.get(&entry.key) == Some(&Known::Other)
        });
        if let Some(entry) = other {
            return stuck(&entry.key, Stuck::OtherRoot);
        }
        if let Some((generation, entry)) = newest
            && let Some(newest) = facts.root.filter(|newest| *newest > generation)
        {
            return stuck(&entry.key, Stuck::AheadOfSource { newest });
        }
        let shown = newest.map(|(generation, _)| generation).max(facts.root);
        let removed = self.last.iter().find(|entry| {
            entry.change == Change::Delete
                && generation(&entry.class).is_some_and(|gone| Some(gone) == shown)
        });
        removed.and_then(|entry| stuck(&entry.key, Stuck::NewestRootRemoved))
    }

    /// Puts of all but roots and the pointer: those that announce a snapshot, or those that come before them.
    fn puts(&self, facts: &Facts, announcing: bool) -> Option<Next> {
        let mut copies = Vec::new();
        let mut replacements = Vec::new();
        for entry in &self.last {
            let concerned = entry.change == Change::Put
                && generation(&entry.class).is_none()
                && entry.class != Class::Pointer
                && announces(&entry.class) == announcing;
            if !concerned {
                continue;
            }
            match facts.keys.get(&entry.key) {
                None | Some(Known::Absent) => copies.push(put(entry)),
                Some(Known::Content(sequence)) if *sequence == entry.sequence => {}
                Some(Known::Content(_) | Known::Other) => replacements.push(put(entry)),
            }
        }
        if !copies.is_empty() {
            return Some(Next::Copy(copies));
        }
        (!replacements.is_empty()).then_some(Next::Replace(replacements))
    }

    fn root(&self, facts: &Facts) -> Option<Next> {
        let (generation, entry) = self.newest_root()?;
        if is_there(facts, entry) {
            return None;
        }
        Some(Next::Root {
            put: put(entry),
            generation,
        })
    }

    /// A root that the source still has beside the newest one (5.x keeps the last but one). Nobody may find it as
    /// the newest: it comes after it. Published as roots are, so that a late one cannot come back when it was removed.
    fn older_root(&self, facts: &Facts) -> Option<Next> {
        let newest = self.newest_root()?.1.sequence;
        self.last
            .iter()
            .filter(|entry| entry.change == Change::Put && entry.sequence != newest)
            .filter(|entry| !is_there(facts, entry))
            .find_map(|entry| {
                Some(Next::Root {
                    put: put(entry),
                    generation: generation(&entry.class)?,
                })
            })
    }

    /// Wherever there is a pointer it names the newest root, whatever the source's said at that moment: clusters take
    /// a failure to write it lightly, and the root that an old one names goes away.
    fn pointer(&self, facts: &Facts) -> Option<Next> {
        let newest = facts.root?;
        let written = self.last.iter().rfind(|e| e.class == Class::Pointer);
        let (key, wanted) = match written {
            Some(entry) => (entry.key.clone(), entry.change == Change::Put),
            None => {
                let root = self.last.iter().find(|e| generation(&e.class).is_some())?;
                (beside(&root.key), facts.pointer != Pointer::Absent)
            }
        };
        let wrong = facts.pointer != Pointer::Names(newest);
        (wanted && wrong).then_some(Next::Point {
            key,
            generation: newest,
        })
    }

    fn removals(&self, facts: &Facts, announcing: bool) -> Option<Next> {
        let gone: Vec<ObjectKey> = self
            .last
            .iter()
            .filter(|entry| entry.change == Change::Delete)
            .filter(|entry| announces(&entry.class) == announcing)
            .filter(|entry| facts.keys.get(&entry.key) != Some(&Known::Absent))
            .map(|entry| entry.key.clone())
            .collect();
        (!gone.is_empty()).then_some(Next::Remove(gone))
    }
}

/// How many entries may be applied as one.
fn length(entries: &[Entry]) -> usize {
    let mut removed: HashSet<&ObjectKey> = HashSet::new();
    // A root or the end of a snapshot: from here on older content of a name may be out of use.
    let mut settled = false;
    for (at, entry) in entries.iter().enumerate() {
        match entry.change {
            Change::Delete => {
                settled = true;
                removed.insert(&entry.key);
            }
            Change::Put => {
                let rewritten = entry.class == Class::Pointer || entry.class == Class::LegacyList;
                let made_anew = removed.contains(&entry.key) && !rewritten;
                if made_anew || settled && is_reused(&entry.class) {
                    return at;
                }
                settled |= generation(&entry.class).is_some() || announces(&entry.class);
            }
        }
    }
    entries.len()
}

fn generation(class: &Class) -> Option<u64> {
    match class {
        Class::Root(generation) => Some(*generation),
        Class::Pointer
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
        | Class::Data { .. }
        | Class::ShardIndex { .. }
        | Class::ShardSnapshot { .. }
        | Class::LegacyShardSnapshot { .. }
        | Class::Unknown => None,
    }
}

/// The pointer beside a root.
fn beside(root: &ObjectKey) -> ObjectKey {
    let folder = root
        .as_str()
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    let slash = if folder.is_empty() { "" } else { "/" };
    ObjectKey::parse(&format!("{folder}{slash}index.latest"))
        .expect("a root's folder and a short name are a key")
}

fn is_there(facts: &Facts, entry: &Entry) -> bool {
    facts.keys.get(&entry.key) == Some(&Known::Content(entry.sequence))
}

fn put(entry: &Entry) -> Put {
    Put {
        sequence: entry.sequence,
        key: entry.key.clone(),
        class: entry.class.clone(),
    }
}
