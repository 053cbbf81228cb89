//! Well-formed packets whose fields were chosen. Names come from small sets, so that clients meet
//! each other's sessions, subscriptions and Packet Identifiers.

use std::num::{NonZeroU16, NonZeroU32};

use martlet_codec::{
    Ack, AckKind, Auth, Connect, ConnectProperties, Disconnect, PacketId, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, RetainHandling, SubscribeFilter, SubscriptionOptions,
    TopicName, Unsubscribe, UserProperties, Will, encode_user_property,
};

use crate::choices::Choices;

const CLIENT_IDS: &[&str] = &[
    "c0",
    "c1",
    "c2",
    "c3",
    "c4",
    "c5",
    "",
    "c+/#",
    "$c",
    "a client identifier that is longer than 37",
];
const TOPICS: &[&str] = &[
    "a",
    "a/b",
    "a/b/c",
    "b",
    "/",
    "x/\u{e9}",
    "$SYS/a",
    "a/b/c/d/e/f/g",
];
const FILTERS: &[&str] = &[
    "a",
    "a/b",
    "a/+",
    "#",
    "+/b",
    "+",
    "a/#",
    "$share/g/a/#",
    "$share/g/#",
    "$share/h/+/b",
    "$share/g/a",
    "$SYS/#",
    "a/#/b",
    "$share/g",
    "$share//a",
    "$share/+/a",
    "",
    "a/b/c/d/e/f/g",
    "x/\u{e9}",
    "b",
];
const VERSIONS: &[ProtocolVersion] = &[
    ProtocolVersion::V5,
    ProtocolVersion::V311,
    ProtocolVersion::V5,
    ProtocolVersion::V31,
];
const QOS: &[QoS] = &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const SECS: &[u32] = &[0, 1, 10, 100, 100_000, u32::MAX];

/// Makes a CONNECT and hands it over with its bytes.
pub(crate) fn connect<T>(
    choices: &mut Choices<'_>,
    then: impl FnOnce(&Connect<'_>, Vec<u8>) -> T,
) -> T {
    let user = user_properties(choices);
    let user_properties = UserProperties::from_encoded(&user).unwrap_or_default();
    let will = choices.one_of(3).then(|| Will {
        topic: choices.pick(TOPICS),
        payload: choices.bytes(20),
        qos: choices.pick(QOS),
        retain: choices.one_of(2),
        delay_secs: choices.maybe(SECS),
        properties: PublishProperties {
            message_expiry_secs: choices.maybe(SECS),
            user_properties,
            ..PublishProperties::default()
        },
    });
    let properties = ConnectProperties {
        session_expiry_secs: choices.maybe(SECS),
        receive_maximum: choices
            .maybe(&[1, 2, 3, u16::MAX])
            .and_then(NonZeroU16::new),
        maximum_packet_size: choices
            .maybe(&[1, 5, 12, 30, 60, 1000])
            .and_then(NonZeroU32::new)
            .filter(|_| choices.one_of(3)),
        topic_alias_maximum: choices.maybe(&[0, 1, 2, u16::MAX]),
        request_response_information: choices.maybe(&[false, true]),
        request_problem_information: choices.maybe(&[false, true]),
        authentication_method: choices.one_of(12).then_some("method"),
        authentication_data: None,
        user_properties,
    };
    let version = choices.pick(VERSIONS);
    let user_name = choices.maybe(&["", "user", "other"]);
    let connect = Connect {
        version,
        bridge: choices.one_of(8) && !version.is_v5(),
        clean_start: choices.one_of(2),
        keep_alive_secs: choices.pick(&[0, 0, 1, 10, u16::MAX]),
        client_id: choices.pick(CLIENT_IDS),
        user_name,
        password: (user_name.is_some() && choices.one_of(2)).then_some(b"secret"),
        will,
        properties,
    };
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    then(&connect, bytes)
}

/// A CONNECT that begins and ends a session of that name.
pub(crate) fn connect_clean(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Connect::new(ProtocolVersion::V5, client_id).encode(&mut bytes);
    bytes
}

pub(crate) fn publish(choices: &mut Choices<'_>, version: ProtocolVersion) -> Vec<u8> {
    let user = user_properties(choices);
    let topic_alias = choices
        .maybe(&[1, 2, 3, u16::MAX])
        .and_then(NonZeroU16::new);
    let topic_alias = topic_alias.filter(|_| choices.one_of(2));
    let without_topic = topic_alias.is_some() && choices.one_of(2);
    let properties = PublishProperties {
        payload_format_utf8: choices.maybe(&[false, true]),
        message_expiry_secs: choices.maybe(SECS),
        topic_alias,
        response_topic: choices.maybe(&["r", "a/b"]),
        correlation_data: choices.maybe(&[b"".as_slice(), b"data".as_slice()]),
        content_type: choices.maybe(&["", "type"]),
        user_properties: UserProperties::from_encoded(&user).unwrap_or_default(),
        ..PublishProperties::default()
    };
    let qos = choices.pick(QOS);
    let topic = TopicName::new(choices.pick(TOPICS)).ok();
    let payload = choices.bytes(40);
    let padding = match choices.one_of(16) {
        true => usize::from(choices.byte()) * 16,
        false => 0,
    };
    let payload = [payload, &vec![b'p'; padding]].concat();
    let packet = Publish {
        dup: choices.one_of(4) && qos > QoS::AtMostOnce,
        qos,
        retain: choices.one_of(3),
        topic: topic.filter(|_| !(without_topic && version.is_v5())),
        packet_id: (qos > QoS::AtMostOnce).then(|| packet_id(choices)),
        properties,
        payload: &payload,
    };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

pub(crate) fn subscribe(choices: &mut Choices<'_>, version: ProtocolVersion) -> Vec<u8> {
    let user = user_properties(choices);
    let filter = |choices: &mut Choices<'_>| SubscribeFilter {
        filter: choices.pick(FILTERS),
        options: SubscriptionOptions {
            qos: choices.pick(QOS),
            no_local: choices.one_of(6),
            retain_as_published: choices.one_of(2),
            retain_handling: choices.pick(&[
                RetainHandling::default(),
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]),
        },
    };
    let mut filters: Vec<_> = (0..=choices.below(4)).map(|_| filter(choices)).collect();
    if choices.one_of(16) {
        // The answer may be too large for its client.
        filters = filters.repeat(30);
    }
    let mut bytes = Vec::new();
    martlet_codec::Subscribe::encode_parts(
        version,
        packet_id(choices),
        choices.maybe(&[1, 2, 268_435_455]),
        UserProperties::from_encoded(&user).unwrap_or_default(),
        &filters,
        &mut bytes,
    );
    bytes
}

pub(crate) fn unsubscribe(choices: &mut Choices<'_>, version: ProtocolVersion) -> Vec<u8> {
    let filters: Vec<_> = (0..=choices.below(3))
        .map(|_| choices.pick(FILTERS))
        .collect();
    let mut bytes = Vec::new();
    let id = packet_id(choices);
    Unsubscribe::encode_parts(version, id, UserProperties::default(), &filters, &mut bytes);
    bytes
}

/// Any acknowledgement, most likely of nothing.
pub(crate) fn stray_ack(choices: &mut Choices<'_>, version: ProtocolVersion) -> Vec<u8> {
    let kind = choices.pick(&[
        AckKind::PubAck,
        AckKind::PubRec,
        AckKind::PubComp,
        AckKind::PubRel,
    ]);
    let id = packet_id(choices);
    ack(kind, id, ack_reason(choices, kind), version)
}

/// Success, or now and then another reason code that this packet may have.
pub(crate) fn ack_reason(choices: &mut Choices<'_>, kind: AckKind) -> ReasonCode {
    match (choices.one_of(5), kind) {
        (false, _) => ReasonCode::Success,
        (true, AckKind::PubAck | AckKind::PubRec) => choices.pick(&[
            ReasonCode::UnspecifiedError,
            ReasonCode::NoMatchingSubscribers,
            ReasonCode::QuotaExceeded,
        ]),
        (true, AckKind::PubRel | AckKind::PubComp) => ReasonCode::PacketIdentifierNotFound,
    }
}

pub(crate) fn ack(
    kind: AckKind,
    packet_id: PacketId,
    reason: ReasonCode,
    version: ProtocolVersion,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    Ack::new(packet_id, reason).encode(kind, version, &mut bytes);
    bytes
}

/// PINGREQ, DISCONNECT or AUTH.
pub(crate) fn other(choices: &mut Choices<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    match choices.below(4) {
        0 | 1 => martlet_codec::encode_pingreq(&mut bytes),
        2 => {
            let mut packet = Disconnect::new(choices.pick(&[
                ReasonCode::Success,
                ReasonCode::DisconnectWithWillMessage,
                ReasonCode::UnspecifiedError,
                ReasonCode::SessionTakenOver,
            ]));
            packet.session_expiry_secs = choices.maybe(SECS);
            packet.encode(version, &mut bytes);
        }
        _ => bytes = auth(choices, version),
    }
    bytes
}

/// A step of a client that proves who it is; the wrong one now and then.
pub(crate) fn auth(choices: &mut Choices<'_>, _: ProtocolVersion) -> Vec<u8> {
    let mut packet = Auth::new(choices.pick(&[
        ReasonCode::ContinueAuthentication,
        ReasonCode::ReAuthenticate,
        ReasonCode::ContinueAuthentication,
        ReasonCode::ReAuthenticate,
        ReasonCode::Success,
    ]));
    if !choices.one_of(10) {
        packet.authentication_method = Some(["method", "other"][usize::from(choices.one_of(10))]);
        packet.authentication_data = choices.one_of(2).then(|| choices.bytes(20));
    }
    let mut bytes = Vec::new();
    packet.encode(&mut bytes);
    bytes
}

fn packet_id(choices: &mut Choices<'_>) -> PacketId {
    PacketId::new(choices.pick(&[1, 2, 3, 4, 5, u16::MAX])).unwrap_or(PacketId::MIN)
}

/// None, one or several, encoded.
fn user_properties(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if choices.one_of(4) {
        for index in 0..choices.below(6) {
            encode_user_property(&mut bytes, "key", ["", "value"][index % 2]);
        }
    }
    bytes
}
