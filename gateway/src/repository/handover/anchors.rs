//! A repository's anchors in a store: one for each epoch, created and never replaced, each naming the one before it.

use policies::identity::Epoch;
use policies::lock;
use policies::lock::anchor::{self, Anchor, BrokenChain, Stored};

use super::Error;
use crate::repository::Door;
use crate::repository::door::OpenRepository;
use crate::repository::ingest::store_failed;
use crate::stores::{self, Store, own};

impl Door {
    /// Creates the anchor after the last one; returns the highest there is then, whoever made it.
    pub(super) async fn create_anchor(
        &self,
        open: &OpenRepository,
        anchor: Anchor,
    ) -> Result<Option<Anchor>, Error> {
        self.create_anchor_on(open, open.store.as_ref(), anchor)
            .await
    }

    /// The same in another store that holds this repository, or is to hold it.
    pub(in crate::repository) async fn create_anchor_on(
        &self,
        open: &OpenRepository,
        store: &dyn Store,
        mut anchor: Anchor,
    ) -> Result<Option<Anchor>, Error> {
        let there = own::all(store, &anchor::prefix(&open.name))
            .await
            .map_err(|e| store_failed("read its anchors", &e))?;
        anchor.previous = there.last().map(|last| anchor::hash(&last.bytes));
        let permit = lock::upkeep(&open.name, anchor.epoch);
        let name = anchor::name(&open.name, anchor.epoch);
        match own::create(store, &permit, &name, anchor::encode(&anchor)).await {
            Ok(()) | Err(stores::Error::Exists | stores::Error::Unknown) => {
                self.anchor_on(open, store).await
            }
            Err(e) => Err(store_failed("write the epoch's anchor", &e).into()),
        }
    }

    /// The highest epoch that an anchor is named after, also where they are no chain: a recovery begins it anew.
    pub(super) async fn last_epoch(&self, open: &OpenRepository) -> Result<Epoch, Error> {
        let names = own::names(open.store.as_ref(), &anchor::prefix(&open.name))
            .await
            .map_err(|e| store_failed("list its anchors", &e))?;
        let last = names.last().and_then(|name| {
            let epoch = name.as_str().rsplit('/').next()?;
            epoch.parse().ok()
        });
        Ok(Epoch(last.unwrap_or(0)))
    }

    /// The epoch of the highest anchor; 0 = there is none.
    pub(super) async fn highest_epoch(&self, open: &OpenRepository) -> Result<Epoch, Error> {
        let highest = self.anchor_on(open, open.store.as_ref()).await?;
        Ok(highest.map_or(Epoch(0), |anchor| anchor.epoch))
    }

    /// The highest anchor of this repository in a store; a chain that is broken is a refusal.
    pub(in crate::repository) async fn anchor_on(
        &self,
        open: &OpenRepository,
        store: &dyn Store,
    ) -> Result<Option<Anchor>, Error> {
        self.anchors(open, store)
            .await?
            .map_err(|broken| Error::Refused(broken.to_string()))
    }

    /// The highest anchor in the store, if all of them form one chain.
    pub(super) async fn anchors(
        &self,
        open: &OpenRepository,
        store: &dyn Store,
    ) -> Result<Result<Option<Anchor>, BrokenChain>, Error> {
        let there = own::all(store, &anchor::prefix(&open.name))
            .await
            .map_err(|e| store_failed("read its anchors", &e))?;
        let stored = there.iter().map(|o| Stored {
            name: o.name.as_str(),
            bytes: &o.bytes,
        });
        Ok(anchor::verify_chain(&open.name, stored))
    }
}
