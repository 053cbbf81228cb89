//! Times as other systems write them: RFC 3339, in UTC, with fewer digits than native answers have.

use std::fmt;

use jiff::Timestamp;
use martlet_control::rfc3339;
use serde::{Serialize, Serializer};

/// A moment, sent as `2026-11-21T14:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(Timestamp);

impl Moment {
    /// The time of the wall clock.
    pub(super) fn now() -> Self {
        Self(Timestamp::now())
    }

    /// Milliseconds since the Unix epoch; none beyond what can be written.
    pub(super) fn from_ms(ms: i64) -> Option<Self> {
        Timestamp::from_millisecond(ms).ok().map(Self)
    }

    /// Milliseconds since the Unix epoch.
    pub(super) fn as_ms(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.as_ms()) {
            Ok(ms) => f.write_str(&rfc3339::text(ms)),
            Err(_) => self.0.fmt(f),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A moment of the tables; 0 is none.
pub(super) fn moment(ms: i64) -> Option<Moment> {
    Moment::from_ms(ms).filter(|_| ms > 0)
}

/// A time of telemetry, in microseconds: with as many digits as it needs.
pub(super) fn time_text(time: i64) -> String {
    match Timestamp::from_microsecond(time) {
        Ok(at) => at.to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_digits_that_clients_of_other_systems_know() {
        let shown = |ms| moment(ms).map(|moment| moment.to_string());
        let expected = Some("2023-11-14T22:13:20.000Z".to_owned());
        assert_eq!(shown(1_700_000_000_000), expected);
        assert_eq!(shown(0), None);
        for (time, text) in [
            (1_700_000_000_000_000, "20Z"),
            (1_700_000_000_500_000, "20.5Z"),
            (1_700_000_000_000_001, "20.000001Z"),
        ] {
            assert_eq!(time_text(time), format!("2023-11-14T22:13:{text}"));
        }
    }
}
