//! Times as the API writes them: RFC 3339, in UTC.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

/// A moment, sent as `2026-11-21T14:00:00.000000Z`.
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
        // Six digits, always, as times of telemetry have: texts of one length are in the order of
        // their times.
        write!(f, "{:.6}", self.0)
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
        assert_eq!(text, "\"2023-11-14T22:13:20.123000Z\"");
        for (ms, text) in [
            (0, "00.000000Z"),
            (690, "00.690000Z"),
            (7_000, "07.000000Z"),
        ] {
            let shown = Moment::from_ms(ms).unwrap().to_string();
            assert_eq!(shown, format!("1970-01-01T00:00:{text}"));
        }
        let before = Moment::from_ms(-1).unwrap().to_string();
        assert_eq!(before, "1969-12-31T23:59:59.999000Z");
        assert_eq!(Moment::from_ms(i64::MAX), None);
    }
}
