//! Opening the tree: what the kernel and the file system must be able to do is tried at start.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use parking_lot::{Mutex, RwLock};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::syncs::Syncs;
use super::tree::{BENEATH, DIRECTORY, NEW_DIRECTORY, Tree, failed};
use crate::stores::{Error, Result};

/// What `statfs` says of a tmpfs: reads never wait for a disk.
const TMPFS: i64 = 0x0102_1994;

impl Tree {
    pub fn open(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|e| told("create the store's directory", &e))?;
        let root = beneath(path)?;
        for own in [".snapgate", ".snapgate/tmp", ".snapgate/escaped"] {
            match rustix::fs::mkdirat(&root, own, NEW_DIRECTORY) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(failed("create", own, e)),
            }
        }
        let temporary =
            rustix::fs::openat2(&root, ".snapgate/tmp", DIRECTORY, Mode::empty(), BENEATH)
                .map_err(|e| failed("open on the root's own file system", ".snapgate/tmp", e))?;
        let own = rustix::fs::openat2(&root, ".snapgate", DIRECTORY, Mode::empty(), BENEATH)
            .map_err(|e| failed("open", ".snapgate", e))?;
        let cached = rustix::fs::openat2(
            &root,
            ".",
            DIRECTORY,
            Mode::empty(),
            BENEATH | ResolveFlags::CACHED,
        );
        let opens_cached = !matches!(cached, Err(Errno::INVAL));
        let again = File::open(path).map_err(|e| told("open the store's directory", &e))?;
        let in_memory = rustix::fs::fstatfs(&root).is_ok_and(|s| s.f_type == TMPFS);
        let skip_directory_sync =
            std::env::var("SNAPGATE_FAILPOINT").is_ok_and(|v| v == "skip-dir-fsync");
        if skip_directory_sync {
            tracing::error!(
                "SNAPGATE_FAILPOINT=skip-dir-fsync: directories are NOT synced, a power cut loses acknowledged objects; for tests only"
            );
        }
        let above = above(path)?;
        for directory in [temporary.as_fd(), own.as_fd(), root.as_fd(), above.as_fd()] {
            rustix::fs::fsync(directory)
                .map_err(|e| failed("sync", "the store's directories", e))?;
        }
        let tree = Self {
            root,
            temporary,
            // A kernel that opens cached (5.12) also reports write-back errors from syncfs (5.8).
            syncs: Syncs::new(again.into(), opens_cached),
            names: RwLock::new(()),
            durable: Mutex::default(),
            broken: Mutex::new(None),
            opens_cached,
            in_memory,
            skip_directory_sync,
        };
        tree.probe()?;
        Ok(tree)
    }

    /// A file system that cannot rename without replacing is refused at start. On a full one nothing can be tried; what
    /// is there can be read, and a write that it cannot do fails.
    fn probe(&self) -> Result<()> {
        // Of this start alone: other gateways may open the same directory now.
        let [one, other] = [(); 2].map(|()| format!("probe-{}", crate::random::text(12)));
        for name in [&one, &other] {
            let made = rustix::fs::openat(
                &self.temporary,
                name.as_str(),
                OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::RUSR | Mode::WUSR,
            );
            match made {
                Ok(_) => {}
                Err(Errno::NOSPC | Errno::DQUOT) => {
                    tracing::warn!("the store is full: what its file system can do was not tried");
                    let _first =
                        rustix::fs::unlinkat(&self.temporary, one.as_str(), AtFlags::empty());
                    return Ok(());
                }
                Err(e) => return Err(failed("create", name, e)),
            }
        }
        let outcome = rustix::fs::renameat_with(
            &self.temporary,
            one.as_str(),
            &self.temporary,
            other.as_str(),
            RenameFlags::NOREPLACE,
        );
        for name in [&one, &other] {
            rustix::fs::unlinkat(&self.temporary, name.as_str(), AtFlags::empty())
                .map_err(|e| failed("remove", name, e))?;
        }
        if outcome != Err(Errno::EXIST) {
            return Err(Error::Failed(
                "the file system cannot rename without replacing: create-only would race".into(),
            ));
        }
        Ok(())
    }
}

/// The store's directory, on a kernel that resolves names beneath it.
fn beneath(path: &Path) -> Result<OwnedFd> {
    let root: OwnedFd = File::open(path)
        .map_err(|e| told("open the store's directory", &e))?
        .into();
    match rustix::fs::openat2(&root, ".", DIRECTORY, Mode::empty(), BENEATH) {
        Ok(_) => Ok(root),
        Err(Errno::NOSYS | Errno::PERM) => Err(Error::Failed(
            "the kernel lacks openat2 (Linux 5.6): the directory store cannot rule out symlinks"
                .into(),
        )),
        Err(other) => Err(Error::Failed(
            format!("openat2 in the store's directory: {other}").into(),
        )),
    }
}

/// The directory in which the store's own has its name.
fn above(path: &Path) -> Result<File> {
    let whole = path
        .canonicalize()
        .map_err(|e| told("resolve the store's directory", &e))?;
    let above = whole.parent().unwrap_or(Path::new("/"));
    File::open(above).map_err(|e| told("open the directory above the store", &e))
}

fn told(doing: &str, e: &std::io::Error) -> Error {
    Error::Failed(format!("{doing}: {e}").into())
}
