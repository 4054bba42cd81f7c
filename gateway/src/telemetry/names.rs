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
/// Gauge {repository}: the highest epoch of the writer lock.
pub const LOCK_EPOCH: &str = "snapgate_lock_epoch";
/// Gauge {repository, cluster}: 1 for the holder of the lock, 0 for the other writers.
pub const LOCK_HELD: &str = "snapgate_lock_held";
/// Gauge {repository}: generation of the newest root.
pub const ROOT_GENERATION: &str = "snapgate_root_generation";

/// Gauge {repository, kind}: open warnings that nobody has acknowledged.
pub const WARNINGS: &str = "snapgate_warnings";
/// Counter {kind}: live events that were told.
pub const EVENTS: &str = "snapgate_events_total";
/// Counter {repository, store}: reads that a mirror served because the store failed.
pub const FALLBACK_READS: &str = "snapgate_fallback_reads_total";

/// Says what each metric is, for `/metrics`.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(REQUESTS, "Answered S3 requests");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "From the head of a request to the last byte of its answer"
    );
    describe_counter!(BYTES, Unit::Bytes, "Bytes of bodies");
    describe_counter!(DENIED, "Requests that a policy refused");
    describe_gauge!(
        INFLIGHT_BYTES,
        Unit::Bytes,
        "What request bodies under way may hold in memory"
    );
    describe_gauge!(LOCK_EPOCH, "Highest epoch of the writer lock");
    describe_gauge!(LOCK_HELD, "1 for the holder of the writer lock");
    describe_gauge!(ROOT_GENERATION, "Generation of the newest root");
    describe_gauge!(WARNINGS, "Open warnings that nobody has acknowledged");
    describe_counter!(EVENTS, "Live events that were told");
    describe_counter!(
        FALLBACK_READS,
        "Reads that a mirror served because the store failed"
    );
}
