//! Times as numbers and texts.

use super::rejection::Rejection;

/// Unit of numeric times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Determined by magnitude: up to 10 digits are seconds, up to 13 milliseconds, up to 16
    /// microseconds, more are nanoseconds.
    #[default]
    Auto,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

const AUTO_SECONDS_BELOW: f64 = 1e10;
const AUTO_MILLIS_BELOW: f64 = 1e13;
const AUTO_MICROS_BELOW: f64 = 1e16;

impl TimeUnit {
    /// The unit of a number: itself, or determined by the number's magnitude.
    fn of(self, number: f64) -> Self {
        match (self, number.abs()) {
            (Self::Auto, size) if size < AUTO_SECONDS_BELOW => Self::Seconds,
            (Self::Auto, size) if size < AUTO_MILLIS_BELOW => Self::Millis,
            (Self::Auto, size) if size < AUTO_MICROS_BELOW => Self::Micros,
            (Self::Auto, _) => Self::Nanos,
            (unit, _) => unit,
        }
    }
}

/// An integer as µs since the Unix epoch; `None`: it does not fit.
pub(super) fn of_integer(number: i64, unit: TimeUnit) -> Option<i64> {
    match unit.of(number as f64) {
        TimeUnit::Auto | TimeUnit::Seconds => number.checked_mul(1_000_000),
        TimeUnit::Millis => number.checked_mul(1_000),
        TimeUnit::Micros => Some(number),
        TimeUnit::Nanos => Some(number.div_euclid(1_000)),
    }
}

/// A number with a fraction as µs since the Unix epoch; `None`: it does not fit.
pub(super) fn of_number(number: f64, unit: TimeUnit) -> Option<i64> {
    let micros = match unit.of(number) {
        TimeUnit::Auto | TimeUnit::Seconds => number * 1e6,
        TimeUnit::Millis => number * 1e3,
        TimeUnit::Micros => number,
        TimeUnit::Nanos => number / 1e3,
    };
    let micros = micros.round();
    // 2^63 itself does not fit into i64.
    let fits = micros.is_finite() && micros >= i64::MIN as f64 && micros < i64::MAX as f64;
    fits.then_some(micros as i64)
}

/// Parses ISO 8601 (in UTC if it has no offset) or a number as text, as µs since the Unix epoch.
///
/// # Errors
/// It is neither.
pub fn of_text(text: &str, unit: TimeUnit) -> Result<i64, Rejection> {
    let text = text.trim();
    let number = match text.parse::<i64>() {
        Ok(number) => of_integer(number, unit),
        Err(_) => text
            .parse::<f64>()
            .ok()
            .and_then(|number| of_number(number, unit)),
    };
    let found = number.or_else(|| of_iso(text));
    found.ok_or_else(|| Rejection::BadTime(shown(text)))
}

fn of_iso(text: &str) -> Option<i64> {
    // Most are in UTC and have no offset to check.
    if !text.ends_with('Z') && !has_valid_offset(text) {
        return None;
    }
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.as_microsecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_microsecond())
}

/// The longest offset from UTC, seconds: 23:59.
const OFFSET_MAX: i32 = 24 * 3_600 - 60;

/// Whether a text is an ISO 8601 time with an offset from UTC of at most 23:59, or without an
/// offset.
pub fn has_valid_offset(text: &str) -> bool {
    let Ok(pieces) = jiff::fmt::temporal::Pieces::parse(text) else {
        return false;
    };
    let offset = pieces.to_numeric_offset();
    offset.is_none_or(|offset| offset.seconds().abs() <= OFFSET_MAX)
}

/// A text for messages: quoted and shortened.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
