//! A store that could not be reached at start: it is opened when it is first asked for something and answers.
//!
//! Place in the stack: around nothing, in the place of the store. Until it is open every operation fails as
//! "unknown"; attempts to open it are made one at a time and not more often than every few seconds.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use policies::key::ObjectKey;
use policies::lock::Permit;
use tokio::time::Instant;

use super::{
    Capabilities, Content, Error, Identity, Listed, Plan, Result, Stat, Store, StoredPart, Upload,
    UploadId,
};

/// At least, between two attempts to open it.
pub const PAUSE: Duration = Duration::from_secs(5);

pub type Opener = Box<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Store>>> + Send + Sync>;

pub struct Late {
    open: Opener,
    opened: OnceLock<Arc<dyn Store>>,
    tried: tokio::sync::Mutex<Option<Instant>>,
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late")
            .field("opened", &self.opened.get())
            .finish_non_exhaustive()
    }
}

impl Late {
    pub fn new(open: Opener) -> Self {
        Self {
            open,
            opened: OnceLock::new(),
            tried: tokio::sync::Mutex::new(None),
        }
    }

    async fn store(&self) -> Result<&Arc<dyn Store>> {
        if let Some(store) = self.opened.get() {
            return Ok(store);
        }
        let mut tried = self.tried.lock().await;
        if let Some(store) = self.opened.get() {
            return Ok(store);
        }
        if tried.is_some_and(|last| last.elapsed() < PAUSE) {
            return Err(Error::Unknown);
        }
        let opened = (self.open)().await;
        *tried = Some(Instant::now());
        let opened = opened?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

#[async_trait]
impl Store for Late {
    fn capabilities(&self) -> &Capabilities {
        match self.opened.get() {
            Some(store) => store.capabilities(),
            None => &Capabilities {
                kind: "not reached yet",
                create_only: false,
                compare_and_set: false,
                abort_beats_complete: false,
                checksums: false,
            },
        }
    }

    async fn begin(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        self.store().await?.begin(permit, name, plan).await
    }

    async fn abort(&self, permit: &Permit, name: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.store().await?.abort(permit, name, upload).await
    }

    async fn assemble(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        parts: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        self.store()
            .await?
            .assemble(permit, name, upload, parts)
            .await
    }

    async fn begin_part(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        number: u16,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        let store = self.store().await?;
        store.begin_part(permit, name, upload, number, plan).await
    }

    async fn begin_multipart(&self, permit: &Permit, name: &ObjectKey) -> Result<UploadId> {
        self.store().await?.begin_multipart(permit, name).await
    }

    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        self.store().await?.read(name, range, expect).await
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        self.store().await?.stat(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        self.store().await?.list(prefix, after, limit).await
    }

    async fn delete(&self, permit: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        match self.store().await {
            Ok(store) => store.delete(permit, names).await,
            Err(e) => vec![Err(e); names.len()],
        }
    }

    async fn set_aside(&self, permit: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        self.store().await?.set_aside(permit, from, to).await
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        self.store().await?.uploads().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::stores::conformance::key;
    use crate::stores::faults::Nowhere;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_away_at_start_is_opened_when_it_answers() {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let late = Late::new(Box::new(move || {
            let tries = Arc::clone(&counted);
            Box::pin(async move {
                match tries.fetch_add(1, Ordering::Relaxed) {
                    0 => Err(Error::Unknown),
                    _ => Ok(Arc::new(Nowhere) as Arc<dyn Store>),
                }
            })
        }));
        assert!(late.stat(&key("a")).await.is_err());
        assert!(late.stat(&key("a")).await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 1, "not again at once");
        tokio::time::sleep(PAUSE).await;
        assert_eq!(late.stat(&key("a")).await.unwrap(), None);
        assert_eq!(late.capabilities().kind, "nowhere");
    }
}
