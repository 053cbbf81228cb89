//! The properties of a CONNACK.
//!
//! Rejects values that are out of range. Which features a server offers is decided elsewhere. MQTT
//! 5.0 §3.2.2.3.

use std::num::{NonZeroU16, NonZeroU32};

use super::block::{
    Block, put_binary_property, put_bool_property, put_string_property, put_u16_property,
    put_u32_property,
};
use super::connect::{check_authentication, decode_maximum_packet_size, decode_receive_maximum};
use super::id::{Owner, PropertyId};
use super::user::UserProperties;
use crate::error::DecodeError;
use crate::primitive::Reader;
use crate::qos::QoS;

/// The properties of a CONNACK; `None` is absent, and the specification's default applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    /// Session Expiry Interval in seconds that the server uses instead of the client's.
    pub session_expiry_secs: Option<u32>,
    /// Receive Maximum: number of QoS 1 and 2 messages that the server accepts concurrently.
    pub receive_maximum: Option<NonZeroU16>,
    /// Maximum QoS that the server accepts; absent means QoS 2.
    pub maximum_qos: Option<QoS>,
    /// Retain Available.
    pub retain_available: Option<bool>,
    /// Maximum Packet Size in bytes that the server accepts.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<&'a str>,
    /// Topic Alias Maximum that the server accepts.
    pub topic_alias_maximum: Option<u16>,
    /// Reason String.
    pub reason_string: Option<&'a str>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
    /// Wildcard Subscription Available.
    pub wildcard_subscription_available: Option<bool>,
    /// Subscription Identifiers Available.
    pub subscription_ids_available: Option<bool>,
    /// Shared Subscription Available.
    pub shared_subscription_available: Option<bool>,
    /// Server Keep Alive in seconds, which the client must use instead of its own.
    pub server_keep_alive_secs: Option<u16>,
    /// Response Information.
    pub response_information: Option<&'a str>,
    /// Server Reference.
    pub server_reference: Option<&'a str>,
    /// Authentication Method.
    pub authentication_method: Option<&'a str>,
    /// Authentication Data; never without a method.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAckProperties<'a> {
    pub(crate) fn decode(body: &mut Reader<'a>) -> Result<Self, DecodeError> {
        use PropertyId as P;
        let mut block = Block::take(body, Owner::CONNACK)?;
        let mut p = Self::default();
        while let Some(id) = block.next_id()? {
            match id {
                P::SessionExpiryInterval => p.session_expiry_secs = Some(block.value().u32()?),
                P::ReceiveMaximum => {
                    p.receive_maximum = Some(decode_receive_maximum(block.value())?);
                }
                P::MaximumQoS => p.maximum_qos = Some(decode_maximum_qos(&mut block)?),
                P::RetainAvailable => p.retain_available = Some(block.bool()?),
                P::MaximumPacketSize => {
                    p.maximum_packet_size = Some(decode_maximum_packet_size(block.value())?);
                }
                P::AssignedClientIdentifier => p.assigned_client_id = Some(block.value().string()?),
                P::TopicAliasMaximum => p.topic_alias_maximum = Some(block.value().u16()?),
                P::ReasonString => p.reason_string = Some(block.value().string()?),
                P::WildcardSubscriptionAvailable => {
                    p.wildcard_subscription_available = Some(block.bool()?);
                }
                P::SubscriptionIdentifierAvailable => {
                    p.subscription_ids_available = Some(block.bool()?);
                }
                P::SharedSubscriptionAvailable => {
                    p.shared_subscription_available = Some(block.bool()?);
                }
                P::ServerKeepAlive => p.server_keep_alive_secs = Some(block.value().u16()?),
                P::ResponseInformation => p.response_information = Some(block.value().string()?),
                P::ServerReference => p.server_reference = Some(block.value().string()?),
                P::AuthenticationMethod => p.authentication_method = Some(block.value().string()?),
                P::AuthenticationData => p.authentication_data = Some(block.value().binary()?),
                _ => return Err(Block::not_allowed()),
            }
        }
        p.user_properties = block.user_properties();
        check_authentication(p.authentication_method, p.authentication_data)?;
        Ok(p)
    }

    /// Appends the properties, without a length prefix. The order is free; it follows Mosquitto,
    /// for tools that compare bytes.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        use PropertyId as P;
        // Only 0 and 1 may be sent (§3.2.2.3.4); without the property, QoS 2 is accepted.
        let maximum_qos = self.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce);
        put_u16_property(out, P::TopicAliasMaximum, self.topic_alias_maximum);
        put_u32_property(out, P::SessionExpiryInterval, self.session_expiry_secs);
        put_u16_property(out, P::ServerKeepAlive, self.server_keep_alive_secs);
        put_string_property(out, P::AssignedClientIdentifier, self.assigned_client_id);
        put_string_property(out, P::AuthenticationMethod, self.authentication_method);
        put_binary_property(out, P::AuthenticationData, self.authentication_data);
        put_bool_property(out, P::RetainAvailable, self.retain_available);
        put_u32_property(
            out,
            P::MaximumPacketSize,
            self.maximum_packet_size.map(NonZeroU32::get),
        );
        put_u16_property(
            out,
            P::ReceiveMaximum,
            self.receive_maximum.map(NonZeroU16::get),
        );
        put_bool_property(
            out,
            P::MaximumQoS,
            maximum_qos.map(|qos| qos == QoS::AtLeastOnce),
        );
        put_string_property(out, P::ReasonString, self.reason_string);
        self.user_properties.encode_into(out);
        let wildcard = self.wildcard_subscription_available;
        put_bool_property(out, P::WildcardSubscriptionAvailable, wildcard);
        let ids = self.subscription_ids_available;
        put_bool_property(out, P::SubscriptionIdentifierAvailable, ids);
        let shared = self.shared_subscription_available;
        put_bool_property(out, P::SharedSubscriptionAvailable, shared);
        put_string_property(out, P::ResponseInformation, self.response_information);
        put_string_property(out, P::ServerReference, self.server_reference);
    }
}

fn decode_maximum_qos(block: &mut Block<'_>) -> Result<QoS, DecodeError> {
    Ok(if block.bool()? {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    })
}
