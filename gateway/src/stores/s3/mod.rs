//! A bucket of an S3-compatible service as a store.
//!
//! | module | decides |
//! |---|---|
//! | `settings`, `credentials` | what the configuration means |
//! | `client`, `connect`, `sign`, `retry`, `failure` | one exchange: signature, deadline, repetition, judgement |
//! | `upload`, `parts`, `put`, `multipart`, `find` | the ways to a name, and what became of a doubtful one |
//! | `read`, `listing`, `removal`, `copy` | the rest of the trait |
//! | `probe` | what this service can do |
//!
//! Clients' metadata are not stored here: the catalog holds them. Objects bear the clients' names, so
//! that a cluster can read the bucket without a gateway.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use policies::key::ObjectKey;
use policies::lock::Permit;

use super::{
    Capabilities, Content, Error, Identity, Listed, Plan, Result, Stat, Store, StoredPart, Upload,
    UploadId,
};
use client::Client;
use probe::{Abilities, Probed, UNPROBED};
use removal::NoBatches;
pub use settings::{CredentialSettings, Settings, SettingsError};

mod body;
mod client;
mod connect;
mod copy;
mod credentials;
mod failure;
mod find;
mod listing;
mod multipart;
mod names;
mod parts;
mod probe;
mod put;
mod read;
mod removal;
mod retry;
mod settings;
mod sign;
mod upload;
mod xml;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::lossy;

/// Until a probe has been answered nothing is promised.
static UNKNOWN: Capabilities = Capabilities {
    kind: "s3",
    create_only: false,
    compare_and_set: false,
    abort_beats_complete: false,
    checksums: false,
};

#[derive(Debug)]
pub struct S3Store {
    client: Arc<Client>,
    probed: OnceLock<Probed>,
    no_batches: NoBatches,
}

impl S3Store {
    /// Reads secrets and certificates; connects to nothing.
    pub fn open(settings: &Settings) -> Result<Self, SettingsError> {
        Ok(Self {
            client: Arc::new(Client::open(settings)?),
            probed: OnceLock::new(),
            no_batches: NoBatches::default(),
        })
    }

    /// Finds out what the service can do. An error says that it could not be asked; try again then.
    pub async fn probe(&self) -> Result<&Capabilities> {
        if self.probed.get().is_none() {
            let probed = self.client.probe().await?;
            let _first = self.probed.set(probed);
        }
        Ok(self.capabilities())
    }

    fn abilities(&self) -> Abilities {
        self.probed
            .get()
            .map_or(UNPROBED, |probed| probed.abilities)
    }
}

fn storable(name: &ObjectKey) -> Result<()> {
    if names::is_storable(name.as_str()) {
        Ok(())
    } else {
        let why = "a segment of it is empty, '.' or '..', or it has control characters; many S3 services put such a name elsewhere";
        Err(Error::Unstorable(why))
    }
}

#[async_trait]
impl Store for S3Store {
    fn capabilities(&self) -> &Capabilities {
        self.probed
            .get()
            .map_or(&UNKNOWN, |probed| &probed.capabilities)
    }

    async fn begin(
        &self,
        _permit: &Permit,
        name: &ObjectKey,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        storable(name)?;
        upload::begin(&self.client, name, plan, self.abilities()).await
    }

    async fn abort(&self, _permit: &Permit, name: &ObjectKey, upload: &UploadId) -> Result<()> {
        match multipart::backend_id(upload) {
            Some(backend) => self.client.abort_multipart(name, backend).await,
            // A plain PUT dies with the process that held its last bytes back.
            None => Ok(()),
        }
    }

    async fn assemble(
        &self,
        _permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        parts: &[StoredPart],
    ) -> Result<Box<dyn Upload>> {
        parts::assemble(&self.client, name, upload, parts, self.abilities())
    }

    async fn begin_part(
        &self,
        _permit: &Permit,
        name: &ObjectKey,
        upload: &UploadId,
        number: u16,
        plan: Plan,
    ) -> Result<Box<dyn Upload>> {
        parts::begin_part(&self.client, name, upload, number, plan).await
    }

    async fn begin_multipart(&self, _permit: &Permit, name: &ObjectKey) -> Result<UploadId> {
        storable(name)?;
        self.client.create_multipart(name, Vec::new()).await
    }

    async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        storable(name)?;
        self.client.read(name, range, expect).await
    }

    async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        storable(name)?;
        self.client.stat(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>> {
        self.client.list(prefix, after, limit).await
    }

    async fn delete(&self, _permit: &Permit, names: &[ObjectKey]) -> Vec<Result<()>> {
        self.client.delete(names, &self.no_batches).await
    }

    async fn set_aside(&self, _permit: &Permit, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        storable(from)?;
        storable(to)?;
        self.client.set_aside(from, to).await
    }

    async fn uploads(&self) -> Result<Vec<(ObjectKey, UploadId)>> {
        self.client.multipart_uploads().await
    }
}
