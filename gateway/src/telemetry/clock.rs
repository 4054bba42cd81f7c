//! The one place that reads the wall clock. For people, protocols and signatures; no safety decision compares times.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place where the wall clock is read"
)]
#[must_use]
pub fn now() -> OffsetDateTime {
    #[cfg(test)]
    if let Some(simulated) = simulated::now() {
        return simulated;
    }
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

/// As HTTP writes times (RFC 9110, 5.6.7), to the second.
#[must_use]
pub fn http_date(ms: i64) -> String {
    const FORM: &[BorrowedFormatItem<'_>] = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let time = OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000));
    time.ok()
        .and_then(|t| t.format(FORM).ok())
        .unwrap_or_default()
}

/// RFC 3339, UTC, to the microsecond.
#[must_use]
pub fn rfc3339_micros(time: OffsetDateTime) -> String {
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.microsecond(),
    )
}

/// A wall clock that shows what it was set to, on this thread, and goes on with the runtime's own time.
#[cfg(test)]
pub mod simulated {
    use std::cell::Cell;
    use time::OffsetDateTime;
    use tokio::time::Instant;

    thread_local! {
        static SET: Cell<Option<(OffsetDateTime, Instant)>> = const { Cell::new(None) };
    }

    pub fn set(to: OffsetDateTime) {
        SET.set(Some((to, Instant::now())));
    }

    pub fn unset() {
        SET.set(None);
    }

    pub(super) fn now() -> Option<OffsetDateTime> {
        SET.get().map(|(to, since)| to + since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_the_order_of_their_digits() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_000_042_999).unwrap();
        assert_eq!(rfc3339_micros(time), "2023-11-14T22:13:20.000042Z");
        assert_eq!(http_date(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
