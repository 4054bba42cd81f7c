//! The one place that reads the wall clock. For people, protocols and signatures; no safety decision compares times.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place where the wall clock is read"
)]
#[must_use]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    i64::try_from(now().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// RFC 3339, UTC, to the second.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000))
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| ms.to_string())
}
