//! Tells the target, besides and ahead of all copying, which root its source has by now.
//!
//! A mirror that is behind lacks objects, not news: a takeover from the target alone can then say what is lost. Written
//! under the mirror's epoch; what a fenced one still writes lies under a name that nobody reads any more.

use std::sync::Arc;
use std::time::Duration;

use policies::identity::Epoch;

use super::fence::Tenure;
use super::{Link, Mirror, Trouble, applier};
use crate::checkpoint::Horizon;

const INTERVAL: Duration = Duration::from_secs(1);
/// After a failure: the applier has the same trouble and says so.
const LATER: Duration = Duration::from_secs(5);

/// The root that was noted last: its sequence, and the epoch under which it was.
pub type Noted = Option<(Epoch, u64)>;

/// Runs until the process ends. Only the node that applies tells.
pub async fn run(mirror: Arc<Mirror>) {
    let (link, mut noted) = (&mirror.link, None);
    loop {
        let Some(tenure) = mirror.control.tenure() else {
            tokio::time::sleep(INTERVAL).await;
            continue;
        };
        let pause = match link.note_horizon(&tenure, noted).await {
            Ok(now) => {
                noted = now;
                INTERVAL
            }
            Err(trouble) => {
                tracing::debug!(repository = %link.source.name, store = %link.target_name, cause = %trouble, "the mirror could not be told how far its source is");
                LATER
            }
        };
        tokio::time::sleep(pause).await;
    }
}

impl Link {
    /// Notes the newest root, if it is another than the one that was noted last.
    pub async fn note_horizon(&self, tenure: &Tenure, noted: Noted) -> Result<Noted, Trouble> {
        let Some(row) = applier::row(self).await? else {
            return Ok(noted);
        };
        let fenced = row.stalled.as_ref().is_some_and(|stalled| stalled.fenced);
        if row.epoch != tenure.epoch || row.paused || fenced {
            return Ok(noted);
        }
        let source = &self.source;
        let newest = source.state.restore_points(source.id, None, 1).await?;
        let Some(newest) = newest.first() else {
            return Ok(noted);
        };
        let now = Some((tenure.epoch, newest.sequence));
        if now == noted {
            return Ok(noted);
        }
        let key = Horizon::key(&source.name, tenure.epoch).map_err(Trouble::target)?;
        let bytes = Horizon::from(newest).encode();
        self.overwrite(tenure, &key, bytes).await?;
        Ok(now)
    }
}
