//! AUTH: a step of extended authentication.
//!
//! Implements the layout. The order of messages and the method are handled by the connection. MQTT
//! 5.0 §3.15, §4.12.

use super::layout::{decode_reason, put_packet};
use crate::error::DecodeError;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{
    Block, Owner, PropertyId, UserProperties, check_authentication, put_binary_property,
    put_string_property,
};
use crate::reason::ReasonCode;

/// An AUTH packet; does not exist before 5.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason: ReasonCode,
    /// Authentication Method; absent only in the short form of `Success`.
    pub authentication_method: Option<&'a str>,
    /// Authentication Data; never without a method.
    pub authentication_data: Option<&'a [u8]>,
    /// Reason String.
    pub reason_string: Option<&'a str>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// An AUTH without properties.
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            authentication_method: None,
            authentication_data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        }
    }

    /// Decodes the bytes after the Fixed Header.
    ///
    /// # Errors
    /// Protocol Error: a reason code that is not allowed [MQTT-3.15.2-1], data without a method.
    /// Malformed: a wrong length.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        // Reason code and properties may be left out for 0x00 without properties (§3.15.2.1).
        let mut auth = Self::new(ReasonCode::Success);
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = decode_reason(reader.u8()?, PacketType::Auth, "MQTT-3.15.2-1")?;
        let mut block = Block::take(&mut reader, Owner::AUTH)?;
        while let Some(id) = block.next_id()? {
            match id {
                PropertyId::AuthenticationMethod => {
                    auth.authentication_method = Some(block.value().string()?);
                }
                PropertyId::AuthenticationData => {
                    auth.authentication_data = Some(block.value().binary()?);
                }
                PropertyId::ReasonString => auth.reason_string = Some(block.value().string()?),
                _ => return Err(Block::not_allowed()),
            }
        }
        auth.user_properties = block.user_properties();
        reader.finish()?;
        check_authentication(auth.authentication_method, auth.authentication_data)?;
        Ok(auth)
    }

    /// Appends the packet in the shortest form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Auth, |out| {
            if *self == Self::new(ReasonCode::Success) {
                return;
            }
            out.push(self.reason.code());
            primitive::put_with_length(out, |out| {
                let method = self.authentication_method;
                put_string_property(out, PropertyId::AuthenticationMethod, method);
                let data = self.authentication_data;
                put_binary_property(out, PropertyId::AuthenticationData, data);
                put_string_property(out, PropertyId::ReasonString, self.reason_string);
                self.user_properties.encode_into(out);
            });
        });
    }
}
