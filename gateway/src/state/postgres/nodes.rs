//! The nodes of this database: who is alive, what they share, and the uptime that they count together.
//!
//! A node writes down that it is alive; one that did not for [`PRESUMED_DEAD`] seconds of the server's clock is
//! presumed dead, and others resolve its intents. Presuming too early costs that node its open writes (it finds
//! the intents gone and answers 503), never their content.

use std::time::Instant;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use parking_lot::Mutex;
use policies::identity::StoreName;
use policies::lock::Permit;

use super::rows::{column, count, execute, first, int};
use super::writer::{Fault, Tx, WHOLE};
use super::{Database, answers, intents, read, removals, unrefusable};
use crate::state::leave::Leave;
use crate::state::{
    Duty, Intent, IntentId, NewIntent, Nodes, Object, Removal, RepositoryId, Result, WriteError,
    stored,
};

/// Seconds without a sign of life.
pub(super) const PRESUMED_DEAD: f64 = 10.0;
/// Seconds after which a dead node's row is forgotten, if none of its intents is left.
const FORGOTTEN: f64 = 3600.0;

/// Uptime as this node knows it: what was written down at its start, and what it told since.
///
/// The database holds the highest that any node told, never their sum: two nodes that run for an hour are an hour
/// of uptime. A node may lag behind by what another one has not written down yet, one interval of the reaper.
#[derive(Debug)]
pub(super) struct Uptime {
    told: Mutex<(u64, Instant)>,
}

impl Uptime {
    pub fn from(written_ms: u64) -> Self {
        Self {
            told: Mutex::new((written_ms, Instant::now())),
        }
    }

    fn add(&self, ms: u64) -> u64 {
        let mut told = self.told.lock();
        if ms > 0 {
            *told = (told.0.saturating_add(ms), Instant::now());
        }
        told.0
    }

    /// With what has passed since it was told: else a retention would end early by that much.
    pub fn now(&self) -> u64 {
        let (ms, at) = *self.told.lock();
        let since = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        ms.saturating_add(since)
    }
}

pub(super) async fn uptime(tx: &Tx, own_ms: u64, told: bool) -> Result<u64, Fault> {
    if !told {
        return Ok(tx.uptime_ms);
    }
    let row = first(
        tx.db(),
        "UPDATE database SET uptime_ms = greatest(uptime_ms, $1) RETURNING uptime_ms",
        &[&int(own_ms)],
    )
    .await?
    .ok_or_else(|| stored::unreadable("the database has no row of itself"))?;
    let uptime_ms = count(&row, 0)?;
    answers::prune(tx, uptime_ms).await?;
    Ok(uptime_ms)
}

impl Database {
    pub(super) fn add_uptime(&self, ms: u64) -> u64 {
        self.uptime.add(ms)
    }
}

/// Makes this process a node; its number is never used again.
pub(super) async fn enter(db: &ClientWrapper, name: &str) -> Result<i64> {
    let row = first(
        db,
        "INSERT INTO nodes (name, alive_at) VALUES ($1, clock_timestamp()) RETURNING id",
        &[&name],
    )
    .await?
    .ok_or_else(|| stored::unreadable("a node has no number"))?;
    column(&row, 0)
}

pub(super) async fn written_uptime(db: &ClientWrapper) -> Result<u64> {
    let row = first(db, "SELECT uptime_ms FROM database", &[]).await?;
    row.map_or(Ok(0), |row| count(&row, 0))
}

async fn beat(db: &ClientWrapper, node: i64) -> Result<()> {
    execute(
        db,
        "INSERT INTO nodes (id, name, alive_at) VALUES ($1, 'returned', clock_timestamp())
         ON CONFLICT (id) DO UPDATE SET alive_at = excluded.alive_at",
        &[&node],
    )
    .await?;
    execute(
        db,
        "DELETE FROM nodes n WHERE n.alive_at < clock_timestamp() - make_interval(secs => $1)
         AND NOT EXISTS (SELECT 1 FROM intents i WHERE i.node = n.id)",
        &[&FORGOTTEN],
    )
    .await?;
    execute(
        db,
        "DELETE FROM groups g WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = g.node) AND g.node < $1",
        &[&node],
    )
    .await?;
    Ok(())
}

async fn others_alive(db: &ClientWrapper, node: i64) -> Result<usize> {
    let row = first(
        db,
        "SELECT count(*) FROM nodes WHERE id <> $1 AND alive_at >= clock_timestamp() - make_interval(secs => $2)",
        &[&node, &PRESUMED_DEAD],
    )
    .await?;
    let others = row.map_or(Ok(0), |row| count(&row, 0))?;
    Ok(usize::try_from(others).unwrap_or(usize::MAX))
}

async fn knows(db: &ClientWrapper, store: &StoreName, token: &str) -> Result<bool> {
    let row = first(
        db,
        "SELECT 1 FROM incarnations WHERE store = $1 AND token = $2",
        &[&store.as_str(), &token],
    )
    .await?;
    Ok(row.is_some())
}

async fn has_stood(db: &ClientWrapper, store: &StoreName) -> Result<bool> {
    let row = first(
        db,
        "SELECT 1 FROM incarnations WHERE store = $1 LIMIT 1",
        &[&store.as_str()],
    )
    .await?;
    Ok(row.is_some())
}

async fn leads(db: &ClientWrapper, node: i64) -> Result<bool> {
    let row = first(
        db,
        "SELECT 1 FROM nodes WHERE id < $1 AND alive_at >= clock_timestamp() - make_interval(secs => $2) LIMIT 1",
        &[&node, &PRESUMED_DEAD],
    )
    .await?;
    Ok(row.is_none())
}

async fn orphaned(db: &ClientWrapper, repository: RepositoryId, node: i64) -> Result<u64> {
    let row = first(
        db,
        "SELECT count(*) FROM intents i LEFT JOIN nodes n ON n.id = i.node
         WHERE i.repository = $1 AND i.node <> $2
           AND (n.id IS NULL OR n.alive_at < clock_timestamp() - make_interval(secs => $3))",
        &[&repository.0, &node, &PRESUMED_DEAD],
    )
    .await?;
    row.map_or(Ok(0), |row| count(&row, 0))
}

/// The first that asks makes it; under the row's lock, so that all see one.
async fn secret(tx: &Tx) -> Result<[u8; 32], Fault> {
    let fresh: [u8; 32] = rand::random();
    let row = first(
        tx.db(),
        "UPDATE database SET secret = coalesce(secret, $1) RETURNING secret",
        &[&fresh.as_slice()],
    )
    .await?
    .ok_or_else(|| stored::unreadable("the database has no row of itself"))?;
    let secret: &[u8] = column(&row, 0)?;
    Ok(secret
        .try_into()
        .map_err(|_| stored::unreadable("the nodes' secret has not 32 bytes"))?)
}

#[async_trait]
impl Nodes for Database {
    fn shared(&self) -> bool {
        true
    }

    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    async fn take_duty(&self, work: &str) -> Result<Option<Box<dyn Duty>>> {
        let taken = self.duties.take(work).await?;
        Ok(taken.map(|taken| Box::new(taken) as Box<dyn Duty>))
    }

    async fn beat(&self) -> Result<()> {
        let node = self.node;
        read!(self, db => beat(db, node))
    }

    async fn abandoned_intents(&self, repository: RepositoryId) -> Result<Vec<Intent>> {
        let node = self.node;
        read!(self, db => intents::abandoned(db, repository, node))
    }

    async fn orphaned_intents(&self, repository: RepositoryId) -> Result<u64> {
        let node = self.node;
        read!(self, db => orphaned(db, repository, node))
    }

    async fn leads(&self) -> Result<bool> {
        let node = self.node;
        read!(self, db => leads(db, node))
    }

    async fn others_alive(&self) -> Result<usize> {
        let node = self.node;
        read!(self, db => others_alive(db, node))
    }

    async fn shared_secret(&self) -> Result<Option<[u8; 32]>> {
        self.writers
            .write(WHOLE, |tx| Box::pin(async move { secret(tx).await }))
            .await
            .map(Some)
            .map_err(unrefusable)
    }

    async fn announce_incarnation(&self, store: &StoreName, token: &str) -> Result<()> {
        let (store, token) = (store.as_str().to_owned(), token.to_owned());
        self.writers
            .write(WHOLE, move |tx| {
                Box::pin(async move {
                    execute(
                        tx.db(),
                        "INSERT INTO incarnations (store, token) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                        &[&store, &token],
                    )
                    .await?;
                    Ok(())
                })
            })
            .await
            .map_err(unrefusable)
    }

    async fn knows_incarnation(&self, store: &StoreName, token: &str) -> Result<bool> {
        read!(self, db => knows(db, store, token))
    }

    async fn has_stood(&self, store: &StoreName) -> Result<bool> {
        read!(self, db => has_stood(db, store))
    }

    async fn open_judged(
        &self,
        permit: &Permit,
        intent: NewIntent,
        judged: u64,
    ) -> Result<IntentId, WriteError> {
        let leave = Leave::from(permit);
        self.writers
            .write(intent.put.repository.0, move |tx| {
                Box::pin(async move { intents::open(tx, &leave, &intent, Some(judged)).await })
            })
            .await
    }

    async fn remove_judged(
        &self,
        permit: &Permit,
        removals: Vec<Removal>,
        judged: u64,
    ) -> Result<Vec<Option<Object>>, WriteError> {
        let leave = Leave::from(permit);
        let turn = self.turn_of(&leave)?;
        self.writers
            .write(turn, move |tx| {
                Box::pin(async move { removals::remove(tx, &leave, &removals, Some(judged)).await })
            })
            .await
    }
}
