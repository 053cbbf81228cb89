//! SUBACK and UNSUBACK: one reason code per Topic Filter, in the order of the request.
//!
//! Implements the layout; the codes are chosen by sessions. MQTT 5.0 §3.9, §3.11.

use super::layout::put_packet;
use crate::error::DecodeError;
use crate::packet_id::PacketId;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{Owner, UserProperties, decode_reason_properties, put_reason_properties};
use crate::reason::ReasonCode;
use crate::version::ProtocolVersion;

/// The only failure code of SUBACK before 5.0 (MQTT 3.1.1 §3.9.3).
const FAILURE: u8 = 0x80;

/// A SUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The Packet Identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One code per Topic Filter; decoding rejects codes that the version does not have.
    pub reason_codes: &'a [u8],
    /// Reason String, 5.0 only.
    pub reason_string: Option<&'a str>,
    /// User Properties, 5.0 only.
    pub user_properties: UserProperties<'a>,
}

impl<'a> SubAck<'a> {
    /// A SUBACK without properties.
    pub fn new(packet_id: PacketId, reason_codes: &'a [u8]) -> Self {
        let user_properties = UserProperties::default();
        Self {
            packet_id,
            reason_codes,
            reason_string: None,
            user_properties,
        }
    }

    /// Decodes the bytes after the Fixed Header.
    ///
    /// # Errors
    /// Malformed: Packet Identifier 0, a wrong length, a property that is not allowed. Protocol
    /// Error: no code, or a code that is not allowed [MQTT-3.9.3-2].
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut suback = Self::new(reader.packet_id()?, &[]);
        if version.is_v5() {
            (suback.reason_string, suback.user_properties) =
                decode_reason_properties(&mut reader, Owner::SUBACK)?;
        }
        suback.reason_codes = reader.rest();
        let known = |code: u8| {
            if version.is_v5() {
                is_code_of(PacketType::SubAck, code)
            } else {
                matches!(code, 0..=2 | FAILURE)
            }
        };
        check_codes(suback.reason_codes, known, "MQTT-3.9.3-2")?;
        Ok(suback)
    }

    /// Appends the packet. Before 5.0 every error becomes 0x80 and properties are left out.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(out, PacketType::SubAck, |out| {
            primitive::put_u16(out, self.packet_id.get());
            if version.is_v5() {
                put_reason_properties(out, self.reason_string, self.user_properties);
                out.extend_from_slice(self.reason_codes);
            } else {
                out.extend(self.reason_codes.iter().map(|code| (*code).min(FAILURE)));
            }
        });
    }
}

/// An UNSUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The Packet Identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One code per Topic Filter; none before 5.0.
    pub reason_codes: &'a [u8],
    /// Reason String, 5.0 only.
    pub reason_string: Option<&'a str>,
    /// User Properties, 5.0 only.
    pub user_properties: UserProperties<'a>,
}

impl<'a> UnsubAck<'a> {
    /// An UNSUBACK without properties.
    pub fn new(packet_id: PacketId, reason_codes: &'a [u8]) -> Self {
        let user_properties = UserProperties::default();
        Self {
            packet_id,
            reason_codes,
            reason_string: None,
            user_properties,
        }
    }

    /// Decodes the bytes after the Fixed Header.
    ///
    /// # Errors
    /// Malformed: Packet Identifier 0, a wrong length, a property that is not allowed. Protocol
    /// Error: no code, or a code that is not allowed [MQTT-3.11.3-2].
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut unsuback = Self::new(reader.packet_id()?, &[]);
        if !version.is_v5() {
            reader.finish()?;
            return Ok(unsuback);
        }
        (unsuback.reason_string, unsuback.user_properties) =
            decode_reason_properties(&mut reader, Owner::UNSUBACK)?;
        unsuback.reason_codes = reader.rest();
        let known = |code| is_code_of(PacketType::UnsubAck, code);
        check_codes(unsuback.reason_codes, known, "MQTT-3.11.3-2")?;
        Ok(unsuback)
    }

    /// Appends the packet. Before 5.0 codes and properties are left out.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(out, PacketType::UnsubAck, |out| {
            primitive::put_u16(out, self.packet_id.get());
            if version.is_v5() {
                put_reason_properties(out, self.reason_string, self.user_properties);
                out.extend_from_slice(self.reason_codes);
            }
        });
    }
}

fn is_code_of(packet_type: PacketType, code: u8) -> bool {
    ReasonCode::from_u8(code).is_some_and(|reason| reason.allowed_in(packet_type))
}

fn check_codes(
    codes: &[u8],
    known: impl Fn(u8) -> bool,
    statement: &'static str,
) -> Result<(), DecodeError> {
    if codes.is_empty() {
        return Err(DecodeError::protocol("no reason code", statement));
    }
    if !codes.iter().all(|code| known(*code)) {
        return Err(DecodeError::protocol(
            "reason code is not one of this packet",
            statement,
        ));
    }
    Ok(())
}
