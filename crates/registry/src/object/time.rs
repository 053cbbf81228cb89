//! Times in JSON: RFC 3339 in UTC, of milliseconds since the Unix epoch; 0 is null.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest offset from UTC, seconds: 23:59.
const OFFSET_MAX: i32 = 24 * 3_600 - 60;

/// Reads RFC 3339, as milliseconds since the Unix epoch.
///
/// # Errors
/// The text is no time, or a time before 1970.
pub fn read(text: &str) -> Result<i64, String> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok();
    let offset = pieces.and_then(|pieces| pieces.to_numeric_offset());
    let is_valid = offset.is_none_or(|offset| offset.seconds().abs() <= OFFSET_MAX);
    let parsed = text.parse::<jiff::Timestamp>().ok().filter(|_| is_valid);
    let ms = parsed.map(jiff::Timestamp::as_millisecond);
    ms.filter(|ms| *ms > 0).ok_or_else(|| {
        format!("{text:?} is not a valid time, expected such as 2030-01-31T12:00:00Z")
    })
}

/// Writes a time.
pub(crate) fn serialize<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let at = jiff::Timestamp::from_millisecond(*ms).ok();
    // Six digits, always: texts of one length are in the order of their times.
    let text = at.filter(|_| *ms > 0).map(|at| format!("{at:.6}"));
    text.serialize(serializer)
}

/// Reads a time.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let read = text.map_or(Ok(0), |text| read(&text));
    read.map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let written = |ms: i64| serialize(&ms, serde_json::value::Serializer).unwrap();
        assert_eq!(written(1_700_000_000_123), "2023-11-14T22:13:20.123000Z");
        assert!(written(0).is_null());
        assert_eq!(read("2023-11-14T23:13:20.123+01:00"), Ok(1_700_000_000_123));
        for odd in [
            "",
            "tomorrow",
            "1969-01-01T00:00:00Z",
            "2030-01-01T00:00:00+24:00",
        ] {
            assert!(read(odd).unwrap_err().contains("not a valid time"), "{odd}");
        }
    }
}
