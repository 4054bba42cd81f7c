//! Any store as a target that is looked at after each of its changes, and that fails as a seed has it.
//!
//! Changes go one at a time and are carried through even if who asked for them is gone meanwhile, as those of a real
//! store are; so what is looked at after a change is what lies there then.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use parking_lot::Mutex;
use policies::identity::{Epoch, Repository};
use policies::key::{ObjectKey, RESERVED};
use policies::lock::{self, Permit};

use super::Target;
use super::memory::{Faults, Look};
use super::restores::Objects;
use crate::stores::{
    Capabilities, Content, Error, Identity, Listed, Plan, Publish, Published, Result, Stat, Store,
    StoredPart, Upload, UploadId,
};

#[derive(Clone)]
pub struct Watched {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    changing: tokio::sync::Mutex<()>,
    faults: Mutex<Faults>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    objects: Objects,
    look: Option<Look>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.store.fmt(f)
    }
}

impl Watched {
    pub fn new(store: Arc<dyn Store>, seed: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                changing: tokio::sync::Mutex::default(),
                faults: Mutex::new(Faults::new(seed)),
                held: Mutex::default(),
            }),
        }
    }

    /// What was seen of the keys below a prefix is what the store lists there.
    pub async fn is_as_seen(&self, prefix: &str) {
        let listed = self.inner.store.list(prefix, None, 100_000).await.unwrap();
        let listed: Vec<ObjectKey> = listed.into_iter().map(|listed| listed.name).collect();
        let seen: Vec<ObjectKey> = self.objects().into_keys().collect();
        assert_eq!(listed, seen);
    }

    async fn around<T>(&self, act: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.inner.faults.lock().draw();
        if fault == Some(false) {
            return Err(Error::Unknown);
        }
        let done = act.await;
        match fault {
            Some(_) => Err(Error::Unknown),
            None => done,
        }
    }

    /// Changes what lies under a key, and looks.
    async fn change<T: Send + 'static>(
        &self,
        key: ObjectKey,
        act: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let changing = tokio::spawn(async move {
            let _alone = inner.changing.lock().await;
            let done = act.await;
            inner.seen(key).await;
            done
        });
        self.around(async { changing.await.unwrap() }).await
    }
}

impl Inner {
    async fn seen(&self, key: ObjectKey) {
        if key.as_str().starts_with(RESERVED) {
            return;
        }
        let there = loop {
            if let Ok(there) = self.bytes(&key).await {
                break there;
            }
        };
        let mut held = self.held.lock();
        match there {
            Some(bytes) => held.objects.insert(key, bytes),
            None => held.objects.remove(&key),
        };
        if let Some(mut look) = held.look.take() {
            look(&held.objects);
            held.look = Some(look);
        }
    }

    async fn bytes(&self, key: &ObjectKey) -> Result<Option<Bytes>> {
        let Some(content) = self.store.read(key, None, None).await? else {
            return Ok(None);
        };
        let chunks: Vec<Bytes> = content.bytes.try_collect().await?;
        Ok(Some(chunks.concat().into()))
    }
}

impl Target for Watched {
    fn fail(&self, share: f64) {
        self.inner.faults.lock().fail(share);
    }

    fn cut(&self, cut: bool) {
        self.inner.faults.lock().cut(cut);
    }

    fn look(&self, look: Look) {
        self.inner.held.lock().look = Some(look);
    }

    fn objects(&self) -> Objects {
        self.inner.held.lock().objects.clone()
    }
}

/// A store asks whether there is a permit, not whose it is.
fn permit() -> Permit {
    lock::upkeep(&Repository::new("prod"), Epoch(1))
}

#[async_trait]
impl Store for Watched {
    fn capabilities(&self) -> &Capabilities {
        self.inner.store.capabilities()
    }

    async fn begin(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        let begun = self.around(self.inner.store.begin(permit, name, plan));
        Ok(Box::new(Hidden {
            target: self.clone(),
            name: name.clone(),
            upload: begun.await?,
        }))
    }

    async fn abort(&self, permit: &Permit, name: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.around(self.inner.store.abort(permit, name, upload))
            .await
    }

    async fn assemble(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        unreachable!("a mirror has no clients")
    }

    async fn begin_part(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: u16,
        _: Plan,
    ) -> Result<Box<dyn Upload>> {
        unreachable!("a mirror has no clients")
    }

    async fn begin_multipart(&self, _: &Permit, _: &ObjectKey) -> Result<UploadId> {
        unreachable!("a mirror has no clients")
    }

    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        self.around(self.inner.store.read(name, range, expect))
            .await
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        self.around(self.inner.store.stat(name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        self.around(self.inner.store.list(prefix, after, limit))
            .await
    }

    async fn delete(&self, _: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for name in names {
            let (store, key) = (Arc::clone(&self.inner.store), name.clone());
            let removed = self.change(name.clone(), async move {
                let mut answers = store.delete(&permit(), &[key]).await;
                answers.remove(0)
            });
            results.push(removed.await);
        }
        results
    }

    async fn set_aside(&self, _: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let (store, from, key) = (Arc::clone(&self.inner.store), from.clone(), to.clone());
        self.change(to.clone(), async move {
            store.set_aside(&permit(), &from, &key).await
        })
        .await
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        self.around(self.inner.store.uploads()).await
    }
}

struct Hidden {
    target: Watched,
    name: ObjectKey,
    upload: Box<dyn Upload>,
}

#[async_trait]
impl Upload for Hidden {
    fn id(&self) -> &UploadId {
        self.upload.id()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.target.around(self.upload.write(bytes)).await
    }

    async fn publish(self: Box<Self>, mode: Publish) -> Result<Published> {
        let Self {
            target,
            name,
            upload,
        } = *self;
        target
            .change(name, async move { upload.publish(mode).await })
            .await
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        unreachable!("a mirror has no clients")
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { target, upload, .. } = *self;
        target.around(upload.abort()).await
    }
}
