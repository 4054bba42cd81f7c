//! What must have ended before the lock goes on: open intents, uploads of older epochs, what a mirror still lacks.
//!
//! Invariant: nothing that was begun under an epoch can be published once this is done with it. A hand-over that waits for a
//! mirror happens when the mirror has everything, or not at all, also over a crash.

use std::time::Duration;

use policies::identity::{Cluster, Epoch, StoreName};
use policies::lock::{self, Event, Patience};
use tokio::time::Instant;

use super::Error;
use super::moves::{Hand, fresh};
use crate::repository::door::OpenRepository;
use crate::repository::gate::state_failed;
use crate::repository::ingest::store_failed;
use crate::repository::{Door, unavailable};
use crate::state::{UploadQuery, WriteError};

/// Owners of open intents get the time that held-up clients wait.
const PATIENCE: Duration = Duration::from_secs(25);
const GLANCE: Duration = Duration::from_millis(20);
/// A mirror gets this long to come up to a drained repository.
const MIRROR_PATIENCE: Duration = Duration::from_secs(60);
const PAGE: usize = 1000;
/// The position that says which epoch's hand-over waits for a mirror.
const WAITING: &str = "hand-over that waits for a mirror";

impl Door {
    /// Waits for the owners of open intents as long as the patience goes, then resolves what is left.
    pub(super) async fn end_intents(
        &self,
        open: &OpenRepository,
        patience: Patience,
    ) -> Result<(), Error> {
        let deadline = match patience {
            Patience::Owners => Instant::now() + PATIENCE,
            Patience::None => Instant::now(),
        };
        while !self.drained(open).await? {
            if Instant::now() >= deadline {
                self.resolve_all(open).await?;
                return Ok(());
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    pub(super) async fn drained(&self, open: &OpenRepository) -> Result<bool, Error> {
        let open = self
            .state
            .intents(open.id)
            .await
            .map_err(|e| state_failed("list open intents", &e))?;
        Ok(open.is_empty())
    }

    /// Clients' multipart uploads that were begun under older epochs can never be completed again.
    pub(super) async fn abort_uploads(
        &self,
        open: &OpenRepository,
        up_to: Epoch,
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let query = UploadQuery {
                bucket: open.bucket_id,
                repositories: [open.id].into(),
                prefix: String::new(),
                after,
                limit: PAGE,
            };
            let page = self
                .state
                .uploads(&query)
                .await
                .map_err(|e| state_failed("list the uploads", &e))?;
            after = page
                .uploads
                .last()
                .map(|u| (u.key.as_str().to_owned(), u.id.clone()));
            for upload in page
                .uploads
                .iter()
                .filter(|u| u.epoch.is_none_or(|epoch| epoch <= up_to))
            {
                let permit = lock::settle(&open.name, &upload.cluster, up_to);
                open.store
                    .abort(&permit, &upload.key, &upload.store_upload)
                    .await
                    .map_err(|e| store_failed("abort an upload", &e))?;
                match self.state.drop_upload(&permit, &upload.id).await {
                    Ok(_) => {}
                    Err(WriteError::Failed(e)) => {
                        return Err(state_failed("forget an upload", &e).into());
                    }
                    Err(e) => return Err(unavailable("forget an upload", &e).into()),
                }
            }
            if !page.truncated {
                return Ok(());
            }
        }
    }

    /// Nothing is written meanwhile, so the newest sequence stays what it is.
    pub(super) async fn wait_for_mirror(
        &self,
        open: &OpenRepository,
        mirror: &StoreName,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let Err(behind) = self.catch_up(open, mirror, MIRROR_PATIENCE).await? else {
            return Ok(());
        };
        let name = &open.name;
        let why = self.why_behind(open, mirror, behind, began).await?;
        Err(Error::Refused(format!(
            "Mirror '{mirror}' of repository '{name}' {why}; the lock stays where it was. See: snapgate mirror status {name}"
        )))
    }

    /// A hand-over that waits for a mirror must not be finished by a start that does not wait.
    pub(super) async fn note_wait(&self, open: &OpenRepository, waits: bool) -> Result<(), Error> {
        let position = waits.then(|| open.gate.row().lock.epoch().to_string());
        self.state
            .keep_position(open.id, WAITING, position)
            .await
            .map_err(|e| state_failed("note what a hand-over waits for", &e))?;
        Ok(())
    }

    /// The hand-over of this epoch was to wait for a mirror.
    pub(super) async fn waited(&self, open: &OpenRepository, epoch: Epoch) -> Result<bool, Error> {
        let noted = self.state.position(open.id, WAITING).await;
        let noted = noted.map_err(|e| state_failed("look up what a hand-over waits for", &e))?;
        Ok(noted.is_some_and(|noted| noted == epoch.to_string()))
    }

    /// A drained lock goes back to its holder, under a new epoch.
    pub(super) async fn give_back(
        &self,
        open: &OpenRepository,
        holder: Cluster,
    ) -> Result<(), Error> {
        let event = Event::OperatorLock {
            writer: holder,
            patience: Patience::None,
            handover: fresh(),
        };
        let hand = Hand {
            principal: "snapgate",
            reason: Some("the mirror was behind"),
            wait_mirror: None,
        };
        self.drive(open, event, &hand).await.map(|_| ())
    }
}
