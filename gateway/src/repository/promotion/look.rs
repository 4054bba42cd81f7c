//! Looks at a target before it is promoted: whose it is, which restore point it is at, where its catalog comes from,
//! what the old primary had that it lacks. Reads only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use policies::format::root::Root;
use policies::identity::StoreName;
use policies::key::{Class, ObjectKey};
use policies::lock::anchor::Anchor;
use policies::lock::handover::{self, Change, Product};
use policies::lock::{Freeze, Lock, promotion};
use tokio::time::Instant;

use super::elsewhere::ways_back;
use super::plan::{Ask, At, Missing, Planned};
use crate::checkpoint::{self, Horizon};
use crate::repository::Door;
use crate::repository::door::OpenRepository;
use crate::repository::gate::state_failed;
use crate::repository::handover::Error;
use crate::repository::ingest::store_failed;
use crate::state::{Basis, RestorePoint};
use crate::stores::listing::Listing;
use crate::stores::{self, Store};

const PAGE: usize = 1000;
/// As large as a root may be.
const LARGEST_ROOT: u64 = 256 << 20;
/// The old store is asked this long what it had.
const ASKING: Duration = Duration::from_secs(10);

impl Door {
    pub(super) async fn look(
        &self,
        open: &Arc<OpenRepository>,
        ask: &Ask,
    ) -> Result<Planned, Error> {
        let target = self.target(&ask.store)?;
        let mut planned = Planned {
            store: ask.store.clone(),
            writer: ask.writer.clone(),
            epoch: promotion::epoch(&open.gate.row().lock, None),
            basis: Basis::Listing,
            checks: Vec::new(),
            at: None,
            missing: None,
            horizon: None,
            steps: steps(open, ask),
        };
        self.may_be_asked(open, ask, &mut planned);
        let highest = match self.anchor_on(open, target.as_ref()).await {
            Ok(highest) => {
                planned.check(
                    "target answers",
                    true,
                    format!("store '{}' answers", ask.store),
                );
                highest
            }
            Err(Error::Failed(_)) => {
                let found = format!("store '{}' does not answer", ask.store);
                planned.check("target answers", false, found);
                return Ok(planned);
            }
            Err(Error::Refused(why)) => {
                planned.check("target answers", false, why);
                return Ok(planned);
            }
        };
        planned.epoch = promotion::epoch(&open.gate.row().lock, highest.as_ref());
        self.whose(ask, highest.as_ref(), &mut planned);
        self.was_brought_back(open, ask, highest.as_ref(), &mut planned)
            .await?;
        if let Some(anchor) = &highest {
            let horizon = Horizon::read(target.as_ref(), &open.name, anchor.epoch).await;
            planned.horizon = horizon
                .map_err(|e| store_failed("read what the target heard of its source", &e))?;
        }
        let root = newest_root(target.as_ref(), open).await;
        match root.map_err(|e| store_failed("read the target's newest root", &e))? {
            Some(Ok(root)) => {
                planned.at = Some(At {
                    generation: root.generation,
                    newest: self.newest_snapshot(open, target.as_ref(), &root).await,
                    snapshots: names(&root),
                });
                planned.check(
                    "target has a restore point",
                    true,
                    format!("root index-{}", root.generation),
                );
            }
            Some(Err(e)) => planned.check(
                "target has a restore point",
                false,
                format!(
                    "the newest root on store '{}' cannot be read ({e})",
                    ask.store
                ),
            ),
            None => planned.check(
                "target has a restore point",
                false,
                format!(
                    "store '{}' holds no root of repository '{}'",
                    ask.store, open.name
                ),
            ),
        }
        self.choose_basis(open, target.as_ref(), highest.as_ref(), &mut planned)
            .await?;
        self.count_missing(open, &mut planned).await?;
        Ok(planned)
    }

    fn may_be_asked(&self, open: &OpenRepository, ask: &Ask, planned: &mut Planned) {
        let (name, writer) = (&open.name, &ask.writer);
        let known = open.plan.writers.contains(writer);
        planned.check(
            "writer is configured",
            known,
            if known {
                format!("'{writer}' may write repository '{name}'")
            } else {
                format!("'{writer}' is not among the writers of repository '{name}'; add it to [repositories.{name}]")
            },
        );
        let here = open.plan.store == ask.store && open.gate.row().lock.catalog_is_current();
        planned.check(
            "target is not the primary",
            !here,
            if here {
                format!("repository '{name}' is on store '{}' already", ask.store)
            } else {
                format!("repository '{name}' is on store '{}' here", open.plan.store)
            },
        );
    }

    /// Whoever wrote the target last is fenced; it is only said.
    fn whose(&self, ask: &Ask, highest: Option<&Anchor>, planned: &mut Planned) {
        let found = match highest {
            None => format!("nobody minted an epoch on store '{}'", ask.store),
            Some(anchor) => match &anchor.holder {
                Some(holder) => format!(
                    "store '{}' is at epoch {} of '{holder}', which is fenced",
                    ask.store, anchor.epoch
                ),
                None => format!("store '{}' is at epoch {}", ask.store, anchor.epoch),
            },
        };
        planned.check("target can be fenced", true, found);
    }

    /// A repository that is frozen because its mirror was promoted: another store than that mirror's is promoted only
    /// after it was brought back from there, by an epoch above all that either of them had.
    async fn was_brought_back(
        &self,
        open: &OpenRepository,
        ask: &Ask,
        highest: Option<&Anchor>,
        planned: &mut Planned,
    ) -> Result<(), Error> {
        let Lock::Frozen {
            epoch,
            reason: Freeze::Promoted { .. },
        } = open.gate.row().lock
        else {
            return Ok(());
        };
        let Some(Freeze::Promoted {
            store,
            epoch: there,
        }) = self.taken_over(open).await?
        else {
            return Ok(());
        };
        if store == ask.store.as_str() {
            return Ok(());
        }
        let brought = highest.is_some_and(|anchor| anchor.epoch > epoch.max(there));
        let found = if brought {
            format!(
                "store '{}' was brought back from store '{store}'",
                ask.store
            )
        } else {
            format!(
                "store '{store}' was promoted (epoch {there}), and is the primary now. {}",
                ways_back(open, &store)
            )
        };
        planned.check("no other store is the primary", brought, found);
        Ok(())
    }

    /// This database's catalog, if it followed the target up to now; else what the target says of itself.
    async fn choose_basis(
        &self,
        open: &OpenRepository,
        target: &dyn Store,
        highest: Option<&Anchor>,
        planned: &mut Planned,
    ) -> Result<(), Error> {
        let found = checkpoint::find(target, &open.name).await;
        let found = match found {
            Ok(Some(found)) => match found.check(target).await {
                Ok(highest) => {
                    // The old primary's epoch, which the target's anchors need not know.
                    planned.epoch = planned.epoch.max(highest.next());
                    Ok(Some(found))
                }
                Err(e) => Err(e),
            },
            other => other,
        };
        let described = match found {
            Ok(found) => found.map(|found| found.sequence),
            Err(e) if e.is_damage() => {
                planned.check(
                    "checkpoint",
                    true,
                    format!("{e}: unless this gateway followed the target, the store itself is read, and ETags and hashes of its objects are not known any more"),
                );
                None
            }
            Err(e) => {
                return Err(Error::Failed(crate::repository::unavailable(
                    "read the target's checkpoint",
                    &e,
                )));
            }
        };
        let followed = self.followed(open, &planned.store, highest).await?;
        planned.basis = match (followed, described) {
            (Some(applied), Some(sequence)) if applied >= sequence || trusted(open) => {
                Basis::Catalog { sequence: applied }
            }
            (Some(applied), None) => Basis::Catalog { sequence: applied },
            (Some(_) | None, Some(sequence)) => Basis::Checkpoint { sequence },
            (None, None) => Basis::Listing,
        };
        let found = match planned.basis {
            Basis::Catalog { sequence } => {
                format!("this gateway's catalog as of sequence {sequence}")
            }
            Basis::Checkpoint { sequence } => {
                format!("the target's checkpoint as of sequence {sequence}")
            }
            Basis::Listing => "the target's listing alone".to_owned(),
        };
        planned.check("catalog", true, found);
        Ok(())
    }

    /// The sequence up to which this database knows that the target has everything; None = it does not know the
    /// target, or its own knowledge is in doubt.
    async fn followed(
        &self,
        open: &OpenRepository,
        store: &StoreName,
        highest: Option<&Anchor>,
    ) -> Result<Option<u64>, Error> {
        if !trusted(open) {
            return Ok(None);
        }
        let mirror = self
            .state
            .mirror(open.id, store)
            .await
            .map_err(|e| state_failed("look up the mirror", &e))?;
        Ok(mirror
            .filter(|row| row.resync.is_none() && row.epoch.0 > 0)
            .filter(|row| highest.is_some_and(|a| a.epoch == row.epoch))
            .map(|row| row.applied))
    }

    /// How far a mirror is, and the newest sequence of the journal.
    pub(super) async fn mirror_position(
        &self,
        open: &OpenRepository,
        store: &StoreName,
    ) -> Result<(u64, u64), Error> {
        let usage = self
            .state
            .usage(open.id)
            .await
            .map_err(|e| state_failed("count its catalog", &e))?;
        let mirror = self
            .state
            .mirror(open.id, store)
            .await
            .map_err(|e| state_failed("look up the mirror", &e))?;
        let mirror = mirror.ok_or_else(|| {
            Error::Refused(format!(
                "store '{store}' is no mirror of repository '{}'",
                open.name
            ))
        })?;
        let applied = if mirror.resync.is_some() {
            0
        } else {
            mirror.applied
        };
        Ok((applied, usage.sequence))
    }

    /// A mirror that is paused, stalled or being reconciled is not waited for.
    pub(super) async fn gets_on(
        &self,
        open: &OpenRepository,
        store: &StoreName,
    ) -> Result<bool, Error> {
        let mirror = self
            .state
            .mirror(open.id, store)
            .await
            .map_err(|e| state_failed("look up the mirror", &e))?;
        Ok(mirror.is_some_and(|row| !row.paused && row.stalled.is_none() && row.resync.is_none()))
    }

    /// For people: how a mirror is behind that is not waited for any longer.
    pub(in crate::repository) async fn why_behind(
        &self,
        open: &OpenRepository,
        store: &StoreName,
        behind: u64,
        began: Instant,
    ) -> Result<String, Error> {
        let row = self
            .state
            .mirror(open.id, store)
            .await
            .map_err(|e| state_failed("look up the mirror", &e))?;
        Ok(match row {
            Some(row) if row.resync.is_some() => {
                "is being reconciled, and how far it is behind is not known".to_owned()
            }
            Some(row) if row.paused => format!("is paused, and {behind} operations behind"),
            Some(row) if row.stalled.is_some() => {
                format!("does not get on, and is {behind} operations behind")
            }
            Some(_) | None => format!(
                "was still {behind} operations behind after {} s",
                began.elapsed().as_secs()
            ),
        })
    }

    /// What the old primary has beyond the target.
    pub(super) async fn count_missing(
        &self,
        open: &OpenRepository,
        planned: &mut Planned,
    ) -> Result<(), Error> {
        planned.missing = match planned.basis {
            Basis::Catalog { sequence } => Some(
                self.missing_in_catalog(open, sequence, planned.at.as_ref())
                    .await?,
            ),
            Basis::Checkpoint { .. } | Basis::Listing => {
                self.missing_in_stores(open, planned).await
            }
        };
        Ok(())
    }

    async fn missing_in_catalog(
        &self,
        open: &OpenRepository,
        sequence: u64,
        at: Option<&At>,
    ) -> Result<Missing, Error> {
        let mut later: Vec<RestorePoint> = Vec::new();
        let mut before = None;
        loop {
            let page = self
                .state
                .restore_points(open.id, before, PAGE)
                .await
                .map_err(|e| state_failed("list the restore points", &e))?;
            before = page.last().map(|p| p.root.generation);
            let more = page.len() == PAGE && page.iter().all(|p| p.sequence > sequence);
            later.extend(page.into_iter().filter(|p| p.sequence > sequence));
            if !more {
                break;
            }
        }
        let there: BTreeSet<&str> = at
            .iter()
            .flat_map(|at| at.snapshots.iter().map(String::as_str))
            .collect();
        let snapshots = later.first().map_or_else(Vec::new, |newest| {
            let names = newest.root.snapshots.iter().map(|s| s.name.to_string());
            names
                .filter(|name| !there.contains(name.as_str()))
                .collect()
        });
        let (objects, bytes) = self
            .state
            .newer_than(open.bucket_id, open.id, sequence)
            .await
            .map_err(|e| state_failed("count what is newer", &e))?;
        Ok(Missing {
            restore_points: later.len() as u64,
            snapshots,
            objects,
            bytes,
        })
    }

    /// None = the old store does not answer, or is not known here.
    async fn missing_in_stores(&self, open: &OpenRepository, planned: &Planned) -> Option<Missing> {
        let old = self
            .store(&open.plan.store)
            .filter(|_| open.plan.store != planned.store)?;
        let target = self.store(&planned.store)?;
        let asked = tokio::time::timeout(ASKING, self.beyond(open, old.as_ref(), target.as_ref()));
        match asked.await {
            Ok(Ok(missing)) => missing,
            Ok(Err(e)) => {
                tracing::warn!(repository = %open.name, store = %open.plan.store, cause = %e, "the old store could not be asked what it had");
                None
            }
            Err(_) => {
                tracing::warn!(repository = %open.name, store = %open.plan.store, "the old store did not answer in time what it had");
                None
            }
        }
    }

    async fn beyond(
        &self,
        open: &OpenRepository,
        old: &dyn Store,
        target: &dyn Store,
    ) -> stores::Result<Option<Missing>> {
        let Some(Ok(newest)) = newest_root(old, open).await? else {
            return Ok(None);
        };
        let there = newest_root(target, open).await?.and_then(Result::ok);
        let known: BTreeSet<String> = there.iter().flat_map(names).collect();
        let generation = there.map_or(0, |r| r.generation);
        let mut missing = Missing {
            restore_points: newest.generation.saturating_sub(generation),
            snapshots: names(&newest)
                .into_iter()
                .filter(|name| !known.contains(name))
                .collect(),
            objects: 0,
            bytes: 0,
        };
        let (mut left, mut right) = (Listing::of(old, ""), Listing::of(target, ""));
        let mut other = right.next().await?;
        while let Some(mine) = left.next().await? {
            while other.as_ref().is_some_and(|o| o.name < mine.name) {
                other = right.next().await?;
            }
            let same = other
                .as_ref()
                .is_some_and(|o| o.name == mine.name && o.stat.size == mine.stat.size);
            if !same && self.class_here(open, &mine.name).is_some() {
                missing.objects += 1;
                missing.bytes += mine.stat.size;
            }
        }
        Ok(Some(missing))
    }
}

/// What this database knows of the repository is the newest there is, as far as it can tell.
fn trusted(open: &OpenRepository) -> bool {
    match open.gate.row().lock {
        Lock::Vacant { .. } | Lock::Held { .. } | Lock::Draining { .. } => true,
        Lock::Fenced { .. } => open.gate.row().lock.catalog_is_current(),
        Lock::Frozen { reason, .. } => match reason {
            Freeze::Operator(_) | Freeze::StoreUnreachable | Freeze::Promoting(_) => true,
            Freeze::Unadopted
            | Freeze::UnadoptedMirror(_)
            | Freeze::AnchorAhead { .. }
            | Freeze::AnchorBehind { .. }
            | Freeze::AnchorBroken(_)
            | Freeze::OtherGateway
            | Freeze::DatabaseMoved
            | Freeze::RootAppeared(_)
            | Freeze::Recovering
            | Freeze::Promoted { .. } => false,
        },
    }
}

fn names(root: &Root) -> Vec<String> {
    root.snapshots.iter().map(|s| s.name.to_string()).collect()
}

/// The newest root that a store holds: None = there is none, an error inside = it is there and cannot be read.
pub(in crate::repository) async fn newest_root(
    store: &dyn Store,
    open: &OpenRepository,
) -> stores::Result<Option<Result<Root, String>>> {
    let base = open.plan.prefix();
    let generation = |key: &ObjectKey| match Class::parse(key.as_str().strip_prefix(&base)?) {
        Class::Root(generation) => Some(generation),
        _other => None,
    };
    let roots = store.list(&format!("{base}index-"), None, 100_000).await?;
    let newest = roots
        .into_iter()
        .filter_map(|listed| Some((generation(&listed.name)?, listed.name)))
        .max();
    let Some((generation, name)) = newest else {
        return Ok(None);
    };
    let Some(body) = read_whole(store, &name, LARGEST_ROOT).await? else {
        return Ok(Some(Err("it vanished, or is too large".into())));
    };
    Ok(Some(
        Root::parse(generation, &body).map_err(|e| e.to_string()),
    ))
}

/// None = absent, or larger than `most`.
pub(in crate::repository) async fn read_whole(
    store: &dyn Store,
    name: &ObjectKey,
    most: u64,
) -> stores::Result<Option<Vec<u8>>> {
    let Some(mut content) = store.read(name, None, None).await? else {
        return Ok(None);
    };
    if content.size > most {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(usize::try_from(content.size).unwrap_or(0));
    while let Some(chunk) = content.bytes.try_next().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn steps(open: &OpenRepository, ask: &Ask) -> Vec<String> {
    let change = Change {
        repository: open.name.clone(),
        bucket: open.plan.bucket.clone(),
        base_path: open.plan.base_path.clone(),
        from: open.gate.row().lock.holder().cloned(),
        to: ask.writer.clone(),
    };
    [Product::Elasticsearch, Product::OpenSearch]
        .into_iter()
        .map(|product| handover::text(&change, product))
        .collect()
}
