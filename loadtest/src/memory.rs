//! Memory of the gateway: idle, and at its peak under uploads far larger than it may hold.
//!
//! Decides: reached or missed, from resident memory as the kernel counts it. Objects lie on tmpfs, whose
//! pages belong to nobody's resident memory.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::measure::{Bench, Load};
use crate::peers::{Contender, Error, Grounds, Peer, SERVER_CORE};
use crate::rows;

const IDLE_BOUND_MIB: f64 = 32.0;
const PEAK_BOUND_MIB: f64 = 48.0;
const UPLOADS: usize = 64;

#[derive(Debug, Serialize)]
pub struct Report {
    pub contender: &'static str,
    pub idle_mib: f64,
    pub idle_passed: bool,
    pub peaks: Vec<Peak>,
}

#[derive(Debug, Serialize)]
pub struct Peak {
    pub row: &'static str,
    pub connections: usize,
    pub above_idle_mib: f64,
    pub after_mib: f64,
    pub passed: bool,
}

/// Rows in this order, on one server: what an earlier one leaves behind counts for the later.
const PEAKS: [(&str, usize); 5] = [
    ("put-64m", UPLOADS),
    ("put-64m-multipart", UPLOADS),
    ("get-64m", UPLOADS),
    ("put-4k", 8),
    ("list-1000", 8),
];

pub async fn memory(grounds: &Grounds, peer: Peer, seconds: f64) -> Result<Report, Error> {
    let contender = grounds.store(peer, SERVER_CORE).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle_mib = mib(contender.processes.resident());
    let mut peaks = Vec::new();
    for (row, connections) in PEAKS {
        peaks.push(peak(&contender, row, connections, seconds, idle_mib).await?);
    }
    Ok(Report {
        contender: contender.name,
        idle_mib,
        idle_passed: idle_mib <= IDLE_BOUND_MIB,
        peaks,
    })
}

async fn peak(
    contender: &Contender,
    row: &'static str,
    connections: usize,
    seconds: f64,
    idle_mib: f64,
) -> Result<Peak, Error> {
    let work = rows::find(row)
        .expect("these rows exist: there is a test")
        .work;
    let bench = Bench::ready(Arc::clone(&contender.target), work).await?;
    let load = Load {
        connections,
        seconds,
    };
    let figures = bench.measure(load, Some(contender.processes)).await?;
    bench.clear().await?;
    let peak = figures.server.map_or(f64::NAN, |server| server.peak_mib);
    Ok(Peak {
        row,
        connections,
        above_idle_mib: peak - idle_mib,
        after_mib: mib(contender.processes.resident()),
        passed: peak - idle_mib <= PEAK_BOUND_MIB,
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Report {
    pub fn text(&self) -> String {
        let word = |passed: bool| if passed { "reached" } else { "MISSED" };
        let mut text = format!(
            "{} idle: {:.1} MiB (bound {IDLE_BOUND_MIB}): {}\n",
            self.contender,
            self.idle_mib,
            word(self.idle_passed)
        );
        for peak in &self.peaks {
            text.push_str(&format!(
                "{} by {}: {:.1} MiB above idle (bound {PEAK_BOUND_MIB}), {:.1} MiB afterwards: {}\n",
                peak.row,
                peak.connections,
                peak.above_idle_mib,
                peak.after_mib,
                word(peak.passed)
            ));
        }
        text
    }

    pub fn passed(&self) -> bool {
        self.idle_passed && self.peaks.iter().all(|peak| peak.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_exist() {
        for (row, _) in PEAKS {
            rows::find(row).unwrap();
        }
    }
}
