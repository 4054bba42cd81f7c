//! How far behind a mirror is, exactly; never 0 while that is in doubt.

use policies::format::closure::NewestSnapshot;
use policies::mirror_order::Mode;

use super::{Mirror, Trouble};
use crate::state::Millis;
use crate::state::mirrors::{Backlog, MirrorRow};
use crate::telemetry::clock;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    InSync,
    Lagging,
    Paused,
    Stalled,
    Resync,
}

impl State {
    pub const ALL: [Self; 5] = [
        Self::InSync,
        Self::Lagging,
        Self::Paused,
        Self::Stalled,
        Self::Resync,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Lagging => "lagging",
            Self::Paused => "paused",
            Self::Stalled => "stalled",
            Self::Resync => "resync",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lag {
    pub restore_points: u64,
    pub seconds: u64,
    pub operations: u64,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub mode: Mode,
    pub state: State,
    pub row: MirrorRow,
    pub source_seq: u64,
    pub lag: Lag,
    /// What was in the way last, if it still is.
    pub trouble: Option<String>,
    /// The newest root that the target is known to have.
    pub newest: Option<Newest>,
    /// At the speed of the last minute; None while that is not known.
    pub seconds_to_catch_up: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newest {
    pub generation: u64,
    pub committed_ms: Millis,
    pub snapshots: Vec<String>,
    /// The one of them that ended last; None = that is not known, or there is none.
    pub newest: Option<NewestSnapshot>,
}

const PAGE: usize = 100;

impl Mirror {
    /// None: the mirror is not configured any more.
    pub async fn status(&self) -> Result<Option<Status>, Trouble> {
        let Some(row) = self.row().await? else {
            return Ok(None);
        };
        let source = &self.link.source;
        let backlog = source.state.backlog(source.id, row.applied).await?;
        let behind = self.roots_behind(&row).await?;
        let newest = match row.has_roots_to() {
            None => None,
            Some(sequence) => source.state.restore_point_at(source.id, sequence).await?,
        };
        let trouble = self.control.last_trouble();
        let mut status = judge(row, backlog, behind, trouble, clock::now_ms());
        status.newest = newest.map(|point| Newest {
            generation: point.root.generation,
            committed_ms: point.committed_ms,
            snapshots: point
                .root
                .snapshots
                .iter()
                .map(|s| s.name.to_string())
                .collect(),
            newest: point.root.newest,
        });
        status.seconds_to_catch_up = self.control.pace.seconds_for(&status);
        Ok(Some(status))
    }

    /// Restore points above the mirror's position.
    async fn roots_behind(&self, row: &MirrorRow) -> Result<u64, Trouble> {
        let source = &self.link.source;
        let mut behind = 0;
        let mut before = None;
        loop {
            let page = source.state.restore_points(source.id, before, PAGE).await?;
            let newer = page.iter().filter(|p| p.sequence > row.applied).count();
            behind += newer as u64;
            before = page.last().map(|point| point.root.generation);
            if newer < PAGE {
                return Ok(behind);
            }
        }
    }
}

fn judge(
    row: MirrorRow,
    backlog: Backlog,
    restore_points: u64,
    trouble: Option<String>,
    now_ms: Millis,
) -> Status {
    let state = if row.stalled.is_some() {
        State::Stalled
    } else if row.paused {
        State::Paused
    } else if row.resync.is_some() {
        State::Resync
    } else if backlog.operations > 0 {
        State::Lagging
    } else {
        State::InSync
    };
    let since = |ms: Millis| u64::try_from((now_ms - ms).max(0)).unwrap_or(0) / 1000;
    let mut lag = Lag {
        restore_points,
        seconds: backlog.oldest_ms.map_or(0, |ms| since(ms).max(1)),
        operations: backlog.operations,
        bytes: backlog.bytes,
    };
    let doubt = match (&row.resync, &row.stalled) {
        (Some(resync), _) => Some((
            resync.behind_since(),
            resync.total.saturating_sub(resync.done),
        )),
        (None, Some(stalled)) => Some((stalled.since_ms, 0)),
        (None, None) => None,
    };
    if let Some((since_ms, objects)) = doubt {
        lag.restore_points = lag.restore_points.max(1);
        lag.seconds = lag.seconds.max(since(since_ms)).max(1);
        lag.operations = (lag.operations + objects).max(1);
        lag.bytes = lag.bytes.max(1);
    }
    Status {
        mode: row.mode,
        state,
        source_seq: backlog.source,
        row,
        lag,
        trouble,
        newest: None,
        seconds_to_catch_up: None,
    }
}

#[cfg(test)]
mod tests {
    use policies::identity::{Epoch, Handover, StoreName};

    use super::*;
    use crate::state::RepositoryId;
    use crate::state::mirrors::{Resync, Stalled};

    fn row() -> MirrorRow {
        MirrorRow {
            repository: RepositoryId(1),
            store: StoreName::new("us"),
            mode: Mode::Async,
            epoch: Epoch(1),
            handover: Handover::new("h"),
            applied: 7,
            rooted: 0,
            paused: false,
            orders: 0,
            applier: None,
            resync: None,
            stalled: None,
            failed: 0,
            transferred: 0,
            bytes: 0,
        }
    }

    const NOTHING: Backlog = Backlog {
        source: 7,
        operations: 0,
        bytes: 0,
        oldest_ms: None,
    };

    #[test]
    fn lag_is_zero_only_when_nothing_is_in_doubt() {
        let status = judge(row(), NOTHING, 0, None, 10_000);
        assert_eq!(status.state, State::InSync);
        assert_eq!(
            status.lag,
            Lag {
                restore_points: 0,
                seconds: 0,
                operations: 0,
                bytes: 0
            }
        );

        let mut resyncing = row();
        resyncing.resync = Some(Resync {
            total: 10,
            done: 4,
            ..Resync::begin("new", 4_000)
        });
        let status = judge(resyncing, NOTHING, 0, None, 10_000);
        assert_eq!(status.state, State::Resync);
        assert_eq!(
            status.lag,
            Lag {
                restore_points: 1,
                seconds: 6,
                operations: 6,
                bytes: 1
            }
        );

        let mut again = row();
        again.resync = Some(Resync {
            behind_ms: Some(1_000),
            ..Resync::begin("an operator asked for it", 9_000)
        });
        let status = judge(again, NOTHING, 0, None, 10_000);
        assert_eq!(
            status.lag.seconds, 9,
            "what it lacked before it still lacks"
        );

        let mut stalled = row();
        stalled.stalled = Some(Stalled {
            key: None,
            reason: "x".into(),
            since_ms: 9_999,
            fenced: false,
        });
        let status = judge(stalled, NOTHING, 0, None, 10_000);
        assert_eq!(status.state, State::Stalled);
        assert!(status.lag.operations > 0 && status.lag.seconds > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_to_catch_up_counts_from_when_it_was_behind_and_is_not_told_while_the_target_is_away()
     {
        let pace = crate::mirror::pace::Pace::default();
        let seconds = std::time::Duration::from_secs;
        pace.sample(0, 1, 0);
        tokio::time::advance(seconds(40)).await;
        pace.sample(0, 1, 0);
        tokio::time::advance(seconds(10)).await;
        pace.sample(100, 5, 4);
        let behind = Backlog {
            source: 9,
            operations: 4,
            bytes: 100,
            oldest_ms: Some(3_000),
        };
        let well = judge(row(), behind, 1, None, 10_500);
        assert_eq!(pace.seconds_for(&well), Some(10));
        let away = judge(row(), behind, 1, Some("no connection".into()), 10_500);
        assert_eq!(pace.seconds_for(&away), None);
    }

    #[test]
    fn lag_counts_from_the_oldest_commit_that_is_not_applied() {
        let behind = Backlog {
            source: 9,
            operations: 2,
            bytes: 11,
            oldest_ms: Some(3_000),
        };
        let status = judge(row(), behind, 1, None, 10_500);
        assert_eq!(status.state, State::Lagging);
        assert_eq!(
            status.lag,
            Lag {
                restore_points: 1,
                seconds: 7,
                operations: 2,
                bytes: 11
            }
        );
    }
}
