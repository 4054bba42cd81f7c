//! All metric names in one table. Labels are in the comment; no key, snapshot name or secret is ever one.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

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
/// Gauge {repository}: the epoch of the writer lock.
pub const LOCK_EPOCH: &str = "snapgate_lock_epoch";
/// Gauge {repository, cluster}: 1 for the holder of the writer lock.
pub const LOCK_HELD: &str = "snapgate_lock_held";
/// Gauge {repository}: N of the newest `index-N`.
pub const ROOT_GENERATION: &str = "snapgate_root_generation";
/// Histogram {store, operation}, seconds.
pub const STORE_SECONDS: &str = "snapgate_store_seconds";
/// Counter {store, operation, kind}.
pub const STORE_ERRORS: &str = "snapgate_store_errors_total";

/// Help texts and units for the recorder.
pub fn describe() {
    describe_counter!(REQUESTS, "Answered S3 requests");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From the head of a request to the last byte of its answer");
    describe_counter!(BYTES, Unit::Bytes, "Bytes of request bodies (in) and of answers (out)");
    describe_counter!(DENIED, "Requests that a policy refused");
    describe_gauge!(INFLIGHT_BYTES, Unit::Bytes, "Memory set aside for request bodies under way");
    describe_gauge!(LOCK_EPOCH, "Epoch of the writer lock");
    describe_gauge!(LOCK_HELD, "1 for the cluster that holds the writer lock");
    describe_gauge!(ROOT_GENERATION, "N of the newest index-N");
    describe_histogram!(STORE_SECONDS, Unit::Seconds, "Calls to a store");
    describe_counter!(STORE_ERRORS, "Failed calls to a store");
}
