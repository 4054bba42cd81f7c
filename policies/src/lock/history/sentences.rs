//! What an operator reads of a history that is none.

use std::fmt;

use super::{Violation, Wrong};
use crate::lock::Lock;

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
