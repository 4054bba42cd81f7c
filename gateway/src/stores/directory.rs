//! A directory (interim: plain, until the full store is merged).

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use policies::key::ObjectKey;
use policies::lock::Permit;

use super::{Capabilities, Content, Error, Identity, Listed, Plan, Publish, Published, Result, Stat, Store, StoredPart, Upload, UploadId};

#[derive(Debug, Clone)]
pub struct Directory {
    root: Arc<PathBuf>,
}

fn failed(e: &io::Error) -> Error {
    match e.raw_os_error() {
        Some(28 | 122) => Error::Full,
        _ => Error::Failed(e.to_string().into()),
    }
}

fn identity(meta: &fs::Metadata) -> Identity {
    Identity(format!("{}-{}.{:09}", meta.len(), meta.mtime(), meta.mtime_nsec()).into())
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(|e| Error::Failed(e.to_string().into()))?
}

impl Directory {
    pub async fn open(root: PathBuf) -> Result<Self> {
        blocking(move || {
            fs::create_dir_all(root.join(".snapgate/tmp")).map_err(|e| failed(&e))?;
            Ok(Self { root: Arc::new(root) })
        })
        .await
    }

    fn path(&self, name: &ObjectKey) -> Result<PathBuf> {
        if name.as_str().split('/').any(|s| s.is_empty() || s == "." || s == ".." || s.len() > 255) {
            return Err(Error::Unstorable("a segment is empty, too long, '.' or '..'"));
        }
        Ok(self.root.join(name.as_str()))
    }

    fn tmp(&self, id: &str) -> PathBuf {
        self.root.join(".snapgate/tmp").join(id)
    }
}

struct DirUpload {
    store: Directory,
    name: ObjectKey,
    id: UploadId,
    file: Option<File>,
    size: u64,
    part: Option<u16>,
}

impl DirUpload {
    fn path(&self) -> PathBuf {
        match self.part {
            Some(n) => self.store.tmp(&format!("{}.{n}", self.id.0)),
            None => self.store.tmp(&self.id.0),
        }
    }
}

#[async_trait]
impl Upload for DirUpload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let (path, file) = (self.path(), self.file.take());
        self.size += bytes.len() as u64;
        let file = blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => File::create(path).map_err(|e| failed(&e))?,
            };
            file.write_all(&bytes).map_err(|e| failed(&e))?;
            Ok(file)
        })
        .await?;
        self.file = Some(file);
        Ok(())
    }

    async fn publish(mut self: Box<Self>, mode: Publish) -> Result<Published> {
        let (tmp, to, file) = (self.path(), self.store.path(&self.name)?, self.file.take());
        blocking(move || {
            let file = match file {
                Some(file) => file,
                None => File::create(&tmp).map_err(|e| failed(&e))?,
            };
            file.sync_all().map_err(|e| failed(&e))?;
            let parent = to.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).map_err(|e| failed(&e))?;
            match mode {
                Publish::CreateOnly => {
                    fs::hard_link(&tmp, &to).map_err(|e| if e.kind() == io::ErrorKind::AlreadyExists { Error::Exists } else { failed(&e) })?;
                    fs::remove_file(&tmp).map_err(|e| failed(&e))?;
                }
                Publish::Replace => fs::rename(&tmp, &to).map_err(|e| failed(&e))?,
            }
            File::open(parent).and_then(|d| d.sync_all()).map_err(|e| failed(&e))?;
            Ok(Published { identity: identity(&file.metadata().map_err(|e| failed(&e))?), md5: None })
        })
        .await
    }

    async fn seal(mut self: Box<Self>) -> Result<StoredPart> {
        let (path, file, size, number) = (self.path(), self.file.take(), self.size, self.part.unwrap_or(0));
        blocking(move || {
            let file = match file {
                Some(file) => file,
                None => File::create(&path).map_err(|e| failed(&e))?,
            };
            file.sync_all().map_err(|e| failed(&e))?;
            Ok(StoredPart { number, size, locator: path.to_string_lossy().as_ref().into() })
        })
        .await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let path = self.path();
        blocking(move || {
            let _gone = fs::remove_file(path);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Store for Directory {
    fn capabilities(&self) -> &Capabilities {
        &Capabilities { kind: "directory", create_only: true, compare_and_set: true, abort_beats_complete: true, checksums: false }
    }

    async fn begin(&self, _: &Permit, name: &ObjectKey, _: Plan) -> Result<Box<dyn Upload>> {
        self.path(name)?;
        let id = UploadId(crate::config::secret::generate(20).into());
        Ok(Box::new(DirUpload { store: self.clone(), name: name.clone(), id, file: None, size: 0, part: None }))
    }

    async fn abort(&self, _: &Permit, _: &ObjectKey, upload: &UploadId) -> Result<()> {
        let (dir, id) = (self.root.join(".snapgate/tmp"), upload.0.clone());
        blocking(move || {
            for entry in fs::read_dir(dir).map_err(|e| failed(&e))?.flatten() {
                if entry.file_name().to_string_lossy().split('.').next() == Some(&id) {
                    let _gone = fs::remove_file(entry.path());
                }
            }
            Ok(())
        })
        .await
    }

    async fn assemble(&self, _: &Permit, name: &ObjectKey, upload: &UploadId, parts: &[StoredPart]) -> Result<Box<dyn Upload>> {
        let (tmp, parts) = (self.tmp(&upload.0), parts.to_vec());
        let (file, size) = blocking(move || {
            let mut out = File::create(tmp).map_err(|e| failed(&e))?;
            let mut size = 0;
            for part in parts {
                let mut from = File::open(&*part.locator).map_err(|e| failed(&e))?;
                size += io::copy(&mut from, &mut out).map_err(|e| failed(&e))?;
            }
            Ok((out, size))
        })
        .await?;
        Ok(Box::new(DirUpload { store: self.clone(), name: name.clone(), id: upload.clone(), file: Some(file), size, part: None }))
    }

    async fn begin_part(&self, _: &Permit, name: &ObjectKey, upload: &UploadId, number: u16, _: Plan) -> Result<Box<dyn Upload>> {
        Ok(Box::new(DirUpload { store: self.clone(), name: name.clone(), id: upload.clone(), file: None, size: 0, part: Some(number) }))
    }

    async fn begin_multipart(&self, _: &Permit, name: &ObjectKey) -> Result<UploadId> {
        self.path(name)?;
        Ok(UploadId(crate::config::secret::generate(20).into()))
    }

    async fn read(&self, name: &ObjectKey, range: Option<Range<u64>>, expect: Option<&Identity>) -> Result<Option<Content>> {
        let (path, expect) = (self.path(name)?, expect.cloned());
        blocking(move || {
            let mut file = match File::open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(failed(&e)),
            };
            let meta = file.metadata().map_err(|e| failed(&e))?;
            let identity = identity(&meta);
            if expect.is_some_and(|e| e != identity) {
                return Err(Error::Changed);
            }
            let range = range.unwrap_or(0..meta.len());
            file.seek(SeekFrom::Start(range.start)).map_err(|e| failed(&e))?;
            let left = range.end - range.start;
            let bytes = futures::stream::unfold((file, left), |(mut file, left)| async move {
                if left == 0 {
                    return None;
                }
                let read = blocking(move || {
                    let want = usize::try_from(left.min(256 << 10)).unwrap_or(0);
                    let mut buffer = vec![0; want];
                    file.read_exact(&mut buffer).map_err(|e| failed(&e))?;
                    Ok((file, Bytes::from(buffer)))
                })
                .await;
                match read {
                    Ok((file, bytes)) => {
                        let left = left - bytes.len() as u64;
                        Some((Ok(bytes), (file, left)))
                    }
                    Err(e) => Some((Err(e), (File::open("/dev/null").expect("it is always there"), 0))),
                }
            });
            Ok(Some(Content { size: meta.len(), identity, bytes: bytes.boxed() }))
        })
        .await
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        let path = self.path(name)?;
        blocking(move || match fs::metadata(path) {
            Ok(meta) => Ok(Some(Stat { size: meta.len(), identity: identity(&meta), modified_ms: meta.mtime() * 1000 })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&e)),
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        let (root, prefix, after) = (Arc::clone(&self.root), prefix.to_owned(), after.map(str::to_owned));
        blocking(move || {
            let mut found = Vec::new();
            let mut todo = vec![root.to_path_buf()];
            while let Some(dir) = todo.pop() {
                for entry in fs::read_dir(dir).map_err(|e| failed(&e))?.flatten() {
                    let path = entry.path();
                    let name = path.strip_prefix(&*root).unwrap_or(&path).to_string_lossy().into_owned();
                    let meta = entry.metadata().map_err(|e| failed(&e))?;
                    if meta.is_dir() {
                        if name != ".snapgate" || prefix.starts_with(".snapgate") {
                            todo.push(path);
                        }
                    } else if name.starts_with(&prefix) && after.as_ref().is_none_or(|a| name > *a) {
                        let stat = Stat { size: meta.len(), identity: identity(&meta), modified_ms: meta.mtime() * 1000 };
                        found.push(Listed { name: ObjectKey::parse(&name).map_err(|e| Error::Failed(e.to_string().into()))?, stat });
                    }
                }
            }
            found.sort_by(|a, b| a.name.cmp(&b.name));
            found.truncate(limit);
            Ok(found)
        })
        .await
    }

    async fn delete(&self, _: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for name in names {
            let path = self.path(name);
            results.push(
                blocking(move || match fs::remove_file(path?) {
                    Ok(()) => Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(e) => Err(failed(&e)),
                })
                .await,
            );
        }
        results
    }

    async fn set_aside(&self, _: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        blocking(move || {
            fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).map_err(|e| failed(&e))?;
            match fs::hard_link(from, to) {
                Ok(()) => Ok(()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(e) => Err(failed(&e)),
            }
        })
        .await
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        let dir = self.root.join(".snapgate/tmp");
        blocking(move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(dir).map_err(|e| failed(&e))?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let id = name.split('.').next().unwrap_or_default().to_owned();
                found.push((ObjectKey::parse("unknown").expect("a plain word"), UploadId(id.into())));
            }
            Ok(found)
        })
        .await
    }
}
