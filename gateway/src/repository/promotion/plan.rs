//! What a promotion is asked for, and what it would do.

use std::fmt::Write;
use std::time::Duration;

use policies::format::closure::NewestSnapshot;
use policies::identity::{Cluster, Epoch, StoreName};
use serde_json::{Value, json};

use crate::checkpoint::Horizon;
use crate::state::Basis;
use crate::telemetry::clock;

#[derive(Clone, Debug)]
pub struct Ask {
    pub store: StoreName,
    pub writer: Cluster,
    pub reason: Option<String>,
    /// A planned move: refuse unless the mirror has everything within this time.
    pub nothing_behind: Option<Duration>,
}

/// One thing that must be so, looked at.
#[derive(Clone, Debug)]
pub struct Check {
    pub what: &'static str,
    pub ok: bool,
    pub found: String,
}

/// The restore point that the target is at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At {
    pub generation: u64,
    /// The snapshot that ended last; None = that is not known, or there is none.
    pub newest: Option<NewestSnapshot>,
    pub snapshots: Vec<String>,
}

/// What the old primary had and the target lacks. None = it cannot be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    pub restore_points: u64,
    pub snapshots: Vec<String>,
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub store: StoreName,
    pub writer: Cluster,
    pub epoch: Epoch,
    pub basis: Basis,
    pub checks: Vec<Check>,
    pub at: Option<At>,
    pub missing: Option<Missing>,
    /// The last that the target heard of its source.
    pub horizon: Option<Horizon>,
    /// For the clusters' operators, as text.
    pub steps: Vec<String>,
}

impl Planned {
    pub(super) fn check(&mut self, what: &'static str, ok: bool, found: impl Into<String>) {
        self.checks.push(Check {
            what,
            ok,
            found: found.into(),
        });
    }

    /// Why it must not be done; None = it may.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let mut text = String::new();
        for check in self.checks.iter().filter(|check| !check.ok) {
            let separator = if text.is_empty() { "" } else { "; " };
            write!(text, "{separator}{}", check.found).expect("a String takes every write");
        }
        (!text.is_empty()).then_some(text)
    }

    /// As the admin API answers it.
    #[must_use]
    pub fn body(&self) -> Value {
        json!({
            "store": self.store.as_str(),
            "writer": self.writer.as_str(),
            "epoch": self.epoch.0,
            "restore_point": self.at.as_ref().map(At::body),
            "missing": self.missing_body(),
            "basis": basis(self.basis),
            "checks": self.checks.iter().map(|c| json!({ "check": c.what, "ok": c.ok, "found": c.found })).collect::<Vec<_>>(),
            "steps": self.steps,
        })
    }

    /// What is missing; where the old primary cannot be asked, what is missing at least.
    fn missing_body(&self) -> Value {
        if let Some(missing) = &self.missing {
            return missing.body();
        }
        let mut body = unknown();
        if let (Some(horizon), Some(at)) = (&self.horizon, &self.at) {
            let ahead = horizon.generation > at.generation;
            let lacks = |name: &&String| ahead && !at.snapshots.contains(*name);
            body["at_least"] = json!({
                "generation": horizon.generation,
                "committed_at": clock::rfc3339(horizon.committed_ms),
                "restore_points": horizon.generation.saturating_sub(at.generation),
                "snapshots": horizon.snapshots.iter().filter(lacks).collect::<Vec<_>>(),
            });
        }
        body
    }

    pub(super) fn audit(&self) -> Value {
        json!({
            "basis": basis(self.basis),
            "restore_point": self.at.as_ref().map(|at| at.generation),
            "missing": self.missing_body(),
        })
    }
}

impl At {
    fn body(&self) -> Value {
        let newest = self.newest.as_ref();
        let ended = newest.map(|newest| clock::rfc3339(newest.ended_ms));
        json!({
            "generation": self.generation,
            "committed_at": ended,
            "snapshots": self.snapshots,
            "newest_snapshot": newest.map(|newest| json!({ "name": &*newest.name, "ended_at": ended })),
        })
    }
}

impl Missing {
    fn body(&self) -> Value {
        json!({
            "known": true,
            "restore_points": self.restore_points,
            "snapshots": self.snapshots,
            "objects": self.objects,
            "bytes": self.bytes,
        })
    }
}

/// The old primary cannot be asked: nobody knows what it had, until it returns.
fn unknown() -> Value {
    json!({ "known": false, "restore_points": null, "snapshots": null, "objects": null, "bytes": null })
}

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Catalog { .. } => "catalog",
        Basis::Checkpoint { .. } => "checkpoint",
        Basis::Listing => "listing",
    }
}
