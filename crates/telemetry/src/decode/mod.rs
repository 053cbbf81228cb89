//! Decodes payloads to typed values: pure, without clock, storage or topics.
//!
//! * `decoder`: settings for decoding; `limits`: limits of a payload
//! * `collected`: the values of a payload
//! * `json`, `ordered`: JSON objects and arrays, and single values
//! * `line`: InfluxDB line protocol
//! * `time`: times as numbers and texts
//! * `rejection`: why a payload is rejected
//!
//! A payload that cannot be parsed, or exceeds a limit, is rejected as a whole with a reason. A
//! value that cannot be stored, such as an integer of more than 64 bits, is left out with a reason
//! of its own; [`Decoder::decode_whole`] rejects its payload.

mod collected;
mod decoder;
mod json;
mod limits;
mod line;
mod marks;
mod ordered;
mod rejection;
#[cfg(test)]
mod tests;
mod time;

use martlet_text_file::text_without_bom;

use collected::Collected;
pub use collected::check_key;
pub use collected::{Decoded, Reading};
pub use decoder::{Decoder, Format, Holder, MissingTime, SECRET_MEMBER, Skew};
pub use json::marked_numbers;
pub use limits::Limits;
pub use rejection::{Place, REASONS, Rejection};
pub use time::{TimeUnit, has_valid_offset, of_text as time_of_text};

impl Decoder {
    /// Decodes a payload received at that time, µs since the Unix epoch.
    ///
    /// # Errors
    /// The payload is invalid, or the policy rejects it, or each of its values is left out: none
    /// may be stored.
    pub fn decode(&self, payload: &[u8], received: i64) -> Result<Decoded, Rejection> {
        self.decode_up_to(self.limits.values, payload, received)
    }

    /// Place of a value in a payload that this decoder has accepted, by its index; `None`: there is
    /// no such value, or the payload has a single one without a place.
    pub fn place_of(&self, payload: &[u8], received: i64, index: usize) -> Option<Box<Place>> {
        match self.decode_up_to(index, payload, received) {
            Err(Rejection::At { place, .. }) => Some(place),
            _ => None,
        }
    }

    fn decode_up_to(
        &self,
        values_max: usize,
        payload: &[u8],
        received: i64,
    ) -> Result<Decoded, Rejection> {
        let text = std::str::from_utf8(payload).map_err(|error| match (payload, self.format) {
            ([0x1f, 0x8b, ..], _) => Rejection::Gzip,
            (_, Format::JsonLines | Format::Line) => {
                let before = payload.get(..error.valid_up_to()).unwrap_or_default();
                let ends = before.iter().filter(|byte| **byte == b'\n');
                Rejection::NotText.in_line(ends.count() + 1)
            }
            _ => Rejection::NotText,
        })?;
        let bare = text_without_bom(text);
        let whole = match self.format {
            Format::Value => text,
            _ => bare,
        };
        let mut out = Collected::new(self, whole, received, values_max);
        match self.format {
            Format::Json => json::read(bare, &mut out)?,
            Format::JsonLines => json::read_lines(bare, &mut out)?,
            Format::Line => line::read(bare, &mut out)?,
            Format::Value => out.read_part(Rejection::of_single_value, |out| {
                json::read_value(text, out)
            })?,
        }
        match out.decoded.readings.is_empty() {
            true => Err(first_of(out.decoded.left_out).unwrap_or(Rejection::NoValues)),
            false => Ok(out.decoded),
        }
    }

    /// Decodes a payload whose sender gets an answer: all of its values, or none.
    ///
    /// # Errors
    /// The payload is rejected, or a value of it is left out.
    pub fn decode_whole(&self, payload: &[u8], received: i64) -> Result<Decoded, Rejection> {
        let mut decoded = self.decode(payload, received)?;
        match first_of(std::mem::take(&mut decoded.left_out)) {
            Some(rejection) => Err(rejection),
            None => Ok(decoded),
        }
    }
}

fn first_of(left_out: Vec<Rejection>) -> Option<Rejection> {
    left_out.into_iter().next()
}
