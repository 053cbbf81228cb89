//! Decodes payloads to typed values: pure, without clock, storage or topics.
//!
//! * `decoder`: settings for decoding; `limits`: limits of a payload
//! * `collected`: the values of a payload
//! * `json`: JSON objects and arrays, and single values
//! * `line`: InfluxDB line protocol
//! * `time`: times as numbers and texts
//! * `rejection`: why a payload is rejected
//!
//! A payload is decoded completely or rejected with a reason: it is never stored partially.

mod collected;
mod decoder;
mod json;
mod key;
mod limits;
mod line;
mod marks;
mod rejection;
#[cfg(test)]
mod tests;
mod time;

use collected::Collected;
pub use collected::{Decoded, Reading};
pub use decoder::{Decoder, Format, Holder, MissingTime, SECRET_MEMBER, Skew};
pub use key::check_key;
pub use limits::Limits;
pub use rejection::{REASONS, Rejection};
pub use time::{TimeUnit, has_valid_offset, of_text as time_of_text};

impl Decoder {
    /// Decodes a payload received at that time, µs since the Unix epoch.
    ///
    /// # Errors
    /// The payload is invalid, or the policy rejects it: none of its values may be stored.
    pub fn decode(&self, payload: &[u8], received: i64) -> Result<Decoded, Rejection> {
        let text = std::str::from_utf8(payload).map_err(|_| match payload {
            [0x1f, 0x8b, ..] => Rejection::Gzip,
            _ => Rejection::NotText,
        })?;
        let mut out = Collected::new(self, received);
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
}
