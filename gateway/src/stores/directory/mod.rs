//! The directory store: objects as files below one root, readable without a gateway.
//!
//! The file for a key has the key's own path ([`place`] says what happens to keys that no file system can
//! hold). An object is written to a hidden file, made durable, renamed to its name, and acknowledged when
//! the name is durable ([`upload`], [`tree`], [`syncs`]). The only files that are not objects lie below
//! `.snapgate/tmp/`. Symlinks are never followed.

mod durable;
mod list;
mod multipart;
mod opening;
mod place;
mod read;
mod syncs;
mod tree;
mod upload;

pub use read::{FileRange, Piece};

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use policies::key::ObjectKey;
use policies::lock::Permit;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use self::multipart::Slots;
use self::tree::{Tree, failed};
use self::upload::{FileUpload, Hidden, Purpose, Temporary};
use super::{
    Capabilities, Content, Error, Identity, Listed, Plan, Result, Stat, Store, StoredPart, Upload,
    UploadId, own,
};

#[derive(Debug)]
pub struct Directory {
    tree: Arc<Tree>,
    slots: Arc<Slots>,
    capabilities: Capabilities,
}

impl Directory {
    /// Opens or creates the store below `root`.
    pub async fn open(root: PathBuf) -> Result<Self> {
        let tree = hop(move || Tree::open(&root)).await?;
        let capabilities = Capabilities {
            kind: "directory",
            create_only: true,
            compare_and_set: false,
            abort_beats_complete: true,
            checksums: false,
        };
        Ok(Self {
            tree: Arc::new(tree),
            slots: Arc::default(),
            capabilities,
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Arc<Tree>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tree = Arc::clone(&self.tree);
        hop(move || act(&tree)).await
    }
}

/// Runs what blocks on a thread that may.
async fn hop<T: Send + 'static>(act: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(e) => Err(Error::Failed(
            format!("the thread that did it ended: {e}").into(),
        )),
    }
}

/// As [`hop`], but without one for what is `small` and happens in memory.
async fn settle_in<T: Send + 'static>(
    tree: &Tree,
    small: bool,
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if small && tree.in_memory {
        act()
    } else {
        hop(act).await
    }
}

fn new_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// Of a hidden upload: its name says whose it is, where it cannot say what its key is.
fn marked_id(permit: &Permit) -> String {
    format!("{}-{}", new_id(), own::mark(permit.repository()))
}

/// An id that was not made here names no file.
fn check_id(id: &UploadId) -> Result<()> {
    let plain = !id.0.is_empty() && id.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain {
        Ok(())
    } else {
        Err(Error::Failed("not an upload of the directory store".into()))
    }
}

#[async_trait]
impl Store for Directory {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn begin(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        place::check(name)?;
        let id = UploadId(marked_id(permit).into());
        let temporary = Temporary::new(Arc::clone(&self.tree), None, id.0.to_string());
        let name = name.clone();
        if !plan.fenced {
            return Ok(Box::new(FileUpload::unmade(
                id,
                name,
                temporary,
                Purpose::Object,
            )));
        }
        let hidden = settle_in(&self.tree, true, move || Hidden::create(temporary)).await?;
        Ok(Box::new(FileUpload::made(
            id,
            name,
            hidden,
            Purpose::Object,
        )))
    }

    async fn abort(&self, _: &Permit, _: &ObjectKey, upload: &UploadId) -> Result<()> {
        check_id(upload)?;
        self.slots.forget(upload);
        let id = Arc::clone(&upload.0);
        self.blocking(move |tree| {
            if multipart::is_multipart(&id) {
                return multipart::remove(tree, &id);
            }
            match rustix::fs::unlinkat(&tree.temporary, &*id, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(failed("remove", &id, e)),
            }
        })
        .await
    }

    async fn assemble(
        &self,
        _: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        parts: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        place::check(name)?;
        // A part that comes after this goes to a file of its own.
        self.slots.forget(upload);
        let (name, upload, parts) = (name.clone(), upload.clone(), parts.to_vec());
        let assembled = self
            .blocking(move |tree| multipart::assemble(tree, name, &upload, &parts))
            .await?;
        Ok(Box::new(assembled))
    }

    async fn begin_part(
        &self,
        _: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        number: u16,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        let (name, upload, slots) = (name.clone(), upload.clone(), Arc::clone(&self.slots));
        let part = self
            .blocking(move |tree| multipart::begin_part(tree, &slots, name, &upload, number, plan))
            .await?;
        Ok(Box::new(part))
    }

    async fn begin_multipart(&self, permit: &Permit, name: &ObjectKey) -> Result<UploadId> {
        place::check(name)?;
        let (slots, id) = (Arc::clone(&self.slots), marked_id(permit));
        self.blocking(move |tree| multipart::begin(tree, &slots, &id))
            .await
    }

    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        read::read(&self.tree, name, range, expect).await
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        let found = read::open(&self.tree, name).await?;
        Ok(found.map(|(_, stat)| list::stat(&stat)))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.blocking(move |tree| list::list(tree, &prefix, after.as_deref(), limit))
            .await
    }

    async fn delete(&self, _: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        let (count, names) = (names.len(), names.to_vec());
        let outcome = self.blocking(move |tree| Ok(delete(tree, &names))).await;
        outcome.unwrap_or_else(|e| vec![Err(e); count])
    }

    async fn set_aside(&self, _: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.blocking(move |tree| {
            let mark = tree.syncs.mark();
            match tree.link(&from, &to, mark) {
                Err(Error::Exists) if same_content(tree, &from, &to)? => {
                    tree.make_name_durable(&to, mark)
                }
                outcome => outcome,
            }
        })
        .await
    }

    /// A hidden file does not know its key; its own name stands for it.
    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        let names = self.blocking(|tree| list::hidden(tree)).await?;
        let named = |id: String| {
            let key = ObjectKey::parse(&format!("{}{id}", place::TEMPORARY))
                .map_err(|e| Error::Failed(format!("{id:?}: {e}").into()))?;
            Ok((key, UploadId(id.into())))
        };
        names.into_iter().map(named).collect()
    }
}

/// Identity is size and time of change, and no two files of this store are given the same time.
fn same_content(tree: &Tree, from: &ObjectKey, to: &ObjectKey) -> Result<bool> {
    let look = |key: &ObjectKey| {
        let found = tree
            .open_file(key, false)
            .map_err(|e| failed("open", key.as_str(), e))?;
        Ok(found.map(|(_, stat)| tree::identity(&stat)))
    };
    Ok(look(from)? == look(to)?)
}

/// Removes files, then the directories that became empty, and makes that durable in one step. Blocks.
fn delete(tree: &Tree, names: &[ObjectKey]) -> Vec<Result<()>> {
    let mark = tree.syncs.mark();
    let mut outcomes = Vec::with_capacity(names.len());
    let mut touched = BTreeSet::new();
    for name in names {
        let removed = tree.unlink(name);
        outcomes.push(removed.map(|directory| touched.extend(directory)));
    }
    let staying: BTreeSet<&str> = touched
        .iter()
        .rev()
        .map(|directory| tree.prune(directory))
        .collect();
    let staying: Vec<&str> = staying.into_iter().collect();
    if !staying.is_empty()
        && let Err(e) = tree.make_all_durable(&staying, mark)
    {
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = Err(e.clone());
        }
    }
    outcomes
}
