//! Bringing an old primary's store back: it becomes a mirror of the store that took over, then it is promoted.
//!
//! The old store may hold what its gateway acknowledged after it was left behind. Invariant: nothing of that is lost:
//! before a mirror overwrites or removes anything there, every object that the primary does not know gets a second
//! name below `.snapgate/kept/<repository>/divergent-<epoch>/`, where only an operator removes it. First of all the
//! mirror is paused, and its anchor and a new incarnation are made there, so that a gateway that still works on it
//! stops; the mirror goes on in the transaction that records that all is aside. A crash in between leaves it paused.

use std::time::Duration;

use policies::identity::{Epoch, Handover, StoreName};
use policies::key::{Class, ObjectKey, RESERVED, Writing};
use policies::lock::anchor::Anchor;
use policies::lock::{self, promotion};
use policies::mirror_order;
use tokio::time::Instant;

use crate::repository::door::OpenRepository;
use crate::repository::gate::state_failed;
use crate::repository::handover::Error;
use crate::repository::ingest::store_failed;
use crate::repository::verify::Progress;
use crate::repository::{Door, incarnation};
use crate::state::mirrors::{MirrorChange, MirrorRow, NewMirror, Resync};
use crate::stores::listing::Listing;
use crate::stores::{Listed, Store};
use crate::telemetry::clock;

/// Under this name the state database keeps which store of a repository is being brought back.
pub const RETURNING: &str = "returning";
const GLANCE: Duration = Duration::from_millis(200);
/// A mirror that reports no progress for this long is given up.
const STANDSTILL: Duration = Duration::from_secs(120);

/// What was kept aside on an old store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Aside {
    pub objects: u64,
    pub bytes: u64,
}

impl Door {
    /// Makes a store a mirror of where the repository is now, under an epoch above all that was written there, and
    /// keeps aside what only that store has. May be repeated.
    pub async fn make_mirror(
        &self,
        open: &OpenRepository,
        name: &StoreName,
        mode: mirror_order::Mode,
    ) -> Result<Aside, Error> {
        let target = self.target(name)?;
        let new = NewMirror {
            repository: open.id,
            store: name.clone(),
            mode,
            handover: Handover::new(crate::random::text(22)),
            now_ms: clock::now_ms(),
        };
        let row = self
            .state
            .open_mirror(new)
            .await
            .map_err(|e| state_failed("note the mirror", &e))?;
        let highest = self.anchor_on(open, target.as_ref()).await?;
        if is_mirror_under(&row, highest.as_ref()) {
            self.pause_mirror(open, name, false).await?;
            return Ok(Aside::default());
        }
        // Until all is kept aside nobody mirrors, also after a crash: the anchor alone would let an applier do it.
        self.pause_mirror(open, name, true).await?;
        incarnation::begin(self.state.as_ref(), name, target.as_ref())
            .await
            .map_err(|e| store_failed("take a new number in the store", &e))?;
        let known = open.gate.row().lock.epoch().max(row.epoch);
        let epoch = highest.map_or(known, |a| a.epoch.max(known)).next();
        let anchor = Anchor {
            repository: open.name.clone(),
            epoch,
            holder: Some(promotion::mirror_of(&open.plan.store)),
            handover: row.handover.clone(),
            previous: None,
        };
        let there = self.create_anchor_on(open, target.as_ref(), anchor).await?;
        if there.is_none_or(|a| a.handover != row.handover) {
            return Err(Error::Refused(format!(
                "store '{name}' was given another epoch meanwhile; look at it and try again"
            )));
        }
        let aside = self.keep_aside(open, target.as_ref(), epoch).await?;
        self.begin_resync(open, &row, epoch).await?;
        Ok(aside)
    }

    async fn pause_mirror(
        &self,
        open: &OpenRepository,
        name: &StoreName,
        paused: bool,
    ) -> Result<(), Error> {
        let order = vec![MirrorChange::Paused(paused)];
        let noted = self.state.change_mirror(open.id, name, None, order).await;
        noted.map_err(|e| state_failed("note the mirror", &e))?;
        Ok(())
    }

    /// It follows this repository: what it had alone before was kept aside.
    pub async fn is_mirror(&self, open: &OpenRepository, name: &StoreName) -> Result<bool, Error> {
        let row = self
            .state
            .mirror(open.id, name)
            .await
            .map_err(|e| state_failed("look up the mirror", &e))?;
        let Some(row) = row else {
            return Ok(false);
        };
        let target = self.target(name)?;
        let highest = self.anchor_on(open, target.as_ref()).await?;
        Ok(is_mirror_under(&row, highest.as_ref()))
    }

    async fn begin_resync(
        &self,
        open: &OpenRepository,
        row: &MirrorRow,
        epoch: Epoch,
    ) -> Result<(), Error> {
        let mut resync = Resync::begin("an old primary is brought back", clock::now_ms());
        resync.aside = true;
        let changes = vec![
            MirrorChange::Epoch {
                epoch,
                applier: None,
            },
            MirrorChange::Paused(false),
            MirrorChange::Stalled(None),
            MirrorChange::BeginResync(resync),
        ];
        self.state
            .change_mirror(open.id, &row.store, None, changes)
            .await
            .map_err(|e| state_failed("note the mirror", &e))?;
        Ok(())
    }

    async fn keep_aside(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        epoch: Epoch,
    ) -> Result<Aside, Error> {
        let mut aside = Aside::default();
        let mut there = Listing::of(target, "");
        while let Some(listed) = there
            .next()
            .await
            .map_err(|e| store_failed("list the old store", &e))?
        {
            if self.is_divergent(open, target, &listed).await? {
                keep(open, target, &listed.name, epoch).await?;
                aside.objects += 1;
                aside.bytes += listed.stat.size;
            }
        }
        if aside.objects > 0 {
            tracing::warn!(repository = %open.name, objects = aside.objects, bytes = aside.bytes, "kept aside on the old store: the primary does not know it");
        }
        Ok(aside)
    }

    /// The primary has neither this content nor the knowledge that it was deleted.
    async fn is_divergent(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        listed: &Listed,
    ) -> Result<bool, Error> {
        let Some(class) = self.class_here(open, &listed.name) else {
            return Ok(false);
        };
        if class == Class::Pointer || class.writing() == Writing::Free {
            return Ok(false);
        }
        if let Some(row) = self.lookup(open, &listed.name).await?.object {
            if row.size != listed.stat.size {
                return Ok(true);
            }
            return Ok(!self.holds_content(target, &row, &class).await?);
        }
        let deleted = self
            .state
            .tombstone(open.id, &listed.name)
            .await
            .map_err(|e| state_failed("look up deleted objects", &e))?;
        for tombstone in deleted.iter().filter(|t| t.object.size == listed.stat.size) {
            if self
                .holds_content(target, &tombstone.object, &class)
                .await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns when a mirror has everything; progress is that of its reconciliation.
    pub async fn until_in_sync(
        &self,
        open: &OpenRepository,
        name: &StoreName,
        progress: &Progress<'_>,
    ) -> Result<(), Error> {
        let (mut seen, mut since) = (None, Instant::now());
        loop {
            let row = self
                .state
                .mirror(open.id, name)
                .await
                .map_err(|e| state_failed("look up the mirror", &e))?;
            let Some(row) = row else {
                return Err(Error::Refused(format!(
                    "store '{name}' is no mirror any more"
                )));
            };
            if let Some(stalled) = &row.stalled {
                return Err(Error::Refused(format!(
                    "mirror '{name}' does not go on: {}",
                    stalled.reason
                )));
            }
            let usage = self
                .state
                .usage(open.id)
                .await
                .map_err(|e| state_failed("count its catalog", &e))?;
            match &row.resync {
                Some(resync) => progress(resync.done, resync.total),
                None if row.applied >= usage.sequence => return Ok(()),
                None => {}
            }
            let now = (row.resync.clone(), row.applied, row.transferred);
            if seen.as_ref() != Some(&now) {
                (seen, since) = (Some(now), Instant::now());
            }
            if since.elapsed() > STANDSTILL {
                return Err(Error::Refused(format!(
                    "mirror '{name}' did not get on for {} s; see: snapgate mirror status {}",
                    STANDSTILL.as_secs(),
                    open.name
                )));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// The store's newest anchor is this mirror's own, and it was not being made a mirror when that ended too early.
fn is_mirror_under(row: &MirrorRow, highest: Option<&Anchor>) -> bool {
    highest.is_some_and(|anchor| {
        let half_made = row.epoch == Epoch(0) || (row.paused && anchor.epoch > row.epoch);
        anchor.handover == row.handover && !half_made
    })
}

async fn keep(
    open: &OpenRepository,
    target: &dyn Store,
    key: &ObjectKey,
    epoch: Epoch,
) -> Result<(), Error> {
    let name = format!("{RESERVED}kept/{}/divergent-{epoch}/{key}", open.name);
    let name = ObjectKey::parse(&name)
        .map_err(|e| Error::Refused(format!("'{key}' cannot be kept aside: {e}")))?;
    let permit = lock::upkeep(&open.name, epoch);
    match target.set_aside(&permit, key, &name).await {
        Ok(()) => Ok(()),
        Err(e) => Err(store_failed("keep an object of the old store aside", &e).into()),
    }
}
