//! Times in the options of events.

use jiff::{SignedDuration, Span, Timestamp};
use martlet_control::telemetry::has_valid_offset;

/// Parses a time, or a duration before now.
pub(super) fn moment(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>()
        && has_valid_offset(text)
    {
        return Ok(at);
    }
    let expected = || anyhow::anyhow!("{text}: expected 10m, 2h, 7d or 2026-11-21T14:00:00Z");
    // Days of 24 hours: calendar days cannot be subtracted without a time zone.
    if let Some(days) = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u16>().ok())
    {
        let long = SignedDuration::from_hours(24 * i64::from(days));
        return Timestamp::now().checked_sub(long).map_err(|_| expected());
    }
    let span: Span = text.parse().map_err(|_| expected())?;
    Timestamp::now().checked_sub(span).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_or_so_long_ago() {
        let now = Timestamp::now();
        let ago = moment("10m").unwrap();
        let secs = now.as_second() - ago.as_second();
        assert!((599..=601).contains(&secs), "{secs}");
        let at = moment("2026-11-21T14:00:00Z").unwrap();
        assert_eq!(at.to_string(), "2026-11-21T14:00:00Z");
        let secs = now.as_second() - moment("2d").unwrap().as_second();
        assert!((172_799..=172_801).contains(&secs), "{secs}");
        assert!(moment("yesterday").is_err());
    }
}
