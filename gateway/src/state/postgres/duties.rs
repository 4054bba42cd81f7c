//! Duties among nodes: advisory locks of one session that a node keeps for nothing else.
//!
//! The server gives them back when the session ends: with its process, with its connection, or, where a node stands
//! still, after it said nothing for [`SILENCE`]. That time decides only who works, never what takes effect (see
//! [`crate::state::duties`]), so a lock that is lost with a failover or a restart of the server costs nothing but
//! the work's beginning anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::open::{self, Settings, describe};
use crate::state::duties::{Duty, InProcess, Taken};
use crate::state::{Error, Result};

/// After so long without a word from its node the server ends the session.
const SILENCE: &str = "SET idle_session_timeout = '10s'";
const BEAT: Duration = Duration::from_secs(2);
/// A server that does not answer for this long may have given the locks to another node.
const PATIENCE: Duration = Duration::from_secs(5);

/// Made of a text; that two pieces of work share a number would cost one of them its turn, nothing else.
const TAKE: &str = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
const GIVE_BACK: &str = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";

/// The duties of one node.
#[derive(Debug)]
pub(super) struct Duties {
    settings: Settings,
    /// A session may take its own lock again: that it does not is seen to here.
    here: InProcess,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    client: Arc<Client>,
    ended: CancellationToken,
    _serving: AbortOnDropHandle<()>,
    _beating: AbortOnDropHandle<()>,
}

#[derive(Debug)]
pub(super) struct Held {
    session: Arc<Session>,
    here: Taken,
}

impl Duties {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            here: InProcess::default(),
            session: tokio::sync::Mutex::default(),
        }
    }

    /// None = somebody has it.
    pub async fn take(&self, work: &str) -> Result<Option<Held>> {
        let Some(here) = self.here.take(work) else {
            return Ok(None);
        };
        let session = self.session().await?;
        let asked = tokio::time::timeout(PATIENCE, session.client.query_one(TAKE, &[&work])).await;
        let failure = match asked {
            Ok(Ok(row)) => {
                let taken: bool = row.get(0);
                return Ok(taken.then(|| Held { session, here }));
            }
            Ok(Err(e)) => describe(&e),
            Err(_) => "PostgreSQL does not answer".to_owned(),
        };
        // Whether it was taken is not known: it goes with the session.
        session.ended.cancel();
        Err(Error::Failed(failure.into()))
    }

    async fn session(&self) -> Result<Arc<Session>> {
        let mut known = self.session.lock().await;
        if let Some(session) = known.as_ref()
            && session.lives()
        {
            return Ok(Arc::clone(session));
        }
        let begun = Session::begin(&self.settings).await;
        let begun = begun.map_err(|e| Error::Failed(e.to_string().into()))?;
        Ok(Arc::clone(known.insert(Arc::new(begun))))
    }
}

impl Session {
    async fn begin(settings: &Settings) -> std::result::Result<Self, open::OpenError> {
        let (client, serving) = open::alone(settings).await?;
        open::in_time(async { Ok(client.batch_execute(SILENCE).await?) }).await?;
        let (client, ended) = (Arc::new(client), CancellationToken::new());
        let beating = tokio::spawn(beat(Arc::clone(&client), ended.clone()));
        Ok(Self {
            client,
            ended,
            _serving: serving,
            _beating: AbortOnDropHandle::new(beating),
        })
    }
}

impl Session {
    fn lives(&self) -> bool {
        !self.ended.is_cancelled() && !self.client.is_closed()
    }
}

/// Says that this node is alive, until it is not heard any more.
async fn beat(client: Arc<Client>, ended: CancellationToken) {
    let _told = ended.drop_guard();
    loop {
        tokio::time::sleep(BEAT).await;
        let heard = tokio::time::timeout(PATIENCE, client.batch_execute("")).await;
        if !matches!(heard, Ok(Ok(()))) {
            tracing::warn!("the session that holds this node's duties ended");
            return;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (session, work) = (Arc::clone(&self.session), self.here.work().to_owned());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Err(e) = session.client.execute(GIVE_BACK, &[&work]).await {
                // With its session every lock is given back.
                session.ended.cancel();
                tracing::debug!(cause = %describe(&e), work, "a duty went with its session");
            }
        });
    }
}

#[async_trait]
impl Duty for Held {
    fn holds(&self) -> bool {
        self.session.lives()
    }

    async fn lost(&self) {
        self.session.ended.cancelled().await;
    }
}
