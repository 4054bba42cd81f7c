//! What is compared with whom, and the bars: the table that says when the gateway is fast enough.
//!
//! Decides: medians of all contenders -> reached or missed, and by how much.
//! A bar is a ratio to the best peer of its row in the same run; absolute figures change with the machine.

use serde::Serialize;

use crate::measure::Figures;

/// Where contenders keep their objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Their own data on tmpfs: what the program costs.
    Tmpfs,
    /// Their own data on a disk: what durability costs.
    Disk,
    /// In front of a MinIO on tmpfs: what standing in between costs.
    Hop,
}

#[derive(Debug, Clone, Copy)]
pub struct Contest {
    pub name: &'static str,
    pub stage: Stage,
    /// In [`crate::rows::ROWS`].
    pub row: &'static str,
    pub connections: usize,
    pub bars: &'static [Bar],
}

#[derive(Debug, Clone, Copy)]
pub struct Bar {
    pub measure: Measure,
    pub against: Against,
    pub bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Operations per CPU second of the server, at least so many times the peer's.
    Efficiency,
    /// Operations per second, at least so many times the peer's.
    Rate,
    /// CPU time per operation, at most so many times the peer's.
    Cost,
    /// 99th percentile of latency, at most so many milliseconds above the peer's.
    AddedP99,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Whoever is best among the peers.
    Best,
    Peer(&'static str),
}

#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub contest: &'static str,
    pub measure: &'static str,
    pub against: String,
    pub bound: f64,
    /// What the gateway reached, in the bar's own measure; none when either side has no figure.
    pub reached: Option<f64>,
    pub passed: bool,
}

/// Whom the bars are about.
const SUBJECT: &str = "snapgate";
/// The store behind the hops: no peer of theirs.
const BEHIND: &str = "direct";

const fn efficiency(bound: f64) -> Bar {
    Bar {
        measure: Measure::Efficiency,
        against: Against::Best,
        bound,
    }
}

const fn rate(bound: f64) -> Bar {
    Bar {
        measure: Measure::Rate,
        against: Against::Peer("minio"),
        bound,
    }
}

const fn cost(bound: f64) -> Bar {
    Bar {
        measure: Measure::Cost,
        against: Against::Peer("nginx"),
        bound,
    }
}

const ADDED_P99: &[Bar] = &[
    Bar {
        measure: Measure::AddedP99,
        against: Against::Peer("direct"),
        bound: 0.05,
    },
    Bar {
        measure: Measure::AddedP99,
        against: Against::Peer("nginx"),
        bound: 0.05,
    },
];

const fn contest(
    stage: Stage,
    name: &'static str,
    row: &'static str,
    bars: &'static [Bar],
) -> Contest {
    Contest {
        name,
        stage,
        row,
        connections: 8,
        bars,
    }
}

const fn at(connections: usize, contest: Contest) -> Contest {
    Contest {
        connections,
        ..contest
    }
}

/// One entry, one row of the comparison.
pub const CONTESTS: &[Contest] = &[
    contest(Stage::Tmpfs, "put-4k", "put-4k", &[efficiency(2.0)]),
    contest(Stage::Tmpfs, "put-commit-4k", "put-commit-4k", &[]),
    contest(Stage::Tmpfs, "get-4k", "get-4k", &[efficiency(2.5)]),
    contest(Stage::Tmpfs, "put-1m", "put-1m", &[efficiency(2.0)]),
    contest(Stage::Tmpfs, "get-1m", "get-1m", &[efficiency(1.0)]),
    contest(Stage::Tmpfs, "put-64m", "put-64m", &[]),
    contest(
        Stage::Tmpfs,
        "put-64m-multipart",
        "put-64m-multipart",
        &[efficiency(2.0)],
    ),
    contest(Stage::Tmpfs, "get-64m", "get-64m", &[efficiency(1.0)]),
    contest(Stage::Tmpfs, "list-1000", "list-1000", &[efficiency(5.0)]),
    contest(Stage::Tmpfs, "list-1000-folders", "list-1000-folders", &[]),
    contest(
        Stage::Tmpfs,
        "delete-1000",
        "delete-1000",
        &[efficiency(3.0)],
    ),
    contest(Stage::Tmpfs, "cluster", "cluster", &[]),
    contest(Stage::Disk, "put-4k", "put-4k", &[rate(2.0)]),
    at(64, contest(Stage::Disk, "put-4k-by-64", "put-4k", &[])),
    contest(Stage::Disk, "put-commit-4k", "put-commit-4k", &[]),
    contest(Stage::Disk, "put-1m", "put-1m", &[rate(2.0)]),
    contest(Stage::Disk, "get-4k", "get-4k", &[]),
    contest(Stage::Hop, "hop-put-4k", "put-4k", &[cost(1.5)]),
    contest(Stage::Hop, "hop-get-4k", "get-4k", &[cost(1.5)]),
    contest(Stage::Hop, "hop-put-1m", "put-1m", &[cost(1.5)]),
    contest(Stage::Hop, "hop-get-1m", "get-1m", &[cost(1.0)]),
    contest(Stage::Hop, "hop-put-commit-4k", "put-commit-4k", &[]),
    at(
        1,
        contest(Stage::Hop, "hop-latency-put-4k", "put-4k", ADDED_P99),
    ),
    at(
        1,
        contest(Stage::Hop, "hop-latency-get-4k", "get-4k", ADDED_P99),
    ),
];

impl Measure {
    pub fn label(self) -> &'static str {
        match self {
            Self::Efficiency => "operations per CPU second",
            Self::Rate => "operations per second",
            Self::Cost => "CPU per operation",
            Self::AddedP99 => "added p99 (ms)",
        }
    }

    pub fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Efficiency => figures.server.map(|s| s.operations_per_cpu_second),
            Self::Rate => Some(figures.operations_per_second),
            Self::Cost => figures.server.map(|s| s.cpu_ms_per_operation),
            Self::AddedP99 => Some(figures.p99_ms),
        }
    }

    fn more_is_better(self) -> bool {
        match self {
            Self::Efficiency | Self::Rate => true,
            Self::Cost | Self::AddedP99 => false,
        }
    }
}

/// The best peer of a row.
pub fn best<'a>(
    measure: Measure,
    medians: &'a [(&'static str, Figures)],
) -> Option<&'a (&'static str, Figures)> {
    medians
        .iter()
        .filter(|(name, _)| *name != SUBJECT && *name != BEHIND)
        .filter(|(_, figures)| measure.of(figures).is_some())
        .max_by(|(_, a), (_, b)| {
            let order = measure.of(a).partial_cmp(&measure.of(b));
            let order = order.unwrap_or(std::cmp::Ordering::Equal);
            if measure.more_is_better() {
                order
            } else {
                order.reverse()
            }
        })
}

impl Bar {
    pub fn judge(&self, contest: &'static str, medians: &[(&'static str, Figures)]) -> Verdict {
        let named = |wanted: &str| medians.iter().find(|(name, _)| *name == wanted);
        let peer = match self.against {
            Against::Best => best(self.measure, medians),
            Against::Peer(name) => named(name),
        };
        let own = named(SUBJECT).and_then(|(_, figures)| self.measure.of(figures));
        let theirs = peer.and_then(|(_, figures)| self.measure.of(figures));
        let reached = own.zip(theirs).map(|(own, theirs)| match self.measure {
            Measure::Efficiency | Measure::Rate | Measure::Cost => own / theirs,
            Measure::AddedP99 => own - theirs,
        });
        let passed = reached.is_some_and(|reached| {
            if self.measure.more_is_better() {
                reached >= self.bound
            } else {
                reached <= self.bound
            }
        });
        Verdict {
            contest,
            measure: self.measure.label(),
            against: peer.map_or_else(
                || match self.against {
                    Against::Best => "best peer".to_owned(),
                    Against::Peer(name) => name.to_owned(),
                },
                |(name, _)| (*name).to_owned(),
            ),
            bound: self.bound,
            reached,
            passed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ServerFigures;
    use crate::rows;

    fn figures(rate: f64, cpu_ms: f64, p99_ms: f64) -> Figures {
        Figures {
            operations: 1000,
            operations_per_second: rate,
            mib_per_second: 0.0,
            p50_ms: p99_ms / 2.0,
            p99_ms,
            client_cpu: 0.5,
            server: Some(ServerFigures {
                cpu_seconds: cpu_ms,
                operations_per_cpu_second: 1e3 / cpu_ms,
                cpu_ms_per_operation: cpu_ms,
                peak_mib: 40.0,
            }),
        }
    }

    #[test]
    fn efficiency_is_judged_against_the_best_peer() {
        let medians = [
            ("snapgate", figures(100.0, 0.1, 1.0)),
            ("versitygw", figures(500.0, 0.25, 1.0)),
            ("minio", figures(900.0, 0.9, 1.0)),
        ];
        let verdict = efficiency(2.0).judge("put-4k", &medians);
        assert_eq!(verdict.against, "versitygw");
        assert_eq!(verdict.reached, Some(2.5));
        assert!(verdict.passed);
        assert!(!efficiency(2.6).judge("put-4k", &medians).passed);
    }

    #[test]
    fn less_cost_and_less_latency_pass() {
        let medians = [
            ("snapgate", figures(100.0, 0.12, 1.04)),
            ("nginx", figures(100.0, 0.08, 1.0)),
        ];
        assert!(cost(1.51).judge("hop", &medians).passed);
        assert!(!cost(1.49).judge("hop", &medians).passed);
        assert!(ADDED_P99[1].judge("hop", &medians).passed);
        assert!(
            !ADDED_P99[0].judge("hop", &medians).passed,
            "without the peer there is nothing to pass against"
        );
    }

    #[test]
    fn a_gateway_without_figures_has_missed_its_bar() {
        let medians = [("minio", figures(100.0, 0.1, 1.0))];
        let verdict = rate(2.0).judge("put-4k", &medians);
        assert_eq!((verdict.reached, verdict.passed), (None, false));
    }

    #[test]
    fn every_contest_is_about_a_row_that_exists() {
        for contest in CONTESTS {
            rows::find(contest.row).unwrap();
        }
    }
}
