//! Messages on their way over a bridge.

use std::borrow::Cow;

use martlet_broker::{HOPS_MAX, NewMessage, RetainedInfo};
use martlet_client::{Message, MessageProperties};
use martlet_codec::{
    OutgoingPublish, ProtocolVersion, PublishProperties, QoS, encode_user_property,
};

use super::connection::FROM;
use super::origin::BridgeOrigin;
use super::protocol::is_topic_of_node;
use super::settings::BridgeSettings;
use crate::sink_message::SinkMessage;
use crate::via::PROPERTY as VIA;

/// Handling of an outgoing message.
pub(super) enum Outward<'a> {
    /// Send it.
    Send(OutgoingMessage<'a>),
    /// Skip it: a bridge brought it from the other broker, or it has expired.
    Skip,
    /// Skip it: it has already passed the other broker, which is a node, by another route.
    FromThere,
    /// Refuse it: it can never be sent, for this reason.
    Refuse(String),
}

/// A message of this node in the form for the other broker.
pub(super) struct OutgoingMessage<'a> {
    topic: Cow<'a, str>,
    payload: &'a [u8],
    pub(super) qos: QoS,
    retain: bool,
    expiry_secs: Option<u32>,
    /// Properties of the message as published; not sent before MQTT 5.0.
    properties: PublishProperties<'a>,
    forwarded: &'a [u8],
    /// Name of this node, if it is added to the message.
    via: Option<&'a str>,
}

impl OutgoingMessage<'_> {
    /// An owned copy of the message.
    pub(super) fn message(&self) -> Message {
        let mut properties = MessageProperties::from_packet(&self.properties);
        properties.message_expiry_secs = self.expiry_secs;
        if let Some(node) = self.via {
            properties.user_properties.push(VIA, node);
        }
        Message {
            topic: self.topic.clone().into_owned(),
            payload: self.payload.to_vec(),
            qos: self.qos,
            retain: self.retain,
            properties,
            ..Message::default()
        }
    }

    /// Appends the PUBLISH of a QoS 0 message. `scratch` is a buffer for its properties.
    pub(super) fn encode(&self, version: ProtocolVersion, scratch: &mut Vec<u8>, to: &mut Vec<u8>) {
        scratch.clear();
        scratch.extend_from_slice(self.forwarded);
        if let Some(node) = self.via {
            encode_user_property(scratch, VIA, node);
        }
        let packet = OutgoingPublish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: self.retain,
            topic: self.topic.as_bytes(),
            packet_id: None,
            topic_alias: None,
            message_expiry_secs: self.expiry_secs,
            subscription_ids: &[],
            forwarded: scratch,
            payload: self.payload,
        };
        packet.encode(version, to);
    }
}

/// Converts a message of this node for the other broker. `remote`: name of the other broker, if it
/// is a node and known.
pub(super) fn outward<'a>(
    message: &'a SinkMessage,
    settings: &BridgeSettings,
    route: &'a BridgeOrigin,
    remote: Option<&str>,
) -> Outward<'a> {
    if let Some((topic, retain)) = settings
        .connection
        .as_ref()
        .and_then(|connection| connection.outward(message.topic()))
    {
        return to_connection(message, settings, topic, retain);
    }
    let bridge = message.bridge();
    if let Some(from) = bridge
        && (*from == *settings.name || route.host.is_same_broker(from, &settings.name))
    {
        return Outward::Skip;
    }
    let properties = match PublishProperties::from_forwarded(message.properties()) {
        Ok(properties) => properties,
        Err(error) => return Outward::Refuse(format!("its properties are damaged: {error}")),
    };
    let mut has_been_here = false;
    for (name, value) in properties.user_properties.iter() {
        if name == VIA && remote == Some(value) {
            return Outward::FromThere;
        }
        has_been_here |= name == VIA && *value == *route.node;
    }
    // A bridge of this node added the name when the message came in. If the message has another
    // publisher, it went out and has come back.
    if has_been_here && bridge.is_none() {
        return Outward::Skip;
    }
    let Some((topic, qos)) = settings.topics.outward(message.topic()) else {
        // The filter also matches the topic above the prefix.
        return Outward::Skip;
    };
    let expiry = message.expires_in_secs();
    if expiry == Some(0) {
        return Outward::Skip;
    }
    let mut sent = OutgoingMessage {
        topic,
        payload: message.payload(),
        qos: message.qos().min(qos),
        retain: message.retain() && settings.outgoing_retain,
        expiry_secs: None,
        properties: PublishProperties::default(),
        forwarded: &[],
        via: None,
    };
    if settings.protocol.is_v5() {
        (sent.properties, sent.forwarded) = (properties, message.properties());
        sent.expiry_secs = expiry;
        sent.via = (!has_been_here).then_some(&*route.node);
    }
    Outward::Send(sent)
}

/// A message that was published for this connection only. It gets no mark of this node: if the
/// other broker sends it back for a subscription, the subscriber expects it.
fn to_connection<'a>(
    message: &'a SinkMessage,
    settings: &BridgeSettings,
    topic: &'a str,
    retain: bool,
) -> Outward<'a> {
    let expiry = message.expires_in_secs();
    if expiry == Some(0) {
        return Outward::Skip;
    }
    Outward::Send(OutgoingMessage {
        topic: Cow::Borrowed(topic),
        payload: message.payload(),
        qos: message.qos(),
        retain: retain && settings.outgoing_retain,
        expiry_secs: expiry.filter(|_| settings.protocol.is_v5()),
        properties: PublishProperties::default(),
        forwarded: &[],
        via: None,
    })
}

/// Converts a retained message of this node for the other broker; `None` if no topic matches, or
/// if the message came from there.
pub(super) fn retained(
    info: &RetainedInfo,
    settings: &BridgeSettings,
    route: &BridgeOrigin,
) -> Option<Message> {
    let (topic, qos) = settings.topics.outward(&info.topic)?;
    let mut pairs = info.user_properties.iter();
    let has_been_here = pairs.any(|(name, value)| (&**name, &**value) == (VIA, &*route.node));
    if has_been_here && settings.topics.inward(&topic).is_some() {
        return None;
    }
    let mut out = Message {
        topic: topic.into_owned(),
        payload: info.payload.to_vec(),
        qos: info.qos.min(qos),
        retain: settings.outgoing_retain,
        ..Message::default()
    };
    if settings.protocol.is_v5() {
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        let properties = &mut out.properties;
        properties.payload_format_utf8 = info.payload_is_utf8;
        properties.message_expiry_secs = info.expires_in_secs;
        properties.content_type = text(&info.content_type);
        properties.response_topic = text(&info.response_topic);
        properties.correlation_data = info.correlation_data.as_deref().map(<[u8]>::to_vec);
        for (name, value) in &info.user_properties {
            properties.user_properties.push(name, value);
        }
        if !has_been_here {
            properties.user_properties.push(VIA, &route.node);
        }
    }
    Some(out)
}

/// Handling of an incoming message.
pub(super) enum Inward {
    /// Publish it at this node.
    Publish(NewMessage),
    /// Drop it: its topic does not match, or it has been here before. The reason is for the log.
    Drop(Option<&'static str>),
}

/// Converts a message of the other broker for this node.
pub(super) fn inward(
    message: Message,
    settings: &BridgeSettings,
    route: &BridgeOrigin,
    remote: Option<&str>,
) -> Inward {
    let connection = settings.connection.as_deref();
    let of_connection = connection.and_then(|one| Some((one, one.inward(&message.topic)?)));
    let (topic, qos, from) = match (settings.topics.inward(&message.topic), of_connection) {
        (Some((topic, qos)), _) => (topic, qos, None),
        (None, Some((connection, (topic, qos)))) => (topic, qos, Some(connection.name())),
        (None, None) => return Inward::Drop(None),
    };
    if from.is_some() && topic.starts_with('$') || is_topic_of_node(&topic) {
        return Inward::Drop(Some("its topic is the node's own here"));
    }
    let properties = message.properties;
    let mut hops = 0_usize;
    for (name, value) in properties.user_properties.iter() {
        if name == VIA {
            if value == &*route.node {
                return Inward::Drop(None);
            }
            hops += 1;
        }
    }
    if hops > usize::from(HOPS_MAX) {
        return Inward::Drop(Some("it passed too many nodes"));
    }
    let mut user_properties: Vec<(Box<str>, Box<str>)> = properties
        .user_properties
        .iter()
        // The other broker must not set the origin of a message.
        .filter(|(name, _)| from.is_none() || *name != FROM)
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    user_properties.extend(from.map(|name| (FROM.into(), name.into())));
    if let Some(remote) = remote
        && !user_properties
            .iter()
            .any(|(name, value)| (&**name, &**value) == (VIA, remote))
    {
        user_properties.push((VIA.into(), remote.into()));
    }
    user_properties.push((VIA.into(), (*route.node).into()));
    let text = |text: Option<String>| text.map(String::into_boxed_str);
    let new = NewMessage {
        topic: topic.into(),
        payload: message.payload.into(),
        qos: message.qos.min(qos),
        retain: message.retain && from.is_none(),
        payload_is_utf8: properties.payload_format_utf8,
        message_expiry_secs: properties.message_expiry_secs,
        content_type: text(properties.content_type),
        response_topic: text(properties.response_topic),
        correlation_data: properties.correlation_data.map(Vec::into_boxed_slice),
        user_properties,
        hops: hops as u8,
    };
    Inward::Publish(new)
}
