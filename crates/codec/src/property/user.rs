//! User Properties: pairs of strings; order and repetition are preserved.
//!
//! Wraps the property bytes and decodes the pairs on iteration, so that a packet with thousands of
//! them allocates nothing. Has no limits. MQTT 5.0 §2.2.2.2.

use std::fmt;

use super::id::PropertyId;
use crate::error::DecodeError;
use crate::primitive::{self, Reader};

/// The User Properties of one packet, in their order [MQTT-3.1.3-10] [MQTT-3.3.2-18].
///
/// Two are equal when they have the same pairs in the same order.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    /// Validated properties, possibly with others among them, which iteration skips.
    raw: &'a [u8],
    count: u32,
}

impl<'a> UserProperties<'a> {
    /// Wraps bytes that contain only User Properties, as written by [`encode_user_property`].
    ///
    /// # Errors
    /// A packet with these properties would be invalid; or another property.
    pub fn from_encoded(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        while !reader.is_empty() {
            if reader.u8()? != PropertyId::UserProperty.value() {
                return Err(DecodeError::protocol("not a User Property", ""));
            }
            reader.string()?;
            reader.string()?;
            count += 1;
        }
        Ok(Self { raw: bytes, count })
    }

    /// Wraps a validated block of properties with `count` User Properties.
    pub(crate) fn from_block(raw: &'a [u8], count: u32) -> Self {
        Self { raw, count }
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of pairs.
    #[inline]
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// The pairs (name, value) in order.
    pub fn iter(&self) -> UserPropertiesIter<'a> {
        UserPropertiesIter {
            reader: Reader::new(self.raw),
            left: self.count,
        }
    }

    /// Appends the User Properties, each with its identifier, without a length prefix.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        for (key, value) in self.iter() {
            encode_user_property(out, key, value);
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over the pairs of [`UserProperties`].
#[derive(Clone, Debug)]
pub struct UserPropertiesIter<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Iterator for UserPropertiesIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // The bytes were validated before; an error here would only end the iteration.
        loop {
            let id = PropertyId::from_u8(self.reader.u8().ok()?)?;
            if id == PropertyId::UserProperty {
                self.left -= 1;
                let key = primitive::utf8(self.reader.binary().ok()?).ok()?;
                let value = primitive::utf8(self.reader.binary().ok()?).ok()?;
                return Some((key, value));
            }
            id.skip_value(&mut self.reader).ok()?;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for UserPropertiesIter<'_> {}

/// Appends one User Property with its identifier. Texts above 65,535 bytes are cut.
pub fn encode_user_property(out: &mut Vec<u8>, key: &str, value: &str) {
    out.push(PropertyId::UserProperty.value());
    primitive::put_string(out, key);
    primitive::put_string(out, value);
}
