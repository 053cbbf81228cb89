//! Why bytes are not a packet.
//!
//! An error names the reason code that the peer is told on MQTT 5.0, the statement of the
//! specification that was broken and what was wrong, all without allocating. It does not know how
//! a connection ends. MQTT 5.0 §1.2 (Malformed Packet, Protocol Error), §4.13.

use std::fmt;

use crate::reason::ReasonCode;

/// A packet that cannot be accepted; the Network Connection is to be closed [MQTT-4.13.1-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The reason code that names it, always 0x80 or above.
    pub reason: ReasonCode,
    /// The statement that was broken, like `MQTT-2.2.1-3`; empty where the text has none.
    pub statement: &'static str,
    /// What was wrong, in a few words.
    pub what: &'static str,
}

impl DecodeError {
    /// A Malformed Packet (0x81): it cannot be parsed.
    #[cold]
    pub const fn malformed(what: &'static str, statement: &'static str) -> Self {
        Self::of(ReasonCode::MalformedPacket, what, statement)
    }

    /// A Protocol Error (0x82): it can be parsed, but says what is not allowed.
    #[cold]
    pub const fn protocol(what: &'static str, statement: &'static str) -> Self {
        Self::of(ReasonCode::ProtocolError, what, statement)
    }

    /// An error with a reason code of its own.
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
