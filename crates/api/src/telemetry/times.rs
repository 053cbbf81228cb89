//! Times and spans in queries.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use martlet_control::telemetry::{TimeUnit, time_of_text};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::problem::Problem;

/// All times that are stored.
const FIRST: i64 = martlet_control::telemetry::TIME_MIN;
const END: i64 = martlet_control::telemetry::TIME_END;

/// The time: all given conditions must be true.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Span {
    /// The first time: RFC 3339, a number of seconds or milliseconds since 1970, `now`, or a time
    /// before now such as `-90s`, `-30m`, `-24h`, `-7d` or `-2w`. Default: `-24h`.
    #[param(example = "-24h")]
    pub(crate) from: Option<String>,
    /// The first time that is not meant any more, written likewise. Default: no end.
    #[param(example = "2026-11-21T14:00:00Z")]
    pub(crate) to: Option<String>,
}

impl Span {
    /// Both times, µs since the Unix epoch.
    ///
    /// # Errors
    /// One cannot be read, or there is nothing between them.
    pub(crate) fn read(&self) -> Result<(i64, i64), Problem> {
        let from = time_of("from", self.from.as_deref().unwrap_or("-24h"))?;
        let to = match &self.to {
            None => END,
            Some(text) => time_of("to", text)?,
        };
        match from < to {
            true => Ok((from, to)),
            false => Err(Problem::of_query("to", "it is not after `from`")),
        }
    }

    /// Both times, where both are required: `*` is no limit.
    ///
    /// # Errors
    /// One is missing or cannot be read, or there is nothing between them.
    pub(crate) fn read_both(&self) -> Result<(i64, i64), Problem> {
        let missing = |name| {
            Problem::of_query(
                name,
                "give the time: it is required here; * is any \
             time",
            )
        };
        let read = |name, text: &Option<String>, any| match text.as_deref() {
            None => Err(missing(name)),
            Some("*") => Ok(any),
            Some(text) => time_of(name, text),
        };
        let from = read("from", &self.from, FIRST)?;
        let to = read("to", &self.to, END)?;
        match from < to {
            true => Ok((from, to)),
            false => Err(Problem::of_query("to", "it is not after `from`")),
        }
    }
}

/// A time of a query, µs since the Unix epoch.
///
/// # Errors
/// It is none.
pub(crate) fn time_of(name: &str, text: &str) -> Result<i64, Problem> {
    let now = Timestamp::now().as_microsecond();
    let text = &*with_plus(text);
    if text == "now" || text == "now()" {
        return Ok(now);
    }
    if let Some(before) = before_now(text) {
        return Ok(now.saturating_sub(before));
    }
    time_of_text(text, TimeUnit::Auto).map_err(|_| {
        let detail = format!(
            "{text:?} is not a valid time: expected such as 2026-11-21T14:00:00Z, 1790000000000, \
             now or -24h"
        );
        Problem::of_query(name, detail)
    })
}

/// A time whose offset has a blank in place of `+`: what a `+` means in a query that is not written
/// as `%2B`.
pub(crate) fn with_plus(text: &str) -> Cow<'_, str> {
    let is_offset = |offset: &str| {
        let mut digits = offset.bytes().filter(|byte| *byte != b':');
        matches!(offset.len(), 2 | 4 | 5) && digits.all(|byte| byte.is_ascii_digit())
    };
    match text.rsplit_once(' ') {
        Some((time, offset)) if time.contains(':') && is_offset(offset) => {
            format!("{time}+{offset}").into()
        }
        _ => text.into(),
    }
}

/// µs of `-24h` and the like; none: it is something else.
fn before_now(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('-')?;
    let unit = rest.chars().last()?;
    let number: i64 = rest[..rest.len() - unit.len_utf8()].parse().ok()?;
    let secs: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let duration = SignedDuration::from_secs(secs.checked_mul(number)?);
    i64::try_from(duration.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_many_ways() {
        let at = |text: &str| time_of("from", text).unwrap();
        assert_eq!(at("2026-03-01T12:00:00Z"), 1_772_366_400_000_000);
        assert_eq!(at("1772366400"), 1_772_366_400_000_000);
        assert_eq!(at("1772366400000"), 1_772_366_400_000_000);
        assert_eq!(at("2026-03-01T13:00:00+01:00"), 1_772_366_400_000_000);
        assert_eq!(at("2026-03-01T13:00:00 01:00"), 1_772_366_400_000_000);
        assert_eq!(at("2026-03-01 13:00:00 0100"), 1_772_366_400_000_000);
        assert_eq!(at("2026-03-01 12:00"), 1_772_366_400_000_000);
        let ago = at("now") - at("-2h");
        assert!((7_199_000_000..=7_201_000_000).contains(&ago), "{ago}");
        for text in ["", "-", "-h", "-5x", "yesterday", "-99999999999999999w"] {
            assert!(time_of("from", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_goes_forward() {
        let span = |from: &str, to: &str| Span {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
        };
        assert!(span("-1h", "now").read().is_ok());
        assert!(span("now", "-1h").read().is_err());
        assert!(span("*", "*").read().is_err());
        assert!(span("*", "*").read_both().is_ok());
        assert!(Span::default().read_both().is_err());
    }
}
