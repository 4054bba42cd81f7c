//! The connection and the transaction that a group's requests work in.

use std::sync::Arc;

use deadpool_postgres::{ClientWrapper, Object, Pool};

use super::fault::no_connection;
use crate::state::postgres::lock::Known;
use crate::state::postgres::rows::int;
use crate::state::{Result, WriteError, leave};

/// A connection that goes back to its pool only when its transaction ended in order.
pub(in crate::state::postgres) struct Session {
    client: Option<Object>,
    in_order: std::sync::atomic::AtomicBool,
}

impl Session {
    pub async fn begin(pool: &Pool) -> Result<Self> {
        let client = pool.get().await.map_err(|e| no_connection(&e))?;
        Ok(Self {
            client: Some(client),
            in_order: false.into(),
        })
    }

    pub fn db(&self) -> &ClientWrapper {
        self.client
            .as_ref()
            .expect("the connection leaves only when the session is dropped")
    }

    pub fn ended_in_order(&self) {
        self.in_order
            .store(true, std::sync::atomic::Ordering::Release);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !*self.in_order.get_mut()
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}

/// What a request works on.
pub(in crate::state::postgres) struct Tx {
    pub(super) session: Arc<Session>,
    /// The repository whose turn this is; none at the turn of the whole database.
    pub(super) known: Option<Known>,
    /// Who makes the changes.
    pub node: i64,
    /// Uptime as it is written down.
    pub uptime_ms: u64,
    /// Uptime now, for retentions.
    pub now_ms: u64,
}

impl Tx {
    pub fn db(&self) -> &ClientWrapper {
        self.session.db()
    }

    pub fn known(&self) -> Result<&Known, WriteError> {
        self.known.as_ref().ok_or_else(|| leave::unknown().into())
    }

    pub fn known_mut(&mut self) -> Result<&mut Known, WriteError> {
        self.known.as_mut().ok_or_else(|| leave::unknown().into())
    }
}

/// The uptime at which a retention that begins now has passed.
pub(in crate::state::postgres) fn due(tx: &Tx, retain_ms: u64) -> i64 {
    int(tx.now_ms.saturating_add(retain_ms))
}
