//! How times stand in JSON: RFC 3339, in UTC; in messages to the millisecond, in answers with six
//! digits, as times of telemetry have. In the program they are milliseconds since the Unix epoch.
//!
//! To be named in `#[serde(with = …)]`, for answers.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// As a text; what is beyond the year 9999 is its end.
pub fn text(ms: u64) -> String {
    format!("{:.3}", at_ms(ms))
}

/// Time as answers have it.
pub fn in_answers(ms: u64) -> String {
    format!("{:.6}", at_ms(ms))
}

fn at_ms(ms: u64) -> Timestamp {
    let time = i64::try_from(ms).map(Timestamp::from_millisecond);
    time.ok().and_then(Result::ok).unwrap_or(Timestamp::MAX)
}

/// Milliseconds since the Unix epoch, as sentences have them: `2030-01-31 12:00:00 UTC`.
pub(crate) fn in_words(ms: u64) -> String {
    let time = at_ms(ms).strftime("%Y-%m-%d %H:%M:%S UTC");
    time.to_string()
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
