//! All metric names in one table. Labels are in the comment; no key, snapshot name or secret is ever one.

/// Counter {operation, status}: answered S3 requests.
pub const REQUESTS: &str = "snapgate_requests_total";
/// Histogram {operation}, seconds: from the head of a request to the last byte of its answer.
pub const REQUEST_SECONDS: &str = "snapgate_request_seconds";
/// Counter {direction = in | out}: bytes of bodies.
pub const BYTES: &str = "snapgate_bytes_total";
/// Counter {repository, reason}: requests that a policy refused.
pub const DENIED: &str = "snapgate_denied_total";
/// Gauge, bytes: what request bodies under way may hold in memory.
pub const INFLIGHT_BYTES: &str = "snapgate_inflight_bytes";
