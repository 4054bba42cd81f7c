//! A client's multipart upload: a directory `.snapgate/tmp/mp-<id>/` with the parts in it.
//!
//! Decides where a part's bytes go. The first announced size is the size of a slot: part `n` is written to
//! its slot `(n - 1) * size` of the file `assembly`, in any order and side by side; completing an upload
//! whose parts fill the slots without a gap is a rename. What does not fit (repeated parts, other sizes,
//! parts after a restart) goes to a file of its own and is copied in the kernel (`copy_file_range`, a
//! reflink where the file system has them).
//! Invariants: a slot is written once, so a part that was sealed is never overwritten; an abort removes the
//! directory, after which nothing can be created in it or renamed from it.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use policies::key::ObjectKey;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::place::{self, TEMPORARY};
use super::syncs::Mark;
use super::tree::{self, Tree, failed};
use super::upload::{FileUpload, Hidden, Purpose, Temporary};
use crate::stores::{Error, Plan, Result, StoredPart, UploadId};

const PREFIX: &str = "mp-";
const ASSEMBLY: &str = "assembly";
const COPY_STEP: usize = 64 << 20;

/// Multipart uploads begun since the start.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<HashMap<UploadId, Claims>>);

#[derive(Debug, Default)]
struct Claims {
    slot: u64,
    claimed: HashSet<u16>,
}

/// One part under way.
#[derive(Debug)]
pub(super) struct Part {
    pub number: u16,
    upload: UploadId,
    at: At,
}

#[derive(Debug)]
enum At {
    Slot(u64),
    File(String),
}

impl Part {
    pub fn locator(&self) -> Arc<str> {
        match &self.at {
            At::Slot(offset) => format!("slot:{offset}").into(),
            At::File(name) => format!("file:{name}").into(),
        }
    }

    /// Makes the part's name durable; its bytes are. Blocks.
    pub fn seal(&self, tree: &Tree, mark: Mark) -> Result<()> {
        tree.make_durable(&path(&self.upload), mark)
    }
}

fn located(locator: &str) -> Result<At> {
    let own = |name: &str| {
        name.strip_prefix("part-")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    match locator.split_once(':') {
        Some(("slot", offset)) => offset.parse().ok().map(At::Slot),
        Some(("file", name)) if own(name) => Some(At::File(name.to_owned())),
        Some(_) | None => None,
    }
    .ok_or_else(|| Error::Failed(format!("{locator:?} is not a part's place").into()))
}

impl Slots {
    fn claim(&self, upload: &UploadId, number: u16, size: Option<u64>) -> Option<(u64, u64)> {
        let mut uploads = self.0.lock();
        let claims = uploads.get_mut(upload)?;
        let size = size.filter(|size| *size > 0)?;
        if claims.slot == 0 {
            claims.slot = size;
        }
        let fits = size <= claims.slot && number > 0 && claims.claimed.insert(number);
        fits.then(|| (u64::from(number - 1) * claims.slot, size))
    }

    pub fn forget(&self, upload: &UploadId) {
        self.0.lock().remove(upload);
    }
}

/// The directory's path below the root.
fn path(id: &UploadId) -> String {
    format!("{TEMPORARY}{}", id.0)
}

pub(super) fn is_multipart(id: &str) -> bool {
    id.starts_with(PREFIX)
}

/// Blocks.
pub(super) fn begin(tree: &Tree, slots: &Slots, id: &str) -> Result<UploadId> {
    let mark = tree.syncs.mark();
    let id = UploadId(format!("{PREFIX}{id}").into());
    rustix::fs::mkdirat(&tree.temporary, &*id.0, Mode::RWXU)
        .map_err(|e| failed("create", &id.0, e))?;
    tree.make_durable(&path(&id), mark)?;
    slots.0.lock().insert(id.clone(), Claims::default());
    Ok(id)
}

fn open(tree: &Tree, id: &UploadId) -> Result<Arc<OwnedFd>> {
    super::check_id(id)?;
    match tree.open_directory(&path(id)) {
        Ok(directory) => Ok(Arc::new(directory)),
        Err(Errno::NOENT) => Err(Error::UploadGone),
        Err(e) => Err(failed("open", &id.0, e)),
    }
}

/// Blocks.
pub(super) fn begin_part(
    tree: &Arc<Tree>,
    slots: &Slots,
    key: ObjectKey,
    upload: &UploadId,
    number: u16,
    plan: Plan,
) -> Result<FileUpload> {
    let directory = open(tree, upload)?;
    let mark = tree.syncs.mark();
    let slot = slots.claim(upload, number, plan.size);
    let (at, hidden) = match slot {
        Some((offset, size)) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(&*directory, ASSEMBLY, flags, Mode::from_raw_mode(0o644))
                .map_err(|e| gone("open", ASSEMBLY, e))?;
            let temporary =
                Temporary::new(Arc::clone(tree), Some(directory), ASSEMBLY.into()).staying();
            (
                At::Slot(offset),
                Hidden {
                    file,
                    temporary,
                    base: offset,
                    written: 0,
                    room: Some(size),
                    mark,
                },
            )
        }
        None => {
            let name = format!("part-{number}-{}", super::new_id());
            let temporary = Temporary::new(Arc::clone(tree), Some(directory), name.clone());
            (At::File(name), Hidden::create(temporary)?)
        }
    };
    let part = Part {
        number,
        upload: upload.clone(),
        at,
    };
    Ok(FileUpload::made(
        upload.clone(),
        key,
        hidden,
        Purpose::Part(part),
    ))
}

fn gone(doing: &str, what: &str, e: Errno) -> Error {
    if e == Errno::NOENT {
        Error::UploadGone
    } else {
        failed(doing, what, e)
    }
}

/// Blocks.
pub(super) fn assemble(
    tree: &Arc<Tree>,
    key: ObjectKey,
    upload: &UploadId,
    parts: &[StoredPart],
) -> Result<FileUpload> {
    let directory = open(tree, upload)?;
    let mark = tree.syncs.mark();
    let places = parts
        .iter()
        .map(|part| located(&part.locator))
        .collect::<Result<Vec<At>>>()?;
    let total = parts.iter().map(|part| part.size).sum();
    let hidden = match in_one_piece(&directory, &places, parts, total)? {
        Some(file) => {
            let temporary =
                Temporary::new(Arc::clone(tree), Some(directory), ASSEMBLY.into()).staying();
            Hidden {
                file,
                temporary,
                base: 0,
                written: total,
                room: Some(total),
                mark,
            }
        }
        None => {
            let temporary = Temporary::new(
                Arc::clone(tree),
                Some(Arc::clone(&directory)),
                format!("whole-{}", super::new_id()),
            );
            let mut hidden = Hidden::create(temporary)?;
            for (at, part) in places.iter().zip(parts) {
                append(&directory, at, part.size, &mut hidden)?;
            }
            hidden
        }
    };
    Ok(FileUpload::made(
        upload.clone(),
        key,
        hidden,
        Purpose::Assembled,
    ))
}

/// The assembly file, if it holds exactly these parts in this order.
fn in_one_piece(
    directory: &OwnedFd,
    places: &[At],
    parts: &[StoredPart],
    total: u64,
) -> Result<Option<OwnedFd>> {
    let mut end = 0;
    for (at, part) in places.iter().zip(parts) {
        if !matches!(at, At::Slot(offset) if *offset == end) {
            return Ok(None);
        }
        end += part.size;
    }
    let file = rustix::fs::openat(
        directory,
        ASSEMBLY,
        OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .map_err(|e| gone("open", ASSEMBLY, e))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| failed("look at", ASSEMBLY, e))?;
    Ok((tree::size(&stat) == total).then_some(file))
}

fn append(directory: &OwnedFd, at: &At, size: u64, to: &mut Hidden) -> Result<()> {
    let (name, mut from) = match at {
        At::Slot(offset) => (ASSEMBLY, *offset),
        At::File(name) => (name.as_str(), 0),
    };
    let source = rustix::fs::openat(
        directory,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .map_err(|e| gone("open", name, e))?;
    let end = to.written + size;
    while to.written < end {
        let step = usize::try_from(end - to.written).map_or(COPY_STEP, |left| left.min(COPY_STEP));
        let mut at = to.written;
        let n = match rustix::fs::copy_file_range(
            &source,
            Some(&mut from),
            &to.file,
            Some(&mut at),
            step,
        ) {
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                copy_through_memory(&source, &mut from, &to.file, at, step)
            }
            other => other,
        }
        .map_err(|e| failed("copy", name, e))?;
        if n == 0 {
            return Err(Error::Failed(
                format!("{name} is shorter than the part that was recorded").into(),
            ));
        }
        to.written += n as u64;
    }
    Ok(())
}

fn copy_through_memory(
    source: &OwnedFd,
    from: &mut u64,
    target: &OwnedFd,
    at: u64,
    step: usize,
) -> rustix::io::Result<usize> {
    let mut buffer = vec![0; step.min(1 << 20)];
    let n = rustix::io::pread(source, buffer.as_mut_slice(), *from)?;
    let mut done = 0;
    while done < n {
        done += rustix::io::pwrite(target, &buffer[done..n], at + done as u64)?;
    }
    *from += n as u64;
    Ok(n)
}

/// Removes a multipart upload with all its parts; a missing one is success. Blocks.
pub(super) fn remove(tree: &Tree, id: &str) -> Result<()> {
    let at = format!("{TEMPORARY}{id}");
    loop {
        let directory = match tree.open_directory(&at) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(failed("open", id, e)),
        };
        let entries = Dir::read_from(&directory).map_err(|e| failed("list", id, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", id, e))?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..")
                || entry.file_type() == FileType::Directory
            {
                continue;
            }
            match rustix::fs::unlinkat(&directory, entry.file_name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(failed("remove", id, e)),
            }
        }
        match rustix::fs::unlinkat(&tree.temporary, place::split(&at).1, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // A part began meanwhile.
            Err(Errno::NOTEMPTY) => {}
            Err(e) => return Err(failed("remove", id, e)),
        }
    }
}
