//! Steps left out or done wrongly; each must break an invariant.

use policies::key::{Class, Writing};
use policies::mirror_order::{Change, Entry, Facts, Known, Next, Pointer, Put};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mutant {
    /// Everything at once, as a copier of buckets does.
    Unordered,
    RootFirst,
    RemovalsBeforeTheRoot,
    PointerBeforeTheRoot,
    /// The pointer is copied as the source had it, after the removals.
    PointerIsCopied,
    /// Steps go on beyond names that are used again.
    CoalescesReusedNames,
    AppliedWhenSent,
    ExistsIsTrusted,
    CreationReplaces,
    UnfencedReplacement,
    NoFence,
    PoisonIsSkipped,
    /// A reconciliation begins with the newest root.
    ResyncRootFirst,
    /// A reconciliation copies what its first look showed, and not what came since.
    ResyncDoesNotFollow,
    /// A reconciliation removes all that the catalog does not show now.
    ResyncRemovesAtOnce,
    /// After a reconciliation the journal is followed from its end, not from where the reconciliation looked last.
    ResyncSkipsWhatCameMeanwhile,
    /// A reconciliation takes a transfer that was under way for its own.
    TransfersAreNotSettled,
    JournalIsAppliedMeanwhile,
    /// A root is moved aside while the pointer names it.
    PointerIsLeftBehind,
    /// A reconciliation copies older roots as it copies data.
    OlderRootsComeLate,
}

impl Mutant {
    /// It has a planner of its own.
    pub fn plans(self) -> bool {
        match self {
            Self::Unordered
            | Self::RootFirst
            | Self::RemovalsBeforeTheRoot
            | Self::PointerBeforeTheRoot
            | Self::PointerIsCopied
            | Self::CoalescesReusedNames => true,
            Self::AppliedWhenSent
            | Self::ExistsIsTrusted
            | Self::CreationReplaces
            | Self::UnfencedReplacement
            | Self::NoFence
            | Self::PoisonIsSkipped
            | Self::ResyncRootFirst
            | Self::ResyncDoesNotFollow
            | Self::ResyncRemovesAtOnce
            | Self::ResyncSkipsWhatCameMeanwhile
            | Self::TransfersAreNotSettled
            | Self::JournalIsAppliedMeanwhile
            | Self::PointerIsLeftBehind
            | Self::OlderRootsComeLate => false,
        }
    }
}

/// The last change of each key, done in the mutant's order.
pub fn naive(mutant: Mutant, entries: &[Entry], facts: &Facts) -> Vec<Next> {
    let Some(upto) = entries.last().map(|entry| entry.sequence) else {
        return Vec::new();
    };
    let is_last = |at: usize| !entries[at + 1..].iter().any(|e| e.key == entries[at].key);
    let last: Vec<&Entry> = (0..entries.len())
        .filter(|at| is_last(*at))
        .map(|at| &entries[at])
        .collect();
    let copies = copies(&last, facts);
    let newest = last
        .iter()
        .filter(|entry| entry.change == Change::Put)
        .filter_map(|entry| Some((generation(&entry.class)?, *entry)))
        .max_by_key(|(generation, _)| *generation);
    let root = newest
        .filter(|(_, entry)| facts.keys.get(&entry.key) != Some(&Known::Content(entry.sequence)))
        .map(|(generation, entry)| Next::Root {
            put: put(entry),
            generation,
        });
    let older = last
        .iter()
        .filter(|entry| entry.change == Change::Put)
        .filter(|entry| newest.is_some_and(|(_, newest)| newest.sequence != entry.sequence))
        .filter(|entry| facts.keys.get(&entry.key) != Some(&Known::Content(entry.sequence)))
        .find_map(|entry| {
            Some(Next::Root {
                put: put(entry),
                generation: generation(&entry.class)?,
            })
        });
    let pointed = last.iter().find(|entry| entry.class == Class::Pointer);
    let point = |generation: Option<u64>| {
        let (entry, generation) = (pointed?, generation?);
        (facts.pointer != Pointer::Names(generation)).then(|| Next::Point {
            key: entry.key.clone(),
            generation,
        })
    };
    let newest = newest.map(|(generation, _)| generation).max(facts.root);
    let gone: Vec<_> = last
        .iter()
        .filter(|e| e.change == Change::Delete && facts.keys.get(&e.key) != Some(&Known::Absent))
        .map(|e| e.key.clone())
        .collect();
    let gone = (!gone.is_empty()).then_some(Next::Remove(gone));
    let first = |stages: Vec<Option<Next>>| {
        let next = stages.into_iter().flatten().next();
        vec![next.unwrap_or(Next::Applied(upto))]
    };
    match mutant {
        Mutant::Unordered => {
            let all: Vec<Next> = [copies, root, point(newest), gone]
                .into_iter()
                .flatten()
                .collect();
            if all.is_empty() {
                vec![Next::Applied(upto)]
            } else {
                all
            }
        }
        Mutant::RootFirst => first(vec![root, older.clone(), copies, point(facts.root), gone]),
        Mutant::RemovalsBeforeTheRoot => first(vec![copies, gone, root, older, point(facts.root)]),
        Mutant::PointerBeforeTheRoot => {
            first(vec![copies, point(newest), root, older.clone(), gone])
        }
        Mutant::PointerIsCopied => {
            first(vec![copies, root, older.clone(), gone, point(facts.root)])
        }
        Mutant::CoalescesReusedNames => {
            first(vec![copies, root, older.clone(), point(facts.root), gone])
        }
        Mutant::AppliedWhenSent
        | Mutant::ExistsIsTrusted
        | Mutant::CreationReplaces
        | Mutant::UnfencedReplacement
        | Mutant::NoFence
        | Mutant::PoisonIsSkipped
        | Mutant::ResyncRootFirst
        | Mutant::ResyncDoesNotFollow
        | Mutant::ResyncRemovesAtOnce
        | Mutant::ResyncSkipsWhatCameMeanwhile
        | Mutant::TransfersAreNotSettled
        | Mutant::JournalIsAppliedMeanwhile
        | Mutant::PointerIsLeftBehind
        | Mutant::OlderRootsComeLate => unreachable!("they use the planner"),
    }
}

fn copies(last: &[&Entry], facts: &Facts) -> Option<Next> {
    let mut puts = Vec::new();
    let mut replacements = Vec::new();
    for entry in last {
        let plain = entry.class != Class::Pointer && generation(&entry.class).is_none();
        if entry.change != Change::Put || !plain || entry.class.writing() == Writing::Free {
            continue;
        }
        match facts.keys.get(&entry.key) {
            None | Some(Known::Absent) => puts.push(put(entry)),
            Some(Known::Content(sequence)) if *sequence == entry.sequence => {}
            Some(Known::Content(_) | Known::Other) => replacements.push(put(entry)),
        }
    }
    if !puts.is_empty() {
        return Some(Next::Copy(puts));
    }
    (!replacements.is_empty()).then_some(Next::Replace(replacements))
}

fn generation(class: &Class) -> Option<u64> {
    match class {
        Class::Root(generation) => Some(*generation),
        _other => None,
    }
}

fn put(entry: &Entry) -> Put {
    Put {
        sequence: entry.sequence,
        key: entry.key.clone(),
        class: entry.class.clone(),
    }
}
