//! Property tests: encoded packets decode to the same values, and arbitrary bytes are safe.

mod support;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::LazyLock;

use martlet_codec::{
    Ack, AckKind, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect,
    OutgoingPublish, Packet, PacketId, PacketType, ProtocolVersion, Publish, PublishProperties,
    QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionIds,
    SubscriptionOptions, TopicName, UnsubAck, Unsubscribe, UserProperties, Will, decode_packet,
    encode_user_property, is_plain, level_count, primitive,
};
use proptest::option::of;
use proptest::prelude::*;

static CASES: LazyLock<Vec<support::Case>> = LazyLock::new(|| {
    let mut cases = support::table();
    cases.retain(|case| case.bytes.len() < 1000);
    cases
});

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![
        Just(ProtocolVersion::V31),
        Just(ProtocolVersion::V311),
        Just(ProtocolVersion::V5)
    ]
}

fn text() -> impl Strategy<Value = String> {
    "[a-z/+# é€😀\u{1}\u{feff}]{0,12}"
}

fn topic() -> impl Strategy<Value = String> {
    "[a-z/$ é€😀]{1,12}"
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 100..300),
    ]
}

fn qos() -> impl Strategy<Value = QoS> {
    (0u8..3).prop_map(|bits| QoS::from_bits(bits).expect("0 to 2"))
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>().prop_map(|id| PacketId::new(id.get()).expect("not zero"))
}

fn reason(packet_type: PacketType) -> impl Strategy<Value = ReasonCode> {
    let allowed: Vec<_> = ReasonCode::ALL
        .into_iter()
        .filter(|reason| reason.allowed_in(packet_type))
        .collect();
    prop::sample::select(allowed)
}

/// User Properties in their encoded form; often none, sometimes more than 127 bytes of them.
fn user() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::collection::vec((text(), text()), 1..12).prop_map(|pairs| {
            let mut out = Vec::new();
            for (key, value) in pairs {
                encode_user_property(&mut out, &key, &value);
            }
            out
        }),
    ]
}

fn user_properties(encoded: &[u8]) -> UserProperties<'_> {
    UserProperties::from_encoded(encoded).expect("made by the encoder")
}

/// `value` on 5.0, otherwise its default: older versions leave it out.
fn on_v5<T: Default>(version: ProtocolVersion, value: T) -> T {
    if version.is_v5() { value } else { T::default() }
}

fn assert_roundtrip(packet: Packet<'_>, version: ProtocolVersion) -> Result<(), TestCaseError> {
    let mut out = b"before".to_vec();
    packet.encode(version, &mut out);
    let encoded = &out[6..];
    prop_assert_eq!(
        decode_packet(encoded, version),
        Ok(Some((packet, encoded.len())))
    );
    for len in 0..encoded.len() {
        prop_assert_eq!(decode_packet(&encoded[..len], version), Ok(None));
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct OwnedPublishProperties {
    payload_format_utf8: Option<bool>,
    message_expiry_secs: Option<u32>,
    topic_alias: Option<NonZeroU16>,
    response_topic: Option<String>,
    correlation_data: Option<Vec<u8>>,
    content_type: Option<String>,
    subscription_ids: Vec<u32>,
    ids_encoded: Vec<u8>,
    user: Vec<u8>,
}

impl OwnedPublishProperties {
    fn borrow(&self) -> PublishProperties<'_> {
        PublishProperties {
            payload_format_utf8: self.payload_format_utf8,
            message_expiry_secs: self.message_expiry_secs,
            topic_alias: self.topic_alias,
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref(),
            content_type: self.content_type.as_deref(),
            subscription_ids: SubscriptionIds::from_encoded(&self.ids_encoded)
                .expect("made by the encoder"),
            user_properties: user_properties(&self.user),
            ..PublishProperties::default()
        }
    }

    /// The properties that a Will may have.
    fn borrow_for_will(&self) -> PublishProperties<'_> {
        let subscription_ids = SubscriptionIds::default();
        PublishProperties {
            topic_alias: None,
            subscription_ids,
            ..self.borrow()
        }
    }
}

fn publish_properties() -> impl Strategy<Value = OwnedPublishProperties> {
    let ids = prop::collection::vec(1u32..=268_435_455, 0..4);
    (
        (
            of(any::<bool>()),
            of(any::<u32>()),
            of(any::<NonZeroU16>()),
            of(topic()),
        ),
        (of(bytes()), of(text()), ids, user()),
    )
        .prop_map(
            |((format, expiry, alias, response), (correlation, content, ids, user))| {
                let mut ids_encoded = Vec::new();
                for id in &ids {
                    ids_encoded.push(0x0B);
                    primitive::put_varint(&mut ids_encoded, *id);
                }
                OwnedPublishProperties {
                    payload_format_utf8: format,
                    message_expiry_secs: expiry,
                    topic_alias: alias,
                    response_topic: response,
                    correlation_data: correlation,
                    content_type: content,
                    subscription_ids: ids,
                    ids_encoded,
                    user,
                }
            },
        )
}

proptest! {
    #[test]
    fn connect_decodes_to_what_was_encoded(
        version in version(),
        (bridge, clean_start, keep_alive_secs) in any::<(bool, bool, u16)>(),
        (client_id, user_name, password) in (text(), of(text()), of(bytes())),
        will in of(
            (topic(), bytes(), qos(), any::<bool>(), of(any::<u32>()), publish_properties()),
        ),
        numbers in (
            of(any::<u32>()),
            of(any::<NonZeroU16>()),
            of(any::<NonZeroU32>()),
            of(any::<u16>()),
        ),
        flags in (of(any::<bool>()), of(any::<bool>())),
        authentication in of((text(), of(bytes()))),
        user in user(),
    ) {
        let connect = Connect {
            version,
            bridge: bridge && !version.is_v5(),
            clean_start,
            keep_alive_secs,
            client_id: &client_id,
            user_name: user_name.as_deref(),
            password: password.as_deref().filter(|_| version.is_v5() || user_name.is_some()),
            will: will.as_ref().map(|(topic, payload, qos, retain, delay, properties)| Will {
                topic,
                payload,
                qos: *qos,
                retain: *retain,
                delay_secs: on_v5(version, *delay),
                properties: on_v5(version, properties.borrow_for_will()),
            }),
            properties: on_v5(version, ConnectProperties {
                session_expiry_secs: numbers.0,
                receive_maximum: numbers.1,
                maximum_packet_size: numbers.2,
                topic_alias_maximum: numbers.3,
                request_response_information: flags.0,
                request_problem_information: flags.1,
                authentication_method: authentication.as_ref().map(|(method, _)| method.as_str()),
                authentication_data: authentication.as_ref().and_then(|(_, data)| data.as_deref()),
                user_properties: user_properties(&user),
            }),
        };
        assert_roundtrip(Packet::Connect(connect), version)?;
    }

    #[test]
    fn connack_decodes_to_what_was_encoded(
        version in version(),
        present in any::<bool>(),
        reason in reason(PacketType::ConnAck),
        code in 0u8..6,
        numbers in (
            of(any::<u32>()),
            of(any::<NonZeroU16>()),
            of(any::<NonZeroU32>()),
            of(any::<u16>()),
            of(any::<u16>()),
        ),
        maximum_qos in of(0u8..2),
        flags in (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>())),
        texts in (of(text()), of(text()), of(text()), of(text())),
        authentication in of((text(), of(bytes()))),
        user in user(),
    ) {
        let older = ReasonCode::from_connect_return_code(code).expect("0 to 5");
        let reason = if version.is_v5() { reason } else { older };
        let connack = ConnAck {
            session_present: present && !reason.is_error() && version != ProtocolVersion::V31,
            reason,
            properties: on_v5(version, ConnAckProperties {
                session_expiry_secs: numbers.0,
                receive_maximum: numbers.1,
                maximum_qos: maximum_qos.and_then(QoS::from_bits),
                retain_available: flags.0,
                maximum_packet_size: numbers.2,
                assigned_client_id: texts.0.as_deref(),
                topic_alias_maximum: numbers.3,
                reason_string: texts.1.as_deref(),
                user_properties: user_properties(&user),
                wildcard_subscription_available: flags.1,
                subscription_ids_available: flags.2,
                shared_subscription_available: flags.3,
                server_keep_alive_secs: numbers.4,
                response_information: texts.2.as_deref(),
                server_reference: texts.3.as_deref(),
                authentication_method: authentication.as_ref().map(|(method, _)| method.as_str()),
                authentication_data: authentication.as_ref().and_then(|(_, data)| data.as_deref()),
            }),
        };
        assert_roundtrip(Packet::ConnAck(connack), version)?;
    }

    #[test]
    fn publish_decodes_to_what_was_encoded(
        version in version(),
        (dup, retain) in any::<(bool, bool)>(),
        (qos, id) in (qos(), packet_id()),
        (topic, payload) in (of(topic()), bytes()),
        properties in publish_properties(),
    ) {
        let properties = on_v5(version, properties.borrow());
        let topic = topic.as_deref().or(properties.topic_alias.is_none().then_some("t"));
        let publish = Publish {
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: topic.map(|topic| TopicName::new(topic).expect("no wildcard in it")),
            packet_id: (qos != QoS::AtMostOnce).then_some(id),
            properties,
            payload: &payload,
        };
        assert_roundtrip(Packet::Publish(publish), version)?;
    }

    #[test]
    fn levels_and_plainness_of_a_topic_are_what_looking_at_each_byte_gives(
        text in "([ -~]|/|\\x00|\\x1f|\\x7f|é|\u{ffff}){0,40}",
    ) {
        let bytes = text.as_bytes();
        prop_assert_eq!(level_count(&text), bytes.split(|byte| *byte == b'/').count());
        prop_assert_eq!(is_plain(&text), bytes.iter().all(|byte| (0x20..0x7F).contains(byte)));
    }

    #[test]
    fn outgoing_publish_decodes_to_its_parts_and_knows_its_length(
        version in version(),
        (dup, retain) in any::<(bool, bool)>(),
        (qos, id) in (qos(), packet_id()),
        (topic, payload) in (topic(), bytes()),
        parts in publish_properties(),
    ) {
        let properties = parts.borrow();
        let mut forwarded = Vec::new();
        properties.encode_forwarded(&mut forwarded);
        let outgoing = OutgoingPublish {
            dup,
            qos,
            retain,
            topic: topic.as_bytes(),
            packet_id: None,
            topic_alias: parts.topic_alias,
            message_expiry_secs: parts.message_expiry_secs,
            subscription_ids: &parts.subscription_ids,
            forwarded: &forwarded,
            payload: &payload,
        };
        let mut out = vec![0xFF; 3];
        let offset = outgoing.encode(version, &mut out);
        prop_assert_eq!(out.len() - 3, outgoing.encoded_len(version));
        prop_assert_eq!(offset.is_some(), qos != QoS::AtMostOnce);
        // The identifier is written afterwards, at the offset returned by the encoder.
        if let Some(offset) = offset {
            out[offset..offset + 2].copy_from_slice(&id.get().to_be_bytes());
        }
        let expected = Publish {
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: TopicName::new(&topic).ok(),
            packet_id: offset.map(|_| id),
            properties: on_v5(version, properties),
            payload: &payload,
        };
        let decoded = decode_packet(&out[3..], version);
        prop_assert_eq!(decoded, Ok(Some((Packet::Publish(expected), out.len() - 3))));
    }

    #[test]
    fn what_a_server_passes_on_comes_out_as_it_went_in(
        parts in publish_properties(),
        verbatim in any::<bool>(),
    ) {
        let mut properties = parts.borrow();
        if verbatim {
            properties.message_expiry_secs = None;
            properties.topic_alias = None;
            properties.subscription_ids = SubscriptionIds::default();
        }
        let publish = |properties| Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: TopicName::new("t").ok(),
            packet_id: None,
            properties,
            payload: b"",
        });
        let mut received = Vec::new();
        publish(properties).encode(ProtocolVersion::V5, &mut received);
        let decoded = decode_packet(&received, ProtocolVersion::V5);
        let Ok(Some((Packet::Publish(decoded), _))) = decoded else {
            return Err(TestCaseError::fail("no PUBLISH"));
        };
        let mut forwarded = Vec::new();
        decoded.properties.encode_forwarded(&mut forwarded);
        let only_forwardable = properties.message_expiry_secs.is_none()
            && properties.topic_alias.is_none()
            && properties.subscription_ids.is_empty();
        prop_assert_eq!(decoded.properties.raw_is_forwardable, only_forwardable);
        if only_forwardable {
            prop_assert_eq!(decoded.properties.raw, &forwarded);
        } else {
            prop_assert!(decoded.properties.raw.len() > forwarded.len());
        }
    }

    #[test]
    fn acknowledgements_decode_to_what_was_encoded_and_know_their_length(
        version in version(),
        id in packet_id(),
        which in 0usize..4,
        reasons in (reason(PacketType::PubAck), reason(PacketType::PubRel)),
        (reason_string, user) in (of(text()), user()),
    ) {
        let kinds = [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp];
        let reason = if which < 2 { reasons.0 } else { reasons.1 };
        let ack = Ack {
            packet_id: id,
            reason: if version.is_v5() { reason } else { ReasonCode::Success },
            reason_string: on_v5(version, reason_string.as_deref()),
            user_properties: on_v5(version, user_properties(&user)),
        };
        let packet = match kinds[which] {
            AckKind::PubAck => Packet::PubAck(ack),
            AckKind::PubRec => Packet::PubRec(ack),
            AckKind::PubRel => Packet::PubRel(ack),
            AckKind::PubComp => Packet::PubComp(ack),
        };
        assert_roundtrip(packet, version)?;
        let mut out = Vec::new();
        ack.encode(kinds[which], version, &mut out);
        prop_assert_eq!(out.len(), ack.encoded_len(version));
    }

    #[test]
    fn subscribe_decodes_to_what_was_encoded(
        version in version(),
        id in packet_id(),
        subscription_id in of(1u32..=268_435_455),
        user in user(),
        filters in prop::collection::vec(
            ("[a-z/+#é]{1,9}", qos(), any::<(bool, bool)>(), 0usize..3),
            1..20,
        ),
    ) {
        let handling =
            [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        let filters: Vec<_> = filters
            .iter()
            .map(|(filter, qos, (no_local, retain_as_published), retain)| {
                let options = SubscriptionOptions {
                    qos: *qos,
                    no_local: *no_local,
                    retain_as_published: *retain_as_published,
                    retain_handling: handling[*retain],
                };
                let older = SubscriptionOptions { qos: *qos, ..SubscriptionOptions::default() };
                SubscribeFilter { filter, options: if version.is_v5() { options } else { older } }
            })
            .collect();
        let user = on_v5(version, user_properties(&user));
        let mut out = Vec::new();
        Subscribe::encode_parts(version, id, subscription_id, user, &filters, &mut out);
        let Ok(Some((Packet::Subscribe(decoded), _))) = decode_packet(&out, version) else {
            return Err(TestCaseError::fail("no SUBSCRIBE"));
        };
        prop_assert_eq!(decoded.packet_id, id);
        prop_assert_eq!(decoded.subscription_id, on_v5(version, subscription_id));
        prop_assert_eq!(decoded.user_properties, user);
        prop_assert_eq!(decoded.filter_count(), filters.len());
        prop_assert_eq!(decoded.filters().collect::<Vec<_>>(), filters);
        assert_roundtrip(Packet::Subscribe(decoded), version)?;
    }

    #[test]
    fn unsubscribe_decodes_to_what_was_encoded(
        version in version(),
        id in packet_id(),
        user in user(),
        filters in prop::collection::vec("[a-z/+#é]{1,9}", 1..20),
    ) {
        let filters: Vec<_> = filters.iter().map(String::as_str).collect();
        let user = on_v5(version, user_properties(&user));
        let mut out = Vec::new();
        Unsubscribe::encode_parts(version, id, user, &filters, &mut out);
        let Ok(Some((Packet::Unsubscribe(decoded), _))) = decode_packet(&out, version) else {
            return Err(TestCaseError::fail("no UNSUBSCRIBE"));
        };
        prop_assert_eq!((decoded.packet_id, decoded.user_properties), (id, user));
        prop_assert_eq!(decoded.filters().collect::<Vec<_>>(), filters);
        assert_roundtrip(Packet::Unsubscribe(decoded), version)?;
    }

    #[test]
    fn suback_and_unsuback_decode_to_what_was_encoded(
        version in version(),
        packet_id in packet_id(),
        suback in prop::collection::vec(reason(PacketType::SubAck), 1..200),
        unsuback in prop::collection::vec(reason(PacketType::UnsubAck), 1..200),
        (reason_string, user) in (of(text()), user()),
    ) {
        let reason_string = on_v5(version, reason_string.as_deref());
        let user_properties = on_v5(version, user_properties(&user));
        // Before 5.0 there is only one failure code, and UNSUBACK has no codes.
        let highest = if version.is_v5() { 0xFF } else { 0x80 };
        let codes: Vec<_> = suback.iter().map(|reason| reason.code().min(highest)).collect();
        let packet = SubAck { packet_id, reason_codes: &codes, reason_string, user_properties };
        assert_roundtrip(Packet::SubAck(packet), version)?;
        let codes: Vec<_> = unsuback.iter().map(|reason| reason.code()).collect();
        let reason_codes = on_v5(version, codes.as_slice());
        let packet = UnsubAck { packet_id, reason_codes, reason_string, user_properties };
        assert_roundtrip(Packet::UnsubAck(packet), version)?;
    }

    #[test]
    fn disconnect_decodes_to_what_was_encoded(
        version in version(),
        reason in reason(PacketType::Disconnect),
        session_expiry_secs in of(any::<u32>()),
        (reason_string, server_reference) in (of(text()), of(text())),
        user in user(),
    ) {
        let disconnect = Disconnect {
            reason,
            session_expiry_secs,
            reason_string: reason_string.as_deref(),
            server_reference: server_reference.as_deref(),
            user_properties: user_properties(&user),
        };
        let plain = Disconnect::new(ReasonCode::Success);
        let packet = Packet::Disconnect(if version.is_v5() { disconnect } else { plain });
        assert_roundtrip(packet, version)?;
        let mut out = Vec::new();
        Packet::Disconnect(disconnect).encode(ProtocolVersion::V311, &mut out);
        prop_assert_eq!(out, [0xE0, 0]);
    }

    #[test]
    fn auth_decodes_to_what_was_encoded(
        reason in reason(PacketType::Auth),
        authentication in of((text(), of(bytes()))),
        reason_string in of(text()),
        user in user(),
    ) {
        let auth = Auth {
            reason,
            authentication_method: authentication.as_ref().map(|(method, _)| method.as_str()),
            authentication_data: authentication.as_ref().and_then(|(_, data)| data.as_deref()),
            reason_string: reason_string.as_deref(),
            user_properties: user_properties(&user),
        };
        assert_roundtrip(Packet::Auth(auth), ProtocolVersion::V5)?;
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        version in version(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = support::outcome(&bytes, version);
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        version in version(),
        first in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend_from_slice(&body);
        let _ = support::outcome(&bytes, version);
    }

    #[test]
    fn packets_of_the_table_with_changed_bytes_never_panic(
        version in version(),
        case in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = case.get(&CASES).bytes.clone();
        for (index, mask) in changes {
            if let Some(len) = bytes.len().checked_sub(1) {
                bytes[index.index(len + 1)] ^= mask;
            }
        }
        // Truncated, with a matching Remaining Length.
        if let Some(cut) = cut.filter(|_| bytes.len() > 2 && bytes.len() < 130) {
            bytes.truncate(2 + cut.index(bytes.len() - 2));
            bytes[1] = (bytes.len() - 2) as u8;
        }
        if let Ok(Some((packet, _))) = decode_packet(&bytes, version) {
            let mut encoded = Vec::new();
            packet.encode(version, &mut encoded);
            prop_assert_eq!(decode_packet(&encoded, version), Ok(Some((packet, encoded.len()))));
        }
        let _ = support::outcome(&bytes, version);
    }
}

#[test]
fn the_levels_of_a_long_topic_are_all_counted() {
    for slashes in (0..20).chain(2035..2045).chain([65_535]) {
        let topic = "/".repeat(slashes);
        assert_eq!(level_count(&topic), slashes + 1);
        assert!(is_plain(&topic));
    }
}
