//! The comparison: peers side by side, rounds interleaved, medians.
//!
//! Invariant: within a round every contender is measured once, one after the other, in an order that shifts
//! with each round, so that a slow minute of the machine falls on all of them. A contender that fails a row
//! has no figure there and its error is in the report; the others go on.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::contests::{CONTESTS, Contest, Stage, Verdict};
use crate::measure::{self, Bench, Figures, Load, ServerFigures};
use crate::peers::{self, CLIENT_CORE, Contender, Grounds, Hop, Peer, SERVER_CORE};
use crate::syncs::{self, Syncs};
use crate::{process, rows};

#[derive(Debug, Clone)]
pub struct Plan {
    pub contests: Vec<Contest>,
    pub peers: Vec<Peer>,
    pub seconds: f64,
    pub rounds: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Peers(#[from] peers::Error),
    #[error(transparent)]
    Trace(#[from] syncs::Error),
}

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub results: Vec<Outcome>,
    pub verdicts: Vec<Verdict>,
    pub syncs: Vec<Syncs>,
}

/// A contest and what came of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub contest: &'static str,
    pub stage: Stage,
    pub connections: usize,
    pub contenders: Vec<Record>,
}

#[derive(Debug, Serialize)]
pub struct Record {
    pub name: &'static str,
    pub median: Option<Figures>,
    pub rounds: Vec<Figures>,
    pub error: Option<String>,
}

/// The contests of `stage` and, on tmpfs, the hops; or those that are named.
///
/// # Errors
/// A sentence that says which name there is not.
pub fn choose(disk: bool, names: &[String]) -> Result<Vec<Contest>, String> {
    let staged = |contest: &&Contest| disk == (contest.stage == Stage::Disk);
    let all: Vec<Contest> = CONTESTS.iter().filter(staged).copied().collect();
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter()
            .find(|contest| contest.name == name)
            .copied()
            .ok_or_else(|| {
                let known: Vec<_> = all.iter().map(|contest| contest.name).collect();
                format!("no row '{name}' here; there are {}", known.join(", "))
            })
    };
    names.iter().map(find).collect()
}

/// Runs all of `plan` and hands each outcome to `done` when it is there; servers of one stage are stopped before those of the next start.
pub async fn compare(
    grounds: &Grounds,
    plan: &Plan,
    done: impl Fn(&Outcome),
) -> Result<Report, Error> {
    let mut report = Report::default();
    let (hops, stores): (Vec<Contest>, Vec<Contest>) = plan
        .contests
        .iter()
        .partition(|contest| contest.stage == Stage::Hop);
    if !stores.is_empty() {
        let mut contenders = Vec::new();
        for peer in &plan.peers {
            contenders.push(grounds.store(*peer, SERVER_CORE).await?);
        }
        for contest in &stores {
            done(report.add(contest, run(contest, &contenders, plan).await));
        }
        if stores.iter().any(|contest| contest.stage == Stage::Disk) {
            for contender in &contenders {
                report
                    .syncs
                    .extend(syncs::trace(contender, &grounds.dir).await?);
            }
        }
    }
    if !hops.is_empty() {
        // Behind the hops, on the client's core: the server's core belongs to the hop alone.
        let behind = grounds.behind(CLIENT_CORE).await?;
        let mut contenders = Vec::new();
        for hop in Hop::ALL {
            if hop != Hop::Snapgate || plan.peers.contains(&Peer::Snapgate) {
                contenders.push(grounds.hop(hop, &behind).await?);
            }
        }
        for contest in &hops {
            done(report.add(contest, run(contest, &contenders, plan).await));
        }
    }
    Ok(report)
}

async fn run(contest: &Contest, contenders: &[Contender], plan: &Plan) -> Vec<Record> {
    let work = rows::find(contest.row)
        .expect("every contest is about a row that exists: there is a test")
        .work;
    let load = Load {
        connections: contest.connections,
        seconds: plan.seconds,
    };
    let mut records = Vec::new();
    let mut benches = Vec::new();
    for contender in contenders {
        let ready = Bench::ready(Arc::clone(&contender.target), work).await;
        records.push(Record {
            name: contender.name,
            median: None,
            rounds: Vec::new(),
            error: ready.as_ref().err().map(ToString::to_string),
        });
        benches.push(ready.ok());
    }
    for round in 0..plan.rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let (record, contender) = (&mut records[index], &contenders[index]);
            let Some(bench) = &benches[index] else {
                continue;
            };
            eprintln!(
                "{} round {}/{}: {}",
                contest.name,
                round + 1,
                plan.rounds,
                contender.name
            );
            match bench.measure(load, Some(contender.processes)).await {
                Ok(figures) => record.rounds.push(figures),
                Err(error) => {
                    record.error = Some(error.to_string());
                    benches[index] = None;
                }
            }
        }
    }
    for (bench, record) in benches.iter().zip(&mut records) {
        record.median = median(&record.rounds);
        if let Some(bench) = bench
            && let Err(error) = bench.clear().await
        {
            record.error = Some(error.to_string());
        }
    }
    records
}

impl Report {
    fn add(&mut self, contest: &Contest, contenders: Vec<Record>) -> &Outcome {
        let medians: Vec<(&'static str, Figures)> = contenders
            .iter()
            .filter(|record| record.error.is_none())
            .filter_map(|record| Some((record.name, record.median?)))
            .collect();
        for bar in contest.bars {
            self.verdicts.push(bar.judge(contest.name, &medians));
        }
        self.results.push_mut(Outcome {
            contest: contest.name,
            stage: contest.stage,
            connections: contest.connections,
            contenders,
        })
    }
}

/// The median of every figure by itself.
pub fn median(rounds: &[Figures]) -> Option<Figures> {
    let middle = |of: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        }
    };
    let first = rounds.first()?;
    let of_server = |of: &dyn Fn(&ServerFigures) -> f64| {
        middle(&|figures: &Figures| figures.server.as_ref().map_or(f64::NAN, of))
    };
    Some(Figures {
        operations: rounds.iter().map(|round| round.operations).sum(),
        operations_per_second: middle(&|f| f.operations_per_second),
        mib_per_second: middle(&|f| f.mib_per_second),
        p50_ms: middle(&|f| f.p50_ms),
        p99_ms: middle(&|f| f.p99_ms),
        client_cpu: middle(&|f| f.client_cpu),
        server: first.server.map(|_| ServerFigures {
            cpu_seconds: of_server(&|s| s.cpu_seconds),
            operations_per_cpu_second: of_server(&|s| s.operations_per_cpu_second),
            cpu_ms_per_operation: of_server(&|s| s.cpu_ms_per_operation),
            peak_mib: of_server(&|s| s.peak_mib),
        }),
    })
}

/// Programs and versions of a comparison.
pub fn versions(grounds: &Grounds) -> Vec<(String, String)> {
    let peer = |name: &str, argument: &str| {
        // Programs that were built from a module say nothing of its version: the cache notes it beside them.
        let noted = std::fs::read_to_string(grounds.cache.join(format!("{name}.from")));
        let version = noted.map_or_else(
            |_| version(&process::program(&grounds.cache, name), argument),
            |noted| noted.trim().to_owned(),
        );
        (name.to_owned(), version)
    };
    vec![
        (
            "snapgate".to_owned(),
            version(&grounds.snapgate, "--version"),
        ),
        peer("versitygw", "--version"),
        peer("minio", "--version"),
        peer("rclone", "version"),
        peer("nginx", "-v"),
    ]
}

/// What a program says its version is, on one line.
fn version(program: &Path, argument: &str) -> String {
    let output = std::process::Command::new(program).arg(argument).output();
    output.map_or_else(
        |error| error.to_string(),
        |output| {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            text.lines().next().unwrap_or_default().trim().to_owned()
        },
    )
}

/// Whether this program was the bottleneck.
pub fn client_bound(figures: &Figures) -> bool {
    figures.client_cpu > measure::CLIENT_BOUND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(rate: f64, p99_ms: f64) -> Figures {
        Figures {
            operations: 10,
            operations_per_second: rate,
            mib_per_second: rate,
            p50_ms: 1.0,
            p99_ms,
            client_cpu: 0.5,
            server: None,
        }
    }

    #[test]
    fn each_figure_has_its_own_median() {
        let rounds = [round(3.0, 1.0), round(1.0, 9.0), round(2.0, 2.0)];
        let median = median(&rounds).unwrap();
        assert_eq!((median.operations_per_second, median.p99_ms), (2.0, 2.0));
        assert_eq!(median.operations, 30);
    }

    #[test]
    fn disk_rows_are_not_mixed_with_tmpfs_rows() {
        let tmpfs = choose(false, &[]).unwrap();
        assert!(tmpfs.iter().all(|contest| contest.stage != Stage::Disk));
        let disk = choose(true, &[]).unwrap();
        assert!(disk.iter().all(|contest| contest.stage == Stage::Disk));
        choose(true, &["hop-put-4k".to_owned()]).unwrap_err();
    }
}
