//! The sentence of a refusal: what the user of a cluster reads in the cluster's own log.
//!
//! Each says what is refused, why, and what to do; a function each, so that one is read and changed alone.

use super::admission::Change;
use super::refusal::{Names, Reason, Refusal};
use crate::format::closure::Problem;
use crate::format::root::RootError;
use crate::identity::Repository;
use crate::key::ObjectKey;

#[cfg(test)]
mod tests;

impl Refusal {
    pub(super) fn sentence(&self) -> String {
        let to = &self.repository;
        match &self.reason {
            Reason::NotARoot { generation, error } => not_a_root(to, *generation, error),
            Reason::NotNewer {
                generation,
                highest,
            } => not_newer(to, *generation, *highest),
            Reason::Incomplete {
                generation,
                problems,
                first,
                snapshots,
            } => incomplete(to, *generation, *problems, first, snapshots),
            Reason::IncompleteSnapshot {
                problems,
                first,
                snapshots,
            } => incomplete_snapshot(to, *problems, first, snapshots),
            Reason::Changed { generation, change } => changed(to, *generation, change),
            Reason::Superseded {
                generation,
                index,
                shard,
                shard_generation,
            } => superseded(to, *generation, index, *shard, shard_generation),
            Reason::OtherRepository {
                generation,
                expected,
                found,
            } => other_repository(to, *generation, expected, found.as_deref()),
            Reason::OtherCluster {
                generation,
                bound,
                found,
            } => other_cluster(to, *generation, bound, found),
            Reason::Pinned {
                generation,
                snapshots,
            } => pinned(to, *generation, snapshots),
            Reason::WriteOnce { key } => write_once(to, key),
            Reason::RootExists { generation } => root_exists(to, *generation),
            Reason::NotTheSame { key } => not_the_same(to, key),
            Reason::Needed { key, snapshots } => needed(to, key, snapshots),
            Reason::MayBeNeeded { key, snapshots } => may_be_needed(to, key, snapshots),
            Reason::Indexed { key } => indexed(to, key),
            Reason::NewestRoot {
                generation,
                snapshots,
            } => newest_root(to, *generation, *snapshots),
            Reason::PointerForm { length } => pointer_form(to, *length),
            Reason::PointerValue { value, highest } => pointer_value(to, *value, *highest),
            Reason::StillReading { key } => still_reading(to, key),
        }
    }
}

fn not_a_root(to: &Repository, generation: u64, error: &RootError) -> String {
    format!(
        "'index-{generation}' is refused as the next root of repository '{to}': {error}; \
         the repository stays as it was: repeat on the cluster what failed."
    )
}

fn not_newer(to: &Repository, generation: u64, highest: u64) -> String {
    format!(
        "'index-{generation}' is not newer than 'index-{highest}', the newest root of repository '{to}': \
         another cluster or an older master wrote it; make sure that one cluster writes, then register the repository anew."
    )
}

fn incomplete(
    to: &Repository,
    generation: u64,
    problems: usize,
    first: &Problem,
    snapshots: &Names,
) -> String {
    let harm = if snapshots.as_slice().is_empty() {
        "the next snapshot could not build on what is there".to_owned()
    } else {
        format!("{snapshots} could not be restored")
    };
    format!(
        "'index-{generation}' is refused as the next root of repository '{to}': '{}' {}{}, so that {harm}; \
         the repository stays as it was: repeat on the cluster what failed, and if it is refused again, look for what \
         deletes or holds back objects between the cluster and this gateway.",
        first.key,
        first.kind,
        and_more(problems)
    )
}

fn incomplete_snapshot(
    to: &Repository,
    problems: usize,
    first: &Problem,
    snapshots: &Names,
) -> String {
    format!(
        "The description of {snapshots} is refused in repository '{to}': '{}' {}{}, \
         so that it could not be restored; take the snapshot again.",
        first.key,
        first.kind,
        and_more(problems)
    )
}

/// Of what is wrong, the first is named.
fn and_more(problems: usize) -> String {
    match problems {
        0 | 1 => String::new(),
        2 => " (and one more object is missing or wrong)".into(),
        all => format!(" (and {} more objects are missing or wrong)", all - 1),
    }
}

fn changed(to: &Repository, generation: u64, change: &Change) -> String {
    format!(
        "'index-{generation}' is refused as the next root of repository '{to}': {change}; \
         a writer that does not know the newest root made it, so register the repository anew."
    )
}

fn superseded(
    to: &Repository,
    generation: u64,
    index: &str,
    shard: u32,
    shard_generation: &str,
) -> String {
    format!(
        "'index-{generation}' is refused as the next root of repository '{to}': it goes back to \
         generation '{shard_generation}' of shard {shard} of index '{index}', which was replaced; \
         a writer that does not know the newest root made it, so register the repository anew."
    )
}

fn other_repository(
    to: &Repository,
    generation: u64,
    expected: &str,
    found: Option<&str>,
) -> String {
    format!(
        "'index-{generation}' belongs to repository uuid '{}', but repository '{to}' has uuid '{expected}'; \
         register this repository anew.",
        found.unwrap_or("none")
    )
}

fn other_cluster(to: &Repository, generation: u64, bound: &str, found: &str) -> String {
    format!(
        "'index-{generation}' was written by cluster id '{found}', but repository '{to}' is bound to cluster id \
         '{bound}'; if the cluster was rebuilt, ask an operator for: snapgate lock {to} --writer CLUSTER."
    )
}

fn pinned(to: &Repository, generation: u64, snapshots: &Names) -> String {
    format!(
        "'index-{generation}' drops {snapshots} of repository '{to}', pinned by an operator; \
         ask for: snapgate unpin {to} SNAPSHOT."
    )
}

fn write_once(to: &Repository, key: &ObjectKey) -> String {
    format!(
        "'{key}' of repository '{to}' exists with other bytes, and its name is never written twice; \
         another writer is at work: make sure that one cluster writes."
    )
}

fn root_exists(to: &Repository, generation: u64) -> String {
    format!(
        "'index-{generation}' of repository '{to}' exists with other bytes: another cluster wrote it; \
         make sure that one cluster writes, then register the repository anew."
    )
}

fn not_the_same(to: &Repository, key: &ObjectKey) -> String {
    format!(
        "'{key}' of repository '{to}' can only be replaced by metadata of the same snapshot; \
         another writer is at work: make sure that one cluster writes."
    )
}

fn needed(to: &Repository, key: &ObjectKey, snapshots: &Names) -> String {
    format!(
        "'{key}' is needed by {snapshots} of repository '{to}'; delete the {} through the cluster instead.",
        plural(snapshots)
    )
}

fn may_be_needed(to: &Repository, key: &ObjectKey, snapshots: &Names) -> String {
    format!(
        "'{key}' may be needed by {snapshots} of repository '{to}', whose metadata cannot be read; \
         delete the {} through the cluster first.",
        plural(snapshots)
    )
}

fn indexed(to: &Repository, key: &ObjectKey) -> String {
    format!(
        "'{key}' belongs to the current index of a shard of repository '{to}', from which its next snapshot starts; \
         delete snapshots through the cluster instead."
    )
}

fn newest_root(to: &Repository, generation: u64, snapshots: usize) -> String {
    format!(
        "'index-{generation}' is the newest root of repository '{to}' and holds {}; \
         delete snapshots through the cluster instead.",
        match snapshots {
            1 => "1 snapshot".to_owned(),
            _ => format!("{snapshots} snapshots"),
        }
    )
}

fn pointer_form(to: &Repository, length: usize) -> String {
    format!(
        "'index.latest' of repository '{to}' must be 8 bytes that name its newest root, not {length} bytes; \
         clusters write it, nobody else needs to."
    )
}

fn pointer_value(to: &Repository, value: u64, highest: Option<u64>) -> String {
    let why = match highest {
        Some(highest) => format!("the newest root is 'index-{highest}'"),
        None => "the repository has no root yet".into(),
    };
    format!(
        "'index.latest' of repository '{to}' cannot name root {value}: {why}; \
         another cluster or an older master wrote it: make sure that one cluster writes, then register the repository anew."
    )
}

fn still_reading(to: &Repository, key: &ObjectKey) -> String {
    format!(
        "'{key}' cannot be replaced or deleted yet: repository '{to}' is still being read; \
         try again when 'snapgate status {to}' says that it is guarded."
    )
}

fn plural(names: &Names) -> &'static str {
    if names.as_slice().len() > 1 {
        "snapshots"
    } else {
        "snapshot"
    }
}
