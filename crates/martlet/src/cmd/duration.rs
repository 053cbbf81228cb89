//! Durations with a unit: `24h`.

use std::time::{Duration, SystemTime};

use martlet_registry::ROTATION_GRACE_MAX;

/// Parses a number with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a valid time, expected such as 30s, 90m, 24h, 7d");
    let unit = text.chars().next_back().ok_or_else(expected)?;
    let secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    let whole = number.checked_mul(secs).filter(|secs| *secs > 0);
    whole.map(Duration::from_secs).ok_or_else(expected)
}

/// Parses a time from now on: milliseconds since the Unix epoch at its end.
pub(crate) fn end_ms(text: &str) -> Result<i64, String> {
    let end = SystemTime::now().checked_add(duration(text)?);
    let end = end.and_then(|end| jiff::Timestamp::try_from(end).ok());
    let end_ms = end.map(jiff::Timestamp::as_millisecond);
    end_ms.ok_or_else(|| format!("{text:?} ends after the year 9999; without a time it never ends"))
}

/// Parses the time for which an old secret remains valid.
pub(crate) fn grace(text: &str) -> Result<Duration, String> {
    let grace = duration(text)?;
    match grace <= ROTATION_GRACE_MAX {
        true => Ok(grace),
        false => Err(format!("expected at most {}", time(ROTATION_GRACE_MAX))),
    }
}

/// Formats a duration in the same notation: `24h`.
pub(crate) fn time(time: Duration) -> String {
    let secs = time.as_secs();
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let fits = |(unit, _): &(u64, char)| secs > *unit && secs.is_multiple_of(*unit);
    let (unit, letter) = units.into_iter().find(fits).unwrap_or((1, 's'));
    format!("{}{letter}", secs / unit)
}

#[cfg(test)]
mod tests {
    use martlet_registry::ROTATION_GRACE;

    use super::*;

    #[test]
    fn times_are_written_with_a_unit() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for text in ["1s", "90m", "24h", "7d", "61s"] {
            assert_eq!(duration(text).map(time), Ok(text.to_owned()));
        }
        assert_eq!(duration("24h"), Ok(ROTATION_GRACE), "as it is by HTTP");
        for text in ["", "7", "d", "-1h", "0s", "1é", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_that_is_too_long_is_not_for_ever() {
        assert_eq!(grace("365d"), Ok(ROTATION_GRACE_MAX));
        for text in ["366d", "99999999999d", "213503982334601d"] {
            assert_eq!(grace(text), Err("expected at most 365d".to_owned()));
        }
        assert!(end_ms("36500d").is_ok());
        for text in ["99999999d", "99999999999d", "213503982334601d"] {
            let why = end_ms(text).unwrap_err();
            assert!(why.contains("ends after the year 9999"), "{why}");
        }
    }
}
