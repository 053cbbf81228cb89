//! DISCONNECT: the last packet of a connection.
//!
//! Implements the layout. Which side may send which reason code, and what happens to the Will, is
//! handled by the connection. MQTT 5.0 §3.14.

use super::layout::{decode_reason, empty_body, put_packet};
use crate::error::DecodeError;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{
    Block, Owner, PropertyId, UserProperties, put_string_property, put_u32_property,
};
use crate::reason::ReasonCode;
use crate::version::ProtocolVersion;

/// A DISCONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// The reason; `Success` is the normal disconnection, and the only one before 5.0.
    pub reason: ReasonCode,
    /// Session Expiry Interval in seconds, which only a client sends.
    pub session_expiry_secs: Option<u32>,
    /// Reason String.
    pub reason_string: Option<&'a str>,
    /// Server Reference.
    pub server_reference: Option<&'a str>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_secs: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::default(),
        }
    }

    /// Decodes the bytes after the Fixed Header. Whether the peer may send this reason code is not
    /// checked, see [`ReasonCode::sendable_by_client_in_disconnect`].
    ///
    /// # Errors
    /// Malformed: a wrong length, a property that is not allowed. Protocol Error: a reason code
    /// that is not allowed.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut disconnect = Self::new(ReasonCode::Success);
        if !version.is_v5() {
            empty_body(body)?;
            return Ok(disconnect);
        }
        let mut reader = Reader::new(body);
        // Reason code and properties may be left out (§3.14.2.1, §3.14.2.2.1).
        if reader.is_empty() {
            return Ok(disconnect);
        }
        disconnect.reason = decode_reason(reader.u8()?, PacketType::Disconnect, "MQTT-3.14.2-1")?;
        if reader.is_empty() {
            return Ok(disconnect);
        }
        let mut block = Block::take(&mut reader, Owner::DISCONNECT)?;
        while let Some(id) = block.next_id()? {
            match id {
                PropertyId::SessionExpiryInterval => {
                    disconnect.session_expiry_secs = Some(block.value().u32()?);
                }
                PropertyId::ReasonString => {
                    disconnect.reason_string = Some(block.value().string()?);
                }
                PropertyId::ServerReference => {
                    disconnect.server_reference = Some(block.value().string()?);
                }
                _ => return Err(Block::not_allowed()),
            }
        }
        disconnect.user_properties = block.user_properties();
        reader.finish()?;
        Ok(disconnect)
    }

    /// Appends the packet in the shortest form.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Disconnect, |out| {
            let plain = Self::new(self.reason);
            if !version.is_v5() || (*self == plain && self.reason == ReasonCode::Success) {
                return;
            }
            out.push(self.reason.code());
            if *self == plain {
                return;
            }
            primitive::put_with_length(out, |out| {
                let expiry = self.session_expiry_secs;
                put_u32_property(out, PropertyId::SessionExpiryInterval, expiry);
                put_string_property(out, PropertyId::ReasonString, self.reason_string);
                put_string_property(out, PropertyId::ServerReference, self.server_reference);
                self.user_properties.encode_into(out);
            });
        });
    }
}
