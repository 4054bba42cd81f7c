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

use super::{Freeze, Lock, Next};
use crate::identity::{Cluster, Epoch, Repository};

mod sentences;
mod table;

use table::{becomes_fenced, becomes_frozen, becomes_vacant, possible, unforgotten};

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
