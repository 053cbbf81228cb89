//! From a payload to typed values: pure, without clock, storage or topics.
//!
//! * `json`: objects and arrays of JSON, and single values
//! * `line`: InfluxDB line protocol
//! * `time`: times as numbers and texts
//! * `rejection`: why a payload is not stored
//!
//! A payload is decoded as a whole or rejected with a reason: half a message is never stored.

mod json;
mod line;
mod rejection;
#[cfg(test)]
mod tests;
mod time;

pub use rejection::{REASONS, Rejection};
pub use time::{TimeUnit, has_valid_offset, of_text as time_of_text};

use crate::Value;
use crate::value::{TIME_END, TIME_MIN};

/// The member that no form stores: old firmware sends its secret in it.
pub const SECRET_MEMBER: &str = "api_key";

/// How a payload is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON: an object of values, `{"data": {}, "metadata": {}, "timestamp": …}`,
    /// `{"ts": …, "values": {}}`, or an array of these.
    #[default]
    Json,
    /// Lines of such JSON, each by itself.
    JsonLines,
    /// InfluxDB line protocol.
    Line,
    /// One value: a number, `true`, `false` or text, with the key `value`.
    Value,
}

/// What happens to values whose payload has no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingTime {
    /// They get the time of receipt.
    #[default]
    Received,
    /// The payload is rejected.
    Reject,
}

/// What happens to values whose time is too far from the time of receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skew {
    /// They get the time of receipt.
    #[default]
    Received,
    /// The payload is rejected.
    Reject,
    /// They keep their time.
    Keep,
}

/// Bounds of one payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Values of one payload.
    pub values: usize,
    /// Longest key, bytes.
    pub key_bytes: usize,
    /// Longest text or JSON value, bytes.
    pub text_bytes: usize,
    /// Deepest nesting of a value.
    pub depth: usize,
}

impl Limits {
    /// Values, lists and objects in one object of a payload, about; more than any that is stored
    /// has. It limits the memory that is used while the object is read.
    pub fn parts(&self) -> usize {
        self.values
            .saturating_mul(4)
            .saturating_add(self.text_bytes)
    }

    /// Whether a text of JSON has no more parts than an object may have. Nothing is parsed.
    ///
    /// # Errors
    /// It has more.
    pub fn check_parts(&self, json: &[u8]) -> Result<(), Rejection> {
        let max = self.parts();
        // A part has one byte at least.
        match json.len() > max && json::count_parts(json) > max {
            true => Err(Rejection::TooManyParts { max }),
            false => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            values: 10_000,
            key_bytes: 128,
            text_bytes: 16 * 1024,
            depth: 16,
        }
    }
}

/// A member of a payload that is an object and only holds others. Objects in it are no values
/// either: their names stand in the keys, with `_` between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: &'static str,
    /// What the keys of its members begin with.
    pub prefix: &'static str,
}

/// How payloads are decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoder {
    /// How they are written.
    pub format: Format,
    /// Unit of times that are numbers.
    pub time_unit: TimeUnit,
    /// What happens without a time.
    pub missing_time: MissingTime,
    /// What happens to a time that is too far off.
    pub skew: Skew,
    /// How far a time may be after the time of receipt, µs; none is no limit.
    pub ahead_max: Option<i64>,
    /// How far a time may be before the time of receipt, µs; none is no limit.
    pub behind_max: Option<i64>,
    /// Members of nested objects become values of their own, with a dot between the names.
    pub flatten: bool,
    /// Members that only hold others: each member of such an object is a value of its own.
    pub holders: &'static [Holder],
    /// Members and tags that are not stored.
    pub ignore: Vec<String>,
    /// Bounds of a payload.
    pub limits: Limits,
}

/// A value of a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Its key.
    pub key: String,
    /// Its time, µs since the Unix epoch.
    pub time: i64,
    /// Whether the time is that of the payload. If not, it is the time of receipt, and the payload
    /// has to be known by something else when it comes again.
    pub is_own_time: bool,
    /// The value.
    pub value: Value,
}

/// What a payload holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Its values, at least one.
    pub readings: Vec<Reading>,
    /// How many of them got the time of receipt in place of a time that was too far off.
    pub retimed: usize,
}

impl Decoder {
    /// Decodes a payload that was received at that time, µs since the Unix epoch.
    ///
    /// # Errors
    /// The payload is invalid, or the policy rejects it: nothing of it may be stored.
    pub fn decode(&self, payload: &[u8], received: i64) -> Result<Decoded, Rejection> {
        let text = std::str::from_utf8(payload).map_err(|_| match payload {
            [0x1f, 0x8b, ..] => Rejection::Gzip,
            _ => Rejection::NotText,
        })?;
        let mut out = Collected {
            decoder: self,
            received,
            decoded: Decoded::default(),
            unit: 0,
        };
        match self.format {
            Format::Json => json::read(text, &mut out)?,
            Format::JsonLines => json::read_lines(text, &mut out)?,
            Format::Line => line::read(text, &mut out)?,
            Format::Value => json::read_value(text, &mut out)?,
        }
        match out.decoded.readings.is_empty() {
            true => Err(Rejection::NoValues),
            false => Ok(out.decoded),
        }
    }

    /// The same for values of the past: they keep their times, and each must have one.
    pub fn of_past(&self) -> Self {
        Self {
            missing_time: MissingTime::Reject,
            skew: Skew::Keep,
            ..self.clone()
        }
    }

    fn ignores(&self, member: &str) -> bool {
        member == SECRET_MEMBER || self.ignore.iter().any(|name| name == member)
    }
}

/// The time of some values of a payload.
#[derive(Clone, Copy, Debug)]
struct Timed {
    time: i64,
    is_own: bool,
    is_retimed: bool,
}

/// The values of a payload while it is read.
struct Collected<'a> {
    decoder: &'a Decoder,
    received: i64,
    decoded: Decoded,
    /// Number of the object or line in its payload.
    unit: i64,
}

impl Collected<'_> {
    /// The time of the values of one object or line, by the policy.
    fn timed(&mut self, own: Option<i64>) -> Result<Timed, Rejection> {
        let decoder = self.decoder;
        // Objects of one payload stay apart where none has a time: a microsecond each.
        let received = self.received.saturating_add(self.unit);
        self.unit += 1;
        let given = |is_retimed| Timed {
            time: received,
            is_own: false,
            is_retimed,
        };
        let Some(time) = own else {
            return match decoder.missing_time {
                MissingTime::Received => Ok(given(false)),
                MissingTime::Reject => Err(Rejection::NoTime),
            };
        };
        let ahead = time.saturating_sub(self.received);
        let is_off = decoder.ahead_max.is_some_and(|max| ahead > max)
            || decoder.behind_max.is_some_and(|max| ahead < -max);
        match decoder.skew {
            Skew::Reject if is_off => Err(Rejection::Skewed {
                ahead_secs: ahead / 1_000_000,
            }),
            Skew::Received if is_off => Ok(given(true)),
            _ if !(TIME_MIN..TIME_END).contains(&time) => Err(Rejection::TimeRange),
            _ => Ok(Timed {
                time,
                is_own: true,
                is_retimed: false,
            }),
        }
    }

    fn put(&mut self, key: String, timed: Timed, value: Value) -> Result<(), Rejection> {
        let limits = &self.decoder.limits;
        if self.decoded.readings.len() >= limits.values {
            return Err(Rejection::TooManyValues { max: limits.values });
        }
        check_key(&key, limits.key_bytes)?;
        if let Value::Text(text) | Value::Json(text) = &value
            && text.len() > limits.text_bytes
        {
            return Err(Rejection::TextTooLong {
                key,
                bytes: text.len(),
                max: limits.text_bytes,
            });
        }
        self.decoded.retimed += usize::from(timed.is_retimed);
        self.decoded.readings.push(Reading {
            key,
            time: timed.time,
            is_own_time: timed.is_own,
            value,
        });
        Ok(())
    }
}

/// Whether a text may be a key: queries name several keys with commas between them.
///
/// # Errors
/// It is empty or too long, or has a comma or a control character.
pub fn check_key(key: &str, bytes_max: usize) -> Result<(), Rejection> {
    if key.is_empty() {
        return Err(Rejection::KeyEmpty);
    }
    if key.len() > bytes_max {
        return Err(Rejection::KeyTooLong {
            bytes: key.len(),
            max: bytes_max,
        });
    }
    match key.chars().find(|c| *c == ',' || c.is_control()) {
        Some(character) => Err(Rejection::KeyCharacter {
            key: key.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}
