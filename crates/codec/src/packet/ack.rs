//! PUBACK, PUBREC, PUBREL and PUBCOMP, which have the same layout.
//!
//! Implements the layout and the valid reason codes. Which acknowledgement is expected is decided
//! elsewhere. MQTT 5.0 §3.4 to §3.7.

use super::layout::decode_reason;
use crate::error::DecodeError;
use crate::packet_id::PacketId;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{Owner, UserProperties, decode_reason_properties, put_reason_properties};
use crate::reason::ReasonCode;
use crate::version::ProtocolVersion;

/// Kind of the acknowledgement of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckKind {
    /// PUBACK, the answer to QoS 1.
    PubAck,
    /// PUBREC, the first answer to QoS 2.
    PubRec,
    /// PUBREL, the answer to PUBREC.
    PubRel,
    /// PUBCOMP, the answer to PUBREL.
    PubComp,
}

impl AckKind {
    /// The packet type.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }

    /// The normative statement about its reason codes.
    const fn reason_statement(self) -> &'static str {
        match self {
            Self::PubAck => "MQTT-3.4.2-1",
            Self::PubRec => "MQTT-3.5.2-1",
            Self::PubRel => "MQTT-3.6.2-1",
            Self::PubComp => "MQTT-3.7.2-1",
        }
    }
}

/// The contents of a PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The Packet Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// The reason code; `Success` before 5.0.
    pub reason: ReasonCode,
    /// Reason String, 5.0 only.
    pub reason_string: Option<&'a str>,
    /// User Properties, 5.0 only.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    #[inline]
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            reason_string: None,
            user_properties: UserProperties::default(),
        }
    }

    /// The packet at the front of `bytes`, if it is an acknowledgement with only a Packet
    /// Identifier. It has four bytes, the same in all versions. Nearly all acknowledgements have
    /// this form.
    #[inline]
    pub fn peek_short(bytes: &[u8]) -> Option<(AckKind, PacketId)> {
        let [first, 2, high, low] = *bytes.first_chunk()? else {
            return None;
        };
        let kind = match first {
            0x40 => AckKind::PubAck,
            0x50 => AckKind::PubRec,
            0x62 => AckKind::PubRel,
            0x70 => AckKind::PubComp,
            _ => return None,
        };
        Some((kind, PacketId::new(u16::from_be_bytes([high, low]))?))
    }

    /// The packet recognised by [`Self::peek_short`]: success, without properties.
    #[inline]
    pub const fn short(kind: AckKind, packet_id: PacketId) -> [u8; 4] {
        let packet_type = kind.packet_type();
        let first = packet_type.first_byte(packet_type.reserved_flags());
        let [high, low] = packet_id.get().to_be_bytes();
        [first, 2, high, low]
    }

    /// Decodes the bytes after the Fixed Header.
    ///
    /// # Errors
    /// Malformed: a wrong length, Packet Identifier 0, a property that is not allowed. Protocol
    /// Error: a reason code that is not allowed.
    #[inline]
    pub fn decode(
        kind: AckKind,
        body: &'a [u8],
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut ack = Self::new(packet_id, ReasonCode::Success);
        // The reason code may be left out, the properties too (§3.4.2.1, §3.4.2.2.1).
        if !version.is_v5() || reader.is_empty() {
            reader.finish()?;
            return Ok(ack);
        }
        ack.reason = decode_reason(reader.u8()?, kind.packet_type(), kind.reason_statement())?;
        if !reader.is_empty() {
            (ack.reason_string, ack.user_properties) =
                decode_reason_properties(&mut reader, Owner::ACK)?;
            reader.finish()?;
        }
        Ok(ack)
    }

    /// Number of bytes that [`Self::encode`] appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        if self.is_short(version) {
            return 4;
        }
        if !self.has_properties() {
            return 5;
        }
        let mut properties_len = self.reason_string.map_or(0, |text| 3 + text.len());
        for (key, value) in self.user_properties.iter() {
            properties_len += 5 + key.len() + value.len();
        }
        let remaining_len = 3 + varint_len(properties_len) + properties_len;
        1 + varint_len(remaining_len) + remaining_len
    }

    /// Appends the packet in the shortest form.
    #[inline]
    pub fn encode(&self, kind: AckKind, version: ProtocolVersion, out: &mut Vec<u8>) {
        let short = Self::short(kind, self.packet_id);
        let [first, _, high, low] = short;
        if self.is_short(version) {
            out.extend_from_slice(&short);
        } else if !self.has_properties() {
            out.extend_from_slice(&[first, 3, high, low, self.reason.code()]);
        } else {
            out.push(first);
            primitive::put_with_length(out, |out| {
                out.extend_from_slice(&[high, low, self.reason.code()]);
                put_reason_properties(out, self.reason_string, self.user_properties);
            });
        }
    }

    fn has_properties(&self) -> bool {
        self.reason_string.is_some() || !self.user_properties.is_empty()
    }

    fn is_short(&self, version: ProtocolVersion) -> bool {
        !version.is_v5() || (self.reason == ReasonCode::Success && !self.has_properties())
    }
}

fn varint_len(len: usize) -> usize {
    primitive::varint_len(u32::try_from(len).unwrap_or(u32::MAX))
}
