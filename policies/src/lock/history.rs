//! The lock's history replayed from what was written down: does it keep the promises of one writer?
//!
//! Decides: the records of moves and of committed roots, in the order in which they were written -> the first record
//! that no gateway could have written, and the promise that it breaks. Invariants checked: at most one holder; an
//! epoch is minted once and never goes back; a root is committed only by who held its epoch, and never after a newer
//! one was held; what was in doubt became writable only through a recovery.
//!
//! A hash chain tells that records were changed; somebody who can write the database can forge it anew. The forged
//! history must then still be one that the lock could have had. So this does not ask [`super::step`] whether a move
//! is possible, which would believe the same mistakes twice, but keeps its own, smaller table.

use std::collections::BTreeMap;
use std::fmt;

use super::{Freeze, Lock, Next};
use crate::identity::{Cluster, Epoch, Repository};

/// What one record says of a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// The lock moved. `version` is the row's after the move; a repository's first row has version 1.
    Moved {
        version: u64,
        before: Lock,
        after: Lock,
    },
    /// A root was committed by an operation that `cluster` began under `epoch`.
    Committed {
        generation: u64,
        cluster: Cluster,
        epoch: Epoch,
    },
    /// The lock moved, written down by a version of the program that did not say from where to where.
    Untold,
}

/// What is wrong with a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// A row begins vacant, at version 1, with no epoch.
    NoBeginning {
        version: u64,
        before: Lock,
    },
    /// It moves another lock than the one that the record before left.
    Torn {
        left: Lock,
        before: Lock,
    },
    /// So many moves are missing, or one is there twice.
    Skipped {
        expected: u64,
        version: u64,
    },
    /// From a certain record on, every move says from where to where.
    Untold,
    EpochWentBack {
        from: Epoch,
        to: Epoch,
    },
    /// The epoch was held before, by this cluster.
    MintedTwice {
        epoch: Epoch,
        holder: Cluster,
    },
    /// The lock was given to `to` while `from` held it.
    TwoHolders {
        from: Cluster,
        to: Cluster,
    },
    /// The lock cannot move like this.
    Impossible {
        before: Lock,
        after: Lock,
    },
    /// Writes went on after a doubt, without a recovery.
    DoubtForgotten {
        reason: Freeze,
    },
    /// A root of an epoch that its cluster never held.
    NotTheHolder {
        generation: u64,
        cluster: Cluster,
        epoch: Epoch,
    },
    /// A root of an old epoch, after a newer one was held.
    AfterNewer {
        generation: u64,
        epoch: Epoch,
        newest: Epoch,
    },
    /// A root at a time when no write was open.
    NobodyWrote {
        generation: u64,
        lock: Lock,
    },
    /// The lock row is not the one that the records lead to.
    RowDiffers {
        version: u64,
        row: Lock,
    },
}

/// The first record that breaks a promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub repository: Repository,
    /// Of the audit log. None = it is the lock row that does not fit.
    pub sequence: Option<u64>,
    pub wrong: Box<Wrong>,
}

/// What was replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub moves: u64,
    pub roots: u64,
    pub epochs: u64,
}

/// Follows the records of all repositories.
#[derive(Clone, Debug)]
pub struct History {
    tracks: BTreeMap<Repository, Track>,
    totals: Totals,
}

/// One repository.
#[derive(Clone, Debug, Default)]
struct Track {
    /// The lock after the newest record, with its row's version. None = nothing was told yet.
    lock: Option<(u64, Lock)>,
    /// Older records did not say from where to where: the first that does is believed.
    untold: bool,
    /// Who held each epoch.
    holders: BTreeMap<Epoch, Cluster>,
    /// The lock before a promotion, which may be taken back.
    set_aside: Option<Lock>,
    /// The lock row, with its version, as it was read before the records.
    row: Option<(u64, Lock)>,
}

impl History {
    /// `rows` are all lock rows with their versions, read before any record: those that come meanwhile are newer.
    pub fn new(rows: impl IntoIterator<Item = (Repository, u64, Lock)>) -> Self {
        let track = |(repository, version, lock)| {
            let row = Some((version, lock));
            (
                repository,
                Track {
                    row,
                    ..Track::default()
                },
            )
        };
        Self {
            tracks: rows.into_iter().map(track).collect(),
            totals: Totals::default(),
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// The record cannot follow those before it.
    pub fn follow(
        &mut self,
        sequence: u64,
        repository: &Repository,
        record: Record,
    ) -> Result<(), Violation> {
        let track = self.tracks.entry(repository.clone()).or_default();
        let totals = &mut self.totals;
        let followed = match record {
            Record::Moved {
                version,
                before,
                after,
            } => {
                totals.moves += 1;
                let epochs = track.holders.len();
                let moved = track.moved(version, before, after);
                totals.epochs += (track.holders.len() - epochs) as u64;
                moved
            }
            Record::Committed {
                generation,
                cluster,
                epoch,
            } => {
                totals.roots += 1;
                track.committed(generation, &cluster, epoch)
            }
            Record::Untold if track.lock.is_some() => Err(Wrong::Untold),
            Record::Untold => {
                track.untold = true;
                Ok(())
            }
        };
        followed.map_err(|wrong| Violation {
            repository: repository.clone(),
            sequence: Some(sequence),
            wrong: Box::new(wrong),
        })
    }

    /// After the last record: they lead to every lock row that was there.
    ///
    /// # Errors
    /// A row that no record leads to.
    pub fn end(self) -> Result<Totals, Violation> {
        for (repository, track) in self.tracks {
            let Some((version, row)) = track.row else {
                continue;
            };
            let led = match &track.lock {
                Some((newest, _)) => *newest >= version,
                None => track.untold || begins(version, &row),
            };
            if !led {
                return Err(Violation {
                    repository,
                    sequence: None,
                    wrong: Box::new(Wrong::RowDiffers { version, row }),
                });
            }
        }
        Ok(self.totals)
    }
}

fn begins(version: u64, lock: &Lock) -> bool {
    version == 1 && *lock == Lock::Vacant { epoch: Epoch(0) }
}

impl Track {
    fn moved(&mut self, version: u64, before: Lock, after: Lock) -> Result<(), Wrong> {
        let from = version.saturating_sub(1);
        match &self.lock {
            Some((newest, _)) if *newest != from => {
                return Err(Wrong::Skipped {
                    expected: newest + 1,
                    version,
                });
            }
            Some((_, left)) if *left != before => {
                return Err(Wrong::Torn {
                    left: left.clone(),
                    before,
                });
            }
            Some(_) => {}
            None if self.untold || begins(from, &before) => {
                if let Some(holder) = before.holder() {
                    self.holders.insert(before.epoch(), holder.clone());
                }
            }
            None => return Err(Wrong::NoBeginning { version, before }),
        }
        if after.epoch() < before.epoch() {
            return Err(Wrong::EpochWentBack {
                from: before.epoch(),
                to: after.epoch(),
            });
        }
        self.may_move(&before, &after)?;
        self.set_aside = match (&before, &after) {
            (
                _,
                Lock::Frozen {
                    reason: Freeze::Promoting(_),
                    ..
                },
            ) => Some(before),
            (
                _,
                Lock::Vacant { .. }
                | Lock::Held { .. }
                | Lock::Draining { .. }
                | Lock::Fenced { .. }
                | Lock::Frozen { .. },
            ) => None,
        };
        if let Some((at, row)) = &self.row
            && *at == version
            && *row != after
        {
            return Err(Wrong::RowDiffers {
                version,
                row: row.clone(),
            });
        }
        self.lock = Some((version, after));
        Ok(())
    }

    fn may_move(&mut self, before: &Lock, after: &Lock) -> Result<(), Wrong> {
        if self.set_aside.as_ref() == Some(after) {
            return Ok(());
        }
        match after {
            Lock::Held { epoch, holder } => self.granted(before, *epoch, holder),
            Lock::Draining { epoch, holder, .. } => {
                let drains = before.epoch() == *epoch && before.holder() == Some(holder);
                possible(drains, before, after)
            }
            Lock::Vacant { .. } => {
                unforgotten(before)?;
                possible(becomes_vacant(before, after), before, after)
            }
            Lock::Fenced { next, .. } => {
                if !matches!(next, Next::Recover) {
                    unforgotten(before)?;
                }
                possible(becomes_fenced(before, next, after), before, after)
            }
            Lock::Frozen { reason, .. } => {
                possible(becomes_frozen(before, reason, after), before, after)
            }
        }
    }

    /// Only a fence, or a promotion, ends in a grant: of an epoch above all that were held.
    fn granted(&mut self, before: &Lock, epoch: Epoch, heir: &Cluster) -> Result<(), Wrong> {
        if let Some(holder) = before.holder() {
            return Err(Wrong::TwoHolders {
                from: holder.clone(),
                to: heir.clone(),
            });
        }
        if let Some(holder) = self.holders.get(&epoch) {
            return Err(Wrong::MintedTwice {
                epoch,
                holder: holder.clone(),
            });
        }
        let grants = match before {
            Lock::Fenced {
                epoch: fenced,
                next: Next::Hold(next),
                ..
            } => epoch == fenced.next() && next == heir,
            Lock::Frozen {
                epoch: frozen,
                reason: Freeze::Promoting(_),
            } => epoch > *frozen,
            Lock::Frozen { .. } => {
                unforgotten(before)?;
                false
            }
            Lock::Vacant { .. }
            | Lock::Held { .. }
            | Lock::Draining { .. }
            | Lock::Fenced { .. } => false,
        };
        let after = Lock::Held {
            epoch,
            holder: heir.clone(),
        };
        possible(grants, before, &after)?;
        self.holders.insert(epoch, heir.clone());
        Ok(())
    }

    /// While a lock is frozen what began before may still come to its end, and the gateway itself may bring back an
    /// older root.
    fn committed(&self, generation: u64, cluster: &Cluster, epoch: Epoch) -> Result<(), Wrong> {
        let Some((_, lock)) = &self.lock else {
            // Nothing was told of this repository's lock yet.
            return if self.untold {
                Ok(())
            } else {
                Err(Wrong::NotTheHolder {
                    generation,
                    cluster: cluster.clone(),
                    epoch,
                })
            };
        };
        let may_end = match lock {
            Lock::Held { .. } | Lock::Draining { .. } | Lock::Frozen { .. } => true,
            Lock::Fenced { next, .. } => matches!(next, Next::Recover),
            Lock::Vacant { .. } => false,
        };
        if !may_end {
            return Err(Wrong::NobodyWrote {
                generation,
                lock: lock.clone(),
            });
        }
        let frozen = matches!(lock, Lock::Frozen { .. });
        if frozen && *cluster == Cluster::gateway() && epoch <= lock.epoch() {
            return Ok(());
        }
        if let Some((newest, _)) = self.holders.last_key_value()
            && *newest > epoch
        {
            return Err(Wrong::AfterNewer {
                generation,
                epoch,
                newest: *newest,
            });
        }
        if self.holders.get(&epoch) == Some(cluster) {
            return Ok(());
        }
        Err(Wrong::NotTheHolder {
            generation,
            cluster: cluster.clone(),
            epoch,
        })
    }
}

fn possible(is: bool, before: &Lock, after: &Lock) -> Result<(), Wrong> {
    if is {
        return Ok(());
    }
    Err(Wrong::Impossible {
        before: before.clone(),
        after: after.clone(),
    })
}

/// From these a repository becomes writable only when its catalog was read anew, or moved to another store.
fn unforgotten(before: &Lock) -> Result<(), Wrong> {
    let Lock::Frozen { reason, .. } = before else {
        return Ok(());
    };
    match reason {
        Freeze::Operator(_)
        | Freeze::Unadopted
        | Freeze::UnadoptedMirror(_)
        | Freeze::StoreUnreachable
        | Freeze::Recovering => Ok(()),
        Freeze::AnchorAhead { .. }
        | Freeze::AnchorBehind { .. }
        | Freeze::AnchorBroken(_)
        | Freeze::OtherGateway
        | Freeze::DatabaseMoved
        | Freeze::RootAppeared(_)
        | Freeze::Promoting(_)
        | Freeze::Promoted { .. } => Err(Wrong::DoubtForgotten {
            reason: reason.clone(),
        }),
    }
}

/// Drained and released, a release whose anchor is there, or thawed.
fn becomes_vacant(before: &Lock, after: &Lock) -> bool {
    let (from, to) = (before.epoch(), after.epoch());
    match before {
        Lock::Draining {
            next: Next::Release,
            ..
        }
        | Lock::Frozen { .. } => from == to,
        Lock::Fenced {
            next: Next::Release,
            ..
        } => from.next() == to,
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } | Lock::Fenced { .. } => {
            false
        }
    }
}

/// A vacant lock is taken, a drained one goes on to who it was drained for, a frozen one is recovered.
fn becomes_fenced(before: &Lock, next: &Next, after: &Lock) -> bool {
    let same = before.epoch() == after.epoch();
    match before {
        Lock::Vacant { .. } => same && matches!(next, Next::Hold(_)),
        Lock::Draining { next: towards, .. } => {
            same && towards == next && matches!(next, Next::Hold(_) | Next::Recover)
        }
        // The store may know epochs that this database does not.
        Lock::Frozen { .. } => matches!(next, Next::Recover),
        Lock::Held { .. } | Lock::Fenced { .. } => false,
    }
}

/// From anywhere by a doubt; with the fence's own epoch once its anchor is there.
fn becomes_frozen(before: &Lock, reason: &Freeze, after: &Lock) -> bool {
    let (from, to) = (before.epoch(), after.epoch());
    match (before, reason) {
        (
            Lock::Fenced {
                next: Next::Recover,
                ..
            },
            Freeze::Recovering,
        )
        | (
            Lock::Fenced {
                next: Next::Freeze(_),
                ..
            },
            Freeze::Operator(_),
        ) => from.next() == to,
        (_, Freeze::Recovering) => false,
        (
            _,
            Freeze::Operator(_)
            | Freeze::Unadopted
            | Freeze::UnadoptedMirror(_)
            | Freeze::StoreUnreachable
            | Freeze::AnchorAhead { .. }
            | Freeze::AnchorBehind { .. }
            | Freeze::AnchorBroken(_)
            | Freeze::OtherGateway
            | Freeze::DatabaseMoved
            | Freeze::RootAppeared(_)
            | Freeze::Promoting(_)
            | Freeze::Promoted { .. },
        ) => from == to,
    }
}

/// A lock in the middle of a sentence.
struct Shown<'a>(&'a Lock);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Lock::Vacant { epoch } => write!(f, "vacant after epoch {epoch}"),
            Lock::Held { epoch, holder } => write!(f, "held by '{holder}' at epoch {epoch}"),
            Lock::Draining { epoch, holder, .. } => {
                write!(f, "draining from '{holder}' at epoch {epoch}")
            }
            Lock::Fenced { epoch, .. } => write!(f, "fenced after epoch {epoch}"),
            Lock::Frozen { epoch, reason } => write!(f, "frozen after epoch {epoch} ({reason})"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(
                f,
                "Audit record {sequence} of repository '{}': ",
                self.repository
            )?,
            None => write!(f, "The lock of repository '{}': ", self.repository)?,
        }
        self.wrong.fmt(f)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBeginning { before, .. } => {
                write!(f, "the history begins with a lock that is {}; what came before is missing", Shown(before))
            }
            Self::Torn { left, before } => write!(
                f,
                "it moves a lock that is {}, but the record before left it {}",
                Shown(before),
                Shown(left)
            ),
            Self::Skipped { expected, version } => {
                write!(f, "it is move {version} of the lock, where move {expected} comes next")
            }
            Self::Untold => f.write_str("it does not say from where to where the lock moved, as every record after the first such one does"),
            Self::EpochWentBack { from, to } => {
                write!(f, "the epoch goes back from {from} to {to}")
            }
            Self::MintedTwice { epoch, holder } => {
                write!(f, "epoch {epoch} is given out again; '{holder}' held it before")
            }
            Self::TwoHolders { from, to } => {
                write!(f, "the lock is given to '{to}' while '{from}' holds it")
            }
            Self::Impossible { before, after } => {
                write!(f, "a lock that is {} does not become {}", Shown(before), Shown(after))
            }
            Self::DoubtForgotten { reason } => {
                write!(f, "the repository became writable without a recovery, although it was frozen: {reason}")
            }
            Self::NotTheHolder { generation, cluster, epoch } => write!(
                f,
                "root {generation} was committed for '{cluster}' under epoch {epoch}, which it did not hold"
            ),
            Self::AfterNewer { generation, epoch, newest } => write!(
                f,
                "root {generation} was committed under epoch {epoch} after epoch {newest} was held"
            ),
            Self::NobodyWrote { generation, lock } => write!(
                f,
                "root {generation} was committed while the lock was {}, with no write open",
                Shown(lock)
            ),
            Self::RowDiffers { version, row } => write!(
                f,
                "the row says {} (move {version}), which is not where the records lead",
                Shown(row)
            ),
        }
    }
}
