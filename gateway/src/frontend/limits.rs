//! What the S3 listener takes on at once, and how long it waits. Written in the configuration as `[s3.limits]`.

use serde::Deserialize;

/// Times are in seconds, sizes in bytes. The defaults suit a few clusters of some dozens of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections in all.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_ip: usize,
    /// From the first byte of a request's head (or of a TLS handshake) to its last.
    pub header_seconds: u64,
    /// Longest head of a request.
    pub header_bytes: usize,
    pub header_count: usize,
    /// An idle connection is kept open this long; clients keep theirs for 60 s.
    pub keep_alive_seconds: u64,
    /// A body may pause this long. Only silence counts: clusters throttle their uploads.
    pub body_idle_seconds: u64,
    /// A client that takes nothing of an answer for this long is cut off.
    pub write_idle_seconds: u64,
    /// Memory that request bodies under way may hold together; beyond, clients are asked to slow down.
    pub inflight_bytes: usize,
    /// What one body counts for at most.
    pub inflight_bytes_per_request: usize,
    /// Longest wait for running requests at shutdown.
    pub shutdown_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_ip: 1024,
            header_seconds: 10,
            header_bytes: 32 * 1024,
            header_count: 100,
            keep_alive_seconds: 75,
            body_idle_seconds: 60,
            write_idle_seconds: 60,
            inflight_bytes: 512 * 1024 * 1024,
            inflight_bytes_per_request: 1024 * 1024,
            shutdown_seconds: 30,
        }
    }
}
