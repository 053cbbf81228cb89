//! Times as numbers and texts.

use super::rejection::Rejection;

/// Unit of times that are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// The magnitude decides: up to 10 digits are seconds, up to 13 milliseconds, up to 16
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
    /// The unit of a number: its own, or by the number's magnitude.
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

/// A whole number as µs since the Unix epoch; none: it does not fit.
pub(super) fn of_integer(number: i64, unit: TimeUnit) -> Option<i64> {
    match unit.of(number as f64) {
        TimeUnit::Auto | TimeUnit::Seconds => number.checked_mul(1_000_000),
        TimeUnit::Millis => number.checked_mul(1_000),
        TimeUnit::Micros => Some(number),
        TimeUnit::Nanos => Some(number.div_euclid(1_000)),
    }
}

/// A number with a fraction as µs since the Unix epoch; none: it does not fit.
pub(super) fn of_number(number: f64, unit: TimeUnit) -> Option<i64> {
    let micros = match unit.of(number) {
        TimeUnit::Auto | TimeUnit::Seconds => number * 1e6,
        TimeUnit::Millis => number * 1e3,
        TimeUnit::Micros => number,
        TimeUnit::Nanos => number / 1e3,
    };
    let micros = micros.round();
    // 2^63 itself is no i64.
    let fits = micros.is_finite() && micros >= i64::MIN as f64 && micros < i64::MAX as f64;
    fits.then_some(micros as i64)
}

/// ISO 8601, in UTC where it has no offset, or a number as text, as µs since the Unix epoch.
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
    // Most are in UTC, and have no offset that could be too long.
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

/// Whether a text has a time as ISO 8601 writes it, with an offset from UTC of 23:59 at most, or
/// with none.
pub fn has_valid_offset(text: &str) -> bool {
    let Ok(pieces) = jiff::fmt::temporal::Pieces::parse(text) else {
        return false;
    };
    let offset = pieces.to_numeric_offset();
    offset.is_none_or(|offset| offset.seconds().abs() <= OFFSET_MAX)
}

/// A text as messages show it: quoted, and not long.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
