//! The protocol version of a Network Connection, named by the CONNECT packet.
//!
//! Contains the three versions and their Protocol Levels; `packet::connect` handles their encoding
//! in CONNECT. MQTT 5.0 §3.1.2.2, MQTT 3.1.1 §3.1.2.2, MQTT 3.1 §3.1.

use std::fmt;

/// A version of MQTT; the discriminant is the Protocol Level on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// MQTT 3.1 ("MQIsdp", level 3).
    V31 = 3,
    /// MQTT 3.1.1 ("MQTT", level 4).
    V311 = 4,
    /// MQTT 5.0 ("MQTT", level 5).
    V5 = 5,
}

impl ProtocolVersion {
    /// Whether packets carry properties and reason codes.
    #[inline]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }

    /// The Protocol Level: 3, 4 or 5.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}
