//! Stands in for a store that could not be opened: everything fails, nothing is absent.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use policies::key::ObjectKey;
use policies::lock::Permit;

use super::{
    Capabilities, Content, Error, Identity, Listed, Plan, Result, Stat, Store, StoredPart, Upload,
    UploadId,
};

#[derive(Debug)]
pub struct Unreachable;

fn failed<T>() -> Result<T> {
    Err(Error::Failed(Arc::from("it could not be opened at start")))
}

#[async_trait]
impl Store for Unreachable {
    fn capabilities(&self) -> &Capabilities {
        &Capabilities {
            kind: "unreachable",
            create_only: false,
            compare_and_set: false,
            abort_beats_complete: false,
            checksums: false,
        }
    }

    async fn begin(&self, _: &Permit, _: &ObjectKey, _: Plan) -> Result<Box<dyn Upload>> {
        failed()
    }

    async fn abort(&self, _: &Permit, _: &ObjectKey, _: &UploadId) -> Result<()> {
        failed()
    }

    async fn assemble(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        failed()
    }

    async fn begin_part(
        &self,
        _: &Permit,
        _: &ObjectKey,
        _: &UploadId,
        _: u16,
        _: Plan,
    ) -> Result<Box<dyn Upload>> {
        failed()
    }

    async fn begin_multipart(&self, _: &Permit, _: &ObjectKey) -> Result<UploadId> {
        failed()
    }

    async fn read(
        &self,
        _: &ObjectKey,
        _: Option<Range<u64>>,
        _: Option<&Identity>,
    ) -> Result<Option<Content>> {
        failed()
    }

    async fn stat(&self, _: &ObjectKey) -> Result<Option<Stat>> {
        failed()
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<Listed>> {
        failed()
    }

    async fn delete(&self, _: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        names.iter().map(|_| failed()).collect()
    }

    async fn set_aside(&self, _: &Permit, _: &ObjectKey, _: &ObjectKey) -> Result<()> {
        failed()
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        failed()
    }
}
