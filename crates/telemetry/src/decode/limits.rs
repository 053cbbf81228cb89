//! Bounds of one payload.

use super::marks::count_parts;
use super::rejection::Rejection;

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
        match json.len() > max && count_parts(json) > max {
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
