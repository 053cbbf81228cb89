//! Why bytes are not a valid packet.
//!
//! An error contains the reason code for MQTT 5.0, the violated statement of the specification and
//! a description, without allocating. How the connection is closed is handled elsewhere. MQTT 5.0
//! §1.2 (Malformed Packet, Protocol Error), §4.13.

use std::fmt;

use crate::reason::ReasonCode;

/// A packet that cannot be accepted; the Network Connection must be closed [MQTT-4.13.1-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Reason code, always 0x80 or above.
    pub reason: ReasonCode,
    /// The violated statement, such as `MQTT-2.2.1-3`; empty if the text has none.
    pub statement: &'static str,
    /// Short description of the error.
    pub what: &'static str,
}

impl DecodeError {
    /// A Malformed Packet (0x81): it cannot be parsed.
    #[cold]
    pub const fn malformed(what: &'static str, statement: &'static str) -> Self {
        Self::of(ReasonCode::MalformedPacket, what, statement)
    }

    /// A Protocol Error (0x82): it can be parsed, but its contents are not allowed.
    #[cold]
    pub const fn protocol(what: &'static str, statement: &'static str) -> Self {
        Self::of(ReasonCode::ProtocolError, what, statement)
    }

    /// An error with another reason code.
    #[cold]
    pub const fn of(reason: ReasonCode, what: &'static str, statement: &'static str) -> Self {
        Self {
            reason,
            statement,
            what,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (0x{:02X}): {}",
            self.reason.name(),
            self.reason.code(),
            self.what
        )?;
        if !self.statement.is_empty() {
            write!(f, " [{}]", self.statement)?;
        }
        Ok(())
    }
}

impl std::error::Error for DecodeError {}
