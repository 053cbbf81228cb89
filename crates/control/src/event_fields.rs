//! The fields of an event: one list, from which the log and readers of events take what they show,
//! each under its own names. `event_words` puts events into words.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use martlet_broker::{ConnectedClient, DropReason, Event, Limit, MessageId};
use martlet_codec::PacketType;

use crate::event::{AlarmNotice, NodeEvent, NodeNotice};
use crate::event_kind::EventKind;
use crate::event_words;

/// The fields of an event beside its client. Each event has some of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EventFields<'a> {
    /// The client that has connected.
    pub(crate) client: Option<&'a ConnectedClient>,
    /// How a client has authenticated.
    pub(crate) method: Option<&'static str>,
    /// The listener that it came by.
    pub(crate) listener: Option<&'a str>,
    /// Where a client has come from again; none on a Unix socket.
    pub(crate) by: Option<(IpAddr, u16)>,
    /// Topic Name.
    pub(crate) topic: Option<&'a str>,
    /// Topic Filter.
    pub(crate) filter: Option<&'a str>,
    /// QoS.
    pub(crate) qos: Option<u8>,
    /// The message was to be retained.
    pub(crate) retain: Option<bool>,
    /// Whether there was a subscriber.
    pub(crate) matched: Option<bool>,
    /// The name of the message.
    pub(crate) message_id: Option<MessageId>,
    /// Length of its payload.
    pub(crate) payload_bytes: Option<usize>,
    /// As much of it as was kept.
    pub(crate) payload: Option<&'a [u8]>,
    /// From its arrival to its delivery, milliseconds.
    pub(crate) latency_ms: Option<u64>,
    /// When a device sent its last message.
    pub(crate) last_message_ms: Option<u64>,
    /// After how many seconds without a message a device is inactive.
    pub(crate) inactive_after_secs: Option<u32>,
    /// The alarm that was raised or changed.
    pub(crate) alarm: Option<&'a AlarmNotice>,
    /// Which values of a twin have changed, and their version.
    pub(crate) twin: Option<(&'static str, i64)>,
    /// `in` from the client, or `out` to it.
    pub(crate) direction: Option<&'static str>,
    /// Type of the packet.
    pub(crate) packet: Option<&'static str>,
    /// Packet Identifier.
    pub(crate) packet_id: Option<u16>,
    /// Remaining Length.
    pub(crate) remaining_bytes: Option<u32>,
    /// When a packet came or was written.
    pub(crate) at_ms: Option<u64>,
    /// Messages that wait in a queue that is full.
    pub(crate) messages: Option<usize>,
    /// Treatment of further messages.
    pub(crate) policy: Option<&'static str>,
    /// Name of the reason code, or why messages were dropped.
    pub(crate) reason: Option<&'static str>,
    /// Reason likewise, or a policy or limit where that is more exact.
    pub(crate) reason_or_limit: Option<&'static str>,
    /// The limit for which messages were lost.
    pub(crate) limit: Option<Limit>,
    /// Decision, in words.
    pub(crate) decision: Option<&'a str>,
    /// How many messages it is about.
    pub(crate) count: Option<u64>,
}

impl<'a> EventFields<'a> {
    /// The fields of an event.
    pub(crate) fn of(told: &'a NodeNotice) -> Self {
        let event = &told.event;
        let topic = event.topic().filter(|topic| !topic.is_empty());
        let (topic, filter) = match event.kind() {
            EventKind::Subscribed | EventKind::Unsubscribed | EventKind::SubscribeRefused => {
                (None, topic)
            }
            _ => (topic, None),
        };
        let common = Self {
            topic,
            filter,
            reason: event.reason(),
            reason_or_limit: event.reason(),
            decision: event_words::decision(told),
            count: event.count(),
            ..Self::default()
        };
        match event {
            NodeEvent::Shard(event) => common.of_shard(event),
            event => common.of_node(event),
        }
    }

    /// Adds the fields of an event of a shard.
    fn of_shard(self, event: &'a Event) -> Self {
        match event {
            Event::Connected(client) => Self {
                client: Some(client),
                listener: Some(&client.listener.name),
                ..self
            },
            Event::Authenticated { proof, listener } => Self {
                method: Some(proof.name()),
                listener: Some(&listener.name),
                ..self
            },
            Event::TakenOver { by } => Self { by: *by, ..self },
            Event::QueueFull {
                messages, policy, ..
            } => Self {
                messages: Some(*messages),
                policy: Some(policy.name()),
                reason_or_limit: Some(policy.name()),
                ..self
            },
            Event::Dropped { stored, .. } => Self {
                message_id: *stored,
                ..self
            },
            Event::MessagesLost {
                reason: DropReason::OutputFull,
                limit: Some(reached),
                ..
            } => Self {
                limit: Some(reached.limit),
                reason_or_limit: Some(reached.limit.option()),
                ..self
            },
            Event::MessagesLost { limit, .. } => Self {
                limit: limit.map(|reached| reached.limit),
                ..self
            },
            Event::PublishesDelayed { limit, .. } => Self {
                reason_or_limit: Some(limit.limit.option()),
                ..self
            },
            event => self.of_traffic(event),
        }
    }

    /// Adds the fields of subscriptions, messages and packets.
    fn of_traffic(self, event: &'a Event) -> Self {
        match event {
            Event::Subscribed { qos, .. } => Self {
                qos: Some(*qos as u8),
                ..self
            },
            Event::Published(message) => Self {
                message_id: Some(message.id),
                qos: Some(message.qos as u8),
                retain: Some(message.retain),
                matched: Some(message.matched),
                payload_bytes: Some(message.payload_bytes),
                payload: Some(&message.payload),
                ..self
            },
            Event::Delivered(message) => Self {
                message_id: Some(message.id),
                qos: Some(message.qos as u8),
                latency_ms: message.latency_ms,
                ..self
            },
            Event::Packet {
                is_out,
                packet_type,
                packet_id,
                remaining_bytes,
                at_ms,
            } => Self {
                direction: Some(if *is_out { "out" } else { "in" }),
                packet: Some(packet_name(*packet_type)),
                packet_id: *packet_id,
                remaining_bytes: Some(*remaining_bytes),
                at_ms: Some(*at_ms),
                ..self
            },
            _ => self,
        }
    }

    /// Adds the fields of an event of the control plane.
    fn of_node(self, event: &'a NodeEvent) -> Self {
        match event {
            NodeEvent::DeviceInactive {
                last_message_ms,
                after_secs,
            } => Self {
                last_message_ms: Some(*last_message_ms),
                inactive_after_secs: Some(*after_secs),
                ..self
            },
            NodeEvent::DeviceActive { last_message_ms } => Self {
                last_message_ms: Some(*last_message_ms),
                ..self
            },
            NodeEvent::AlarmRaised(alarm) | NodeEvent::AlarmChanged(alarm) => Self {
                alarm: Some(alarm),
                ..self
            },
            NodeEvent::TwinChanged { side, version, .. } => Self {
                twin: Some((side, *version)),
                ..self
            },
            _ => self,
        }
    }
}

/// As the specification writes it.
fn packet_name(packet_type: PacketType) -> &'static str {
    match packet_type {
        PacketType::Connect => "CONNECT",
        PacketType::ConnAck => "CONNACK",
        PacketType::Publish => "PUBLISH",
        PacketType::PubAck => "PUBACK",
        PacketType::PubRec => "PUBREC",
        PacketType::PubRel => "PUBREL",
        PacketType::PubComp => "PUBCOMP",
        PacketType::Subscribe => "SUBSCRIBE",
        PacketType::SubAck => "SUBACK",
        PacketType::Unsubscribe => "UNSUBSCRIBE",
        PacketType::UnsubAck => "UNSUBACK",
        PacketType::PingReq => "PINGREQ",
        PacketType::PingResp => "PINGRESP",
        PacketType::Disconnect => "DISCONNECT",
        PacketType::Auth => "AUTH",
    }
}
