//! A slow look at what the stores hold, against what the catalog says.
//!
//! Two looks. [`watch_roots`]: often, at the roots alone, since a root that was written past the gateway means a second
//! writer, and freezes. [`run`]: rarely, at every object, page by page: what is gone, what is another content, what
//! lies there under a path with a slash too many. Invariants: memory is two pages, whatever the store holds or lost; a
//! difference counts only if it is still there when looked at alone, because the world moves while a page
//! is compared; a warning is closed only by a look that reached the end of the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use policies::guard::Scope;
use policies::identity::StoreName;
use policies::key::ObjectKey;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

use super::adoption::fits;
use super::door::OpenRepository;
use super::gate::state_failed;
use super::ingest::store_failed;
use super::list::next_page;
use super::{Address, Door, Error};
use crate::state::warnings::{MOST, OVERFLOW, WarningRow};
use crate::state::{Object, RepositoryId};
use crate::stores::{Listed, Stat, Store};
use crate::watch::{Kind, Warning};

/// How often the roots are looked at.
const ROOTS: Duration = Duration::from_secs(30);
const PAGE: usize = 1000;
/// Differences of one repository that are looked at in one pass; beyond that the answer is known.
const MOST_FOUND: u64 = 1000;
/// Paths with a slash too many that are remembered in one pass.
const MOST_TWINS: usize = 1000;

/// How slowly a store is looked through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// From the end of one pass to the begin of the next.
    pub every: Duration,
    /// At most, averaged over a page.
    pub objects_per_second: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(24 * 60 * 60),
            objects_per_second: 1000,
        }
    }
}

/// What one pass found.
#[derive(Default)]
struct Pass {
    found: HashMap<RepositoryId, u64>,
    twins: HashSet<String>,
}

/// Runs until the process ends: one task per store.
pub async fn run(door: Arc<Door>, name: StoreName, store: Arc<dyn Store>, pace: Pace) {
    loop {
        match door.sweep(&name, store.as_ref(), pace).await {
            Ok(objects) => {
                tracing::info!(store = %name, objects, "the store was compared with the catalog");
            }
            Err(e) => {
                tracing::warn!(store = %name, cause = %e, "the store could not be compared with the catalog; the next pass will");
            }
        }
        tokio::time::sleep(pace.every).await;
    }
}

/// Runs until the process ends: freezes a repository into which somebody wrote a root past this gateway.
pub async fn watch_roots(door: Arc<Door>) {
    loop {
        tokio::time::sleep(ROOTS).await;
        for open in door.repositories().values() {
            if let Err(e) = door.look_at_roots(open).await {
                tracing::warn!(repository = %open.name, cause = %e, "could not look for roots in the store; trying again");
            }
        }
    }
}

impl Door {
    pub(super) async fn look_at_roots(&self, open: &Arc<OpenRepository>) -> Result<(), Error> {
        if open.gate.is_frozen() {
            return Ok(());
        }
        let appeared = {
            let _no_root_now = open.guarding.commits.read().await;
            match self.root_behind_us(open).await? {
                // Another node of this gateway may be committing it.
                Some(root) => {
                    let lookup = self.lookup(open, &root).await?;
                    (!lookup.busy && lookup.object.is_none()).then_some(root)
                }
                None => None,
            }
        };
        let Some(root) = appeared else {
            return Ok(());
        };
        tracing::error!(repository = %open.name, root = %root, "frozen: a root was written to the store past this gateway");
        let reason = self.root_appeared(open, &root).await;
        self.freeze_for(open, reason)
            .await
            .map_err(|e| Error::Unavailable(e.to_string()))
    }

    /// One pass over a store; the objects that it holds.
    pub(super) async fn sweep(
        &self,
        name: &StoreName,
        store: &dyn Store,
        pace: Pace,
    ) -> Result<u64, Error> {
        if self.looked_at(name).is_empty() {
            return Ok(0);
        }
        let mut pass = Pass::default();
        let mut after: Option<String> = None;
        let mut objects = 0;
        loop {
            let begun = Instant::now();
            let page = store
                .list("", after.as_deref(), PAGE)
                .await
                .map_err(|e| store_failed("list the store", &e))?;
            let last = page.len() < PAGE;
            let until = page
                .last()
                .map(|l| l.name.as_str().to_owned())
                .filter(|_| !last);
            objects += page.len() as u64;
            for open in &self.looked_at(name) {
                self.twins(open, &page, &mut pass.twins).await;
                let found = pass.found.entry(open.id).or_default();
                self.compare(open, &page, after.clone(), until.clone(), found)
                    .await?;
            }
            if last {
                break;
            }
            after = until;
            let due = Duration::from_secs(1) * (PAGE as u32) / pace.objects_per_second.max(1);
            tokio::time::sleep_until(begun + due).await;
        }
        for open in &self.looked_at(name) {
            let found = pass.found.get(&open.id).copied().unwrap_or_default();
            self.close_what_is_well(open, found, &pass.twins).await?;
        }
        Ok(objects)
    }

    fn looked_at(&self, store: &StoreName) -> Vec<Arc<OpenRepository>> {
        self.repositories()
            .values()
            .filter(|open| open.plan.store == *store)
            .filter(|open| open.gate.row().lock.catalog_is_current())
            .cloned()
            .collect()
    }

    async fn twins(&self, open: &OpenRepository, page: &[Listed], seen: &mut HashSet<String>) {
        for listed in page {
            let found = self.layout.twin(&open.plan.bucket, &listed.name);
            let Some((_, prefix)) = found.filter(|(repository, _)| *repository == open.name) else {
                continue;
            };
            if seen.len() < MOST_TWINS && seen.insert(prefix) {
                let at = Address {
                    bucket: open.plan.bucket.clone(),
                    key: listed.name.clone(),
                };
                self.look_for_twin(&at).await;
            }
        }
    }

    /// What the catalog knows between `after` and `until`, against what the store listed there.
    async fn compare(
        &self,
        open: &OpenRepository,
        page: &[Listed],
        after: Option<String>,
        until: Option<String>,
        found: &mut u64,
    ) -> Result<(), Error> {
        let there: HashMap<&ObjectKey, &Stat> = page.iter().map(|l| (&l.name, &l.stat)).collect();
        let mut walk = self.walk(open).between(after, until);
        while let Some(rows) = next_page(&mut walk).await? {
            for object in rows {
                if *found >= MOST_FOUND {
                    return Ok(());
                }
                let as_recorded = there
                    .get(&object.key)
                    .is_some_and(|stat| fits(&object, stat));
                if !as_recorded && self.confirmed(open, &object).await? {
                    *found += 1;
                }
            }
        }
        Ok(())
    }

    /// Looks at one object alone; true, and a warning, if the store does not hold what the catalog says.
    async fn confirmed(&self, open: &OpenRepository, object: &Object) -> Result<bool, Error> {
        let key = object.key.clone();
        let stat = open
            .store
            .stat(&key)
            .await
            .map_err(|e| store_failed("look at an object", &e))?;
        let now = self.lookup(open, &key).await?;
        let same = !now.busy && now.object.is_some_and(|o| o.sequence == object.sequence);
        let warning = match stat {
            Some(stat) if fits(object, &stat) => return Ok(false),
            Some(_) => Warning::ObjectChanged { key },
            None => Warning::ObjectVanished { key },
        };
        if same {
            self.raise(open, warning).await;
        }
        Ok(same)
    }

    /// After a whole pass: open warnings whose cause is gone are closed.
    async fn close_what_is_well(
        &self,
        open: &OpenRepository,
        found: u64,
        twins: &HashSet<String>,
    ) -> Result<(), Error> {
        let rows = self
            .watch
            .open(open.id)
            .await
            .map_err(|e| state_failed("read its warnings", &e))?;
        for row in rows {
            let Some(kind) = Kind::parse(&row.kind).filter(|kind| kind.lasts()) else {
                continue;
            };
            if !self.is_still_so(open, kind, &row, found, twins).await? {
                self.watch
                    .clear(open.id, &open.name, kind, Some(&row.subject))
                    .await;
            }
        }
        Ok(())
    }

    async fn is_still_so(
        &self,
        open: &OpenRepository,
        kind: Kind,
        row: &WarningRow,
        found: u64,
        twins: &HashSet<String>,
    ) -> Result<bool, Error> {
        if row.subject == OVERFLOW {
            return Ok(match kind {
                Kind::ObjectVanished | Kind::ObjectChanged => found > MOST,
                Kind::SlashTwin => twins.len() as u64 > MOST,
                Kind::RootAppeared
                | Kind::BadChecksum
                | Kind::Rotten
                | Kind::Damage
                | Kind::NotMirrored => true,
                Kind::SecondCluster | Kind::OtherUuid | Kind::RootRefused | Kind::SnapshotsLost => {
                    false
                }
            });
        }
        if kind == Kind::SlashTwin {
            return Ok(twins.contains(&row.subject));
        }
        let Ok(key) = ObjectKey::parse(&row.subject) else {
            return Ok(true);
        };
        let known = self.lookup(open, &key).await?.object;
        Ok(match (kind, known) {
            (Kind::ObjectVanished | Kind::ObjectChanged, None) => false,
            (Kind::ObjectVanished | Kind::ObjectChanged, Some(object)) => {
                let stat = open
                    .store
                    .stat(&key)
                    .await
                    .map_err(|e| store_failed("look at an object", &e))?;
                match stat {
                    None => kind == Kind::ObjectVanished,
                    Some(stat) => kind == Kind::ObjectChanged && !fits(&object, &stat),
                }
            }
            (Kind::BadChecksum | Kind::Rotten, known) => known.is_some(),
            (Kind::RootAppeared, known) => known.is_none(),
            (Kind::Damage, _) => open.guarding.with(|guard| {
                guard.scope() == Scope::Observing || guard.knowledge().is_known(&key)
            }),
            (
                Kind::SlashTwin
                | Kind::SecondCluster
                | Kind::OtherUuid
                | Kind::RootRefused
                | Kind::SnapshotsLost
                | Kind::NotMirrored,
                _,
            ) => true,
        })
    }
}
