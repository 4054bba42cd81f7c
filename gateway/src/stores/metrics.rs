//! Times and errors of a store, counted per operation.
//!
//! Place in the stack: outermost, so that what is counted is what the rest of the gateway waits for,
//! repetitions included. Handles are looked up once, when the recorder is already installed: a
//! registry lookup per operation would cost more than the measurement. No key is ever a label.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use metrics::{Histogram, counter, histogram};
use policies::key::ObjectKey;
use policies::lock::Permit;

use super::{
    Capabilities, Content, Error, Identity, Listed, Plan, Publish, Published, Result, Stat, Store,
    StoredPart, Upload, UploadId,
};

pub const SECONDS: &str = "snapgate_store_seconds";
pub const ERRORS: &str = "snapgate_store_errors_total";

/// A store that is measured.
pub struct Measured<S: ?Sized> {
    gauges: Arc<Gauges>,
    inner: Arc<S>,
}

impl<S: ?Sized + fmt::Debug> fmt::Debug for Measured<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Measured").field(&self.inner).finish()
    }
}

/// What a store or an upload is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Begin,
    Abort,
    Assemble,
    BeginPart,
    BeginMultipart,
    Read,
    Stat,
    List,
    Delete,
    SetAside,
    Uploads,
    Write,
    Publish,
    Seal,
}

impl Operation {
    const ALL: [Self; 14] = [
        Self::Begin,
        Self::Abort,
        Self::Assemble,
        Self::BeginPart,
        Self::BeginMultipart,
        Self::Read,
        Self::Stat,
        Self::List,
        Self::Delete,
        Self::SetAside,
        Self::Uploads,
        Self::Write,
        Self::Publish,
        Self::Seal,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Abort => "abort",
            Self::Assemble => "assemble",
            Self::BeginPart => "begin_part",
            Self::BeginMultipart => "begin_multipart",
            Self::Read => "read",
            Self::Stat => "stat",
            Self::List => "list",
            Self::Delete => "delete",
            Self::SetAside => "set_aside",
            Self::Uploads => "uploads",
            Self::Write => "write",
            Self::Publish => "publish",
            Self::Seal => "seal",
        }
    }
}

struct Gauges {
    store: String,
    /// In the order of [`Operation::ALL`].
    seconds: [Histogram; Operation::ALL.len()],
}

impl Gauges {
    fn start(&self, operation: Operation) -> Running<'_> {
        Running {
            gauges: self,
            operation,
            since: Instant::now(),
        }
    }

    fn count(&self, operation: Operation, error: &Error) {
        let store = self.store.clone();
        let labels = [
            ("store", store),
            ("operation", operation.label().to_owned()),
            ("kind", kind(error).to_owned()),
        ];
        counter!(ERRORS, &labels).increment(1);
    }
}

struct Running<'a> {
    gauges: &'a Gauges,
    operation: Operation,
    since: Instant,
}

impl Running<'_> {
    fn took(&self) {
        self.gauges.seconds[self.operation as usize].record(self.since.elapsed().as_secs_f64());
    }

    fn end<T>(self, result: Result<T>) -> Result<T> {
        self.took();
        if let Err(error) = &result {
            self.gauges.count(self.operation, error);
        }
        result
    }
}

/// The label of an error.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Exists => "exists",
        Error::Changed => "changed",
        Error::UploadGone => "upload_gone",
        Error::Unstorable(_) => "unstorable",
        Error::Full => "full",
        Error::Busy => "busy",
        Error::Denied => "denied",
        Error::Unknown => "unknown",
        Error::Failed(_) => "failed",
    }
}

impl<S: Store + ?Sized> Measured<S> {
    /// `name` is the store's in the configuration. Install the recorder first.
    pub fn new(name: &str, inner: Arc<S>) -> Self {
        let seconds = Operation::ALL.map(|operation| {
            let name = name.to_owned();
            histogram!(SECONDS, "store" => name, "operation" => operation.label())
        });
        let store = name.to_owned();
        Self {
            gauges: Arc::new(Gauges { store, seconds }),
            inner,
        }
    }

    fn wrap(&self, upload: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(MeasuredUpload {
            gauges: self.gauges.clone(),
            inner: upload,
        })
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Measured<S> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn begin(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        let running = self.gauges.start(Operation::Begin);
        let upload = running.end(self.inner.begin(permit, name, plan).await)?;
        Ok(self.wrap(upload))
    }

    async fn abort(&self, permit: &Permit, name: &ObjectKey, upload: &UploadId) -> Result<()> {
        let running = self.gauges.start(Operation::Abort);
        running.end(self.inner.abort(permit, name, upload).await)
    }

    async fn assemble(
        &self,
        permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        parts: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        let running = self.gauges.start(Operation::Assemble);
        let upload = running.end(self.inner.assemble(permit, name, upload, parts).await)?;
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
        let running = self.gauges.start(Operation::BeginPart);
        let begun = self.inner.begin_part(permit, name, upload, number, plan);
        let part = running.end(begun.await)?;
        Ok(self.wrap(part))
    }

    async fn begin_multipart(&self, permit: &Permit, name: &ObjectKey) -> Result<UploadId> {
        let running = self.gauges.start(Operation::BeginMultipart);
        running.end(self.inner.begin_multipart(permit, name).await)
    }

    /// Until the first byte can be read; how fast a client takes the rest is not the store's.
    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        let running = self.gauges.start(Operation::Read);
        running.end(self.inner.read(name, range, expect).await)
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        let running = self.gauges.start(Operation::Stat);
        running.end(self.inner.stat(name).await)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        let running = self.gauges.start(Operation::List);
        running.end(self.inner.list(prefix, after, limit).await)
    }

    async fn delete(&self, permit: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        let running = self.gauges.start(Operation::Delete);
        let results = self.inner.delete(permit, names).await;
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            self.gauges.count(Operation::Delete, error);
        }
        running.took();
        results
    }

    async fn set_aside(&self, permit: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let running = self.gauges.start(Operation::SetAside);
        running.end(self.inner.set_aside(permit, from, to).await)
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        let running = self.gauges.start(Operation::Uploads);
        running.end(self.inner.uploads().await)
    }
}

struct MeasuredUpload {
    gauges: Arc<Gauges>,
    inner: Box<dyn Upload>,
}

#[async_trait]
impl Upload for MeasuredUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    fn tells_md5(&self) -> bool {
        self.inner.tells_md5()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let running = self.gauges.start(Operation::Write);
        running.end(self.inner.write(bytes).await)
    }

    async fn publish(self: Box<Self>, mode: Publish) -> Result<Published> {
        let running = self.gauges.start(Operation::Publish);
        running.end(self.inner.publish(mode).await)
    }

    async fn seal(self: Box<Self>) -> Result<StoredPart> {
        let running = self.gauges.start(Operation::Seal);
        running.end(self.inner.seal().await)
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let running = self.gauges.start(Operation::Abort);
        running.end(self.inner.abort().await)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::stores::conformance::{key, permit};
    use crate::stores::faults::{Fault, Faulty, Nowhere};

    #[test]
    fn times_and_errors_are_counted_by_operation_and_kind() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let printed = recorder.handle();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        metrics::with_local_recorder(&recorder, || {
            let faulty = Arc::new(Faulty::new(Arc::new(Nowhere)));
            faulty.plan(Operation::Stat, Fault::FailBefore(Error::Busy));
            faulty.plan(Operation::List, Fault::Delay(Duration::from_millis(1)));
            let store = Measured::new("eu", faulty);
            runtime.block_on(async {
                assert!(store.stat(&key("secret/key")).await.is_err());
                store.list("", None, 1).await.unwrap();
                let deleted = store.delete(&permit(), &[key("a"), key("b")]).await;
                assert_eq!(deleted.len(), 2);
            });
        });
        let text = printed.render();
        assert!(
            text.contains(
                "snapgate_store_errors_total{store=\"eu\",operation=\"stat\",kind=\"busy\"} 1"
            ),
            "{text}"
        );
        for operation in ["stat", "list", "delete"] {
            let count =
                format!("snapgate_store_seconds_count{{store=\"eu\",operation=\"{operation}\"}} 1");
            assert!(text.contains(&count), "{count} in {text}");
        }
        assert!(!text.contains("secret/key"));
    }

    #[test]
    fn handles_are_kept_in_the_order_of_the_operations() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
        }
    }
}
