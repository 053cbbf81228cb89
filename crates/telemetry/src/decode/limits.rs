//! Limits of one payload.

use super::marks::count_parts;
use super::rejection::Rejection;

/// Limits of one payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of values of one payload.
    pub values: usize,
    /// Longest key, bytes.
    pub key_bytes: usize,
    /// Longest text or JSON value, bytes.
    pub text_bytes: usize,
    /// Deepest nesting of a value.
    pub depth: usize,
}

impl Limits {
    /// Approximate maximum of values, lists and objects in one object of a payload; more than any
    /// stored object has. Limits the memory used while the object is parsed.
    pub fn parts(&self) -> usize {
        self.values
            .saturating_mul(4)
            .saturating_add(self.text_bytes)
    }

    /// Checks that a JSON text has no more parts than an object may have, without parsing it.
    ///
    /// # Errors
    /// It has more.
    pub fn check_parts(&self, json: &[u8]) -> Result<(), Rejection> {
        let max = self.parts();
        // A part has at least one byte.
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
