//! The Packet Identifier.
//!
//! It is never zero. Sessions assign and free identifiers. MQTT 5.0 §2.2.1.

use std::fmt;
use std::num::NonZeroU16;

/// A Packet Identifier, 1 to 65,535 [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The lowest Packet Identifier, 1.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The highest Packet Identifier, 65,535.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// The identifier with this value; `None` for zero.
    #[inline]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The value on the wire.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
