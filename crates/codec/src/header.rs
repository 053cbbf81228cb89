//! The Fixed Header of a Control Packet: type, flags, Remaining Length.
//!
//! Rejects headers that are invalid in all versions as soon as the byte at fault is available.
//! Version-dependent rules are checked by [`FixedHeader::check_version`], because the version is
//! known only after CONNECT. Does not limit the packet size. MQTT 5.0 §2.1, §1.5.5.

use crate::error::DecodeError;
use crate::packet_type::PacketType;
use crate::version::ProtocolVersion;

/// The highest Remaining Length in four bytes: 268,435,455.
pub const MAX_REMAINING_LEN: u32 = 268_435_455;

const QOS_BITS: u8 = 0b0110;

/// A decoded Fixed Header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// The type of the packet.
    pub packet_type: PacketType,
    /// The lower four bits of the first byte.
    pub flags: u8,
    /// Number of bytes after the header, at most [`MAX_REMAINING_LEN`].
    pub remaining_len: u32,
    /// Number of bytes of the header itself, 2 to 5.
    pub header_len: u8,
    /// Whether the Remaining Length is encoded with the minimum number of bytes.
    pub minimal: bool,
}

impl FixedHeader {
    /// Number of bytes of the whole packet, header included.
    #[inline]
    pub fn packet_len(&self) -> usize {
        usize::from(self.header_len) + self.remaining_len as usize
    }

    /// The Packet Identifier of the packet with this header and body; `None` if the packet has
    /// none or is cut before it. In a PUBLISH it follows the topic; with QoS 0 there is none.
    pub fn packet_id(&self, body: &[u8]) -> Option<u16> {
        let at = match self.packet_type {
            PacketType::Publish if self.flags & QOS_BITS == 0 => return None,
            PacketType::Publish => {
                2 + usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]))
            }
            PacketType::PubAck
            | PacketType::PubRec
            | PacketType::PubRel
            | PacketType::PubComp
            | PacketType::Subscribe
            | PacketType::SubAck
            | PacketType::Unsubscribe
            | PacketType::UnsubAck => 0,
            PacketType::Connect
            | PacketType::ConnAck
            | PacketType::PingReq
            | PacketType::PingResp
            | PacketType::Disconnect
            | PacketType::Auth => return None,
        };
        Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
    }

    /// Checks the rules that depend on the version of the connection.
    ///
    /// # Errors
    /// A non-minimal Remaining Length on 5.0, AUTH before 5.0, and reserved flags: only MQTT 3.1
    /// calls them unused (MQTT 3.1 §2.1, §3).
    #[inline]
    pub fn check_version(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        if !self.minimal && version.is_v5() {
            return Err(DecodeError::malformed(
                "Remaining Length takes more bytes than needed",
                "MQTT-1.5.5-1",
            ));
        }
        match self.packet_type {
            PacketType::Publish => Ok(()),
            PacketType::Auth if !version.is_v5() => Err(DecodeError::malformed(
                "packet type 15 is reserved before MQTT 5.0",
                "MQTT-3.1.1/2.2.1",
            )),
            packet_type
                if self.flags != packet_type.reserved_flags()
                    && version != ProtocolVersion::V31 =>
            {
                Err(wrong_flags(packet_type))
            }
            _ => Ok(()),
        }
    }
}

/// Decodes the Fixed Header at the beginning of `bytes`; `None` if more bytes are needed.
///
/// # Errors
/// With the first byte alone: packet type 0, flags that are invalid in all versions, QoS 3. Later:
/// a Remaining Length of more than four bytes.
#[inline]
pub fn decode_fixed_header(bytes: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let flags = first & 0x0F;
    let Some(packet_type) = PacketType::from_u8(first >> 4) else {
        return Err(DecodeError::malformed("packet type 0 is reserved", ""));
    };
    check_flags(packet_type, flags)?;
    let mut remaining_len = 0u32;
    for index in 0..4u8 {
        let Some(&byte) = bytes.get(usize::from(index) + 1) else {
            return Ok(None);
        };
        remaining_len |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some(FixedHeader {
                packet_type,
                flags,
                remaining_len,
                header_len: index + 2,
                minimal: index == 0 || byte != 0,
            }));
        }
    }
    Err(DecodeError::malformed(
        "Remaining Length of more than four bytes",
        "MQTT-1.5.5-1",
    ))
}

#[inline]
fn check_flags(packet_type: PacketType, flags: u8) -> Result<(), DecodeError> {
    if packet_type == PacketType::Publish {
        if flags & QOS_BITS == QOS_BITS {
            return Err(DecodeError::malformed("PUBLISH with QoS 3", "MQTT-3.3.1-4"));
        }
        return Ok(());
    }
    let reserved = packet_type.reserved_flags();
    // MQTT 3.1 has unused flags where later versions have reserved ones, and DUP in PUBREL,
    // SUBSCRIBE and UNSUBSCRIBE. It also has the QoS of these three, and no QoS 3.
    let may_be_unused = match packet_type {
        PacketType::Auth => false,
        _ if reserved == 0 => flags & QOS_BITS != QOS_BITS,
        _ => flags & QOS_BITS == reserved & QOS_BITS,
    };
    if flags != reserved && !may_be_unused {
        return Err(wrong_flags(packet_type));
    }
    Ok(())
}

#[cold]
fn wrong_flags(packet_type: PacketType) -> DecodeError {
    let statement = match packet_type {
        PacketType::PubRel => "MQTT-3.6.1-1",
        PacketType::Subscribe => "MQTT-3.8.1-1",
        PacketType::Unsubscribe => "MQTT-3.10.1-1",
        PacketType::Disconnect => "MQTT-3.14.1-1",
        PacketType::Auth => "MQTT-3.15.1-1",
        _ => "MQTT-2.1.3-1",
    };
    DecodeError::malformed("reserved flags of the Fixed Header are wrong", statement)
}
