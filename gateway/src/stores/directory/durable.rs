//! Which names will still be there after a power cut.
//!
//! Decides which directories are synced before a write is acknowledged: the one that holds the new name, and
//! every directory above it whose own name is not known to be durable.
//! Invariant: a directory is remembered as durable only while it exists. Publishers look after their rename,
//! when a file in it keeps the directory from being removed; removers forget it in the same step.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::place;
use super::syncs::Mark;
use super::tree::{Tree, failed};
use crate::stores::{Error, Result};

/// Directories remembered as durable; beyond that the memory starts afresh.
const REMEMBERED: usize = 16_384;
/// More directories than this in one step are synced by one `syncfs`, which also writes what others left dirty.
const SINGLY: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Durable {
    paths: HashSet<Box<str>>,
    /// Counts removals, so that a slow publisher does not remember a directory that is gone.
    removals: u64,
}

impl Durable {
    pub fn forget(&mut self, directory: &str) {
        self.removals += 1;
        self.paths.remove(directory);
    }
}

impl Tree {
    /// Makes a name in `directory` durable, with every directory above it that is not known to be.
    pub fn make_durable(&self, directory: &str, mark: Mark) -> Result<()> {
        self.make_durable_in(&[directory], None, mark)
    }

    /// As [`Self::make_durable`], for a directory that is open already.
    pub fn make_open_durable(&self, directory: &str, open: &OwnedFd, mark: Mark) -> Result<()> {
        self.make_durable_in(&[directory], Some(open), mark)
    }

    pub fn make_all_durable(&self, directories: &[&str], mark: Mark) -> Result<()> {
        self.make_durable_in(directories, None, mark)
    }

    /// `open` is the first of the directories.
    fn make_durable_in(
        &self,
        directories: &[&str],
        open: Option<&OwnedFd>,
        mark: Mark,
    ) -> Result<()> {
        if self.skip_directory_sync {
            return Ok(());
        }
        let mut stale: Vec<&str> = Vec::new();
        let mut fresh: Vec<&str> = Vec::new();
        let removals = {
            let durable = self.durable.lock();
            for directory in directories {
                stale.push(directory);
                let mut at = *directory;
                while let Some(above) = place::above(at) {
                    if durable.paths.contains(at) {
                        break;
                    }
                    fresh.push(at);
                    stale.push(above);
                    at = above;
                }
            }
            durable.removals
        };
        stale.sort_unstable();
        stale.dedup();
        let outcome = if stale.len() > SINGLY && self.syncs.can_share() {
            self.syncs.settle_many(mark)
        } else {
            self.syncs.settle(mark, || {
                stale.iter().try_for_each(|path| match open {
                    Some(open) if *path == directories[0] => rustix::fs::fsync(open),
                    Some(_) | None => self.sync_directory(path),
                })
            })
        };
        if let Err(e) = outcome {
            let error = failed("sync the directories of", &stale.join(", "), e);
            if !matches!(error, Error::Full | Error::Busy) {
                *self.broken.lock() = Some(e);
                tracing::error!(cause = %e, "a directory could not be synced: the store acknowledges no more writes until snapgate is restarted");
            }
            return Err(error);
        }
        let mut durable = self.durable.lock();
        if durable.removals == removals {
            if durable.paths.len() + fresh.len() > REMEMBERED {
                durable.paths.clear();
            }
            durable.paths.extend(fresh.into_iter().map(Box::from));
        }
        Ok(())
    }

    fn sync_directory(&self, path: &str) -> rustix::io::Result<()> {
        match self.open_directory(path) {
            Ok(directory) => rustix::fs::fsync(directory),
            // Removed meanwhile, and with it the names that had to last.
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Under the lock, so that no publisher finds the memory of a directory that is gone: it looks after its
    /// rename, and a directory with a file in it is not removed.
    pub fn remove_empty(&self, above: &str, directory: &str) -> bool {
        let Ok(opened) = self.open_directory(above) else {
            return false;
        };
        let mut durable = self.durable.lock();
        let removed = rustix::fs::unlinkat(opened, place::split(directory).1, AtFlags::REMOVEDIR);
        let gone = matches!(removed, Ok(()) | Err(Errno::NOENT));
        if gone {
            durable.forget(directory);
        }
        gone
    }
}
