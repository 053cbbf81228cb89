//! CONNACK: the answer to CONNECT.
//!
//! Implements the layout, and the mapping of reason codes to return codes before 5.0. When a
//! connection is accepted is decided elsewhere. MQTT 5.0 §3.2, MQTT 3.1.1 §3.2.

use super::layout::{decode_reason, put_packet};
use crate::error::DecodeError;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::ConnAckProperties;
use crate::reason::ReasonCode;
use crate::version::ProtocolVersion;

/// A CONNACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Session Present; always false with an error and on 3.1, which has no such flag.
    pub session_present: bool,
    /// The reason code; before 5.0 mapped from the return code.
    pub reason: ReasonCode,
    /// The properties, 5.0 only.
    pub properties: ConnAckProperties<'a>,
}

impl<'a> ConnAck<'a> {
    /// A CONNACK without properties.
    pub fn new(session_present: bool, reason: ReasonCode) -> Self {
        Self {
            session_present,
            reason,
            properties: ConnAckProperties::default(),
        }
    }

    /// Decodes the bytes after the Fixed Header.
    ///
    /// # Errors
    /// Malformed: wrong flags or length, reserved Connect Acknowledge Flags [MQTT-3.2.2-1].
    /// Protocol Error: an unknown code, Session Present with an error [MQTT-3.2.2-6].
    pub fn decode(
        flags: u8,
        body: &'a [u8],
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        if flags != 0 {
            return Err(DecodeError::malformed("CONNACK with flags", "MQTT-2.1.3-1"));
        }
        let mut reader = Reader::new(body);
        let acknowledge_flags = reader.u8()?;
        // MQTT 3.1 reserves the whole byte without defining its value.
        let session_present = version != ProtocolVersion::V31 && acknowledge_flags & 1 != 0;
        if acknowledge_flags & !1 != 0 && version != ProtocolVersion::V31 {
            return Err(DecodeError::malformed(
                "reserved Connect Acknowledge Flags are set",
                "MQTT-3.2.2-1",
            ));
        }
        let code = reader.u8()?;
        let reason = if version.is_v5() {
            decode_reason(code, PacketType::ConnAck, "MQTT-3.2.2-8")?
        } else {
            ReasonCode::from_connect_return_code(code)
                .ok_or(DecodeError::protocol("reserved CONNACK return code", ""))?
        };
        if session_present && reason.is_error() {
            return Err(DecodeError::protocol(
                "Session Present with an error",
                "MQTT-3.2.2-6",
            ));
        }
        let properties = if version.is_v5() {
            ConnAckProperties::decode(&mut reader)?
        } else {
            ConnAckProperties::default()
        };
        reader.finish()?;
        Ok(Self {
            session_present,
            reason,
            properties,
        })
    }

    /// Appends the packet; before 5.0 with the return code that is closest to the reason code and
    /// without properties. Session Present is left out with an error [MQTT-3.2.2-6].
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let session_present =
            self.session_present && !self.reason.is_error() && version != ProtocolVersion::V31;
        put_packet(out, PacketType::ConnAck, |out| {
            out.push(u8::from(session_present));
            if version.is_v5() {
                out.push(self.reason.code());
                primitive::put_with_length(out, |out| self.properties.encode_into(out));
            } else {
                out.push(self.reason.connect_return_code());
            }
        });
    }
}
