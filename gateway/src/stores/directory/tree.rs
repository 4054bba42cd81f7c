//! The tree of files below the root, and the only place that changes names in it.
//!
//! Invariants: no path leaves the root and no symlink is followed (`openat2` resolves every path beneath the
//! root); a key lies at exactly one place; a name is durable only after every directory above it is.
//! A key whose own path is taken by a directory, or leads through a file, goes to the escape area and stays
//! there until it is deleted. [`Tree::names`] keeps two writers of one key from choosing differently.
//! Empty directories are removed after deletes; a publisher that meets this starts again from the top.

use std::os::fd::OwnedFd;

use parking_lot::{Mutex, RwLock};
use policies::key::ObjectKey;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::durable::Durable;
use super::place;
use super::syncs::{Mark, Syncs};
use super::upload::Temporary;
use crate::stores::{Error, Identity, Publish, Result};

pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// `NONBLOCK` so that a named pipe in the tree cannot hold a reader.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK);
pub(super) const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// A publisher whose directory is removed under it so often meets something else than chance.
const TRIES: usize = 100;

#[derive(Debug)]
pub(super) struct Tree {
    pub root: OwnedFd,
    pub temporary: OwnedFd,
    pub syncs: Syncs,
    /// Shared while a key takes its own path, exclusive while one takes its escaped path.
    pub names: RwLock<()>,
    pub durable: Mutex<Durable>,
    /// A directory could not be synced: what was renamed in it may be lost, so nothing more is acknowledged.
    pub broken: Mutex<Option<Errno>>,
    /// The kernel opens files without waiting for the disk on request (Linux 5.12).
    pub opens_cached: bool,
    pub in_memory: bool,
    pub skip_directory_sync: bool,
}

/// How a name was taken.
enum Taken {
    /// In this directory.
    Yes(OwnedFd),
    /// A file stands where a directory must be, or the reverse, or the name is too long here.
    Conflict,
}

impl Tree {
    pub fn open_directory(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(&self.root, path, DIRECTORY, Mode::empty(), BENEATH)
    }

    /// A key's file and what `fstat` says of it. `None` = surely absent; `Err(AGAIN)` if `cached` and the
    /// answer is not in memory.
    pub fn open_file(
        &self,
        key: &ObjectKey,
        cached: bool,
    ) -> rustix::io::Result<Option<(OwnedFd, Stat)>> {
        if let Some(path) = place::natural(key)
            && let Some(found) = self.open_at(path, cached)?
        {
            return Ok(Some(found));
        }
        self.open_at(&place::escaped(key), cached)
    }

    fn open_at(&self, path: &str, cached: bool) -> rustix::io::Result<Option<(OwnedFd, Stat)>> {
        let resolve = if cached {
            BENEATH | ResolveFlags::CACHED
        } else {
            BENEATH
        };
        let file = loop {
            match rustix::fs::openat2(&self.root, path, READ, Mode::empty(), resolve) {
                Ok(file) => break file,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(None),
                // A rename elsewhere disturbed the walk.
                Err(Errno::AGAIN) if !cached => {}
                Err(e) => return Err(e),
            }
        };
        let stat = rustix::fs::fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some((file, stat))),
            FileType::Directory => Ok(None),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Err(Errno::INVAL),
        }
    }

    /// What lies at a path, without opening it.
    pub fn stat_path(&self, path: &str) -> Result<Option<Stat>> {
        match rustix::fs::openat2(
            &self.root,
            path,
            OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
            BENEATH,
        ) {
            Ok(file) => rustix::fs::fstat(file)
                .map(Some)
                .map_err(|e| failed("look at", path, e)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failed("look at", path, e)),
        }
    }

    /// Gives a finished, durable temporary its key's name and makes the name durable. Blocks.
    pub fn publish(
        &self,
        temporary: &Temporary,
        key: &ObjectKey,
        mode: Publish,
        mark: Mark,
    ) -> Result<()> {
        self.refuse_if_broken()?;
        let take = |from: &Temporary, directory: &OwnedFd, name: &str| match mode {
            Publish::CreateOnly => rustix::fs::renameat_with(
                from.directory(),
                &from.name,
                directory,
                name,
                RenameFlags::NOREPLACE,
            ),
            Publish::Replace => rustix::fs::renameat(from.directory(), &from.name, directory, name),
        };
        let gone = || match rustix::fs::statat(
            temporary.directory(),
            &temporary.name,
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Err(Errno::NOENT) => Some(Error::UploadGone),
            Ok(_) | Err(_) => None,
        };
        let (path, directory) = self.take_name(
            key,
            |directory, name| take(temporary, directory, name),
            gone,
        )?;
        self.make_open_durable(place::split(&path).0, &directory, mark)
    }

    /// A second name for a file. Blocks.
    pub fn link(&self, from: &ObjectKey, to: &ObjectKey, mark: Mark) -> Result<()> {
        self.refuse_if_broken()?;
        let gone = || Some(Error::Changed);
        let source = self.place_of(from)?.ok_or(Error::Changed)?;
        let (directory, name) = place::split(&source);
        let directory = self
            .open_directory(directory)
            .map_err(|e| failed("open", directory, e))?;
        let link = |target: &OwnedFd, to: &str| {
            rustix::fs::linkat(&directory, name, target, to, AtFlags::empty())
        };
        let still = || match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => gone(),
            Ok(_) | Err(_) => None,
        };
        let (path, directory) = self.take_name(to, link, still)?;
        self.make_open_durable(place::split(&path).0, &directory, mark)
    }

    /// Makes a name that exists durable. Blocks.
    pub fn make_name_durable(&self, key: &ObjectKey, mark: Mark) -> Result<()> {
        let path = self.place_of(key)?.ok_or(Error::Changed)?;
        self.make_durable(place::split(&path).0, mark)
    }

    /// The path at which a key's file lies now.
    fn place_of(&self, key: &ObjectKey) -> Result<Option<String>> {
        let own = place::natural(key).map(str::to_owned);
        for path in own.into_iter().chain([place::escaped(key)]) {
            if self
                .open_at(&path, false)
                .map_err(|e| failed("look at", &path, e))?
                .is_some()
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Finds the key's place and takes it with `take`; answers the path and its directory. `gone` tells, after `NOENT`,
    /// whether it is the source that is missing.
    fn take_name(
        &self,
        key: &ObjectKey,
        take: impl Fn(&OwnedFd, &str) -> rustix::io::Result<()>,
        gone: impl Fn() -> Option<Error>,
    ) -> Result<(String, OwnedFd)> {
        place::check(key)?;
        let escaped = place::escaped(key);
        let Some(own) = place::natural(key) else {
            return self.take_escaped(&escaped, &take, &gone);
        };
        {
            let _shared = self.names.read();
            if !self.is_escaped(&escaped)?
                && let Taken::Yes(directory) = self.take_path(own, &take, &gone)?
            {
                return Ok((own.to_owned(), directory));
            }
        }
        let _alone = self.names.write();
        if !self.is_escaped(&escaped)?
            && let Taken::Yes(directory) = self.take_path(own, &take, &gone)?
        {
            return Ok((own.to_owned(), directory));
        }
        self.take_escaped(&escaped, &take, &gone)
    }

    fn take_escaped(
        &self,
        escaped: &str,
        take: &impl Fn(&OwnedFd, &str) -> rustix::io::Result<()>,
        gone: &impl Fn() -> Option<Error>,
    ) -> Result<(String, OwnedFd)> {
        match self.take_path(escaped, take, gone)? {
            Taken::Yes(directory) => Ok((escaped.to_owned(), directory)),
            Taken::Conflict => Err(Error::Unstorable(
                "even its escaped name cannot be a file here",
            )),
        }
    }

    fn is_escaped(&self, escaped: &str) -> Result<bool> {
        match rustix::fs::statat(&self.root, escaped, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(e) => Err(failed("look at", escaped, e)),
        }
    }

    fn take_path(
        &self,
        path: &str,
        take: &impl Fn(&OwnedFd, &str) -> rustix::io::Result<()>,
        gone: &impl Fn() -> Option<Error>,
    ) -> Result<Taken> {
        let (above, name) = place::split(path);
        for _ in 0..TRIES {
            let directory = match self.open_directory(above) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => match self.make_directories(above) {
                    Ok(()) | Err(Errno::NOENT | Errno::AGAIN) => continue,
                    Err(Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(Taken::Conflict),
                    Err(e) => return Err(failed("create", above, e)),
                },
                Err(Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(Taken::Conflict),
                Err(Errno::AGAIN) => continue,
                Err(e) => return Err(failed("open", above, e)),
            };
            match take(&directory, name) {
                Ok(()) => return Ok(Taken::Yes(directory)),
                Err(Errno::EXIST) => {
                    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
                            return Ok(Taken::Conflict);
                        }
                        Ok(_) => return Err(Error::Exists),
                        Err(Errno::NOENT) => {}
                        Err(e) => return Err(failed("look at", path, e)),
                    }
                }
                Err(Errno::ISDIR | Errno::NAMETOOLONG) => return Ok(Taken::Conflict),
                Err(Errno::NOENT) => {
                    if let Some(e) = gone() {
                        return Err(e);
                    }
                }
                Err(e) => return Err(failed("give the name", path, e)),
            }
        }
        Err(Error::Failed(
            format!("{path}: its directory is removed again and again").into(),
        ))
    }

    fn make_directories(&self, path: &str) -> rustix::io::Result<()> {
        let mut made = 0;
        while made < path.len() {
            let end = path[made + 1..]
                .find('/')
                .map_or(path.len(), |at| made + 1 + at);
            let (above, name) = place::split(&path[..end]);
            match rustix::fs::mkdirat(self.open_directory(above)?, name, NEW_DIRECTORY) {
                Ok(()) => self.durable.lock().forget(&path[..end]),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            made = end;
        }
        Ok(())
    }

    /// Removes a key's file, wherever it lies; answers the directory it was in. Blocks.
    pub fn unlink(&self, key: &ObjectKey) -> Result<Option<String>> {
        place::check(key)?;
        self.refuse_if_broken()?;
        let own = place::natural(key).map(str::to_owned);
        for path in own.into_iter().chain([place::escaped(key)]) {
            let (above, name) = place::split(&path);
            let outcome = self
                .open_directory(above)
                .and_then(|directory| rustix::fs::unlinkat(directory, name, AtFlags::empty()));
            match outcome {
                Ok(()) => return Ok(Some(above.to_owned())),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG) => {}
                Err(e) => return Err(failed("remove", &path, e)),
            }
        }
        Ok(None)
    }

    /// Removes a directory if it is empty, and those above it; answers the lowest that stays.
    pub fn prune<'a>(&self, mut directory: &'a str) -> &'a str {
        while let Some(above) = place::above(directory) {
            if place::is_reserved(&format!("{directory}/")) && above.len() <= ".snapgate".len() {
                return directory;
            }
            if !self.remove_empty(above, directory) {
                return directory;
            }
            directory = above;
        }
        directory
    }

    fn refuse_if_broken(&self) -> Result<()> {
        match *self.broken.lock() {
            Some(e) => Err(Error::Failed(format!("a directory could not be synced before ({e}); restart snapgate after a look at the disk").into())),
            None => Ok(()),
        }
    }
}

/// Size and time of the last change: both survive a copy of the tree (`cp -a`, `rsync -a`).
pub(super) fn identity(stat: &Stat) -> Identity {
    Identity(format!("{:x}-{:x}", stat.st_size, modified_ns(stat)).into())
}

pub(super) fn modified_ns(stat: &Stat) -> i128 {
    i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec)
}

pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).expect("a file's size is not negative")
}

pub(super) fn failed(doing: &str, what: &str, e: Errno) -> Error {
    match e {
        Errno::NOSPC | Errno::DQUOT => Error::Full,
        Errno::MFILE | Errno::NFILE => Error::Busy,
        Errno::LOOP => Error::Failed(format!("{doing} {what}: a symlink is in the way").into()),
        other => Error::Failed(format!("{doing} {what}: {other}").into()),
    }
}
