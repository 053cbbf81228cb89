//! The properties of a PUBLISH; those of a Will are nearly the same.
//!
//! Defines which of them a server forwards unaltered. Topic Aliases and expiry are handled by
//! sessions. MQTT 5.0 §3.3.2.3, §3.1.3.2.

use std::num::NonZeroU16;

use super::block::{
    Block, put_binary_property, put_bool_property, put_string_property, put_u16_property,
    put_u32_property, put_varint_property,
};
use super::id::{Owner, PropertyId};
use super::subscription_ids::{SubscriptionIds, decode_subscription_id};
use super::user::UserProperties;
use crate::error::DecodeError;
use crate::primitive::Reader;
use crate::reason::ReasonCode;
use crate::topic::TopicName;

/// The properties of a PUBLISH or of a Will. Equality leaves out the two `raw` fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishProperties<'a> {
    /// Payload Format Indicator: whether the payload is UTF-8 text.
    pub payload_format_utf8: Option<bool>,
    /// Message Expiry Interval in seconds; any value.
    pub message_expiry_secs: Option<u32>,
    /// Topic Alias; never in a Will.
    pub topic_alias: Option<NonZeroU16>,
    /// Response Topic, a valid Topic Name.
    pub response_topic: Option<&'a str>,
    /// Correlation Data.
    pub correlation_data: Option<&'a [u8]>,
    /// Content Type.
    pub content_type: Option<&'a str>,
    /// Subscription Identifiers, which only a server sends; never in a Will.
    pub subscription_ids: SubscriptionIds<'a>,
    /// User Properties.
    pub user_properties: UserProperties<'a>,
    /// The property bytes as received, without their length; those of a Will include its Will
    /// Delay Interval. Encoding ignores them.
    pub raw: &'a [u8],
    /// Whether `raw` contains only properties that a server forwards unaltered. Set by decoding.
    pub raw_is_forwardable: bool,
}

impl<'a> PublishProperties<'a> {
    /// Appends all properties that a server must forward unaltered, without a length prefix:
    /// Payload Format Indicator [MQTT-3.3.2-4], Content Type [MQTT-3.3.2-20], Response Topic
    /// [MQTT-3.3.2-15], Correlation Data [MQTT-3.3.2-16], User Properties in their order
    /// [MQTT-3.3.2-17] [MQTT-3.3.2-18].
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        put_bool_property(
            out,
            PropertyId::PayloadFormatIndicator,
            self.payload_format_utf8,
        );
        put_string_property(out, PropertyId::ContentType, self.content_type);
        put_string_property(out, PropertyId::ResponseTopic, self.response_topic);
        put_binary_property(out, PropertyId::CorrelationData, self.correlation_data);
        self.user_properties.encode_into(out);
    }

    /// Reads the output of [`Self::encode_forwarded`], or properties of a client in its place.
    ///
    /// # Errors
    /// A packet with these properties would be invalid.
    pub fn from_forwarded(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::decode_block(Block::of(bytes, Owner::PUBLISH)).map(|(properties, _)| properties)
    }

    /// Appends all properties, without a length prefix.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_u32_property(
            out,
            PropertyId::MessageExpiryInterval,
            self.message_expiry_secs,
        );
        put_u16_property(
            out,
            PropertyId::TopicAlias,
            self.topic_alias.map(NonZeroU16::get),
        );
        for id in self.subscription_ids.iter() {
            put_varint_property(out, PropertyId::SubscriptionIdentifier, id);
        }
        self.encode_forwarded(out);
    }

    /// The properties of a packet that has none; nothing prevents forwarding.
    #[inline]
    pub(crate) fn none() -> Self {
        Self {
            raw_is_forwardable: true,
            ..Self::default()
        }
    }

    /// Reads the properties of a PUBLISH.
    #[inline]
    pub(crate) fn decode(body: &mut Reader<'a>) -> Result<Self, DecodeError> {
        // Nearly all messages have none.
        if let Some((&0, rest)) = body.rest().split_first() {
            *body = Reader::new(rest);
            return Ok(Self::none());
        }
        Self::decode_block(Block::take(body, Owner::PUBLISH)?).map(|(properties, _)| properties)
    }

    /// Reads the properties of a Will; also returns its Will Delay Interval in seconds.
    pub(crate) fn decode_will(body: &mut Reader<'a>) -> Result<(Self, Option<u32>), DecodeError> {
        Self::decode_block(Block::take(body, Owner::WILL)?)
    }

    // Kept out of the callers, so that the code for a PUBLISH without properties stays short.
    #[inline(never)]
    fn decode_block(mut block: Block<'a>) -> Result<(Self, Option<u32>), DecodeError> {
        let mut properties = Self::default();
        let mut will_delay_secs = None;
        let mut id_count = 0;
        let mut raw_is_forwardable = true;
        while let Some(id) = block.next_id()? {
            match id {
                PropertyId::PayloadFormatIndicator => {
                    properties.payload_format_utf8 = Some(block.bool()?);
                }
                PropertyId::ContentType => {
                    properties.content_type = Some(block.value().string()?);
                }
                PropertyId::ResponseTopic => {
                    properties.response_topic = Some(decode_response_topic(block.value())?);
                }
                PropertyId::CorrelationData => {
                    properties.correlation_data = Some(block.value().binary()?);
                }
                _ => {
                    raw_is_forwardable = false;
                    match id {
                        PropertyId::MessageExpiryInterval => {
                            properties.message_expiry_secs = Some(block.value().u32()?);
                        }
                        PropertyId::TopicAlias => {
                            properties.topic_alias = Some(decode_topic_alias(block.value())?);
                        }
                        PropertyId::SubscriptionIdentifier => {
                            decode_subscription_id(block.value())?;
                            id_count += 1;
                        }
                        PropertyId::WillDelayInterval => {
                            will_delay_secs = Some(block.value().u32()?);
                        }
                        _ => return Err(Block::not_allowed()),
                    }
                }
            }
        }
        properties.user_properties = block.user_properties();
        if id_count > 0 {
            properties.subscription_ids = SubscriptionIds::from_block(block.raw(), id_count);
        }
        properties.raw = block.raw();
        properties.raw_is_forwardable = raw_is_forwardable;
        Ok((properties, will_delay_secs))
    }
}

impl PartialEq for PublishProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.payload_format_utf8 == other.payload_format_utf8
            && self.message_expiry_secs == other.message_expiry_secs
            && self.topic_alias == other.topic_alias
            && self.response_topic == other.response_topic
            && self.correlation_data == other.correlation_data
            && self.content_type == other.content_type
            && self.subscription_ids == other.subscription_ids
            && self.user_properties == other.user_properties
    }
}

impl Eq for PublishProperties<'_> {}

fn decode_response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let text = reader.string()?;
    TopicName::new(text).map(TopicName::as_str).map_err(|_| {
        DecodeError::protocol("Response Topic is not a valid Topic Name", "MQTT-3.3.2-14")
    })
}

fn decode_topic_alias(reader: &mut Reader<'_>) -> Result<NonZeroU16, DecodeError> {
    NonZeroU16::new(reader.u16()?).ok_or_else(|| {
        DecodeError::of(
            ReasonCode::TopicAliasInvalid,
            "Topic Alias 0",
            "MQTT-3.3.2-8",
        )
    })
}
