//! State of incoming messages: Topic Aliases and receipts.
//!
//! MQTT 5.0 §3.3, §4.3.

use std::collections::HashMap;

use martlet_codec::{DecodeError, PacketId, ProtocolVersion, Publish, QoS, ReasonCode};

use super::event::SessionError;
use crate::options::ConnectOptions;

/// State of incoming messages.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    pub(super) manual_acknowledgement: bool,
    /// Topics by Topic Alias of this connection; index 0 is alias 1. At most Topic Alias Maximum.
    aliases: Vec<Option<String>>,
    alias_maximum: u16,
    receive_maximum: u16,
    /// Number of QoS 1 messages that are delivered and unacknowledged. Only with manual
    /// acknowledgement.
    pub(super) qos1_count: u32,
    /// QoS 2 messages received and not released [MQTT-4.3.3-9]. Part of the Session State.
    pub(super) unreleased: HashMap<PacketId, Qos2Progress>,
}

/// Progress of a QoS 2 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Qos2Progress {
    /// Delivered; the user has to acknowledge it before PUBREC is sent.
    Delivered,
    /// PUBREC was sent.
    Acknowledged,
}

impl Inbound {
    /// Begins a connection with these options.
    pub(super) fn begin(&mut self, options: &ConnectOptions) {
        self.alias_maximum = options.topic_alias_maximum.unwrap_or(0);
        self.receive_maximum = match options.tolerates_more {
            true => u16::MAX,
            false => options.receive_maximum.map_or(u16::MAX, Into::into),
        };
    }

    /// Ends the connection and its Topic Aliases [MQTT-3.3.2-7]. A message whose PUBREC was never
    /// sent will be sent again.
    pub(super) fn connection_lost(&mut self) {
        self.aliases.clear();
        self.qos1_count = 0;
        self.unreleased
            .retain(|_, receipt| *receipt == Qos2Progress::Acknowledged);
    }

    /// Counts a QoS 1 or 2 message against our Receive Maximum.
    pub(super) fn count_receipt(
        &mut self,
        packet: &Publish<'_>,
        version: ProtocolVersion,
    ) -> Result<(), SessionError> {
        let Some(packet_id) = packet.packet_id else {
            return Ok(());
        };
        let under_way = self.qos1_count as usize + self.unreleased.len();
        if version.is_v5() && under_way >= usize::from(self.receive_maximum) {
            let reason = ReasonCode::ReceiveMaximumExceeded;
            let what = "more messages than our Receive Maximum";
            return Err(DecodeError::of(reason, what, "MQTT-3.3.4-9").into());
        }
        match packet.qos {
            QoS::ExactlyOnce => _ = self.unreleased.insert(packet_id, Qos2Progress::Delivered),
            _ => self.qos1_count += 1,
        }
        Ok(())
    }

    /// The topic of a PUBLISH. Stores or resolves its Topic Alias.
    pub(super) fn resolve_topic(&mut self, packet: &Publish<'_>) -> Result<String, SessionError> {
        let invalid = |what| DecodeError::of(ReasonCode::TopicAliasInvalid, what, "MQTT-3.1.2-26");
        let topic = packet.topic.map(|topic| topic.as_str().to_owned());
        let Some(alias) = packet.properties.topic_alias else {
            // The codec rejects a PUBLISH that has neither.
            return topic.ok_or_else(|| DecodeError::protocol("no topic", "").into());
        };
        if alias.get() > self.alias_maximum {
            return Err(invalid("Topic Alias above our maximum").into());
        }
        let index = usize::from(alias.get()) - 1;
        let Some(topic) = topic else {
            let known = self.aliases.get(index).cloned().flatten();
            return known.ok_or_else(|| DecodeError::protocol("unknown Topic Alias", "").into());
        };
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        self.aliases[index] = Some(topic.clone());
        Ok(topic)
    }
}
