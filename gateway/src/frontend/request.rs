//! One request on its way through the room: what is known of it, and what is to be told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use policies::identity::{Bucket, Cluster};
use s3s::S3Error;

use super::answers::Answer;
use super::outbox::Outbox;
use super::precheck::{Checked, Payload, Target, Upload};
use crate::repository::{Address, Caller, Error};

/// Shared between the service, the operation and the bodies of a request.
#[derive(Debug)]
pub struct Context {
    pub id: Arc<str>,
    pub checked: Checked,
    pub invocation: Option<Arc<str>>,
    pub bytes_in: AtomicU64,
    /// The body was read to its end.
    pub drained: AtomicBool,
    /// The connection's, where it can send files.
    pub outbox: Outbox,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    operation: Option<&'static str>,
    cluster: Option<Cluster>,
    answer: Option<Answer>,
    refusal: Option<&'static str>,
}

impl Context {
    #[must_use]
    pub fn new(
        id: Arc<str>,
        checked: Checked,
        invocation: Option<Arc<str>>,
        outbox: Outbox,
    ) -> Self {
        Self {
            id,
            checked,
            invocation,
            bytes_in: AtomicU64::new(0),
            drained: AtomicBool::new(false),
            outbox,
            progress: Mutex::default(),
        }
    }

    /// The signature holds: the request is this cluster's and does this.
    pub fn admit(&self, operation: &'static str, cluster: Cluster) {
        let mut progress = self.progress.lock();
        progress.operation = Some(operation);
        progress.cluster = Some(cluster);
    }

    /// Who asks, for the door. None before [`Context::admit`].
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        let cluster = self.progress.lock().cluster.clone()?;
        Some(Caller {
            cluster,
            request_id: Arc::clone(&self.id),
            invocation: self.invocation.clone(),
            presigned: self.checked.presigned,
        })
    }

    /// The object the request addresses; operations on objects are routed only if it does.
    #[must_use]
    pub fn object(&self) -> Option<&Address> {
        match &self.checked.target {
            Target::Object(address) => Some(address),
            Target::Service | Target::Bucket(_) => None,
        }
    }

    #[must_use]
    pub fn bucket(&self) -> Option<&Bucket> {
        match &self.checked.target {
            Target::Service => None,
            Target::Bucket(bucket) => Some(bucket),
            Target::Object(address) => Some(&address.bucket),
        }
    }

    #[must_use]
    pub fn upload(&self) -> Option<&Upload> {
        match &self.checked.payload {
            Payload::Upload(upload) => Some(upload),
            Payload::None | Payload::Document(_) => None,
        }
    }

    /// Keeps the answer for the service and the log, and gives the library something to carry.
    pub fn fail(&self, error: &Error) -> S3Error {
        let refusal = match error {
            Error::Refused(refusal) => Some(refusal.label()),
            Error::SlowDown(why) | Error::Unavailable(why) => {
                tracing::warn!(request_id = %self.id, %why, "a request was put off");
                None
            }
            Error::NoSuchBucket
            | Error::NoSuchKey
            | Error::NoSuchUpload
            | Error::PreconditionFailed
            | Error::NotModified { .. }
            | Error::RangeNotSatisfiable { .. }
            | Error::InvalidPart
            | Error::InvalidPartOrder
            | Error::EntityTooSmall
            | Error::InvalidArgument(_)
            | Error::Body(_) => None,
        };
        if let Some(refusal) = refusal {
            self.progress.lock().refusal = Some(refusal);
        }
        self.answer(Answer::from(error))
    }

    /// As [`Context::fail`], for what is decided in this room.
    pub fn answer(&self, answer: Answer) -> S3Error {
        let error = answer.to_s3();
        self.progress.lock().answer = Some(answer);
        error
    }

    /// Notes a policy's refusal that is told inside a 200 (one key of a batch).
    pub fn refused(&self, label: &'static str) {
        self.progress.lock().refusal = Some(label);
    }

    pub fn take_answer(&self) -> Option<Answer> {
        self.progress.lock().answer.take()
    }

    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.progress.lock().operation
    }

    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        self.progress.lock().cluster.clone()
    }

    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        self.progress.lock().refusal
    }

    pub fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
