//! Times as the API writes them: RFC 3339, in UTC.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

/// A moment, sent as `2026-11-21T14:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(jiff::Timestamp);

impl Moment {
    /// The time of the wall clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// Milliseconds since the Unix epoch; none beyond what can be written.
    pub fn from_ms(ms: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(ms).ok().map(Self)
    }

    /// As RFC 3339 has it; none: it is no time.
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = martlet_control::telemetry::has_valid_offset(text);
        text.parse().ok().filter(|_| is_valid).map(Self)
    }

    /// The time that is `duration` from now.
    pub(crate) fn after(duration: Duration) -> Self {
        let at = SystemTime::now().checked_add(duration);
        let at = at.and_then(|at| jiff::Timestamp::try_from(at).ok());
        Self(at.unwrap_or(jiff::Timestamp::MAX))
    }

    /// Milliseconds since the Unix epoch.
    pub fn as_ms(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Milliseconds, always: what comes back from a database has no more, and texts of one
        // length are in the order of their times.
        match u64::try_from(self.as_ms()) {
            Ok(ms) => f.write_str(&martlet_control::rfc3339::text(ms)),
            Err(_) => self.0.fmt(f),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// RFC 3339, of milliseconds since the Unix epoch.
pub(crate) fn at(ms: u64) -> Option<String> {
    let moment = Moment::from_ms(i64::try_from(ms).ok()?)?;
    Some(moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        let moment = Moment::from_ms(1_700_000_000_123).unwrap();
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, "\"2023-11-14T22:13:20.123Z\"");
        for (ms, text) in [(0, "00.000Z"), (690, "00.690Z"), (7_000, "07.000Z")] {
            let shown = Moment::from_ms(ms).unwrap().to_string();
            assert_eq!(shown, format!("1970-01-01T00:00:{text}"));
        }
        assert_eq!(Moment::from_ms(i64::MAX), None);
    }
}
