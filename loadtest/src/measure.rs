//! One measurement: a row on one endpoint for some seconds.
//!
//! Decides: the load -> operations a second, operations a second of the server's CPU time, latencies, memory.
//! Invariant: only operations that ended inside the window count, and the CPU time is that of the window;
//! preparing and cleaning up is outside it. CPU time is the steadier figure: it does not change when
//! something else runs on the machine, as long as both are at work.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::client::{Connection, Error, Target};
use crate::payload::Payloads;
use crate::process::{Processes, own_cpu};
use crate::work::{self, Stock, Work, Worker};

/// Scratch space is memory: a measurement stops when it has written so much.
const BYTES_LIMIT: u64 = 4 << 30;
/// Rows that refill between batches repeat until the server has worked this long, or so often.
const BATCHES_CPU: Duration = Duration::from_millis(500);
const BATCHES_LIMIT: usize = 4;
/// Of this program's core; above it, the client may be what is measured.
pub const CLIENT_BOUND: f64 = 0.9;

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    pub operations: u64,
    pub operations_per_second: f64,
    pub mib_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Share of one core that this program used.
    pub client_cpu: f64,
    pub server: Option<ServerFigures>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct ServerFigures {
    pub cpu_seconds: f64,
    pub operations_per_cpu_second: f64,
    pub cpu_ms_per_operation: f64,
    pub peak_mib: f64,
}

/// A row made ready on one endpoint.
#[derive(Debug)]
pub struct Bench {
    target: Arc<Target>,
    work: Work,
    payloads: Arc<Payloads>,
    stock: Arc<Stock>,
}

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub seconds: f64,
}

#[derive(Debug, Default)]
struct Log {
    latencies: Vec<Duration>,
    bytes: u64,
    wall: Duration,
    client: Duration,
    server: Duration,
}

impl Bench {
    pub async fn ready(target: Arc<Target>, work: Work) -> Result<Self, Error> {
        let payloads = Arc::new(work.payloads());
        let mut connection = Connection::open(Arc::clone(&target)).await?;
        let stock = Arc::new(work::stock(work, &payloads, &mut connection).await?);
        Ok(Self {
            target,
            work,
            payloads,
            stock,
        })
    }

    /// Removes what [`Bench::ready`] put there.
    pub async fn clear(&self) -> Result<(), Error> {
        self.remove(&self.stock.keys).await
    }

    pub async fn remove(&self, keys: &[String]) -> Result<(), Error> {
        let mut connection = Connection::open(Arc::clone(&self.target)).await?;
        work::remove(&mut connection, keys).await
    }

    /// So many operations on each of so many connections, without a clock; returns what they wrote.
    pub async fn operate(&self, connections: usize, count: usize) -> Result<Vec<String>, Error> {
        let done = each(self.workers(connections).await?, async move |mut worker| {
            for _ in 0..count {
                worker.operate().await?;
            }
            Ok(worker.written)
        });
        Ok(done.await?.concat())
    }

    pub async fn measure(&self, load: Load, server: Option<Processes>) -> Result<Figures, Error> {
        let workers = self.workers(load.connections).await?;
        if let Some(server) = server {
            server.forget_peak();
        }
        let (workers, log) = match self.work.batch() {
            None => timed(workers, load, server).await?,
            Some(count) => batches(workers, count, load, server).await?,
        };
        let peak = server.map(Processes::peak);
        each(workers, async |mut worker| {
            let written = std::mem::take(&mut worker.written);
            work::remove(&mut worker.connection, &written).await?;
            Ok(worker)
        })
        .await?;
        Ok(figures(log, peak))
    }

    async fn workers(&self, count: usize) -> Result<Vec<Worker>, Error> {
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            workers.push(Worker::new(
                Connection::open(Arc::clone(&self.target)).await?,
                self.work,
                Arc::clone(&self.payloads),
                Arc::clone(&self.stock),
            ));
        }
        Ok(workers)
    }
}

/// Runs for a time; the first tenth warms up and does not count.
async fn timed(
    workers: Vec<Worker>,
    load: Load,
    server: Option<Processes>,
) -> Result<(Vec<Worker>, Log), Error> {
    let start = Instant::now() + Duration::from_secs_f64(load.seconds * 0.1);
    let end = start + Duration::from_secs_f64(load.seconds);
    let limit = BYTES_LIMIT / workers.len() as u64;
    let before = async {
        tokio::time::sleep_until(start).await;
        Meter::read(server)
    };
    let running = each(workers, async move |mut worker| {
        let mut log = Log::default();
        let mut moved = 0;
        while Instant::now() < end && moved < limit {
            let begun = Instant::now();
            let bytes = worker.operate().await?;
            moved += bytes;
            if Instant::now() >= start {
                log.latencies.push(begun.elapsed());
                log.bytes += bytes;
            }
        }
        Ok((worker, log))
    });
    let (before, done) = tokio::join!(before, running);
    let mut log = Log::default();
    log.count(before, server);
    let mut workers = Vec::new();
    for (worker, part) in done? {
        log.latencies.extend(part.latencies);
        log.bytes += part.bytes;
        workers.push(worker);
    }
    Ok((workers, log))
}

/// Runs batches of a fixed number of operations; what they need is written between them.
async fn batches(
    mut workers: Vec<Worker>,
    count: usize,
    load: Load,
    server: Option<Processes>,
) -> Result<(Vec<Worker>, Log), Error> {
    let mut log = Log::default();
    for _ in 0..BATCHES_LIMIT {
        workers = each(workers, async |mut worker| {
            worker.refill().await?;
            Ok(worker)
        })
        .await?;
        let before = Meter::read(server);
        let done = each(workers, async move |mut worker| {
            let mut latencies = Vec::with_capacity(count);
            for _ in 0..count {
                let begun = Instant::now();
                worker.operate().await?;
                latencies.push(begun.elapsed());
            }
            Ok((worker, latencies))
        })
        .await?;
        log.count(before, server);
        workers = Vec::new();
        for (worker, latencies) in done {
            log.latencies.extend(latencies);
            workers.push(worker);
        }
        if log.server >= BATCHES_CPU || log.wall.as_secs_f64() >= load.seconds {
            break;
        }
    }
    Ok((workers, log))
}

/// Does the same with every worker at once.
async fn each<T>(
    workers: Vec<Worker>,
    act: impl AsyncFn(Worker) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    futures::future::try_join_all(workers.into_iter().map(|worker| act(worker))).await
}

#[derive(Clone, Copy)]
struct Meter {
    at: Instant,
    client: Duration,
    server: Duration,
}

impl Meter {
    fn read(server: Option<Processes>) -> Self {
        Self {
            client: own_cpu(),
            server: server.map(Processes::cpu).unwrap_or_default(),
            at: Instant::now(),
        }
    }
}

impl Log {
    fn count(&mut self, before: Meter, server: Option<Processes>) {
        self.wall += before.at.elapsed();
        let after = Meter::read(server);
        self.client += after.client.saturating_sub(before.client);
        self.server += after.server.saturating_sub(before.server);
    }
}

fn figures(mut log: Log, peak: Option<u64>) -> Figures {
    log.latencies.sort_unstable();
    let operations = log.latencies.len() as f64;
    let percentile = |share: f64| {
        let last = log.latencies.len().saturating_sub(1);
        let index = ((operations * share) as usize).min(last);
        log.latencies
            .get(index)
            .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    let wall = log.wall.as_secs_f64();
    let cpu_seconds = log.server.as_secs_f64();
    Figures {
        operations: log.latencies.len() as u64,
        operations_per_second: operations / wall,
        mib_per_second: log.bytes as f64 / wall / f64::from(1 << 20),
        p50_ms: percentile(0.5),
        p99_ms: percentile(0.99),
        client_cpu: log.client.as_secs_f64() / wall,
        server: peak.map(|peak| ServerFigures {
            cpu_seconds,
            operations_per_cpu_second: operations / cpu_seconds,
            cpu_ms_per_operation: cpu_seconds * 1e3 / operations,
            peak_mib: peak as f64 / f64::from(1 << 20),
        }),
    }
}
