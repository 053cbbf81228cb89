//! Times as other systems write them: RFC 3339, in UTC, with fewer digits than native answers have.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A moment, sent with this number of digits of a second: `2026-11-21T14:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MomentOf<const DIGITS: u8>(Timestamp);

/// A moment with milliseconds.
pub(super) type Moment = MomentOf<3>;

/// A moment with microseconds, as times of telemetry.
pub(super) type MomentUs = MomentOf<6>;

impl<const DIGITS: u8> MomentOf<DIGITS> {
    /// The time of the wall clock.
    pub(super) fn now() -> Self {
        Self(Timestamp::now())
    }

    /// Milliseconds since the Unix epoch; none beyond what can be written.
    pub(super) fn from_ms(ms: i64) -> Option<Self> {
        Timestamp::from_millisecond(ms).ok().map(Self)
    }

    /// A time of the tables; 0 is none.
    pub(super) fn of_tables(ms: i64) -> Option<Self> {
        Self::from_ms(ms).filter(|_| ms > 0)
    }

    /// Milliseconds since the Unix epoch.
    pub(super) fn as_ms(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl<const DIGITS: u8> fmt::Display for MomentOf<DIGITS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.*}", usize::from(DIGITS), self.0)
    }
}

impl<const DIGITS: u8> Serialize for MomentOf<DIGITS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_digits_that_clients_of_other_systems_know() {
        let shown = |ms| Moment::of_tables(ms).map(|moment| moment.to_string());
        let expected = Some("2023-11-14T22:13:20.000Z".to_owned());
        assert_eq!(shown(1_700_000_000_000), expected);
        assert_eq!(shown(0), None);
        let of_iotflow = MomentUs::of_tables(1_700_000_000_120).map(|moment| moment.to_string());
        let expected = Some("2023-11-14T22:13:20.120000Z".to_owned());
        assert_eq!(of_iotflow, expected);
    }
}
