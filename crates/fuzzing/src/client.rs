//! A client's end of a connection. Reads what the broker sends as a strict client would: each
//! packet must be well-formed, allowed at this point, and within what the CONNECT agreed to.

use std::collections::VecDeque;

use martlet_codec::{
    Ack, AckKind, Connect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    decode_packet,
};

/// Packets that the broker may send, and what it has sent.
#[derive(Debug, Default)]
pub struct Client {
    /// None reads nothing: the version is not known, or nobody looks.
    version: Option<ProtocolVersion>,
    packet_bytes_max: usize,
    receive_maximum: usize,
    topic_alias_max: u16,
    problem_information: bool,
    /// Whether it named an Authentication Method.
    proves: bool,
    /// Whether it began with a new session.
    clean: bool,
    /// The client has broken rules itself, so that the broker's count may differ from ours.
    loose: bool,
    buffer: Vec<u8>,
    connack: Option<ReasonCode>,
    disconnected: bool,
    /// Packet Identifiers of the broker that are taken.
    in_flight: Vec<PacketId>,
    /// Acknowledgements that are due.
    due: VecDeque<(AckKind, PacketId)>,
}

impl Client {
    /// One that throws everything away.
    pub fn silent() -> Self {
        Self::default()
    }

    /// One that sends this CONNECT.
    pub fn new(connect: &Connect<'_>) -> Self {
        let properties = &connect.properties;
        let v5 = connect.version.is_v5();
        let packet_bytes_max = properties.maximum_packet_size.filter(|_| v5);
        let receive_maximum = properties.receive_maximum.filter(|_| v5);
        Self {
            version: Some(connect.version),
            packet_bytes_max: packet_bytes_max.map_or(usize::MAX, |max| max.get() as usize),
            receive_maximum: usize::from(receive_maximum.map_or(u16::MAX, |max| max.get())),
            topic_alias_max: properties
                .topic_alias_maximum
                .filter(|_| v5)
                .unwrap_or_default(),
            clean: connect.clean_start,
            proves: v5 && properties.authentication_method.is_some(),
            problem_information: properties.request_problem_information.unwrap_or(true),
            ..Self::default()
        }
    }

    /// The version of the connection, if it is known.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// The client breaks a rule: what the broker counts may differ from here on.
    pub fn break_rules(&mut self) {
        self.loose = true;
    }

    /// The next acknowledgement that is due.
    pub fn acknowledge(&mut self) -> Option<(AckKind, PacketId)> {
        let (kind, packet_id) = self.due.pop_front()?;
        if matches!(kind, AckKind::PubAck | AckKind::PubComp) {
            self.in_flight.retain(|taken| *taken != packet_id);
        }
        Some((kind, packet_id))
    }

    /// The client answers PUBREC with a failure, so the identifier is free.
    pub fn refuse(&mut self, packet_id: PacketId) {
        self.in_flight.retain(|taken| *taken != packet_id);
    }

    /// Bytes from the broker.
    pub fn receive(&mut self, bytes: &[u8]) {
        let Some(version) = self.version else { return };
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let mut start = 0;
        while start < buffer.len() {
            match decode_packet(&buffer[start..], version) {
                Ok(Some((packet, length))) => {
                    self.check_order(&packet, version);
                    self.receive_packet(&packet);
                    self.check_size(&packet, length);
                    start += length;
                }
                Ok(None) => break,
                Err(error) => panic!("the broker sent {:02x?}: {error:?}", &buffer[start..]),
            }
        }
        buffer.drain(..start);
        self.buffer = buffer;
    }

    /// CONNACK comes first and once, nothing after a refusal or DISCONNECT; so no DISCONNECT before
    /// a CONNACK below 0x80 [MQTT-3.14.0-1], and no AUTH to a client that named no method
    /// [MQTT-4.12.0-6].
    fn check_order(&mut self, packet: &Packet<'_>, version: ProtocolVersion) {
        assert!(
            !self.disconnected,
            "after DISCONNECT [MQTT-3.14.4-1]: {packet:?}"
        );
        match (self.connack, packet) {
            (None, Packet::ConnAck(_)) => {}
            (None, Packet::Auth(_)) if self.proves => {}
            (None, _) => panic!("before CONNACK [MQTT-3.2.0-1]: {packet:?}"),
            (Some(_), Packet::ConnAck(_)) => panic!("a second CONNACK [MQTT-3.2.0-2]"),
            (Some(reason), _) => {
                assert!(
                    reason.code() < 0x80,
                    "after a refusal [MQTT-3.2.2-7]: {packet:?}"
                );
            }
        }
        if matches!(packet, Packet::Disconnect(_)) {
            assert!(version.is_v5(), "DISCONNECT to {version}");
        }
    }

    /// Whatever a packet carries beside what it must, it keeps to the client's Maximum Packet Size:
    /// Reason String [MQTT-3.2.2-19], [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.6.2-2],
    /// [MQTT-3.7.2-2], [MQTT-3.9.2-1], [MQTT-3.11.2-1], [MQTT-3.14.2-3], and User Properties
    /// [MQTT-3.2.2-20], [MQTT-3.4.2-3], [MQTT-3.5.2-3], [MQTT-3.6.2-3], [MQTT-3.7.2-3],
    /// [MQTT-3.9.2-2], [MQTT-3.11.2-2], [MQTT-3.14.2-4]. A message that is too large must be as
    /// good as delivered, or its Packet Identifier would be left over [MQTT-3.1.2-25].
    fn check_size(&self, packet: &Packet<'_>, length: usize) {
        // A CONNECT that is too large itself is refused unread.
        if self.connack == Some(ReasonCode::PacketTooLarge) {
            return;
        }
        let max = self.packet_bytes_max;
        assert!(
            length <= max,
            "{length} bytes, allowed are {max} [MQTT-3.1.2-24]: {packet:?}"
        );
    }

    fn receive_packet(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => {
                self.connack = Some(connack.reason);
                if connack.reason.code() >= 0x80 {
                    assert!(!connack.session_present, "[MQTT-3.2.2-6]");
                }
            }
            Packet::Publish(publish) => self.receive_publish(publish),
            Packet::PubRel(ack) => {
                self.check_problem_information(ack);
                self.due.push_back((AckKind::PubComp, ack.packet_id));
            }
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => {
                self.check_problem_information(ack);
            }
            Packet::SubAck(ack) => {
                assert!(self.problem_information || ack.reason_string.is_none());
            }
            Packet::UnsubAck(ack) => {
                assert!(self.problem_information || ack.reason_string.is_none());
            }
            Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                self.disconnected = true;
                assert!(disconnect.session_expiry_secs.is_none(), "[MQTT-3.14.2-2]");
            }
            Packet::Auth(auth) => {
                assert!(self.proves, "[MQTT-4.12.0-6]");
                let method = auth.authentication_method;
                assert_eq!(method, Some("method"), "[MQTT-4.12.0-5]");
                let asks = auth.reason == ReasonCode::ContinueAuthentication;
                let ends = auth.reason == ReasonCode::Success && self.connack.is_some();
                assert!(asks || ends, "[MQTT-4.12.0-2]: {packet:?}");
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq => panic!("not a server's: {packet:?}"),
        }
    }

    fn check_problem_information(&self, ack: &Ack<'_>) {
        assert!(
            self.problem_information || ack.reason_string.is_none(),
            "[MQTT-3.1.2-29]"
        );
    }

    fn receive_publish(&mut self, publish: &Publish<'_>) {
        if let Some(alias) = publish.properties.topic_alias {
            // With no maximum there is no alias at all [MQTT-3.1.2-27], [MQTT-3.3.2-11].
            assert!(alias.get() <= self.topic_alias_max, "[MQTT-3.1.2-26]");
        }
        // Within a connection nothing is sent twice, and a new session has nothing from before it
        // [MQTT-3.3.1-3], [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2].
        assert!(!(self.clean && publish.dup), "DUP: {publish:?}");
        let Some(packet_id) = publish.packet_id else {
            return;
        };
        // [MQTT-4.3.2-1], [MQTT-4.3.3-1]
        let known = self.in_flight.contains(&packet_id);
        if !known {
            self.in_flight.push(packet_id);
        }
        if !self.loose {
            assert!(
                !known,
                "Packet Identifier {packet_id} is taken [MQTT-2.2.1-4]"
            );
            assert!(
                self.in_flight.len() <= self.receive_maximum,
                "more than Receive Maximum {} [MQTT-3.3.4-9]",
                self.receive_maximum
            );
        }
        let kind = match publish.qos {
            QoS::ExactlyOnce => AckKind::PubRec,
            QoS::AtLeastOnce | QoS::AtMostOnce => AckKind::PubAck,
        };
        self.due.push_back((kind, packet_id));
    }
}
