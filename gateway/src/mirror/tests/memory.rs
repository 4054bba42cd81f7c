//! A target in memory that can be looked at after each change, and that fails as a seed has it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use policies::key::{ObjectKey, RESERVED};
use policies::lock::Permit;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Target;
use super::restores::Objects;
use crate::stores::{
    Capabilities, Content, Error, Identity, Listed, Plan, Publish, Published, Result, Stat, Store,
    StoredPart, Upload, UploadId,
};

/// Called with all objects after each change.
pub type Look = Box<dyn FnMut(&Objects) + Send>;

#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    objects: Mutex<Held>,
    faults: Mutex<Faults>,
    refusal: Mutex<Option<Error>>,
    asked: AtomicU64,
    begun: AtomicU64,
    capabilities: Capabilities,
}

#[derive(Default)]
struct Held {
    objects: Objects,
    identities: HashMap<ObjectKey, u64>,
    /// Uploads that may still be published.
    open: HashMap<u64, ObjectKey>,
    next: u64,
    look: Option<Look>,
}

/// How a target fails.
pub struct Faults {
    random: StdRng,
    share: f64,
    cut: bool,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            share: 0.0,
            cut: false,
        }
    }

    pub fn fail(&mut self, share: f64) {
        self.share = share;
    }

    pub fn cut(&mut self, cut: bool) {
        self.cut = cut;
    }

    /// Does the next operation fail: None = no, Some(true) = after it took effect.
    pub fn draw(&mut self) -> Option<bool> {
        if self.cut {
            return Some(false);
        }
        if self.share > 0.0 && self.random.random_bool(self.share) {
            return Some(self.random.random_bool(0.5));
        }
        None
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    pub fn new(seed: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                objects: Mutex::default(),
                faults: Mutex::new(Faults::new(seed)),
                refusal: Mutex::default(),
                asked: AtomicU64::new(0),
                begun: AtomicU64::new(0),
                capabilities: Capabilities {
                    kind: "memory",
                    create_only: true,
                    compare_and_set: false,
                    abort_beats_complete: true,
                    checksums: false,
                },
            }),
        }
    }

    /// Everything is refused so, until it is called off.
    pub fn refuse(&self, refusal: Option<Error>) {
        *self.inner.refusal.lock() = refusal;
    }

    /// Operations so far, those that failed included.
    pub fn asked(&self) -> u64 {
        self.inner.asked.load(Ordering::Relaxed)
    }

    /// Uploads that were asked for so far.
    pub fn begun(&self) -> u64 {
        self.inner.begun.load(Ordering::Relaxed)
    }

    /// Changes an object behind everybody's back.
    pub fn spoil(&self, key: &ObjectKey, bytes: Option<Bytes>) {
        let mut held = self.inner.objects.lock();
        match bytes {
            Some(bytes) => held.put(key, bytes),
            None => held.remove(key),
        }
    }

    async fn around<T>(&self, act: impl FnOnce(&mut Held) -> Result<T>) -> Result<T> {
        tokio::task::yield_now().await;
        self.inner.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(refusal) = self.inner.refusal.lock().clone() {
            return Err(refusal);
        }
        let fault = self.inner.faults.lock().draw();
        if fault == Some(false) {
            return Err(Error::Unknown);
        }
        let done = act(&mut self.inner.objects.lock());
        match fault {
            Some(_) => Err(Error::Unknown),
            None => done,
        }
    }
}

impl Target for Memory {
    fn fail(&self, share: f64) {
        self.inner.faults.lock().fail(share);
    }

    fn cut(&self, cut: bool) {
        self.inner.faults.lock().cut(cut);
    }

    fn look(&self, look: Look) {
        self.inner.objects.lock().look = Some(look);
    }

    fn objects(&self) -> Objects {
        self.inner.objects.lock().objects.clone()
    }
}

impl Held {
    fn put(&mut self, key: &ObjectKey, bytes: Bytes) {
        self.next += 1;
        self.identities.insert(key.clone(), self.next);
        self.objects.insert(key.clone(), bytes);
        self.seen(key);
    }

    fn remove(&mut self, key: &ObjectKey) {
        if self.objects.remove(key).is_some() {
            self.identities.remove(key);
            self.seen(key);
        }
    }

    fn seen(&mut self, key: &ObjectKey) {
        if key.as_str().starts_with(RESERVED) {
            return;
        }
        if let Some(mut look) = self.look.take() {
            look(&self.objects);
            self.look = Some(look);
        }
    }

    fn stat(&self, key: &ObjectKey) -> Option<Stat> {
        Some(Stat {
            size: self.objects.get(key)?.len() as u64,
            identity: Identity(self.identities.get(key)?.to_string().into()),
            modified_ms: 0,
        })
    }
}

#[async_trait]
impl Store for Memory {
    fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    async fn begin(&self, _: &Permit, name: &ObjectKey, _: Plan) -> Result<Box<dyn Upload>> {
        self.inner.begun.fetch_add(1, Ordering::Relaxed);
        let id = self
            .around(|held| {
                held.next += 1;
                let id = held.next;
                held.open.insert(id, name.clone());
                Ok(id)
            })
            .await?;
        Ok(Box::new(Hidden {
            store: self.clone(),
            name: name.clone(),
            id,
            upload: UploadId(id.to_string().into()),
            bytes: Vec::new(),
        }))
    }

    async fn abort(&self, _: &Permit, _: &ObjectKey, upload: &UploadId) -> Result<()> {
        let id: u64 = upload.0.parse().unwrap();
        self.around(|held| {
            held.open.remove(&id);
            Ok(())
        })
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
        assert!(range.is_none() && expect.is_none());
        self.around(|held| {
            let Some(stat) = held.stat(name) else {
                return Ok(None);
            };
            let bytes = held.objects[name].clone();
            Ok(Some(Content {
                size: stat.size,
                identity: stat.identity,
                bytes: Box::pin(futures::stream::iter([Ok(bytes)])),
                file: None,
            }))
        })
        .await
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        self.around(|held| Ok(held.stat(name))).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        self.around(|held| {
            let wanted = |name: &&ObjectKey| {
                let name = name.as_str();
                name.starts_with(prefix)
                    && after.is_none_or(|after| name > after)
                    && (prefix.starts_with(RESERVED) || !name.starts_with(RESERVED))
            };
            let names = held.objects.keys().filter(wanted).take(limit);
            Ok(names
                .map(|name| Listed {
                    name: name.clone(),
                    stat: held.stat(name).unwrap(),
                })
                .collect())
        })
        .await
    }

    async fn delete(&self, _: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for name in names {
            let removed = self.around(|held| {
                held.remove(name);
                Ok(())
            });
            results.push(removed.await);
        }
        results
    }

    async fn set_aside(&self, _: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        self.around(|held| {
            let bytes = held.objects.get(from).cloned().ok_or(Error::Unknown)?;
            held.put(to, bytes);
            Ok(())
        })
        .await
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        self.around(|held| {
            let open = held.open.iter();
            let named = open.map(|(id, name)| (name.clone(), UploadId(id.to_string().into())));
            Ok(named.collect())
        })
        .await
    }
}

struct Hidden {
    store: Memory,
    name: ObjectKey,
    id: u64,
    upload: UploadId,
    bytes: Vec<u8>,
}

#[async_trait]
impl Upload for Hidden {
    fn id(&self) -> &UploadId {
        &self.upload
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        self.store.around(|_| Ok(())).await
    }

    async fn publish(self: Box<Self>, mode: Publish) -> Result<Published> {
        let (name, bytes, id) = (self.name, Bytes::from(self.bytes), self.id);
        self.store
            .around(|held| {
                if held.open.remove(&id).is_none() {
                    return Err(Error::UploadGone);
                }
                if mode == Publish::CreateOnly && held.objects.contains_key(&name) {
                    return Err(Error::Exists);
                }
                held.put(&name, bytes);
                let identity = held.stat(&name).unwrap().identity;
                Ok(Published {
                    identity,
                    md5: None,
                })
            })
            .await
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        unreachable!("a mirror has no clients")
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let id = self.id;
        self.store
            .around(|held| {
                held.open.remove(&id);
                Ok(())
            })
            .await
    }
}
