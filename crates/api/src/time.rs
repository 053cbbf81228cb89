//! Times as the API writes them: RFC 3339, in UTC.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

/// A moment, sent as `2026-11-21T14:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(jiff::Timestamp);

impl Moment {
    /// Of the wall clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// Milliseconds since the Unix epoch; none beyond what can be written.
    pub fn from_ms(ms: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(ms).ok().map(Self)
    }

    /// As RFC 3339 has it; none: it is no time.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
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
        // Milliseconds are enough, and what comes back from a database has no more.
        let rounded = jiff::Timestamp::from_millisecond(self.as_ms()).unwrap_or(self.0);
        rounded.fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        let moment = Moment::from_ms(1_700_000_000_123).unwrap();
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, "\"2023-11-14T22:13:20.123Z\"");
        assert_eq!(Moment::from_ms(i64::MAX), None);
    }
}
