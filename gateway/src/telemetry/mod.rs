//! Logs and metrics: how they are set up, and all metric names in one table ([`names`]).

use std::io::IsTerminal;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

pub mod access;
pub mod clock;
pub mod names;

/// Seconds; a snapshot's requests take from a fraction of a millisecond to minutes.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 120.0,
];

/// Human lines on a terminal, JSON otherwise. `RUST_LOG` chooses levels; the S3 library stays silent:
/// its debug lines contain computed signatures, its errors whole bodies, and the front logs every answer itself.
pub fn init_logs() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into());
    let filter = EnvFilter::new(format!(
        "{wanted},s3s=off,s3s_sigv4=off,hyper=info,aws_sigv4=off"
    ));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
        if let Err(e) = access::start() {
            tracing::warn!(cause = %e, "lines of the access log are written one by one");
        }
    }
}

/// Makes the recorder behind the `metrics` macros; `/metrics` renders the handle.
pub fn init_metrics() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)?
        .install_recorder()?;
    names::describe();
    Ok(handle)
}
