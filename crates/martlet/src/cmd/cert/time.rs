//! Times of certificates.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch.
pub(super) fn now_secs() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Formats a time in RFC 3339, in UTC.
pub(super) fn date(secs: i64) -> String {
    jiff::Timestamp::from_second(secs).map_or_else(|_| "never".to_owned(), |time| time.to_string())
}
