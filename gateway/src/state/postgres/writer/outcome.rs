//! What became of a COMMIT whose answer was lost.

use std::time::Duration;

use tokio::time::Instant;

use super::group::{TURN, Worker};
use super::job::Job;
use super::session::Session;
use crate::state::postgres::rows::{execute, first};
use crate::state::postgres::{catalog, no_answer};
use crate::state::{Error, Recorded, Result};

/// How long the outcome of an interrupted COMMIT is asked for, and how often.
const LOOK_UP: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl Worker {
    /// The numbers that new objects were given by a group whose answer was lost.
    pub(super) async fn find_recorded(&self, group: &mut [Job]) -> Result<()> {
        let session = Session::begin(&self.pool).await?;
        for job in group {
            let Job::Record(record) = job else { continue };
            if record.result.is_some() {
                continue;
            }
            let put = &record.put;
            let there = catalog::lookup(session.db(), put.bucket, &put.key).await?;
            let ours = there.object.filter(|there| there.identity == put.identity);
            record.result = Some(match ours {
                Some(object) => Ok(Recorded {
                    sequence: object.sequence,
                }),
                None => Err(Error::Failed("it was recorded, and removed since".into()).into()),
            });
        }
        session.ended_in_order();
        Ok(())
    }

    pub(super) async fn look_up(&self, failure: Error) -> Result<()> {
        let deadline = Instant::now() + LOOK_UP;
        loop {
            let looked = tokio::time::timeout_at(deadline, self.committed()).await;
            match looked.unwrap_or_else(|_| Err(no_answer())) {
                Ok(true) => {
                    tracing::info!("the interrupted COMMIT took effect");
                    return Ok(());
                }
                Ok(false) => {
                    tracing::info!("the interrupted COMMIT did not take effect");
                    return Err(failure);
                }
                Err(e) if Instant::now() >= deadline => {
                    tracing::error!(cause = %e, "the outcome of an interrupted COMMIT cannot be looked up: unknown");
                    return Err(failure);
                }
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Who gets the turn knows that the transaction before it has ended.
    async fn committed(&self) -> Result<bool> {
        let session = Session::begin(&self.pool).await?;
        let db = session.db();
        db.batch_execute("BEGIN").await?;
        execute(db, TURN, &[&self.turn]).await?;
        let row = first(
            db,
            "SELECT number FROM groups WHERE turn = $1 AND node = $2",
            &[&self.turn, &self.node],
        )
        .await?;
        db.batch_execute("ROLLBACK").await?;
        session.ended_in_order();
        Ok(row.is_some_and(|row| row.get::<_, i64>(0) == self.number))
    }
}
