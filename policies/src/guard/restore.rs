//! What an operator brings back, and how long restore points are held.
//!
//! Decides: may an older root, or one with a deleted snapshot put back, become the newest ([`Guard::admit_restored`])?
//! The rules of admission hold except those that only a cluster's own history can keep: parents, superseded
//! generations and the bound cluster say nothing about what an operator takes from an earlier root. All that it needs is
//! looked up anew, nothing is taken for known.
//! And: is hidden content still part of a restore point that the retention holds ([`holding`])?

use std::ops::Range;
use std::sync::Arc;

use super::Guard;
use super::admission::{Admitted, Candidate, Report, incomplete};
use super::refusal::{Names, Reason, Refusal};
use crate::format::closure::{Facts, Knowledge, Needs, Problem};

impl Guard {
    /// Judges a root that an operator brings back; `facts` say what will be visible once it is committed.
    ///
    /// # Errors
    /// The facts that are missing to judge it. Ask again with these added to the old ones.
    pub fn admit_restored(
        &self,
        candidate: &Candidate,
        pinned: &[Arc<str>],
        facts: &dyn Facts,
    ) -> Result<Result<Admitted, Refusal>, Needs> {
        let root = candidate.shared();
        let generation = root.generation;
        if let Some(newest) = self.knowledge.newest() {
            let newest = &newest.root;
            if generation <= newest.generation {
                return Ok(Err(self.refusal(Reason::NotNewer {
                    generation,
                    highest: newest.generation,
                })));
            }
            if let (Some(expected), Some(found)) = (&newest.uuid, &root.uuid)
                && expected != found
            {
                return Ok(Err(self.refusal(Reason::OtherRepository {
                    generation,
                    expected: expected.clone(),
                    found: Some(found.clone()),
                })));
            }
            let mut lost: Vec<_> = pinned
                .iter()
                .filter(|uuid| root.position(uuid).is_none())
                .filter_map(|uuid| newest.snapshot(uuid))
                .map(|snapshot| snapshot.name.clone())
                .collect();
            if !lost.is_empty() {
                lost.sort();
                return Ok(Err(self.refusal(Reason::Pinned {
                    generation,
                    snapshots: Names::new(lost),
                })));
            }
        }
        let proposal = Knowledge::new(self.knowledge.layout().clone()).propose(root, facts)?;
        let known = |problem: &&Problem| self.knowledge.is_known(&problem.key);
        let (old, new): (Vec<_>, Vec<_>) = proposal.problems.iter().partition(known);
        if let Some(reason) = incomplete(candidate.root(), &new) {
            return Ok(Err(self.refusal(reason)));
        }
        let reports = old.into_iter().cloned().map(Report::Damage).collect();
        Ok(Ok(Admitted::new(proposal, reports)))
    }
}

/// A restore point as the reaper sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub generation: u64,
    /// Journal sequence of its commit.
    pub sequence: u64,
    /// Gateway uptime at its commit.
    pub uptime_ms: u64,
}

/// The restore point, of those in `points` (ascending), that the retention holds and of which content that was visible
/// in these sequences may be part. A point is held for the retention after the next one took its place; the newest
/// one is not looked at, because the guard itself knows what it needs.
#[must_use]
pub fn holding(
    points: &[Point],
    visible: &Range<u64>,
    uptime_ms: u64,
    retention_ms: u64,
) -> Option<u64> {
    points.windows(2).find_map(|pair| {
        let held = uptime_ms < pair[1].uptime_ms.saturating_add(retention_ms);
        (held && visible.contains(&pair[0].sequence)).then_some(pair[0].generation)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(generation: u64, sequence: u64, uptime_ms: u64) -> Point {
        Point {
            generation,
            sequence,
            uptime_ms,
        }
    }

    #[test]
    fn a_restore_point_holds_what_was_visible_at_its_commit_for_the_retention_after_the_next() {
        let points = [point(1, 10, 100), point(2, 20, 200), point(3, 30, 300)];
        let held = |visible: Range<u64>, uptime_ms| holding(&points, &visible, uptime_ms, 50);
        assert_eq!(held(5..15, 249), Some(1));
        assert_eq!(held(5..15, 250), None, "its retention is over");
        assert_eq!(
            held(11..15, 249),
            None,
            "it came and went between two roots"
        );
        assert_eq!(held(5..25, 299), Some(2));
        assert_eq!(held(5..21, 349), Some(2));
        assert_eq!(
            held(25..40, 349),
            None,
            "what the newest needs, the guard knows"
        );
        assert_eq!(holding(&points, &(5..15), 200, 0), None);
    }
}
