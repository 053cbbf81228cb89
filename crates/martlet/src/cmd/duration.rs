//! Durations with a unit: `24h`.

use std::time::Duration;

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
}
