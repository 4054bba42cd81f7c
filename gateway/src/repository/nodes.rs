//! This gateway as one of several on a state database.
//!
//! Nothing here is needed for safety but [`Door::follow`]: before the guard judges, it knows what other nodes
//! committed, and the transaction refuses what was judged by less. The rest keeps views fresh, says that this node is
//! alive, takes over what dead ones left (their intents at once, a hand-over that nobody carries on after a while), and
//! goes to the store to which another node promoted a repository; until then its gate admits nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use policies::identity::Repository;
use policies::key::{Class, ObjectKey};
use policies::lock::{Freeze, Lock};

use super::door::OpenRepository;
use super::gate::state_failed;
use super::{Door, Error};
use crate::state::{Change, JournalEntry};

/// How often a node says that it is alive, and looks at the locks.
const BEAT: Duration = Duration::from_secs(2);
/// How often a write that waits for a hand-over looks whether another node ended it.
const GLANCE: Duration = Duration::from_millis(100);
/// Beats without a move of a half-done hand-over, after which it is carried on here: more than its owners' patience.
const CARRIED_ON: u32 = 15;
const PAGE: usize = 1000;

/// Runs until the process ends, if the state database is shared.
pub async fn run(door: Arc<Door>) {
    if !door.state.shared() {
        return;
    }
    let mut half_done: HashMap<Repository, (u64, u32)> = HashMap::new();
    loop {
        tokio::time::sleep(BEAT).await;
        if let Err(e) = door.state.beat().await {
            tracing::warn!(cause = %e, "this node could not say that it is alive");
            continue;
        }
        for open in door.repositories().values() {
            if let Err(e) = door.look_after(open, &mut half_done).await {
                tracing::warn!(repository = %open.name, cause = %e, "what other nodes left could not be taken over; trying again");
            }
        }
    }
}

impl Door {
    pub(super) async fn look_after(
        &self,
        open: &Arc<OpenRepository>,
        half_done: &mut HashMap<Repository, (u64, u32)>,
    ) -> Result<(), Error> {
        self.look_at_lock(open).await?;
        if open.gate.is_retired() {
            let followed = self.follow_promotion(open).await;
            return followed.map_err(|e| Error::Unavailable(e.to_string()));
        }
        self.look_at_journal(open).await?;
        let row = open.gate.row();
        if row.lock.catalog_is_current() {
            self.resolve_abandoned_of_others(open).await?;
        }
        if !is_half_done(&row.lock) {
            half_done.remove(&open.name);
            return Ok(());
        }
        let seen = half_done
            .entry(open.name.clone())
            .or_insert((row.version, 0));
        *seen = if seen.0 == row.version {
            (row.version, seen.1 + 1)
        } else {
            (row.version, 0)
        };
        if seen.1 >= CARRIED_ON {
            half_done.remove(&open.name);
            tracing::info!(repository = %open.name, "carrying on a hand-over that another node left half done");
            self.resume_lock(open)
                .await
                .map_err(|e| Error::Unavailable(e.to_string()))?;
        }
        Ok(())
    }

    async fn resolve_abandoned_of_others(&self, open: &OpenRepository) -> Result<(), Error> {
        let orphaned = self.state.orphaned_intents(open.id).await;
        if orphaned.map_err(|e| state_failed("list open intents", &e))? > 0 {
            tracing::info!(repository = %open.name, "resolving the intents of a node that is presumed dead");
            self.resolve_abandoned(open).await?;
        }
        Ok(())
    }

    pub(super) async fn look_at_lock(&self, open: &OpenRepository) -> Result<(), Error> {
        let row = self.state.lock(open.id).await;
        open.gate
            .saw(row.map_err(|e| state_failed("read the lock", &e))?);
        Ok(())
    }

    /// Until it is dropped; errors are those of whoever asks next.
    pub(super) async fn keep_looking(&self, open: &OpenRepository) {
        loop {
            tokio::time::sleep(GLANCE).await;
            if let Ok(row) = self.state.lock(open.id).await {
                open.gate.saw(row);
            }
        }
    }

    pub(super) async fn others_alive(&self) -> Result<bool, Error> {
        let others = self.state.others_alive().await;
        Ok(others.map_err(|e| state_failed("ask for other nodes", &e))? > 0)
    }

    /// One node removes bytes and writes checkpoints: the first of those that are alive.
    pub(super) async fn leads(&self) -> Result<bool, Error> {
        self.state
            .leads()
            .await
            .map_err(|e| state_failed("ask for other nodes", &e))
    }

    /// The guard knows what was committed up to the journal's entry that is returned; None = nobody else writes.
    pub(super) async fn follow(&self, open: &OpenRepository) -> Result<Option<u64>, Error> {
        if !self.state.shared() {
            return Ok(None);
        }
        if self.is_behind(open).await? {
            self.load_guard(open).await?;
        }
        Ok(Some(open.guarding.followed()))
    }

    /// As [`Self::follow`], by who holds `commits` for writing.
    pub(super) async fn follow_alone(&self, open: &OpenRepository) -> Result<Option<u64>, Error> {
        if !self.state.shared() {
            return Ok(None);
        }
        if self.is_behind(open).await? {
            self.read_guard(open).await?;
        }
        Ok(Some(open.guarding.followed()))
    }

    /// Reads the journal on, as long as nothing in it matters to the guard.
    async fn is_behind(&self, open: &OpenRepository) -> Result<bool, Error> {
        loop {
            let after = open.guarding.followed();
            let entries = self
                .state
                .journal(open.id, after, PAGE)
                .await
                .map_err(|e| state_failed("follow its journal", &e))?;
            if entries.iter().any(|entry| matters(open, entry)) {
                return Ok(true);
            }
            let Some(last) = entries.last() else {
                return Ok(false);
            };
            open.guarding.follows(last.sequence);
        }
    }
}

/// New data objects do not: the guard asks the catalog for them.
fn matters(open: &OpenRepository, entry: &JournalEntry) -> bool {
    let class = |key: &ObjectKey| {
        key.as_str()
            .strip_prefix(&open.plan.prefix())
            .map(Class::parse)
    };
    match entry.change {
        Change::Delete => true,
        Change::Put { .. } => !matches!(class(&entry.key), Some(Class::Data { .. })),
    }
}

fn is_half_done(lock: &Lock) -> bool {
    match lock {
        Lock::Draining { .. } | Lock::Fenced { .. } => true,
        Lock::Frozen { reason, .. } => matches!(reason, Freeze::Recovering),
        Lock::Vacant { .. } | Lock::Held { .. } => false,
    }
}
