//! PUBLISH: transports an Application Message.
//!
//! The hot path: one pass over topic and properties when decoding; lengths are computed in advance
//! when encoding. Topic Aliases, expiry and quotas are handled by sessions. MQTT 5.0 §3.3.

use std::num::NonZeroU16;

use crate::error::DecodeError;
use crate::header::MAX_REMAINING_LEN;
use crate::packet_id::PacketId;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{PropertyId, PublishProperties, put_varint_property};
use crate::qos::QoS;
use crate::reason::ReasonCode;
use crate::topic::TopicName;
use crate::version::ProtocolVersion;

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

/// A received PUBLISH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// DUP; false with QoS 0.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// The Topic Name; `None` if it is empty and a Topic Alias replaces it.
    pub topic: Option<TopicName<'a>>,
    /// The Packet Identifier; only with QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// The properties, 5.0 only.
    pub properties: PublishProperties<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Decodes the bytes after the Fixed Header.
    ///
    /// Subscription Identifiers are decoded although a client must not send them; the server
    /// checks for them [MQTT-3.3.4-6].
    ///
    /// # Errors
    /// Malformed: QoS 3, DUP with QoS 0, Packet Identifier 0, a topic that is not UTF-8, a wrong
    /// length, a property that is not allowed. Topic Name invalid: a wildcard. Protocol Error: no
    /// topic and no alias. Topic Alias invalid: alias 0.
    #[inline]
    pub fn decode(
        flags: u8,
        body: &'a [u8],
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let Some(qos) = QoS::from_bits((flags >> 1) & 0b11) else {
            return Err(DecodeError::malformed("PUBLISH with QoS 3", "MQTT-3.3.1-4"));
        };
        let dup = flags & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP with QoS 0", "MQTT-3.3.1-2"));
        }
        let mut reader = Reader::new(body);
        let topic = decode_topic(reader.binary()?)?;
        let packet_id = if qos == QoS::AtMostOnce {
            None
        } else {
            Some(reader.packet_id()?)
        };
        let properties = if version.is_v5() {
            PublishProperties::decode(&mut reader)?
        } else {
            PublishProperties::none()
        };
        if topic.is_none() && properties.topic_alias.is_none() {
            return Err(DecodeError::protocol(
                "no topic and no Topic Alias",
                "MQTT-4.7.3-1",
            ));
        }
        let retain = flags & RETAIN != 0;
        Ok(Self {
            dup,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    /// Appends the packet as decoded, for forwarding. DUP with QoS 0, and a Packet Identifier with
    /// QoS 0, are left out; QoS 1 and 2 without one are written with identifier 1.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.push(first_byte(self.dup, self.qos, self.retain));
        primitive::put_with_length(out, |out| {
            primitive::put_string(out, self.topic.map_or("", TopicName::as_str));
            put_packet_id(out, self.qos, self.packet_id);
            if version.is_v5() {
                primitive::put_with_length(out, |out| self.properties.encode_into(out));
            }
            out.extend_from_slice(self.payload);
        });
    }
}

/// A PUBLISH packet to send, built from parts that many receivers share.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingPublish<'a> {
    /// DUP; left out with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// The Topic Name, which must be UTF-8; empty if `topic_alias` replaces it (5.0 only).
    pub topic: &'a [u8],
    /// The Packet Identifier for QoS 1 and 2. Without one, the value 1 is written as a
    /// placeholder, to be overwritten at the offset that [`Self::encode`] returns.
    pub packet_id: Option<PacketId>,
    /// Topic Alias, 5.0 only.
    pub topic_alias: Option<NonZeroU16>,
    /// Message Expiry Interval in seconds, 5.0 only.
    pub message_expiry_secs: Option<u32>,
    /// Subscription Identifiers, 1 to 268,435,455 each, 5.0 only.
    pub subscription_ids: &'a [u32],
    /// Other properties, already encoded ([`PublishProperties::encode_forwarded`]), 5.0 only.
    pub forwarded: &'a [u8],
    /// The Application Message.
    pub payload: &'a [u8],
}

impl OutgoingPublish<'_> {
    /// Bytes of the whole packet in this version.
    #[inline]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        let remaining_len = self.remaining_len(version);
        1 + varint_len(remaining_len) + remaining_len
    }

    /// Appends the packet, and returns the offset in `out` of the two bytes of the Packet
    /// Identifier; `None` with QoS 0.
    ///
    /// Appends nothing if the packet would exceed the maximum Remaining Length
    /// ([`MAX_REMAINING_LEN`]) or if the topic is longer than 65,535 bytes.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Option<usize> {
        let remaining_len = u32::try_from(self.remaining_len(version)).ok()?;
        if remaining_len > MAX_REMAINING_LEN || self.topic.len() > usize::from(u16::MAX) {
            return None;
        }
        out.reserve(5 + remaining_len as usize);
        out.push(first_byte(self.dup, self.qos, self.retain));
        primitive::put_varint(out, remaining_len);
        primitive::put_u16(out, self.topic.len() as u16);
        out.extend_from_slice(self.topic);
        let offset = put_packet_id(out, self.qos, self.packet_id);
        if version.is_v5() {
            self.put_properties(out);
        }
        out.extend_from_slice(self.payload);
        offset
    }

    #[inline]
    fn remaining_len(&self, version: ProtocolVersion) -> usize {
        let mut len = 2 + self.topic.len() + self.payload.len();
        if self.qos != QoS::AtMostOnce {
            len += 2;
        }
        if version.is_v5() {
            let properties_len = self.properties_len();
            len += varint_len(properties_len) + properties_len;
        }
        len
    }

    #[inline]
    fn properties_len(&self) -> usize {
        let mut len = self.forwarded.len();
        if self.topic_alias.is_some() {
            len += 3;
        }
        if self.message_expiry_secs.is_some() {
            len += 5;
        }
        for id in self.subscription_ids {
            len += 1 + primitive::varint_len(*id);
        }
        len
    }

    /// Without properties, only a length of 0 [MQTT-2.2.2-1].
    #[inline]
    fn put_properties(&self, out: &mut Vec<u8>) {
        let len = self.properties_len();
        // Bounded by the Remaining Length that was checked before.
        primitive::put_varint(out, len as u32);
        if len == 0 {
            return;
        }
        if let Some(alias) = self.topic_alias {
            out.push(PropertyId::TopicAlias.value());
            primitive::put_u16(out, alias.get());
        }
        if let Some(expiry) = self.message_expiry_secs {
            out.push(PropertyId::MessageExpiryInterval.value());
            primitive::put_u32(out, expiry);
        }
        for id in self.subscription_ids {
            put_varint_property(out, PropertyId::SubscriptionIdentifier, *id);
        }
        out.extend_from_slice(self.forwarded);
    }
}

/// The Topic Name is the first field and UTF-8 [MQTT-3.3.2-1].
#[inline]
fn decode_topic(bytes: &[u8]) -> Result<Option<TopicName<'_>>, DecodeError> {
    let text = primitive::utf8(bytes)?;
    if primitive::holds_any(bytes, [0, b'+', b'#']) {
        return Err(unfit_topic(bytes));
    }
    Ok(if text.is_empty() {
        None
    } else {
        Some(TopicName::from_checked(text))
    })
}

#[cold]
fn unfit_topic(bytes: &[u8]) -> DecodeError {
    if bytes.contains(&0) {
        return primitive::nul_in_string();
    }
    DecodeError::of(
        ReasonCode::TopicNameInvalid,
        "topic contains a wildcard",
        "MQTT-3.3.2-2",
    )
}

#[inline]
fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    let mut flags = qos.bits() << 1;
    if dup && qos != QoS::AtMostOnce {
        flags |= DUP;
    }
    if retain {
        flags |= RETAIN;
    }
    PacketType::Publish.first_byte(flags)
}

/// Appends the Packet Identifier if the QoS has one, and returns its offset.
#[inline]
fn put_packet_id(out: &mut Vec<u8>, qos: QoS, packet_id: Option<PacketId>) -> Option<usize> {
    if qos == QoS::AtMostOnce {
        return None;
    }
    let offset = out.len();
    primitive::put_u16(out, packet_id.unwrap_or(PacketId::MIN).get());
    Some(offset)
}

#[inline]
fn varint_len(len: usize) -> usize {
    primitive::varint_len(u32::try_from(len).unwrap_or(u32::MAX))
}
