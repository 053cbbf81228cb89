//! The properties of a CONNECT.
//!
//! Rejects values that are out of range. Their use is up to the server. MQTT 5.0 §3.1.2.11.

use std::num::{NonZeroU16, NonZeroU32};

use super::block::{
    Block, put_binary_property, put_bool_property, put_string_property, put_u16_property,
    put_u32_property,
};
use super::id::{Owner, PropertyId};
use super::user::UserProperties;
use crate::error::DecodeError;
use crate::primitive::Reader;

/// The properties of a CONNECT; `None` is absent, and the specification's default applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Session Expiry Interval in seconds; 0xFFFFFFFF is never.
    pub session_expiry_secs: Option<u32>,
    /// Receive Maximum: number of QoS 1 and 2 messages that the client accepts concurrently.
    pub receive_maximum: Option<NonZeroU16>,
    /// Maximum Packet Size in bytes that the client accepts.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Topic Alias Maximum that the client accepts.
    pub topic_alias_maximum: Option<u16>,
    /// Request Response Information.
    pub request_response_information: Option<bool>,
    /// Request Problem Information.
    pub request_problem_information: Option<bool>,
    /// Authentication Method.
    pub authentication_method: Option<&'a str>,
    /// Authentication Data; never without a method.
    pub authentication_data: Option<&'a [u8]>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> ConnectProperties<'a> {
    pub(crate) fn decode(body: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut block = Block::take(body, Owner::CONNECT)?;
        let mut properties = Self::default();
        while let Some(id) = block.next_id()? {
            match id {
                PropertyId::SessionExpiryInterval => {
                    properties.session_expiry_secs = Some(block.value().u32()?);
                }
                PropertyId::ReceiveMaximum => {
                    properties.receive_maximum = Some(decode_receive_maximum(block.value())?);
                }
                PropertyId::MaximumPacketSize => {
                    properties.maximum_packet_size =
                        Some(decode_maximum_packet_size(block.value())?);
                }
                PropertyId::TopicAliasMaximum => {
                    properties.topic_alias_maximum = Some(block.value().u16()?);
                }
                PropertyId::RequestResponseInformation => {
                    properties.request_response_information = Some(block.bool()?);
                }
                PropertyId::RequestProblemInformation => {
                    properties.request_problem_information = Some(block.bool()?);
                }
                PropertyId::AuthenticationMethod => {
                    properties.authentication_method = Some(block.value().string()?);
                }
                PropertyId::AuthenticationData => {
                    properties.authentication_data = Some(block.value().binary()?);
                }
                _ => return Err(Block::not_allowed()),
            }
        }
        properties.user_properties = block.user_properties();
        check_authentication(
            properties.authentication_method,
            properties.authentication_data,
        )?;
        Ok(properties)
    }

    /// Appends the properties, without a length prefix.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        use PropertyId as P;
        put_u32_property(out, P::SessionExpiryInterval, self.session_expiry_secs);
        put_u16_property(
            out,
            P::ReceiveMaximum,
            self.receive_maximum.map(NonZeroU16::get),
        );
        put_u32_property(
            out,
            P::MaximumPacketSize,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        put_u16_property(out, P::TopicAliasMaximum, self.topic_alias_maximum);
        put_bool_property(
            out,
            P::RequestResponseInformation,
            self.request_response_information,
        );
        put_bool_property(
            out,
            P::RequestProblemInformation,
            self.request_problem_information,
        );
        put_string_property(out, P::AuthenticationMethod, self.authentication_method);
        put_binary_property(out, P::AuthenticationData, self.authentication_data);
        self.user_properties.encode_into(out);
    }
}

/// Receive Maximum 0 is a Protocol Error (§3.1.2.11.3, §3.2.2.3.3).
pub(super) fn decode_receive_maximum(reader: &mut Reader<'_>) -> Result<NonZeroU16, DecodeError> {
    NonZeroU16::new(reader.u16()?).ok_or(DecodeError::protocol("Receive Maximum 0", ""))
}

/// Maximum Packet Size 0 is a Protocol Error (§3.1.2.11.4, §3.2.2.3.6).
pub(super) fn decode_maximum_packet_size(
    reader: &mut Reader<'_>,
) -> Result<NonZeroU32, DecodeError> {
    NonZeroU32::new(reader.u32()?).ok_or(DecodeError::protocol("Maximum Packet Size 0", ""))
}

/// Authentication Data without Authentication Method is a Protocol Error (§3.1.2.11.10).
pub(crate) fn check_authentication(
    method: Option<&str>,
    data: Option<&[u8]>,
) -> Result<(), DecodeError> {
    if data.is_some() && method.is_none() {
        return Err(DecodeError::protocol(
            "Authentication Data without Authentication Method",
            "",
        ));
    }
    Ok(())
}
