//! How times stand in JSON: RFC 3339, in UTC; in messages to the millisecond, in answers with six
//! digits, as times of telemetry have. In the program they are milliseconds since the Unix epoch.
//!
//! To be named in `#[serde(with = …)]`, for answers.

use std::cell::RefCell;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// As a text; what is beyond the year 9999 is its end.
pub fn text(ms: u64) -> String {
    with_second(ms / 1_000, |second| format!("{second}.{:03}Z", ms % 1_000))
}

/// Time as answers have it.
pub fn in_answers(ms: u64) -> String {
    text_of_us(ms.saturating_mul(1_000))
}

/// Text of a time in microseconds, to the microsecond.
pub fn text_of_us(us: u64) -> String {
    with_text_of_us(us, str::to_owned)
}

/// Passes the text of a time in microseconds to `then`, without an allocation.
pub fn with_text_of_us<T>(us: u64, then: impl FnOnce(&str) -> T) -> T {
    // As long as the text of the last second of year 9999.
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let (seconds, digits) = text.split_at_mut(20);
    with_second(us / 1_000_000, |second| {
        let len = second.len().min(19);
        seconds[..len].copy_from_slice(&second.as_bytes()[..len]);
    });
    let mut rest = us % 1_000_000;
    for digit in digits[..6].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // All of it is ASCII.
    then(str::from_utf8(&text).unwrap_or_default())
}

fn with_second<T>(second: u64, then: impl FnOnce(&str) -> T) -> T {
    SECOND.with_borrow_mut(|last| {
        if last.0 != second {
            *last = (second, to_the_second(second));
        }
        then(&last.1)
    })
}

thread_local! {
    /// The second that was asked for last, and its text: of many events in a row it is the same.
    static SECOND: RefCell<(u64, String)> = RefCell::new((0, to_the_second(0)));
}

fn to_the_second(second: u64) -> String {
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Milliseconds since the Unix epoch, as sentences have them: `2030-01-31 12:00:00 UTC`.
pub(crate) fn in_words(ms: u64) -> String {
    let time = i64::try_from(ms).map(Timestamp::from_millisecond);
    let time = time.ok().and_then(Result::ok).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn parse<E: serde::de::Error>(text: &str) -> Result<u64, E> {
    if !martlet_telemetry::decode::has_valid_offset(text) {
        return Err(E::custom(format!(
            "{text:?} is not a time with an offset of 23:59 at most"
        )));
    }
    let time: Timestamp = text.parse().map_err(E::custom)?;
    u64::try_from(time.as_millisecond()).map_err(|_| E::custom("a time before 1970"))
}

/// Writes one.
///
/// # Errors
/// What the serializer says.
pub fn serialize<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    in_answers(*ms).serialize(serializer)
}

/// Reads one.
///
/// # Errors
/// It is no time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    parse(&String::deserialize(deserializer)?)
}

/// One that need not be known.
pub mod optional {
    use super::{Deserialize, Deserializer, Serialize, Serializer, in_answers, parse};

    /// Writes it, or null.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(ms: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        ms.map(in_answers).serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| parse(&text)).transpose()
    }
}

/// A list of them.
pub mod list {
    use super::{Deserialize, Deserializer, Serializer, in_answers, parse};

    /// Writes it.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(all: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(|ms| in_answers(*ms)))
    }

    /// Reads it.
    ///
    /// # Errors
    /// One of them is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| parse(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Some {
        #[serde(with = "super")]
        one: u64,
        #[serde(with = "super::optional")]
        none: Option<u64>,
        #[serde(with = "super::list")]
        list: Vec<u64>,
    }

    #[test]
    fn a_time_in_words_is_to_the_second() {
        assert_eq!(
            super::in_words(1_896_091_259_999),
            "2030-01-31 12:00:59 UTC"
        );
        assert_eq!(
            super::in_words(1_709_164_800_000),
            "2024-02-29 00:00:00 UTC"
        );
        assert_eq!(super::in_words(u64::MAX), "9999-12-30 22:00:00 UTC");
    }

    #[test]
    fn times_are_written_with_six_digits_and_read_again() {
        let some = Some {
            one: 1_700_000_000_123,
            none: None,
            list: vec![0],
        };
        let text = serde_json::to_string(&some).unwrap();
        let expected = concat!(
            r#"{"one":"2023-11-14T22:13:20.123000Z","none":null,"#,
            r#""list":["1970-01-01T00:00:00.000000Z"]}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Some>(&text).unwrap(), some);
        assert!(serde_json::from_str::<Some>(&text.replace("2023", "x")).is_err());
        assert!(super::text(u64::MAX).starts_with("9999-12-30T"));
        assert!(super::in_answers(u64::MAX).starts_with("9999-12-30T"));
    }
}
