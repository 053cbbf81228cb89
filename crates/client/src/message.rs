//! The Application Message, as used by senders and receivers.
//!
//! Owned counterparts of the codec's borrowed properties. Topics and lengths are validated by the
//! session when a message is published. MQTT 5.0 §3.3.

use std::num::NonZeroU16;

use martlet_codec::{
    PacketId, PublishProperties, QoS, SubscriptionIds, UserProperties, encode_user_property,
};

/// An Application Message, received or to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Topic Name. May be empty only when publishing with a Topic Alias that the server has.
    pub topic: String,
    /// Payload, any bytes.
    pub payload: Vec<u8>,
    /// Quality of Service of this delivery.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag of the received PUBLISH. When publishing with QoS 1 or 2: an earlier run of the
    /// client may have sent it.
    pub duplicate: bool,
    /// Packet Identifier of the received PUBLISH; ignored when publishing.
    pub packet_id: Option<PacketId>,
    /// Properties; empty before MQTT 5.0, where they are not sent.
    pub properties: MessageProperties,
}

/// The properties of a PUBLISH or Will, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Payload Format Indicator: whether the payload is UTF-8 text.
    pub payload_format_utf8: Option<bool>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_secs: Option<u32>,
    /// Topic Alias, as sent or received. A received message always has its topic as well.
    pub topic_alias: Option<NonZeroU16>,
    /// Response Topic.
    pub response_topic: Option<String>,
    /// Correlation Data.
    pub correlation_data: Option<Vec<u8>>,
    /// Content Type.
    pub content_type: Option<String>,
    /// Subscription Identifiers; only received, never sent.
    pub subscription_ids: Vec<u32>,
    /// User Properties.
    pub user_properties: UserPropertyList,
}

impl MessageProperties {
    /// Copies the properties of a packet.
    pub fn from_packet(properties: &PublishProperties<'_>) -> Self {
        Self {
            payload_format_utf8: properties.payload_format_utf8,
            message_expiry_secs: properties.message_expiry_secs,
            topic_alias: properties.topic_alias,
            response_topic: properties.response_topic.map(str::to_owned),
            correlation_data: properties.correlation_data.map(<[u8]>::to_vec),
            content_type: properties.content_type.map(str::to_owned),
            subscription_ids: properties.subscription_ids.iter().collect(),
            user_properties: UserPropertyList::from_packet(&properties.user_properties),
        }
    }

    /// Whether there are no properties.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Converts the properties for a packet to be sent.
    pub(crate) fn to_packet(&self) -> PublishProperties<'_> {
        PublishProperties {
            payload_format_utf8: self.payload_format_utf8,
            message_expiry_secs: self.message_expiry_secs,
            topic_alias: self.topic_alias,
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref(),
            content_type: self.content_type.as_deref(),
            subscription_ids: SubscriptionIds::default(),
            user_properties: self.user_properties.to_packet(),
            ..PublishProperties::default()
        }
    }
}

/// User Properties, owned: pairs in their order, in their encoded form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPropertyList {
    /// Written only by `encode_user_property`.
    encoded: Vec<u8>,
}

impl UserPropertyList {
    /// Appends a pair. Each text may have at most 65,535 bytes. The caller must check this; longer
    /// texts are not truncated.
    pub fn push(&mut self, name: &str, value: &str) {
        encode_user_property(&mut self.encoded, name, value);
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The pairs (name, value) in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.to_packet().iter()
    }

    /// Copies the User Properties of a packet.
    pub(crate) fn from_packet(properties: &UserProperties<'_>) -> Self {
        let mut encoded = Vec::new();
        properties.encode_into(&mut encoded);
        Self { encoded }
    }

    /// Converts the pairs for a packet to be sent.
    pub(crate) fn to_packet(&self) -> UserProperties<'_> {
        UserProperties::from_encoded(&self.encoded).unwrap_or_default()
    }
}
