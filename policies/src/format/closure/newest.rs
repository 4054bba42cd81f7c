//! The newest snapshot of a root: what a person calls the state that the root restores.
//!
//! Decides by the time at which a snapshot ended. The order of a root says nothing: clusters write it from a hash table
//! (`RepositoryData.snapshotsToXContent` of both). Invariant: never a guess. A snapshot whose end is not known may be the
//! newest, so then none is.
//!
//! Source: `end_time_millis` of the root (Elasticsearch 7.14+), else `end_time` of `snap-<uuid>.dat`; both by the clock of
//! the cluster that took it.

use std::sync::Arc;

use crate::format::root::{Root, State};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestSnapshot {
    pub name: Arc<str>,
    /// Milliseconds since 1970.
    pub ended_ms: i64,
}

impl NewestSnapshot {
    /// Of those that a cluster restores. `ended` is in the order of the root's snapshots.
    #[must_use]
    pub fn of(root: &Root, ended: impl Iterator<Item = Option<i64>>) -> Option<Self> {
        let mut newest: Option<Self> = None;
        for (snapshot, ended) in root.snapshots.iter().zip(ended) {
            if !restores(snapshot.state) {
                continue;
            }
            let ended_ms = ended?;
            if newest
                .as_ref()
                .is_none_or(|known| ended_ms >= known.ended_ms)
            {
                newest = Some(Self {
                    name: snapshot.name.clone(),
                    ended_ms,
                });
            }
        }
        newest
    }
}

/// Source: `SnapshotState.restorable` of both clusters. A state that the root does not tell is one of 2.x.
fn restores(state: Option<State>) -> bool {
    match state {
        None | Some(State::Success | State::Partial | State::Other(_)) => true,
        Some(State::InProgress | State::Failed | State::Incompatible) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest of snapshots with these states, which ended then.
    fn newest(snapshots: &[(u8, Option<i64>)]) -> Option<(String, i64)> {
        let listed = snapshots.iter().enumerate().map(|(position, (state, _))| {
            format!(r#"{{"name":"s{position}","uuid":"u{position}","state":{state}}}"#)
        });
        let listed = listed.collect::<Vec<_>>().join(",");
        let root = format!(r#"{{"snapshots":[{listed}],"indices":{{}}}}"#);
        let root = Root::parse(7, root.as_bytes()).unwrap();
        let ended = snapshots.iter().map(|(_, ended)| *ended);
        NewestSnapshot::of(&root, ended).map(|newest| (newest.name.to_string(), newest.ended_ms))
    }

    const SUCCESS: u8 = 1;
    const FAILED: u8 = 2;
    const PARTIAL: u8 = 3;

    #[test]
    fn the_newest_snapshot_is_the_one_that_ended_last_wherever_the_root_lists_it() {
        let listed = [
            (SUCCESS, Some(20)),
            (PARTIAL, Some(30)),
            (SUCCESS, Some(10)),
        ];
        assert_eq!(newest(&listed), Some(("s1".into(), 30)));
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn a_snapshot_that_no_cluster_restores_is_not_the_newest() {
        let failed = [(SUCCESS, Some(20)), (FAILED, Some(30)), (FAILED, None)];
        assert_eq!(newest(&failed), Some(("s0".into(), 20)));
        assert_eq!(newest(&failed[1..]), None);
    }

    #[test]
    fn while_one_does_not_say_when_it_ended_none_is_the_newest() {
        let unknown = [(SUCCESS, Some(20)), (SUCCESS, None)];
        assert_eq!(newest(&unknown), None);
    }
}
