//! The Subscription Identifiers of a PUBLISH.
//!
//! Wraps the property bytes and decodes the identifiers on iteration. Whether the sender may use
//! them is checked by the receiver. MQTT 5.0 §3.3.2.3.8.

use std::fmt;

use super::id::PropertyId;
use crate::error::DecodeError;
use crate::primitive::Reader;

/// The Subscription Identifiers of one PUBLISH, 1 to 268,435,455 each, in their order.
///
/// Two are equal when they have the same identifiers in the same order.
#[derive(Clone, Copy, Default)]
pub struct SubscriptionIds<'a> {
    /// Validated properties, possibly with others among them, which iteration skips.
    raw: &'a [u8],
    count: u32,
}

impl<'a> SubscriptionIds<'a> {
    /// Wraps bytes that contain only Subscription Identifier properties (0x0B and the value).
    ///
    /// # Errors
    /// An identifier of zero, a malformed value, any other property.
    pub fn from_encoded(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut count = 0;
        while !reader.is_empty() {
            if reader.u8()? != PropertyId::SubscriptionIdentifier.value() {
                return Err(DecodeError::protocol("not a Subscription Identifier", ""));
            }
            decode_subscription_id(&mut reader)?;
            count += 1;
        }
        Ok(Self { raw: bytes, count })
    }

    /// Wraps a validated block of properties with `count` Subscription Identifiers.
    pub(crate) fn from_block(raw: &'a [u8], count: u32) -> Self {
        Self { raw, count }
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of identifiers.
    #[inline]
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// The identifiers in order.
    pub fn iter(&self) -> SubscriptionIdsIter<'a> {
        SubscriptionIdsIter {
            reader: Reader::new(self.raw),
            left: self.count,
        }
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterates over [`SubscriptionIds`].
#[derive(Clone, Debug)]
pub struct SubscriptionIdsIter<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl Iterator for SubscriptionIdsIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.left == 0 {
            return None;
        }
        // The bytes were validated before; an error here would only end the iteration.
        loop {
            let id = PropertyId::from_u8(self.reader.u8().ok()?)?;
            if id == PropertyId::SubscriptionIdentifier {
                self.left -= 1;
                return self.reader.varint().ok();
            }
            id.skip_value(&mut self.reader).ok()?;
        }
    }
}

/// Reads the value of a Subscription Identifier.
///
/// # Errors
/// A Protocol Error when it is zero (§3.8.2.1.2, §3.3.2.3.8).
pub(crate) fn decode_subscription_id(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match reader.varint()? {
        0 => Err(DecodeError::protocol("Subscription Identifier 0", "")),
        id => Ok(id),
    }
}
