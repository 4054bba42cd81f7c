//! Root admission.
//!
//! Decides: may this `index-N` become the newest root? Order: cheap checks on the root alone, then against its possible
//! parents, then its closure, which alone needs facts. A parent is any root from which the cluster may have gone on; one that
//! fits is enough, because clusters finalise parallel snapshots in completion order and a new master may go on
//! from before the last root. Damage that was there before is tolerated and reported, or the user would be locked out.

mod change;

use std::sync::Arc;

pub use change::Change;
use change::compare;

use super::refusal::{Names, Reason, Refusal};
use super::{Guard, Scope};
use crate::format::closure::{Facts, Needs, NewestSnapshot, Problem, Proposal};
use crate::format::root::{Generation, Root};
use crate::key::ObjectKey;

/// A root that parses.
#[derive(Debug, Clone)]
pub struct Candidate(Arc<Root>);

impl Candidate {
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.0
    }

    pub(super) fn of(root: Root) -> Self {
        Self(Arc::new(root))
    }

    pub(super) fn shared(&self) -> Arc<Root> {
        Arc::clone(&self.0)
    }
}

/// What the shell knows besides the repository.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules<'a> {
    /// The cluster id that wrote under this epoch of the lock before.
    pub bound_cluster: Option<&'a str>,
    /// Uuids of snapshots that must stay.
    pub pinned: &'a [Arc<str>],
}

/// Permission to publish one root: made here only, used once.
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    proposal: Proposal,
    reports: Vec<Report>,
}

impl Admitted {
    pub(super) fn new(proposal: Proposal, reports: Vec<Report>) -> Self {
        Self { proposal, reports }
    }

    #[must_use]
    pub fn root(&self) -> &Root {
        &self.proposal.root
    }

    #[must_use]
    pub fn newest_snapshot(&self) -> Option<NewestSnapshot> {
        self.proposal.newest_snapshot()
    }

    /// Hidden objects that the root needs: the transaction that commits it shows them again.
    #[must_use]
    pub fn revived(&self) -> &[ObjectKey] {
        &self.proposal.revived
    }

    /// What an operator should know of it.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    pub(super) fn into_proposal(self) -> Proposal {
        self.proposal
    }
}

/// Admitted, but worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Wrong before and still wrong; while observing, anything that is wrong.
    Damage(Problem),
    /// Fields that no known version writes.
    UnknownFields(Vec<String>),
    /// The first cluster id of this epoch: bind it.
    BindCluster(Arc<str>),
    /// The repository got its uuid.
    Uuid(Arc<str>),
    /// From the legacy form to that of 7.6.
    FormChanged,
    /// Snapshots that the newest root had.
    Dropped(Vec<Arc<str>>),
    /// Dropped by a root that adds others, which no single step of a cluster does: its writer did not know the newest root.
    Lost(Vec<Arc<str>>),
    /// While observing: it would have been refused.
    WouldRefuse(Refusal),
}

impl Guard {
    /// Reads the body of `index-<generation>`.
    ///
    /// # Errors
    /// It is not a root; also while observing, because no cluster could read it.
    pub fn candidate(&self, generation: u64, body: &[u8]) -> Result<Candidate, Refusal> {
        match Root::parse(generation, body) {
            Ok(root) => Ok(Candidate::of(root)),
            Err(error) => Err(self.refusal(Reason::NotARoot { generation, error })),
        }
    }

    /// Judges a root.
    ///
    /// # Errors
    /// The facts that are missing to judge it. Ask again with these added to the old ones.
    pub fn admit(
        &self,
        candidate: &Candidate,
        rules: Rules<'_>,
        facts: &dyn Facts,
    ) -> Result<Result<Admitted, Refusal>, Needs> {
        let root = &candidate.0;
        let mut reports = self.reports(root, rules);
        if let Err(reason) = self
            .check_alone(root, rules)
            .and_then(|()| self.check_parents(root))
        {
            let refusal = self.refusal(reason);
            match self.scope {
                Scope::Complete => return Ok(Err(refusal)),
                Scope::Observing => reports.push(Report::WouldRefuse(refusal)),
            }
        }
        let proposal = self.knowledge.propose(root.clone(), facts)?;
        let known = |problem: &&Problem| self.knowledge.is_known(&problem.key);
        let (old, new): (Vec<_>, Vec<_>) = proposal.problems.iter().partition(known);
        if self.scope == Scope::Complete
            && let Some(reason) = incomplete(root, &new)
        {
            return Ok(Err(self.refusal(reason)));
        }
        reports.extend(old.into_iter().chain(new).cloned().map(Report::Damage));
        Ok(Ok(Admitted { proposal, reports }))
    }

    fn check_alone(&self, root: &Root, rules: Rules<'_>) -> Result<(), Reason> {
        let generation = root.generation;
        if let (Some(bound), Some(found)) = (rules.bound_cluster, &root.cluster_id)
            && **found != *bound
        {
            return Err(Reason::OtherCluster {
                generation,
                bound: bound.into(),
                found: found.clone(),
            });
        }
        let Some(newest) = self.knowledge.newest() else {
            return Ok(());
        };
        let newest = &newest.root;
        if generation <= newest.generation && !newest.of_list {
            return Err(Reason::NotNewer {
                generation,
                highest: newest.generation,
            });
        }
        if let Some(expected) = &newest.uuid
            && root.uuid.as_ref() != Some(expected)
        {
            return Err(Reason::OtherRepository {
                generation,
                expected: expected.clone(),
                found: root.uuid.clone(),
            });
        }
        let lost =
            |uuid: &&Arc<str>| newest.position(uuid).is_some() && root.position(uuid).is_none();
        let pinned: Vec<_> = rules
            .pinned
            .iter()
            .filter(lost)
            .filter_map(|uuid| newest.snapshot(uuid))
            .collect();
        if !pinned.is_empty() {
            let mut names: Vec<_> = pinned
                .iter()
                .map(|snapshot| snapshot.name.clone())
                .collect();
            names.sort();
            return Err(Reason::Pinned {
                generation,
                snapshots: Names::new(names),
            });
        }
        for index in &root.indices {
            for (shard, listed) in index.generations.iter().flatten().enumerate() {
                if let Generation::Uuid(uuid) = listed
                    && self.knowledge.is_superseded(&index.id, shard as u32, uuid)
                {
                    return Err(Reason::Superseded {
                        generation,
                        index: index.name.clone(),
                        shard: shard as u32,
                        shard_generation: uuid.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// One parent that fits is enough; if none does, the difference to the newest is the reason.
    fn check_parents(&self, root: &Root) -> Result<(), Reason> {
        let mut first = None;
        // A list has no number, and says of a snapshot less than a root does.
        let roots = self.knowledge.live().iter().rev();
        for parent in roots.filter(|live| !live.root.of_list) {
            let change = compare(&parent.root, root)
                .err()
                .or_else(|| self.lost_generation(&parent.root, root));
            match change {
                None => return Ok(()),
                Some(change) => first = first.or(Some(change)),
            }
        }
        match first {
            None => Ok(()),
            Some(change) => Err(Reason::Changed {
                generation: root.generation,
                change,
            }),
        }
    }

    fn lost_generation(&self, parent: &Root, root: &Root) -> Option<Change> {
        parent.indices.iter().find_map(|old| {
            let new = root.index(&old.id)?;
            let listed = old.generations.iter().flatten().enumerate();
            let mut lost = listed.filter_map(|(shard, generation)| {
                let shard = shard as u32;
                let had = matches!(generation, Generation::Uuid(_));
                (had && !matches!(new.generation(shard), Generation::Uuid(_))).then_some(shard)
            });
            let shard =
                lost.find(|shard| self.knowledge.has_shard_snapshot(&old.id, *shard, root))?;
            Some(Change::GenerationLost {
                index: old.name.clone(),
                shard,
            })
        })
    }

    fn reports(&self, root: &Root, rules: Rules<'_>) -> Vec<Report> {
        let mut reports = Vec::new();
        if !root.unknown_fields.is_empty() {
            reports.push(Report::UnknownFields(root.unknown_fields.clone()));
        }
        if let (None, Some(cluster)) = (rules.bound_cluster, &root.cluster_id) {
            reports.push(Report::BindCluster(cluster.clone()));
        }
        let Some(newest) = self.knowledge.newest() else {
            return reports;
        };
        let newest = &newest.root;
        if let (None, Some(uuid)) = (&newest.uuid, &root.uuid) {
            reports.push(Report::Uuid(uuid.clone()));
        }
        if newest.is_legacy_form() && !root.is_legacy_form() {
            reports.push(Report::FormChanged);
        }
        let dropped = newest
            .snapshots
            .iter()
            .filter(|snapshot| root.position(&snapshot.uuid).is_none());
        let dropped: Vec<_> = dropped.map(|snapshot| snapshot.name.clone()).collect();
        let adds = root
            .snapshots
            .iter()
            .any(|snapshot| newest.position(&snapshot.uuid).is_none());
        match (dropped.is_empty(), adds) {
            (true, _) => {}
            (false, false) => reports.push(Report::Dropped(dropped)),
            (false, true) => reports.push(Report::Lost(dropped)),
        }
        reports
    }
}

/// The reason to refuse a root for what is wrong with its closure and was not wrong before.
pub(super) fn incomplete(root: &Root, new: &[&Problem]) -> Option<Reason> {
    let first = Box::new((*new.first()?).clone());
    let named = new.iter().flat_map(|problem| problem.snapshots.iter());
    let mut snapshots: Vec<_> = named.cloned().collect();
    snapshots.sort();
    snapshots.dedup();
    let (problems, snapshots) = (new.len(), Names::new(snapshots));
    Some(if root.of_list {
        Reason::IncompleteSnapshot {
            problems,
            first,
            snapshots,
        }
    } else {
        Reason::Incomplete {
            generation: root.generation,
            problems,
            first,
            snapshots,
        }
    })
}
