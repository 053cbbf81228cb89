//! Packets from the server.
//!
//! Responsible for the effect of each received packet on the session: the answer to CONNECT,
//! messages, completion of requests. Outgoing messages and their acknowledgements are in
//! `requests`. MQTT 5.0 §3.2, §3.3, §4.3.

use std::time::Duration;

use martlet_codec::{
    Ack, AckKind, ConnAck, DecodeError, Disconnect, Packet, PacketId, Publish, QoS, ReasonCode,
};

use super::Session;
use super::State;
use super::event::{ConnAckInfo, Direction, Event, PacketSummary, SessionError};
use super::inbound::Qos2Progress;
use crate::message::{Message, MessageProperties, UserPropertyList};

impl Session {
    /// Acknowledges a message of QoS 1 (PUBACK) or QoS 2 (PUBREC). Only with manual
    /// acknowledgement. A `reason` of 128 or above refuses the message (MQTT 5.0 only). Has no
    /// effect on messages of an earlier connection, because the server sends them again.
    pub fn acknowledge(&mut self, qos: QoS, packet_id: PacketId, reason: ReasonCode) {
        if self.state != State::Connected {
            return;
        }
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.inbound.qos1_count = self.inbound.qos1_count.saturating_sub(1);
                self.send_ack(AckKind::PubAck, packet_id, reason);
            }
            QoS::ExactlyOnce => {
                if let Some(receipt) = self.inbound.unreleased.get_mut(&packet_id) {
                    *receipt = Qos2Progress::Acknowledged;
                    if reason.is_error() && self.version.is_v5() {
                        self.inbound.unreleased.remove(&packet_id);
                    }
                    self.send_ack(AckKind::PubRec, packet_id, reason);
                }
            }
        }
    }

    /// Processes one packet.
    pub(super) fn receive_packet(
        &mut self,
        packet: Packet<'_>,
        now: Duration,
    ) -> Result<(), SessionError> {
        match (self.state, packet) {
            (State::Connecting, Packet::ConnAck(packet)) => self.receive_connack(&packet, now),
            (State::Connecting, Packet::Auth(packet)) => self.receive_auth(&packet, now),
            (State::Connected, Packet::Publish(packet)) => self.receive_publish(&packet, now),
            (State::Connected, Packet::PubAck(ack)) => self.receive_puback(&ack, now),
            (State::Connected, Packet::PubRec(ack)) => self.receive_pubrec(&ack, now),
            (State::Connected, Packet::PubRel(ack)) => self.receive_pubrel(&ack, now),
            (State::Connected, Packet::PubComp(ack)) => self.receive_pubcomp(&ack, now),
            (State::Connected, Packet::SubAck(packet)) => self.receive_suback(&packet),
            (State::Connected, Packet::UnsubAck(packet)) => self.receive_unsuback(&packet),
            (State::Connected, Packet::PingResp) => {
                self.trace(Direction::Received, || PacketSummary::PingResp);
                self.unasked.count(now)
            }
            (State::Connected, Packet::Disconnect(packet)) if self.version.is_v5() => {
                self.receive_disconnect(&packet);
                Ok(())
            }
            _ => Err(DecodeError::protocol("a packet that is not allowed here", "").into()),
        }
    }

    fn receive_connack(&mut self, packet: &ConnAck<'_>, now: Duration) -> Result<(), SessionError> {
        let code = match self.version.is_v5() {
            true => packet.reason.code(),
            false => packet.reason.connect_return_code(),
        };
        self.trace(Direction::Received, || PacketSummary::ConnAck { code });
        let properties = &packet.properties;
        if packet.reason.is_error() {
            self.state = State::Disconnected;
            let reason_string = properties.reason_string.map(str::to_owned);
            self.events.push_back(Event::Refused {
                code,
                reason: packet.reason,
                reason_string,
            });
            return Ok(());
        }
        if self.clean_start && packet.session_present {
            // [MQTT-3.2.2-4] We requested Clean Start, so there is no session.
            let what = "Session Present after Clean Start";
            return Err(DecodeError::protocol(what, "MQTT-3.2.2-2").into());
        }
        self.check_server(packet)?;
        if let Some(client_id) = properties.assigned_client_id {
            client_id.clone_into(&mut self.client_id);
        }
        if let Some(secs) = properties.server_keep_alive_secs {
            self.keep_alive.set_interval(secs);
        }
        self.server = ConnAckInfo {
            session_present: packet.session_present,
            client_id: self.client_id.clone(),
            keep_alive_secs: self.keep_alive.secs(),
            session_expiry_secs: properties.session_expiry_secs,
            receive_maximum: properties.receive_maximum,
            maximum_qos: properties.maximum_qos,
            retain_available: properties.retain_available,
            maximum_packet_size: properties.maximum_packet_size,
            topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            response_information: properties.response_information.map(str::to_owned),
            user_properties: UserPropertyList::from_packet(&properties.user_properties),
        };
        self.state = State::Connected;
        self.events
            .push_back(Event::Connected(Box::new(self.server.clone())));
        if !packet.session_present {
            self.inbound.unreleased.clear();
        }
        self.resume(packet.session_present, now);
        Ok(())
    }

    fn receive_publish(&mut self, packet: &Publish<'_>, now: Duration) -> Result<(), SessionError> {
        let topic = self.inbound.resolve_topic(packet)?;
        self.trace(Direction::Received, || PacketSummary::Publish {
            duplicate: packet.dup,
            qos: packet.qos,
            retain: packet.retain,
            packet_id: packet.packet_id,
            topic: topic.clone(),
            payload_len: packet.payload.len(),
        });
        if let (QoS::ExactlyOnce, Some(packet_id)) = (packet.qos, packet.packet_id)
            && let Some(receipt) = self.inbound.unreleased.get(&packet_id)
        {
            // [MQTT-4.3.3-10] A retransmission: it is acknowledged again, but not delivered again.
            if *receipt == Qos2Progress::Acknowledged {
                self.send_ack(AckKind::PubRec, packet_id, ReasonCode::Success);
            }
            return self.unasked.count(now);
        }
        self.inbound.count_receipt(packet, self.version)?;
        self.events.push_back(Event::Message(Box::new(Message {
            topic,
            payload: packet.payload.to_vec(),
            qos: packet.qos,
            retain: packet.retain,
            duplicate: packet.dup,
            packet_id: packet.packet_id,
            properties: MessageProperties::from_packet(&packet.properties),
        })));
        if let Some(packet_id) = packet.packet_id
            && !self.inbound.manual_acknowledgement
        {
            self.acknowledge(packet.qos, packet_id, ReasonCode::Success);
            self.keep_alive.sent(now);
        }
        Ok(())
    }

    fn receive_pubrel(&mut self, ack: &Ack<'_>, now: Duration) -> Result<(), SessionError> {
        let packet_id = ack.packet_id;
        self.trace(Direction::Received, || PacketSummary::PubRel { packet_id });
        let known = self.inbound.unreleased.remove(&packet_id).is_some();
        // [MQTT-4.3.3-11] PUBCOMP answers every PUBREL.
        let reason = match known {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        self.send_ack(AckKind::PubComp, packet_id, reason);
        self.keep_alive.sent(now);
        match known {
            true => Ok(()),
            false => self.unasked.count(now),
        }
    }

    fn receive_disconnect(&mut self, packet: &Disconnect<'_>) {
        let reason = packet.reason;
        self.trace(Direction::Received, || PacketSummary::Disconnect { reason });
        self.state = State::Disconnected;
        self.events.push_back(Event::Disconnected {
            reason,
            reason_string: packet.reason_string.map(str::to_owned),
            server_reference: packet.server_reference.map(str::to_owned),
        });
    }

    /// Appends an acknowledgement. Omits a reason code that the protocol version does not have.
    pub(super) fn send_ack(&mut self, kind: AckKind, packet_id: PacketId, reason: ReasonCode) {
        Ack::new(packet_id, reason).encode(kind, self.version, &mut self.output);
        self.trace(Direction::Sent, || match kind {
            AckKind::PubAck => PacketSummary::PubAck { packet_id, reason },
            AckKind::PubRec => PacketSummary::PubRec { packet_id, reason },
            AckKind::PubRel => PacketSummary::PubRel { packet_id },
            AckKind::PubComp => PacketSummary::PubComp { packet_id, reason },
        });
    }
}
