//! A store that fails on command or by a seed, for tests of what lies above it.
//!
//! Place in the stack: directly around the store, below everything that copes with failure. It can
//! fail an operation before it acts, or after (the effect is there, its answer is lost), delay it, or
//! hold it until the test lets it go. Drawn faults follow from the seed alone.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use policies::key::ObjectKey;
use policies::lock::Permit;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Semaphore;

use super::metrics::Operation;
use super::{
    Capabilities, Content, Error, Identity, Listed, Plan, Publish, Published, Result, Stat, Store,
    StoredPart, Upload, UploadId,
};

#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing is done.
    FailBefore(Error),
    /// Done, and the caller reads this instead of the answer.
    FailAfter(Error),
    Delay(Duration),
    /// Waits at the gate, then goes on.
    Hold(Arc<Gate>),
    /// Done; its answer waits at the gate.
    HoldAfter(Arc<Gate>),
}

/// Where a held operation waits.
#[derive(Debug)]
pub struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub fn closed() -> Arc<Self> {
        Arc::new(Self {
            reached: Semaphore::new(0),
            open: Semaphore::new(0),
        })
    }

    /// Returns when an operation waits here.
    pub async fn reached(&self) {
        self.reached
            .acquire()
            .await
            .expect("is never closed")
            .forget();
    }

    pub fn open(&self) {
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        self.reached.add_permits(1);
        self.open.acquire().await.expect("is never closed").forget();
    }
}

pub struct Faulty<S: ?Sized> {
    script: Arc<Script>,
    inner: Arc<S>,
}

impl<S: ?Sized> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.script).finish()
    }
}

#[derive(Debug)]
struct Script {
    planned: Mutex<Vec<(Operation, Fault)>>,
    drawn: Option<Drawn>,
}

#[derive(Debug)]
struct Drawn {
    random: Mutex<StdRng>,
    share: f64,
}

impl<S: Store + ?Sized> Faulty<S> {
    pub fn new(inner: Arc<S>) -> Self {
        Self::with(inner, None)
    }

    /// A share of all operations fails or is delayed, as the seed has it.
    pub fn seeded(inner: Arc<S>, seed: u64, share: f64) -> Self {
        println!("fault seed {seed}");
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Self::with(inner, Some(Drawn { random, share }))
    }

    fn with(inner: Arc<S>, drawn: Option<Drawn>) -> Self {
        let planned = Mutex::default();
        Self {
            script: Arc::new(Script { planned, drawn }),
            inner,
        }
    }

    /// The next operation of this kind that has no earlier plan goes so.
    pub fn plan(&self, operation: Operation, fault: Fault) {
        self.script.planned.lock().push((operation, fault));
    }

    fn wrap(&self, upload: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(FaultyUpload {
            script: self.script.clone(),
            inner: upload,
        })
    }
}

impl Script {
    fn next(&self, operation: Operation) -> Option<Fault> {
        let mut planned = self.planned.lock();
        if let Some(at) = planned.iter().position(|(of, _)| *of == operation) {
            return Some(planned.remove(at).1);
        }
        drop(planned);
        let drawn = self.drawn.as_ref()?;
        let mut random = drawn.random.lock();
        if !random.random_bool(drawn.share) {
            return None;
        }
        Some(match random.random_range(0..4_u8) {
            0 => Fault::FailBefore(Error::Busy),
            1 => Fault::FailBefore(Error::Unknown),
            2 => Fault::FailAfter(Error::Unknown),
            _ => Fault::Delay(Duration::from_millis(random.random_range(0..5))),
        })
    }

    async fn around<T>(
        &self,
        operation: Operation,
        act: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.next(operation) {
            None => act.await,
            Some(Fault::FailBefore(error)) => Err(error),
            Some(Fault::FailAfter(error)) => {
                drop(act.await);
                Err(error)
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                act.await
            }
            Some(Fault::Hold(gate)) => {
                gate.pass().await;
                act.await
            }
            Some(Fault::HoldAfter(gate)) => {
                let result = act.await;
                gate.pass().await;
                result
            }
        }
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Faulty<S> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn begin(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        let act = self.inner.begin(permit, name, plan);
        let upload = self.script.around(Operation::Begin, act).await?;
        Ok(self.wrap(upload))
    }

    async fn abort(&self, permit: &Permit, name: &ObjectKey, upload: &UploadId) -> Result<()> {
        let act = self.inner.abort(permit, name, upload);
        self.script.around(Operation::Abort, act).await
    }

    async fn assemble(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        parts: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        let act = self.inner.assemble(permit, name, upload, parts);
        let upload = self.script.around(Operation::Assemble, act).await?;
        Ok(self.wrap(upload))
    }

    async fn begin_part(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        number: u16,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        let act = self.inner.begin_part(permit, name, upload, number, plan);
        let part = self.script.around(Operation::BeginPart, act).await?;
        Ok(self.wrap(part))
    }

    async fn begin_multipart(&self, permit: &Permit, name: &ObjectKey) -> Result<UploadId> {
        let act = self.inner.begin_multipart(permit, name);
        self.script.around(Operation::BeginMultipart, act).await
    }

    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        let act = self.inner.read(name, range, expect);
        self.script.around(Operation::Read, act).await
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        self.script
            .around(Operation::Stat, self.inner.stat(name))
            .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        let act = self.inner.list(prefix, after, limit);
        self.script.around(Operation::List, act).await
    }

    async fn delete(&self, permit: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        let act = async { Ok(self.inner.delete(permit, names).await) };
        match self.script.around(Operation::Delete, act).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); names.len()],
        }
    }

    async fn set_aside(&self, permit: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let act = self.inner.set_aside(permit, from, to);
        self.script.around(Operation::SetAside, act).await
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        self.script
            .around(Operation::Uploads, self.inner.uploads())
            .await
    }
}

struct FaultyUpload {
    script: Arc<Script>,
    inner: Box<dyn Upload>,
}

#[async_trait]
impl Upload for FaultyUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    fn tells_md5(&self) -> bool {
        self.inner.tells_md5()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.script
            .around(Operation::Write, self.inner.write(bytes))
            .await
    }

    async fn publish(self: Box<Self>, mode: Publish) -> Result<Published> {
        let act = self.inner.publish(mode);
        self.script.around(Operation::Publish, act).await
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        self.script.around(Operation::Seal, self.inner.seal()).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.script
            .around(Operation::Abort, self.inner.abort())
            .await
    }
}

/// A store that holds nothing and takes everything for deleted.
#[derive(Debug)]
pub struct Nowhere;

#[async_trait]
impl Store for Nowhere {
    fn capabilities(&self) -> &Capabilities {
        &Capabilities {
            kind: "nowhere",
            create_only: false,
            compare_and_set: false,
            abort_beats_complete: false,
            checksums: false,
        }
    }

    async fn begin(&self, _: &Permit, _: &ObjectKey, _: Plan) -> Result<Box<dyn Upload>> {
        Err(Error::Full)
    }

    async fn abort(&self, _: &Permit, _: &ObjectKey, _: &UploadId) -> Result<()> {
        Ok(())
    }

    async fn assemble(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        Err(Error::UploadGone)
    }

    async fn begin_part(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: u16,
        _: Plan,
    ) -> Result<Box<dyn Upload>> {
        Err(Error::UploadGone)
    }

    async fn begin_multipart(&self, _: &Permit, _: &ObjectKey) -> Result<UploadId> {
        Err(Error::Full)
    }

    async fn read(
        &self,
        _: &ObjectKey,
        _: Option<Range<u64>>,
        _: Option<&Identity>,
    ) -> Result<Option<Content>> {
        Ok(None)
    }

    async fn stat(&self, _: &ObjectKey) -> Result<Option<Stat>> {
        Ok(None)
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<Listed>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        vec![Ok(()); names.len()]
    }

    async fn set_aside(&self, _: &Permit, _: &ObjectKey, _: &ObjectKey) -> Result<()> {
        Err(Error::Full)
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        Ok(Vec::new())
    }
}

mod tests {
    use super::*;
    use crate::stores::conformance::key;

    async fn outcomes(seed: u64) -> String {
        let store = Faulty::seeded(Arc::new(Nowhere), seed, 0.5);
        let mut text = String::new();
        for _ in 0..64 {
            text.push(match store.stat(&key("x")).await {
                Ok(_) => '.',
                Err(Error::Busy) => 'b',
                Err(_) => 'u',
            });
        }
        text
    }

    #[tokio::test]
    async fn drawn_faults_follow_from_the_seed() {
        let first = outcomes(7).await;
        assert_eq!(first, outcomes(7).await);
        assert_ne!(first, outcomes(8).await);
        assert!(first.contains('b') && first.contains('u') && first.contains('.'));
    }

    #[tokio::test]
    async fn an_operation_is_held_until_the_gate_opens() {
        let store = Arc::new(Faulty::new(Arc::new(Nowhere)));
        let gate = Gate::closed();
        store.plan(Operation::Stat, Fault::Hold(gate.clone()));
        let held = tokio::spawn({
            let store = store.clone();
            async move { store.stat(&key("x")).await }
        });
        gate.reached().await;
        assert!(!held.is_finished());
        gate.open();
        assert!(held.await.unwrap().unwrap().is_none());
    }

    #[tokio::test]
    async fn planned_faults_come_once_and_in_order() {
        let store = Faulty::new(Arc::new(Nowhere));
        store.plan(Operation::Stat, Fault::FailBefore(Error::Busy));
        store.plan(Operation::Stat, Fault::FailAfter(Error::Unknown));
        assert!(matches!(store.stat(&key("x")).await, Err(Error::Busy)));
        assert!(matches!(store.stat(&key("x")).await, Err(Error::Unknown)));
        assert!(store.stat(&key("x")).await.is_ok());
    }
}
