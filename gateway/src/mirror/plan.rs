//! What mirrors are built from; `config` makes it from what a user wrote.

use std::time::Duration;

use policies::identity::StoreName;
use policies::mirror_order::Mode;

/// The mirrors of one repository.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MirrorsPlan {
    pub targets: Vec<TargetPlan>,
    /// Journal entries that are kept; a mirror that falls further behind is reconciled from listings.
    pub journal_limit: u64,
}

impl MirrorsPlan {
    /// The plan of one target.
    #[must_use]
    pub fn onto(&self, store: &StoreName) -> Option<&TargetPlan> {
        self.targets.iter().find(|target| target.store == *store)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TargetPlan {
    pub store: StoreName,
    pub mode: Mode,
    /// Bytes per second; none = as fast as it goes.
    pub bandwidth: Option<u64>,
    /// Bytes per second that the scrub may read on each side; 0 = no scrub.
    pub scrub: u64,
    pub alarms: Alarms,
}

/// When a mirror is worth waking somebody up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarms {
    pub lag: Duration,
    pub operations: u64,
    /// Share of transfers that failed, in percent.
    pub failed_percent: f64,
}

/// One day of a large cluster, and less than half a GiB of rows.
pub const DEFAULT_JOURNAL_LIMIT: u64 = 2_000_000;
pub const DEFAULT_SCRUB: u64 = 2_000_000;

impl TargetPlan {
    /// With every setting at its default.
    #[must_use]
    pub fn onto(store: StoreName) -> Self {
        Self {
            store,
            mode: Mode::Async,
            bandwidth: None,
            scrub: DEFAULT_SCRUB,
            alarms: Alarms::default(),
        }
    }

    /// Takes over what a running mirror can change to: bandwidth, scrub and alarms.
    pub fn take_limits(&mut self, of: &Self) {
        self.bandwidth = of.bandwidth;
        self.scrub = of.scrub;
        self.alarms = of.alarms;
    }
}

impl Default for Alarms {
    fn default() -> Self {
        Self {
            lag: Duration::from_secs(30),
            operations: 1000,
            failed_percent: 1.0,
        }
    }
}
