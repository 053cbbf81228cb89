//! Tests of the session with a scripted server, in virtual time: its output for given input.

use std::num::NonZeroU16;
use std::time::Duration;

use martlet_codec::{
    Ack, AckKind, Auth, ConnAck, ConnAckProperties, Packet, PacketId, ProtocolVersion,
    PublishProperties, QoS, ReasonCode, SubAck, TopicName, decode_packet,
};

use super::{
    Acknowledgement, Authentication, Event, RequestError, RequestId, Session, SessionError,
};
use crate::message::Message;
use crate::options::{ConnectOptions, SubscribeRequest};

const T0: Duration = Duration::ZERO;

/// A session and the other end of its connection.
pub(super) struct Pair {
    session: Session,
    options: ConnectOptions,
    pub(super) now: Duration,
}

impl Pair {
    fn new(version: ProtocolVersion) -> Self {
        let options = ConnectOptions {
            version,
            client_id: "c".into(),
            ..ConnectOptions::default()
        };
        Self {
            session: Session::new(),
            options,
            now: T0,
        }
    }

    /// Creates a session with an accepted connection.
    pub(super) fn connected(version: ProtocolVersion) -> Self {
        let mut pair = Self::new(version);
        pair.connect(ConnAckProperties::default(), false);
        pair
    }

    fn connect(&mut self, properties: ConnAckProperties<'_>, session_present: bool) {
        self.session.connect(&self.options, self.now);
        assert_eq!(self.sent().first().map(String::as_str), Some("Connect"));
        let connack = ConnAck {
            properties,
            ..ConnAck::new(session_present, ReasonCode::Success)
        };
        self.receive(Packet::ConnAck(connack)).unwrap();
        assert!(matches!(
            self.session.poll_event(),
            Some(Event::Connected(_))
        ));
    }

    pub(super) fn receive(&mut self, packet: Packet<'_>) -> Result<(), SessionError> {
        let mut bytes = Vec::new();
        packet.encode(self.options.version, &mut bytes);
        self.session.receive(&bytes, self.now)
    }

    pub(super) fn receive_ack(&mut self, kind: AckKind, id: u16) -> Result<(), SessionError> {
        self.receive_ack_with(kind, id, ReasonCode::Success)
    }

    fn receive_ack_with(
        &mut self,
        kind: AckKind,
        id: u16,
        reason: ReasonCode,
    ) -> Result<(), SessionError> {
        let ack = Ack::new(packet_id(id), reason);
        self.receive(match kind {
            AckKind::PubAck => Packet::PubAck(ack),
            AckKind::PubRec => Packet::PubRec(ack),
            AckKind::PubRel => Packet::PubRel(ack),
            AckKind::PubComp => Packet::PubComp(ack),
        })
    }

    fn receive_publish(&mut self, qos: QoS, id: u16, dup: bool) -> Result<(), SessionError> {
        self.receive(publish(Some("t"), qos, id, dup, None))
    }

    fn publish(&mut self, qos: QoS, payload: &str) -> RequestId {
        self.session
            .publish(message(qos, payload), self.now)
            .unwrap()
    }

    /// Packets sent since the last call, abbreviated.
    fn sent(&mut self) -> Vec<String> {
        let output = std::mem::take(self.session.output_mut());
        let mut rest = output.as_slice();
        let mut result = Vec::new();
        while let Some((packet, len)) = decode_packet(rest, self.options.version).unwrap() {
            result.push(describe(&packet));
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        result
    }

    /// Messages and completed requests since the last call, abbreviated.
    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_event())
            .map(|event| match event {
                Event::Message(message) => format!("message {}", message.topic),
                Event::Completed {
                    request,
                    acknowledgement,
                } => match acknowledgement {
                    Acknowledgement::Published { reason, .. } => format!("{request} {reason:?}"),
                    other => format!("{request} {other:?}"),
                },
                other => format!("{other:?}"),
            })
            .collect()
    }
}

fn describe(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| format!("{name} {} {:?}", ack.packet_id, ack.reason);
    match packet {
        Packet::Publish(packet) => format!(
            "Publish q{} {}{}{}",
            packet.qos.bits(),
            packet
                .packet_id
                .map(|id| format!("m{id} "))
                .unwrap_or_default(),
            if packet.dup { "dup " } else { "" },
            String::from_utf8_lossy(packet.payload)
        ),
        Packet::PubAck(packet) => ack("PubAck", packet),
        Packet::PubRec(packet) => ack("PubRec", packet),
        Packet::PubRel(packet) => ack("PubRel", packet),
        Packet::PubComp(packet) => ack("PubComp", packet),
        Packet::Disconnect(packet) => format!("Disconnect {:?}", packet.reason),
        other => format!("{:?}", other.packet_type()),
    }
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn message(qos: QoS, payload: &str) -> Message {
    Message {
        topic: "t".into(),
        payload: payload.into(),
        qos,
        ..Message::default()
    }
}

fn publish(topic: Option<&str>, qos: QoS, id: u16, dup: bool, alias: Option<u16>) -> Packet<'_> {
    Packet::Publish(martlet_codec::Publish {
        dup,
        qos,
        retain: false,
        topic: topic.map(|topic| TopicName::new(topic).unwrap()),
        packet_id: PacketId::new(id),
        properties: PublishProperties {
            topic_alias: alias.and_then(NonZeroU16::new),
            ..PublishProperties::default()
        },
        payload: b"p",
    })
}

#[test]
fn a_qos_1_message_ends_with_its_puback() {
    let mut pair = Pair::connected(ProtocolVersion::V311);
    let request = pair.publish(QoS::AtLeastOnce, "a");
    assert_eq!(pair.sent(), ["Publish q1 m1 a"]);
    assert_eq!(pair.events(), [""; 0]);
    pair.receive_ack(AckKind::PubAck, 1).unwrap();
    assert_eq!(pair.events(), [format!("{request} Success")]);
    assert_eq!(pair.session.unacknowledged(), 0);
}

#[test]
fn a_qos_2_message_takes_all_four_packets() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.publish(QoS::ExactlyOnce, "a");
    assert_eq!(pair.sent(), ["Publish q2 m1 a"]);
    pair.receive_ack(AckKind::PubRec, 1).unwrap();
    assert_eq!(pair.sent(), ["PubRel 1 Success"]);
    assert_eq!(pair.events(), [""; 0]);
    pair.receive_ack(AckKind::PubComp, 1).unwrap();
    assert_eq!(pair.events(), ["1 Success"]);
}

#[test]
fn a_refusing_pubrec_ends_a_qos_2_message_without_pubrel() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.publish(QoS::ExactlyOnce, "a");
    pair.sent();
    pair.receive_ack_with(AckKind::PubRec, 1, ReasonCode::NotAuthorized)
        .unwrap();
    assert_eq!(pair.sent(), [""; 0]);
    assert_eq!(pair.events(), ["1 NotAuthorized"]);
}

#[test]
fn a_message_of_the_servers_is_acknowledged_by_its_qos() {
    let mut pair = Pair::connected(ProtocolVersion::V311);
    pair.receive_publish(QoS::AtMostOnce, 0, false).unwrap();
    pair.receive_publish(QoS::AtLeastOnce, 5, false).unwrap();
    pair.receive_publish(QoS::ExactlyOnce, 6, false).unwrap();
    assert_eq!(pair.sent(), ["PubAck 5 Success", "PubRec 6 Success"]);
    assert_eq!(pair.events().len(), 3);
    pair.receive_ack(AckKind::PubRel, 6).unwrap();
    assert_eq!(pair.sent(), ["PubComp 6 Success"]);
}

#[test]
fn a_qos_2_message_that_comes_again_is_delivered_once_across_connections() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.options.clean_start = false;
    pair.receive_publish(QoS::ExactlyOnce, 6, false).unwrap();
    assert_eq!(pair.events(), ["message t"]);
    pair.session.connection_lost();
    pair.connect(ConnAckProperties::default(), true);
    pair.receive_publish(QoS::ExactlyOnce, 6, true).unwrap();
    assert_eq!(pair.sent(), ["PubRec 6 Success"]);
    assert_eq!(pair.events(), [""; 0]);
    pair.receive_ack(AckKind::PubRel, 6).unwrap();
    pair.receive_publish(QoS::ExactlyOnce, 6, false).unwrap();
    assert_eq!(pair.events(), ["message t"]);
}

#[test]
fn an_unknown_pubrel_is_completed_all_the_same() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.receive_ack(AckKind::PubRel, 9).unwrap();
    assert_eq!(pair.sent(), ["PubComp 9 PacketIdentifierNotFound"]);
}

#[test]
fn a_resumed_session_sends_again_in_order_with_dup_and_pubrel() {
    let mut pair = Pair::connected(ProtocolVersion::V311);
    pair.options.clean_start = false;
    pair.publish(QoS::AtLeastOnce, "a");
    pair.publish(QoS::ExactlyOnce, "b");
    pair.publish(QoS::ExactlyOnce, "c");
    pair.receive_ack(AckKind::PubRec, 2).unwrap();
    pair.sent();
    pair.session.connection_lost();
    pair.connect(ConnAckProperties::default(), true);
    let again = [
        "Publish q1 m1 dup a",
        "PubRel 2 Success",
        "Publish q2 m3 dup c",
    ];
    assert_eq!(pair.sent(), again);
    pair.receive_ack(AckKind::PubAck, 1).unwrap();
    pair.receive_ack(AckKind::PubComp, 2).unwrap();
    assert_eq!(pair.events(), ["1 Success", "2 Success"]);
}

#[test]
fn a_session_that_the_server_lost_begins_anew_without_losing_a_message() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.options.clean_start = false;
    pair.publish(QoS::AtLeastOnce, "a");
    pair.publish(QoS::ExactlyOnce, "b");
    pair.receive_ack(AckKind::PubRec, 2).unwrap();
    pair.sent();
    pair.session.connection_lost();
    pair.connect(ConnAckProperties::default(), false);
    assert_eq!(pair.sent(), ["Publish q1 m1 a"]);
    // PUBREC had accepted the second message.
    assert_eq!(pair.events(), ["2 Success"]);
}

#[test]
fn the_servers_receive_maximum_holds_messages_back() {
    let mut pair = Pair::new(ProtocolVersion::V5);
    let receive_maximum = NonZeroU16::new(2);
    pair.connect(
        ConnAckProperties {
            receive_maximum,
            ..Default::default()
        },
        false,
    );
    for payload in ["a", "b", "c", "d"] {
        pair.publish(QoS::AtLeastOnce, payload);
    }
    assert_eq!(pair.sent(), ["Publish q1 m1 a", "Publish q1 m2 b"]);
    pair.receive_ack(AckKind::PubAck, 2).unwrap();
    assert_eq!(pair.sent(), ["Publish q1 m3 c"]);
    // An acknowledgement without a request does not increase the quota [MQTT-4.9.0-1].
    pair.receive_ack(AckKind::PubAck, 2).unwrap();
    assert_eq!(pair.sent(), [""; 0]);
}

#[test]
fn a_smaller_receive_maximum_after_resuming_holds_back_what_is_sent_again() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.options.clean_start = false;
    for payload in ["a", "b", "c"] {
        pair.publish(QoS::AtLeastOnce, payload);
    }
    pair.sent();
    let receive_maximum = NonZeroU16::new(1);
    pair.connect(
        ConnAckProperties {
            receive_maximum,
            ..Default::default()
        },
        true,
    );
    pair.publish(QoS::AtLeastOnce, "d");
    assert_eq!(pair.sent(), ["Publish q1 m1 dup a"]);
    pair.receive_ack(AckKind::PubAck, 1).unwrap();
    assert_eq!(pair.sent(), ["Publish q1 m2 dup b"]);
    pair.receive_ack(AckKind::PubAck, 2).unwrap();
    assert_eq!(pair.sent(), ["Publish q1 m3 dup c"]);
    pair.receive_ack(AckKind::PubAck, 3).unwrap();
    assert_eq!(pair.sent(), ["Publish q1 m4 d"]);
}

#[test]
fn messages_made_without_a_connection_wait_for_one_but_not_at_qos_0() {
    let mut pair = Pair::new(ProtocolVersion::V311);
    pair.publish(QoS::AtLeastOnce, "a");
    let refused = pair.session.publish(message(QoS::AtMostOnce, "b"), T0);
    assert_eq!(refused, Err(RequestError::NotConnected));
    pair.connect(ConnAckProperties::default(), false);
    assert_eq!(pair.sent(), ["Publish q1 m1 a"]);
}

#[test]
fn a_topic_alias_stands_for_its_topic_until_the_connection_ends() {
    let mut pair = Pair::new(ProtocolVersion::V5);
    pair.options.topic_alias_maximum = Some(2);
    pair.connect(ConnAckProperties::default(), false);
    pair.receive(publish(Some("long"), QoS::AtMostOnce, 0, false, Some(2)))
        .unwrap();
    pair.receive(publish(None, QoS::AtMostOnce, 0, false, Some(2)))
        .unwrap();
    pair.receive(publish(Some("other"), QoS::AtMostOnce, 0, false, Some(2)))
        .unwrap();
    pair.receive(publish(None, QoS::AtMostOnce, 0, false, Some(2)))
        .unwrap();
    assert_eq!(
        pair.events(),
        [
            "message long",
            "message long",
            "message other",
            "message other"
        ]
    );
    pair.session.connection_lost();
    pair.connect(ConnAckProperties::default(), false);
    pair.receive(publish(None, QoS::AtMostOnce, 0, false, Some(2)))
        .unwrap_err();
    assert_eq!(pair.sent(), ["Disconnect ProtocolError"]);
}

#[test]
fn a_topic_alias_above_our_maximum_ends_the_connection() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.receive(publish(Some("t"), QoS::AtMostOnce, 0, false, Some(1)))
        .unwrap_err();
    assert_eq!(pair.sent(), ["Disconnect TopicAliasInvalid"]);
    assert!(!pair.session.is_connected());
}

#[test]
fn more_messages_than_our_receive_maximum_end_the_connection() {
    let mut pair = Pair::new(ProtocolVersion::V5);
    pair.session.set_manual_acknowledgement(true);
    pair.options.receive_maximum = NonZeroU16::new(2);
    pair.connect(ConnAckProperties::default(), false);
    pair.receive_publish(QoS::AtLeastOnce, 1, false).unwrap();
    pair.receive_publish(QoS::ExactlyOnce, 2, false).unwrap();
    pair.session
        .acknowledge(QoS::AtLeastOnce, packet_id(1), ReasonCode::Success);
    pair.receive_publish(QoS::AtLeastOnce, 3, false).unwrap();
    pair.receive_publish(QoS::AtLeastOnce, 4, false)
        .unwrap_err();
    assert_eq!(
        pair.sent(),
        ["PubAck 1 Success", "Disconnect ReceiveMaximumExceeded"]
    );
}

#[test]
fn with_manual_acknowledgement_nothing_is_acknowledged_by_itself() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.session.set_manual_acknowledgement(true);
    pair.receive_publish(QoS::ExactlyOnce, 1, false).unwrap();
    pair.receive_publish(QoS::ExactlyOnce, 1, true).unwrap();
    assert_eq!(pair.sent(), [""; 0]);
    assert_eq!(pair.events(), ["message t"]);
    pair.session
        .acknowledge(QoS::ExactlyOnce, packet_id(1), ReasonCode::QuotaExceeded);
    assert_eq!(pair.sent(), ["PubRec 1 QuotaExceeded"]);
    pair.receive_publish(QoS::ExactlyOnce, 1, false).unwrap();
    assert_eq!(pair.events(), ["message t"]);
}

#[test]
fn keep_alive_sends_pingreq_when_nothing_else_was_sent_and_gives_up_without_an_answer() {
    let mut pair = Pair::connected(ProtocolVersion::V311);
    let secs = Duration::from_secs;
    assert_eq!(pair.session.wake_at(), Some(secs(60)));
    pair.now = secs(40);
    pair.publish(QoS::AtMostOnce, "a");
    pair.sent();
    assert_eq!(pair.session.wake_at(), Some(secs(100)));
    pair.session.advance(secs(99)).unwrap();
    assert_eq!(pair.sent(), [""; 0]);
    pair.session.advance(secs(100)).unwrap();
    assert_eq!(pair.sent(), ["PingReq"]);
    pair.receive(Packet::PingResp).unwrap();
    pair.session.advance(secs(160)).unwrap();
    assert_eq!(pair.sent(), ["PingReq"]);
    assert_eq!(
        pair.session.advance(secs(220)),
        Err(SessionError::KeepAliveTimeout)
    );
    assert_eq!(pair.session.wake_at(), None);
}

#[test]
fn the_servers_keep_alive_replaces_ours() {
    let mut pair = Pair::new(ProtocolVersion::V5);
    pair.connect(
        ConnAckProperties {
            server_keep_alive_secs: Some(5),
            ..Default::default()
        },
        false,
    );
    assert_eq!(pair.session.wake_at(), Some(Duration::from_secs(5)));
}

#[test]
fn a_connack_that_does_not_come_is_an_error_after_thirty_seconds() {
    let mut pair = Pair::new(ProtocolVersion::V311);
    pair.session.connect(&pair.options, T0);
    let deadline = pair.session.wake_at().unwrap();
    assert_eq!(deadline, Duration::from_secs(30));
    assert_eq!(
        pair.session.advance(deadline),
        Err(SessionError::ConnAckTimeout)
    );
}

#[test]
fn a_refusal_tells_the_code_of_the_version() {
    for (version, code) in [(ProtocolVersion::V311, 5), (ProtocolVersion::V5, 135)] {
        let mut pair = Pair::new(version);
        pair.session.connect(&pair.options, T0);
        pair.sent();
        let connack = ConnAck::new(false, ReasonCode::NotAuthorized);
        pair.receive(Packet::ConnAck(connack)).unwrap();
        match pair.session.poll_event() {
            Some(Event::Refused {
                code: got,
                reason: ReasonCode::NotAuthorized,
                ..
            }) => {
                assert_eq!(got, code);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn session_present_after_clean_start_ends_the_connection() {
    let mut pair = Pair::new(ProtocolVersion::V311);
    pair.session.connect(&pair.options, T0);
    pair.sent();
    let connack = ConnAck::new(true, ReasonCode::Success);
    pair.receive(Packet::ConnAck(connack)).unwrap_err();
}

#[test]
fn packets_may_arrive_one_byte_at_a_time() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    let mut bytes = Vec::new();
    for id in 1..4 {
        let packet = publish(Some("t"), QoS::AtLeastOnce, id, false, None);
        packet.encode(ProtocolVersion::V5, &mut bytes);
    }
    for byte in bytes {
        pair.session.receive(&[byte], T0).unwrap();
    }
    assert_eq!(pair.events().len(), 3);
    assert_eq!(pair.sent().len(), 3);
}

#[test]
fn packets_that_are_not_allowed_end_the_connection() {
    let cases = [
        Packet::PingReq,
        Packet::ConnAck(ConnAck::new(false, ReasonCode::Success)),
        Packet::SubAck(SubAck::new(packet_id(1), &[0])),
    ];
    for packet in cases {
        let mut pair = Pair::connected(ProtocolVersion::V5);
        pair.receive(packet).unwrap_err();
        assert_eq!(pair.sent(), ["Disconnect ProtocolError"], "{packet:?}");
    }
}

#[test]
fn a_packet_above_our_maximum_ends_the_connection_before_it_has_arrived() {
    let mut pair = Pair::new(ProtocolVersion::V5);
    pair.options.maximum_packet_size = std::num::NonZeroU32::new(100);
    pair.connect(ConnAckProperties::default(), false);
    pair.session
        .receive(&[0x30, 0xff, 0xff, 0xff, 0x7f], T0)
        .unwrap_err();
    assert_eq!(pair.sent(), ["Disconnect PacketTooLarge"]);
}

#[test]
fn an_acknowledgement_of_another_kind_of_request_ends_the_connection() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.publish(QoS::ExactlyOnce, "a");
    pair.receive_ack(AckKind::PubAck, 1).unwrap_err();
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.publish(QoS::ExactlyOnce, "a");
    pair.receive_ack(AckKind::PubComp, 1).unwrap_err();
}

#[test]
fn a_subscription_ends_with_the_reasons_of_its_suback() {
    let mut pair = Pair::connected(ProtocolVersion::V311);
    let mut request = SubscribeRequest::one("a/#", QoS::ExactlyOnce);
    request.filters.push(("b".into(), Default::default()));
    pair.session.subscribe(&request, T0).unwrap();
    assert_eq!(pair.sent(), ["Subscribe"]);
    pair.receive(Packet::SubAck(SubAck::new(packet_id(1), &[1, 0x80])))
        .unwrap();
    assert_eq!(
        pair.events(),
        ["1 Subscribed([GrantedQoS1, UnspecifiedError])"]
    );
}

#[test]
fn a_subscription_without_an_answer_ends_with_the_connection() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.session
        .subscribe(&SubscribeRequest::one("a", QoS::AtMostOnce), T0)
        .unwrap();
    pair.session.connection_lost();
    assert_eq!(pair.events(), ["1 ConnectionLost"]);
}

#[test]
fn requests_that_cannot_be_sent_are_refused_and_leave_nothing() {
    let mut pair = Pair::new(ProtocolVersion::V5);
    let properties = ConnAckProperties {
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: std::num::NonZeroU32::new(20),
        ..Default::default()
    };
    pair.connect(properties, false);
    let retained = Message {
        retain: true,
        ..message(QoS::AtMostOnce, "a")
    };
    let wildcard = Message {
        topic: "a/+".into(),
        ..message(QoS::AtMostOnce, "a")
    };
    let mut aliased = message(QoS::AtMostOnce, "a");
    aliased.properties.topic_alias = NonZeroU16::new(1);
    let cases = [
        (
            message(QoS::ExactlyOnce, "a"),
            RequestError::QosNotSupported,
        ),
        (retained, RequestError::RetainNotSupported),
        (wildcard, RequestError::InvalidTopic),
        (aliased, RequestError::TopicAliasInvalid),
        (
            message(QoS::AtMostOnce, &"x".repeat(16)),
            RequestError::PacketTooLarge,
        ),
    ];
    for (message, want) in cases {
        assert_eq!(pair.session.publish(message, T0), Err(want));
    }
    let request = SubscribeRequest::one("a#", QoS::AtMostOnce);
    assert_eq!(
        pair.session.subscribe(&request, T0),
        Err(RequestError::InvalidTopic)
    );
    assert_eq!(pair.sent(), [""; 0]);
    assert_eq!(pair.session.unacknowledged(), 0);
}

#[test]
fn a_password_is_not_shown_by_debug() {
    let password = Some(crate::options::Password(b"secret".to_vec()));
    let options = ConnectOptions {
        password,
        ..ConnectOptions::default()
    };
    let text = format!("{options:?}");
    assert!(!text.contains("secret") && !text.contains("115"), "{text}");
}

proptest::proptest! {
    #[test]
    fn whatever_a_server_sends_is_survived_and_independent_of_its_pieces(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        packets in proptest::collection::vec((0u8..12, 1u16..5), 0..20),
        cut in 1usize..50,
    ) {
        let version = ProtocolVersion::V5;
        let mut input = Vec::new();
        for (kind, id) in packets {
            let ack = Ack::new(packet_id(id), ReasonCode::Success);
            let qos = QoS::from_bits(kind % 3).unwrap();
            match kind {
                0..6 => publish(Some("t"), qos, id, false, None).encode(version, &mut input),
                6 => Packet::PubAck(ack).encode(version, &mut input),
                7 => Packet::PubRec(ack).encode(version, &mut input),
                8 => Packet::PubRel(ack).encode(version, &mut input),
                9 => Packet::PubComp(ack).encode(version, &mut input),
                _ => Packet::PingResp.encode(version, &mut input),
            }
        }
        input.extend(bytes);
        let outcome = |pieces: &[&[u8]]| {
            let mut pair = Pair::connected(version);
            pair.publish(QoS::AtLeastOnce, "a");
            pair.publish(QoS::ExactlyOnce, "b");
            let result = pieces.iter().try_for_each(|piece| pair.session.receive(piece, T0));
            (result, pair.sent(), pair.events())
        };
        let whole = outcome(&[&input]);
        let pieces: Vec<_> = input.chunks(cut).collect();
        proptest::prop_assert_eq!(whole, outcome(&pieces));
    }
}

/// A method with one question: the server asks, and finally proves that it has understood the
/// answer.
struct Ask;

impl Authentication for Ask {
    fn method(&self) -> &str {
        "ask"
    }

    fn begin(&mut self) -> Vec<u8> {
        b"hello".to_vec()
    }

    fn answer(&mut self, data: &[u8]) -> Result<Vec<u8>, String> {
        match data {
            b"who?" => Ok(b"me".to_vec()),
            _ => Err("not its question".into()),
        }
    }

    fn finish(&mut self, data: &[u8]) -> Result<(), String> {
        match data {
            b"you" => Ok(()),
            _ => Err("another server".into()),
        }
    }
}

fn auth(method: &'static str, reason: ReasonCode, data: &'static [u8]) -> Packet<'static> {
    Packet::Auth(Auth {
        authentication_method: Some(method),
        authentication_data: Some(data),
        ..Auth::new(reason)
    })
}

fn proving() -> Pair {
    let mut pair = Pair::new(ProtocolVersion::V5);
    pair.session.set_authentication(Box::new(Ask));
    pair.session.connect(&pair.options, pair.now);
    let output = std::mem::take(pair.session.output_mut());
    let connect = decode_packet(&output, ProtocolVersion::V5).unwrap();
    let Some((Packet::Connect(connect), _)) = connect else {
        panic!("no CONNECT");
    };
    assert_eq!(connect.properties.authentication_method, Some("ask"));
    assert_eq!(connect.properties.authentication_data, Some(&b"hello"[..]));
    pair
}

fn connack(data: &'static [u8]) -> Packet<'static> {
    let properties = ConnAckProperties {
        authentication_method: Some("ask"),
        authentication_data: Some(data),
        ..ConnAckProperties::default()
    };
    Packet::ConnAck(ConnAck {
        properties,
        ..ConnAck::new(false, ReasonCode::Success)
    })
}

#[test]
fn a_question_of_the_server_is_answered_and_the_server_looked_at() {
    let mut pair = proving();
    let more = ReasonCode::ContinueAuthentication;
    pair.receive(auth("ask", more, b"who?")).unwrap();
    assert_eq!(pair.sent(), ["Auth"]);
    pair.receive(connack(b"you")).unwrap();
    assert!(pair.session.is_connected());
    // Nothing further is sent to another server.
    let mut pair = proving();
    pair.publish(QoS::AtLeastOnce, "for the right one");
    let error = pair.receive(connack(b"other")).unwrap_err();
    assert_eq!(error, SessionError::Authentication("another server".into()));
    assert!(pair.sent().is_empty() && !pair.session.is_connected());
}

#[test]
fn auth_out_of_place_ends_the_connection() {
    let more = ReasonCode::ContinueAuthentication;
    for packet in [
        auth("other", more, b"who?"),
        auth("ask", ReasonCode::Success, b"who?"),
        auth("ask", more, b"what?"),
    ] {
        let mut pair = proving();
        assert!(pair.receive(packet).is_err());
        assert!(pair.sent().is_empty());
    }
    // Without an authentication method.
    let mut pair = Pair::new(ProtocolVersion::V5);
    pair.session.connect(&pair.options, pair.now);
    assert!(pair.receive(auth("ask", more, b"who?")).is_err());
}

#[test]
fn identifiers_that_the_server_may_hold_of_an_earlier_run_are_released_before_their_first_use() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let mut pair = Pair::new(version);
        pair.options.clean_start = false;
        pair.connect(ConnAckProperties::default(), true);
        let first = pair.publish(QoS::ExactlyOnce, "a");
        pair.publish(QoS::AtLeastOnce, "b");
        assert_eq!(
            pair.sent(),
            ["PubRel 1 Success", "Publish q2 m1 a", "Publish q1 m2 b"]
        );
        // The server may or may not have held a message: its answer comes before any other of that
        // message.
        pair.receive_ack(AckKind::PubComp, 1).unwrap();
        assert_eq!(pair.events(), [""; 0]);
        // The connection is lost; whether the release arrived is unknown.
        pair.session.connection_lost();
        pair.connect(ConnAckProperties::default(), true);
        assert_eq!(
            pair.sent(),
            [
                "PubRel 1 Success",
                "Publish q2 m1 dup a",
                "Publish q1 m2 dup b"
            ]
        );
        pair.receive_ack(AckKind::PubComp, 1).unwrap();
        pair.receive_ack(AckKind::PubRec, 1).unwrap();
        assert_eq!(pair.sent(), ["PubRel 1 Success"]);
        pair.receive_ack(AckKind::PubComp, 1).unwrap();
        assert_eq!(pair.events(), [format!("{first} Success")]);
    }
}

#[test]
fn identifiers_of_a_session_of_its_own_are_not_released_first() {
    let mut pair = Pair::new(ProtocolVersion::V5);
    pair.options.clean_start = false;
    pair.connect(ConnAckProperties::default(), false);
    pair.publish(QoS::ExactlyOnce, "a");
    assert_eq!(pair.sent(), ["Publish q2 m1 a"]);
    pair.session.connection_lost();
    pair.connect(ConnAckProperties::default(), true);
    pair.publish(QoS::ExactlyOnce, "b");
    assert_eq!(pair.sent(), ["Publish q2 m1 dup a", "Publish q2 m2 b"]);
}
