//! The values of a payload, during and after decoding.

use super::decoder::{Decoder, Format, MissingTime, Skew, TIMES};
use super::rejection::Rejection;
use crate::Value;
use crate::value::{TIME_END, TIME_MIN};

/// A value of a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Key of the value.
    pub key: String,
    /// Time of the value, µs since the Unix epoch.
    pub time: i64,
    /// Whether the time is from the payload. If not, it is the time of receipt, and a redelivered
    /// payload must be recognised by other means.
    pub is_own_time: bool,
    /// The value.
    pub value: Value,
}

/// A decoded payload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Values, at least one.
    pub readings: Vec<Reading>,
    /// Number of readings whose time was too far off and was replaced by the time of receipt.
    pub retimed: usize,
    /// Why single values of the payload are left out, at most 16.
    pub left_out: Vec<Rejection>,
    /// Names of members beside those that hold the values, at most 16. They are not stored.
    pub ignored: Vec<String>,
}

/// Most values of a payload whose rejections are kept, and most names of ignored members.
const LEFT_OUT_MAX: usize = 16;

/// The time of some values of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    time: i64,
    is_own: bool,
    is_retimed: bool,
}

/// The values of a payload during decoding.
pub(super) struct Collected<'a> {
    pub(super) decoder: &'a Decoder,
    received: i64,
    pub(super) decoded: Decoded,
    /// Whole text of the payload.
    text: &'a str,
    /// Maximum number of values.
    values_max: usize,
    /// Number of the object or line in its payload.
    unit: i64,
}

impl<'a> Collected<'a> {
    /// No values yet, for a payload received at that time. More than `values_max` of them are
    /// rejected.
    pub(super) fn new(
        decoder: &'a Decoder,
        text: &'a str,
        received: i64,
        values_max: usize,
    ) -> Self {
        Self {
            decoder,
            received,
            decoded: Decoded::default(),
            text,
            values_max,
            unit: 0,
        }
    }

    /// Where in the payload an error in a part of it is: ` at line 2 column 7`, or without the line
    /// where each line is a payload of its own.
    pub(super) fn place_in_text(&self, part: &str, error: &serde_json::Error) -> String {
        let (line, column) = (error.line(), error.column());
        // A part of the text, so that it begins behind it.
        let begin = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let before = self.text.get(..begin).unwrap_or_default();
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        let in_line = before.len() - before.rfind('\n').map_or(0, |end| end + 1);
        let column = if line == 1 { in_line + column } else { column };
        match (line, self.decoder.format) {
            (0, _) => String::new(),
            (_, Format::JsonLines) => format!(" at column {column}"),
            (line, _) => format!(" at line {} column {column}", lines + line),
        }
    }

    /// The time of the values of one object or line, according to the policy.
    pub(super) fn timed(&mut self, own: Option<i64>) -> Result<Timed, Rejection> {
        let decoder = self.decoder;
        // If objects of a payload have no time, they are kept apart by a microsecond each.
        let received = self.received.saturating_add(self.unit);
        self.unit += 1;
        let given = |is_retimed| Timed {
            time: received,
            is_own: false,
            is_retimed,
        };
        let Some(time) = own else {
            let why = match decoder.missing_time {
                MissingTime::Received => return Ok(given(false)),
                MissingTime::Reject if decoder.is_of_past => "each value of the past needs one",
                MissingTime::Reject => "missing_time is \"reject\"",
            };
            let place = match (decoder.format, &decoder.time_member) {
                (Format::Line, _) => "at the end of the line".to_owned(),
                (Format::Value, _) => "in JSON or line protocol".to_owned(),
                (_, Some(member)) => format!("as the member {member}"),
                (_, None) => format!("as the member {}", TIMES.join(" or ")),
            };
            return Err(Rejection::NoTime { place, why });
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

    /// Leaves out one value. Those beside it are kept.
    pub(super) fn leave_out(&mut self, rejection: Rejection) {
        if self.decoded.left_out.len() < LEFT_OUT_MAX {
            self.decoded.left_out.push(rejection);
        }
    }

    /// Notes that a member of this name is not stored, unless it is to be ignored.
    pub(super) fn ignore(&mut self, name: String) {
        let ignored = &mut self.decoded.ignored;
        let is_new = !ignored.contains(&name) && !self.decoder.ignores(&name);
        if is_new && ignored.len() < LEFT_OUT_MAX {
            ignored.push(name);
        }
    }

    /// Reads a part of the payload. What it rejects and leaves out gets its place.
    pub(super) fn read_part(
        &mut self,
        place: impl Fn(Rejection) -> Rejection,
        read: impl FnOnce(&mut Self) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let known = self.decoded.left_out.len();
        read(self).map_err(&place)?;
        for rejection in self.decoded.left_out.iter_mut().skip(known) {
            let unplaced = std::mem::replace(rejection, Rejection::NoValues);
            *rejection = place(unplaced);
        }
        Ok(())
    }

    /// Adds a value.
    ///
    /// # Errors
    /// It exceeds the limits of a payload.
    pub(super) fn put(&mut self, key: String, timed: Timed, value: Value) -> Result<(), Rejection> {
        let limits = &self.decoder.limits;
        if self.decoded.readings.len() >= self.values_max {
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

/// Checks a key. Commas are invalid because queries separate keys by commas.
///
/// # Errors
/// It is empty or too long, or contains a comma or a control character.
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
