//! Common parts of the layouts of several packets.
//!
//! The Fixed Header of all packets except PUBLISH, and the reason code. MQTT 5.0 §2.1, §2.4.

use crate::error::DecodeError;
use crate::packet_type::PacketType;
use crate::primitive;
use crate::reason::ReasonCode;

/// Appends a packet with its reserved flags; `body` writes the bytes after the Fixed Header.
pub(super) fn put_packet(
    out: &mut Vec<u8>,
    packet_type: PacketType,
    body: impl FnOnce(&mut Vec<u8>),
) {
    out.push(packet_type.first_byte(packet_type.reserved_flags()));
    primitive::put_with_length(out, body);
}

/// A reason code of a packet on 5.0.
pub(super) fn decode_reason(
    value: u8,
    packet_type: PacketType,
    statement: &'static str,
) -> Result<ReasonCode, DecodeError> {
    match ReasonCode::from_u8(value) {
        Some(reason) if reason.allowed_in(packet_type) => Ok(reason),
        _ => Err(DecodeError::protocol(
            "reason code is not one of this packet",
            statement,
        )),
    }
}

/// The body of a packet without fields.
pub(super) fn empty_body(body: &[u8]) -> Result<(), DecodeError> {
    if body.is_empty() {
        return Ok(());
    }
    Err(DecodeError::malformed(
        "a packet without fields has a Remaining Length above 0",
        "",
    ))
}
