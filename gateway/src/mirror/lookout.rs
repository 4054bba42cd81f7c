//! Looks at all mirrors every few seconds: metrics, alarms, pace; and keeps the journals within their bounds.
//!
//! An alarm is said once when it begins and once when it ends; in between it stands in a metric. It decides nothing.
//! Counting a backlog reads it, so looks come the rarer the longer they take: a target that is away for days must not
//! cost its source anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policies::format::closure::NewestSnapshot;
use policies::identity::{Repository, StoreName};
use tokio::time::Instant;

use super::status::{State, Status};
use super::{Mirror, Mirrors, Trouble};
use crate::telemetry::{clock, names};

const INTERVAL: Duration = Duration::from_secs(2);
/// Of the time, one part in so many is spent on looking.
const SHARE: u32 = 100;
const RAREST: Duration = Duration::from_secs(60);
/// How often the journals are looked at.
const BOUND: Duration = Duration::from_secs(20);
/// Failures are counted over this time.
const FAILURES: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alarm {
    Lag,
    Operations,
    Failures,
    Stalled,
}

impl Alarm {
    const ALL: [Self; 4] = [Self::Lag, Self::Operations, Self::Failures, Self::Stalled];

    fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Operations => "operations",
            Self::Failures => "failures",
            Self::Stalled => "stalled",
        }
    }
}

/// What was seen of one mirror before.
#[derive(Debug)]
struct Seen {
    on: [bool; Alarm::ALL.len()],
    since: Instant,
    failed: u64,
    transferred: u64,
    too_many_fail: bool,
}

/// Runs until the process ends.
pub async fn run(mirrors: Arc<Mirrors>) {
    let mut seen: HashMap<(Repository, StoreName), Seen> = HashMap::new();
    let mut bounded: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        let bound = bounded.is_none_or(|last| last.elapsed() >= BOUND);
        if bound {
            bounded = Some(Instant::now());
        }
        for mirror in mirrors.all() {
            if bound && let Err(e) = bound_journal(&mirror).await {
                tracing::warn!(repository = %mirror.link.source.name, cause = %e, "the journal could not be cut");
            }
            look(&mirror, &mut seen).await;
        }
        forget(&mirrors, &mut seen);
        tokio::time::sleep(pause(begun.elapsed())).await;
    }
}

/// Until the next look, after one that took so long.
fn pause(took: Duration) -> Duration {
    took.saturating_mul(SHARE).clamp(INTERVAL, RAREST)
}

async fn bound_journal(mirror: &Mirror) -> Result<(), Trouble> {
    let (source, limit) = (&mirror.link.source, mirror.link.journal_limit);
    while source
        .state
        .bound_journal(source.id, limit, clock::now_ms())
        .await?
    {}
    Ok(())
}

async fn look(mirror: &Mirror, seen: &mut HashMap<(Repository, StoreName), Seen>) {
    let link = &mirror.link;
    match mirror.status().await {
        Ok(Some(status)) => {
            let bytes = match mirror.control.tenure() {
                Some(_) => mirror.control.counts.bytes.load(Ordering::Relaxed),
                // What another node copies is known when it reports it.
                None => status.row.bytes,
            };
            let behind = status.lag.operations;
            mirror
                .control
                .pace
                .sample(bytes, status.row.applied, behind);
            gauges(mirror, &status);
            let key = (link.source.name.clone(), link.target_name.clone());
            let before = seen.entry(key).or_insert_with(|| Seen {
                on: [false; Alarm::ALL.len()],
                since: Instant::now(),
                failed: status.row.failed,
                transferred: status.row.transferred,
                too_many_fail: false,
            });
            alarms(mirror, &status, before);
        }
        Ok(None) => {}
        Err(e) => {
            tracing::warn!(repository = %link.source.name, store = %link.target_name, cause = %e, "how far the mirror is could not be read");
        }
    }
}

/// A gauge keeps its last value: of what does not run any more it must not go on telling how little it lacked.
fn forget(mirrors: &Mirrors, seen: &mut HashMap<(Repository, StoreName), Seen>) {
    let runs =
        |(repository, store): &(Repository, StoreName)| mirrors.get(repository, store).is_some();
    let gone: Vec<_> = seen.keys().filter(|key| !runs(key)).cloned().collect();
    for key in gone {
        seen.remove(&key);
        unknown(&labels(&key.0, &key.1), None);
    }
    for (repository, store) in mirrors.asleep() {
        unknown(&labels(&repository, &store), Some(State::Stalled));
    }
}

fn unknown(labels: &[(&'static str, String); 2], state: Option<State>) {
    for name in [
        names::MIRROR_LAG_SECONDS,
        names::MIRROR_LAG_OPERATIONS,
        names::MIRROR_LAG_BYTES,
        names::MIRROR_LAG_RESTORE_POINTS,
        names::MIRROR_ROOT_GENERATION,
        names::MIRROR_NEWEST_SNAPSHOT,
    ] {
        metrics::gauge!(name, labels).set(f64::NAN);
    }
    state_gauges(labels, state);
    for alarm in Alarm::ALL {
        let on = alarm == Alarm::Stalled && state == Some(State::Stalled);
        alarm_gauge(labels, alarm, on);
    }
}

fn labels(repository: &Repository, store: &StoreName) -> [(&'static str, String); 2] {
    [
        ("repository", repository.to_string()),
        ("store", store.to_string()),
    ]
}

fn state_gauges(labels: &[(&'static str, String); 2], now: Option<State>) {
    for state in State::ALL {
        let [repository, store] = labels.clone();
        let labels = [repository, store, ("state", state.as_str().to_owned())];
        let on = f64::from(u8::from(now == Some(state)));
        metrics::gauge!(names::MIRROR_STATE, &labels).set(on);
    }
}

fn alarm_gauge(labels: &[(&'static str, String); 2], alarm: Alarm, on: bool) {
    let [repository, store] = labels.clone();
    let labels = [repository, store, ("alarm", alarm.as_str().to_owned())];
    metrics::gauge!(names::MIRROR_ALARM, &labels).set(f64::from(u8::from(on)));
}

fn gauges(mirror: &Mirror, status: &Status) {
    let labels = labels(&mirror.link.source.name, &mirror.link.target_name);
    let lag = &status.lag;
    for (name, value) in [
        (names::MIRROR_LAG_SECONDS, lag.seconds),
        (names::MIRROR_LAG_OPERATIONS, lag.operations),
        (names::MIRROR_LAG_BYTES, lag.bytes),
        (names::MIRROR_LAG_RESTORE_POINTS, lag.restore_points),
    ] {
        metrics::gauge!(name, &labels).set(as_f64(value));
    }
    let (generation, ended) = newest(status);
    metrics::gauge!(names::MIRROR_ROOT_GENERATION, &labels).set(generation);
    metrics::gauge!(names::MIRROR_NEWEST_SNAPSHOT, &labels).set(ended);
    metrics::counter!(names::MIRROR_FAILED, &labels).absolute(status.row.failed);
    state_gauges(&labels, Some(status.state));
}

/// Generation of the newest root on the target, and the second at which the newest snapshot in it ended.
fn newest(status: &Status) -> (f64, f64) {
    let Some(root) = &status.newest else {
        return (f64::NAN, f64::NAN);
    };
    let seconds =
        |ended: &NewestSnapshot| as_f64(u64::try_from(ended.ended_ms).unwrap_or(0)) / 1000.0;
    let ended = root.newest.as_ref().map_or(f64::NAN, seconds);
    (as_f64(root.generation), ended)
}

fn alarms(mirror: &Mirror, status: &Status, before: &mut Seen) {
    let limits = mirror.link.plan.read().alarms;
    if before.since.elapsed() >= FAILURES {
        let failed = status.row.failed.saturating_sub(before.failed);
        let all = failed + status.row.transferred.saturating_sub(before.transferred);
        before.too_many_fail =
            failed > 0 && as_f64(failed) * 100.0 >= as_f64(all) * limits.failed_percent;
        before.since = Instant::now();
        before.failed = status.row.failed;
        before.transferred = status.row.transferred;
    }
    for (alarm, was) in Alarm::ALL.into_iter().zip(&mut before.on) {
        let on = match alarm {
            Alarm::Lag => status.lag.seconds >= limits.lag.as_secs().max(1),
            Alarm::Operations => status.lag.operations >= limits.operations,
            Alarm::Failures => before.too_many_fail,
            Alarm::Stalled => status.state == State::Stalled,
        };
        let link = &mirror.link;
        alarm_gauge(&labels(&link.source.name, &link.target_name), alarm, on);
        if on != std::mem::replace(was, on) {
            say(mirror, status, alarm, on);
        }
    }
}

fn say(mirror: &Mirror, status: &Status, alarm: Alarm, on: bool) {
    let (repository, store) = (&mirror.link.source.name, &mirror.link.target_name);
    let (state, lag) = (status.state.as_str(), &status.lag);
    let stalled = status.row.stalled.as_ref();
    let (key, reason) = stalled.map_or((None, None), |s| (s.key.as_deref(), Some(&*s.reason)));
    if on {
        tracing::warn!(%repository, %store, alarm = alarm.as_str(), state, seconds = lag.seconds, operations = lag.operations, bytes = lag.bytes, restore_points = lag.restore_points, key, reason, trouble = status.trouble.as_deref(), "a mirror needs a look");
    } else {
        tracing::info!(%repository, %store, alarm = alarm.as_str(), state, "a mirror is well again");
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float by its format"
)]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the exporter tells of one store's lag in seconds and of its states.
    fn told(handle: &metrics_exporter_prometheus::PrometheusHandle, store: &str) -> Vec<String> {
        let text = handle.render();
        let about = |line: &&str| {
            line.contains(&format!("store=\"{store}\""))
                && (line.starts_with("snapgate_mirror_lag_seconds")
                    || line.contains("state=\"stalled\""))
        };
        let mut lines: Vec<String> = text.lines().filter(about).map(str::to_owned).collect();
        lines.sort();
        let value = |line: String| line.rsplit(' ').next().unwrap_or_default().to_owned();
        lines.into_iter().map(value).collect()
    }

    #[test]
    fn of_a_mirror_that_does_not_run_nothing_good_is_told() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let (repository, mirrors) = (Repository::new("prod"), Mirrors::default());
            let mut seen = HashMap::new();
            for store in ["us", "ap"] {
                let key = (repository.clone(), StoreName::new(store));
                metrics::gauge!(names::MIRROR_LAG_SECONDS, &labels(&key.0, &key.1)).set(0.0);
                let before = Seen {
                    on: [false; Alarm::ALL.len()],
                    since: Instant::now(),
                    failed: 0,
                    transferred: 0,
                    too_many_fail: false,
                };
                seen.insert(key, before);
            }
            let asleep = super::super::Asleep {
                store: StoreName::new("us"),
                mode: policies::mirror_order::Mode::Async,
                why: "the repository is frozen".to_owned(),
            };
            mirrors.let_sleep(&repository, vec![asleep]);
            forget(&mirrors, &mut seen);
        });
        assert_eq!(told(&handle, "us"), ["NaN", "1"]);
        assert_eq!(told(&handle, "ap"), ["NaN", "0"]);
    }

    #[test]
    fn looks_come_the_rarer_the_longer_they_take() {
        assert_eq!(pause(Duration::from_millis(3)), INTERVAL);
        assert_eq!(pause(Duration::from_millis(160)), Duration::from_secs(16));
        assert_eq!(pause(Duration::from_secs(9)), RAREST);
    }
}
