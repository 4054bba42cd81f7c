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

/// Gauges {repository, store}: how far a mirror is behind.
pub const MIRROR_LAG_SECONDS: &str = "snapgate_mirror_lag_seconds";
pub const MIRROR_LAG_OPERATIONS: &str = "snapgate_mirror_lag_operations";
pub const MIRROR_LAG_BYTES: &str = "snapgate_mirror_lag_bytes";
pub const MIRROR_LAG_RESTORE_POINTS: &str = "snapgate_mirror_lag_restore_points";
/// Gauges {repository, store}: the newest root that a mirror has, and when the newest snapshot in it ended; NaN while
/// that is not known.
pub const MIRROR_ROOT_GENERATION: &str = "snapgate_mirror_root_generation";
pub const MIRROR_NEWEST_SNAPSHOT: &str = "snapgate_mirror_newest_snapshot_timestamp_seconds";
/// Counter {repository, store}: transfers that failed and were tried again.
pub const MIRROR_FAILED: &str = "snapgate_mirror_failed_total";
/// Gauge {repository, store, state = in_sync | lagging | paused | stalled | resync}: 1 for the mirror's state.
pub const MIRROR_STATE: &str = "snapgate_mirror_state";
/// Gauge {repository, store, alarm = lag | operations | failures | stalled}: 1 while it is over its threshold.
pub const MIRROR_ALARM: &str = "snapgate_mirror_alarm";

/// Counter {repository, store, side = source | target}: objects that the scrub mended from the other side.
pub const MIRROR_MENDED: &str = "snapgate_mirror_mended_total";

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
    describe_gauge!(
        MIRROR_LAG_SECONDS,
        Unit::Seconds,
        "Since the oldest commit that the mirror lacks"
    );
    describe_gauge!(
        MIRROR_LAG_OPERATIONS,
        "Journal entries that the mirror lacks"
    );
    describe_gauge!(MIRROR_LAG_BYTES, Unit::Bytes, "Bytes that the mirror lacks");
    describe_gauge!(
        MIRROR_LAG_RESTORE_POINTS,
        "Restore points that the mirror lacks"
    );
    describe_gauge!(
        MIRROR_ROOT_GENERATION,
        "Generation of the newest root that the mirror has; NaN while that is not known"
    );
    describe_gauge!(
        MIRROR_NEWEST_SNAPSHOT,
        Unit::Seconds,
        "Unix time at which the newest snapshot that the mirror has ended; NaN while that is not known"
    );
    describe_counter!(
        MIRROR_FAILED,
        "Transfers to the mirror that failed and were tried again"
    );
    describe_gauge!(MIRROR_STATE, "1 for the mirror's state");
    describe_gauge!(MIRROR_ALARM, "1 while the mirror is over a threshold");
    describe_counter!(MIRROR_MENDED, "Objects mended from the other side");
    describe_gauge!(ROOT_GENERATION, "Generation of the newest root");
    describe_gauge!(WARNINGS, "Open warnings that nobody has acknowledged");
    describe_counter!(EVENTS, "Live events that were told");
    describe_counter!(
        FALLBACK_READS,
        "Reads that a mirror served because the store failed"
    );
}
