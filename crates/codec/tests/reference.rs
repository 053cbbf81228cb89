//! Topics, reason codes, properties, headers and primitives, compared with the specification's own
//! examples and tables.

use martlet_codec::{
    ConnAck, DecodeError, FixedHeader, MAX_REMAINING_LEN, OutgoingPublish, PacketId, PacketType,
    PropertyId, ProtocolVersion, QoS, ReasonCode, SubAck, SubscriptionFilter, TopicError,
    TopicFilter, TopicName, UserProperties, decode_fixed_header, encode_pingreq, encode_pingresp,
    has_control_characters, primitive,
};

fn matches(filter: &str, topic: &str) -> bool {
    let filter = TopicFilter::new(filter).expect("a filter");
    filter.matches(TopicName::new(topic).expect("a name"))
}

#[test]
fn two_filters_match_their_common_topics() {
    for (one, other, common) in [
        ("a/#", "a", Some("a")),
        ("a/#", "+/b/+", Some("a/b/+")),
        ("#", "a/#", Some("a/#")),
        ("+/b", "a/+", Some("a/b")),
        ("a/b", "a/c", None),
        ("a/+", "a", None),
        ("$SYS/#", "#", None),
        ("+/a", "$SYS/a", None),
    ] {
        let of = |text| TopicFilter::new(text).expect("a filter");
        for (one, other) in [(one, other), (other, one)] {
            let found = of(one).intersection(of(other));
            assert_eq!(found.as_deref(), common, "{one} {other}");
        }
    }
}

#[test]
fn filters_match_as_the_specification_lists() {
    let yes = [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon",
        ),
        ("sport/#", "sport"),
        ("#", "sport/tennis"),
        ("#", "/"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("+", "finance"),
        ("+/tennis/#", "sport/tennis"),
        ("$SYS/#", "$SYS/broker"),
        ("$SYS/+/x", "$SYS/broker/x"),
        ("a//b", "a//b"),
        ("a/+/b", "a//b"),
        ("/", "/"),
        ("a/$x/#", "a/$x/b"),
        ("+/$x", "a/$x"),
    ];
    for (filter, topic) in yes {
        assert!(matches(filter, topic), "{filter} must match {topic}");
    }
    let no = [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/broker"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("+", "$SYS"),
        ("ACCOUNTS", "Accounts"),
        ("a/b", "a/b/"),
        ("a/b/", "a/b"),
        ("a", "/a"),
        ("a/b/#", "a"),
        ("\u{e9}", "e\u{301}"),
        ("a", "\u{feff}a"),
    ];
    for (filter, topic) in no {
        assert!(!matches(filter, topic), "{filter} must not match {topic}");
    }
}

#[test]
fn wildcards_stand_alone_in_their_level() {
    for good in [
        "#", "+", "a/#", "+/#", "+/a/+", "/+/", "//", "/", "/#", "a b", "$share", "$SYS/#",
    ] {
        assert!(TopicFilter::new(good).is_ok(), "{good}");
    }
    // [MQTT-4.7.1-1]
    for bad in ["a#", "#a", "a/#/b", "##", "a/b#", "#/", "#/#", "a/+#"] {
        assert_eq!(
            TopicFilter::new(bad),
            Err(TopicError::MultiLevelWildcard),
            "{bad}"
        );
    }
    // [MQTT-4.7.1-2]
    for bad in ["a+", "+a", "a/b+/c", "++", "+/+a"] {
        assert_eq!(
            TopicFilter::new(bad),
            Err(TopicError::SingleLevelWildcard),
            "{bad}"
        );
    }
}

#[test]
fn names_and_filters_are_neither_empty_nor_too_long_nor_hold_nul() {
    let longest = "a".repeat(65_535);
    let too_long = "a".repeat(65_536);
    assert!(TopicName::new(&longest).is_ok() && TopicFilter::new(&longest).is_ok());
    let bad = [
        ("", TopicError::Empty),
        (too_long.as_str(), TopicError::TooLong),
        ("a\0", TopicError::Nul),
    ];
    for (text, error) in bad {
        assert_eq!(TopicName::new(text), Err(error));
        assert_eq!(TopicFilter::new(text), Err(error));
    }
    assert_eq!(TopicName::new("a/+"), Err(TopicError::WildcardInName));
    assert_eq!(TopicName::new("#"), Err(TopicError::WildcardInName));
}

#[test]
fn levels_may_be_empty() {
    let name = TopicName::new("/a//").unwrap();
    assert_eq!(name.levels().collect::<Vec<_>>(), ["", "a", "", ""]);
    assert_eq!(name.level_count(), 4);
    let filter = TopicFilter::new("+/b").unwrap();
    assert_eq!((filter.level_count(), filter.has_wildcard()), (2, true));
    assert!(!TopicFilter::new("a/b").unwrap().has_wildcard());
}

#[test]
fn shared_subscriptions_are_split_into_share_name_and_filter() {
    let shared = SubscriptionFilter::parse("$share/consumer1/sport/tennis/+").unwrap();
    assert_eq!(shared.share_name, Some("consumer1"));
    assert_eq!(shared.filter.as_str(), "sport/tennis/+");
    assert_eq!(
        SubscriptionFilter::parse("$share/g//finance")
            .unwrap()
            .filter
            .as_str(),
        "/finance"
    );
    for plain in ["a/b", "$shared/g/t", "share/g/t", "$SYS/#", "$sharex"] {
        let parsed = SubscriptionFilter::parse(plain).unwrap();
        assert_eq!((parsed.share_name, parsed.filter.as_str()), (None, plain));
        assert!(!SubscriptionFilter::is_shared(plain), "{plain}");
    }
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    let bad = [
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//t",
        "$share/+/t",
        "$share/g#/t",
    ];
    for bad in bad {
        assert_eq!(
            SubscriptionFilter::parse(bad),
            Err(TopicError::ShareName),
            "{bad}"
        );
        assert!(SubscriptionFilter::is_shared(bad), "{bad}");
    }
    let inner = SubscriptionFilter::parse("$share/g/a#");
    assert_eq!(inner, Err(TopicError::MultiLevelWildcard));
}

#[test]
fn control_characters_and_noncharacters_are_found() {
    for bad in [
        "\u{1}",
        "a\u{1f}",
        "\u{7f}",
        "\u{80}",
        "\u{9f}",
        "\u{fdd0}",
        "\u{fdef}",
        "\u{ffff}",
        "\u{1fffe}",
        "\u{10ffff}",
        "a\nb",
    ] {
        assert!(has_control_characters(bad), "{bad:?}");
    }
    for good in [
        "",
        "a/b c~",
        "\u{a0}",
        "é€😀",
        "\u{feff}",
        "\u{fdcf}",
        "\u{fdf0}",
        "\u{fffd}",
    ] {
        assert!(!has_control_characters(good), "{good:?}");
    }
}

#[test]
fn reason_codes_keep_their_values_and_names() {
    for reason in ReasonCode::ALL {
        assert_eq!(ReasonCode::from_u8(reason.code()), Some(reason));
        assert_eq!(reason.is_error(), reason.code() >= 0x80);
        assert!(!reason.name().is_empty());
    }
    let known = (0..=u8::MAX)
        .filter(|code| ReasonCode::from_u8(*code).is_some())
        .count();
    assert_eq!(known, ReasonCode::ALL.len());
    assert_eq!(ReasonCode::SessionTakenOver.name(), "Session taken over");
}

/// The number of reason codes in each packet's table (§3.2.2.2 to §3.15.2.1).
#[test]
fn each_packet_allows_as_many_reason_codes_as_its_table_has() {
    use PacketType as P;
    let counts = [
        (P::ConnAck, 22),
        (P::PubAck, 9),
        (P::PubRec, 9),
        (P::PubRel, 2),
        (P::PubComp, 2),
        (P::SubAck, 12),
        (P::UnsubAck, 7),
        // Table 3-10 leaves out 0x8C (Bad authentication method), which table 2-6 lists.
        (P::Disconnect, 29 + 1),
        (P::Auth, 3),
        (P::Publish, 0),
    ];
    for (packet_type, count) in counts {
        let allowed = ReasonCode::ALL
            .iter()
            .filter(|reason| reason.allowed_in(packet_type))
            .count();
        assert_eq!(allowed, count, "{packet_type}");
    }
    let by_client = ReasonCode::ALL
        .iter()
        .filter(|reason| reason.sendable_by_client_in_disconnect())
        .count();
    assert_eq!(by_client, 14);
}

#[test]
fn errors_become_the_nearest_return_code_before_5() {
    use ReasonCode as R;
    let codes = [
        (R::Success, 0),
        (R::UnsupportedProtocolVersion, 1),
        (R::ClientIdentifierNotValid, 2),
        (R::ServerUnavailable, 3),
        (R::ServerBusy, 3),
        (R::QuotaExceeded, 3),
        (R::ConnectionRateExceeded, 3),
        (R::BadUserNameOrPassword, 4),
        (R::NotAuthorized, 5),
        (R::Banned, 5),
    ];
    for (reason, code) in codes {
        assert_eq!(reason.connect_return_code(), code, "{reason}");
    }
    for reason in ReasonCode::ALL {
        assert_eq!(
            reason.is_error(),
            reason.connect_return_code() != 0,
            "{reason}"
        );
    }
}

#[test]
fn the_27_property_identifiers_are_known() {
    for id in PropertyId::ALL {
        assert_eq!(PropertyId::from_u8(id.value()), Some(id));
    }
    let known = (0..=u8::MAX)
        .filter(|value| PropertyId::from_u8(*value).is_some())
        .count();
    assert_eq!(known, 27);
}

#[test]
fn variable_byte_integers_take_the_bytes_of_table_1_1() {
    let bounds = [
        (0, 1),
        (127, 1),
        (128, 2),
        (16_383, 2),
        (16_384, 3),
        (2_097_151, 3),
        (2_097_152, 4),
        (MAX_REMAINING_LEN, 4),
    ];
    for (value, len) in bounds {
        let mut out = Vec::new();
        primitive::put_varint(&mut out, value);
        assert_eq!(
            (out.len(), primitive::varint_len(value)),
            (len, len),
            "{value}"
        );
        assert_eq!(primitive::Reader::new(&out).varint(), Ok(value));
        let mut packet = vec![0x30];
        packet.extend_from_slice(&out);
        let header = decode_fixed_header(&packet).unwrap().unwrap();
        assert_eq!(
            (header.remaining_len, usize::from(header.header_len)),
            (value, len + 1)
        );
        assert_eq!(header.packet_len(), value as usize + len + 1);
        assert!(header.minimal);
    }
}

#[test]
fn a_wrong_first_byte_is_refused_before_the_next_arrives() {
    for first in 0..=u8::MAX {
        let alone = decode_fixed_header(&[first]);
        let with_length = decode_fixed_header(&[first, 0]);
        assert_eq!(alone.is_err(), with_length.is_err(), "{first:02X}");
        if let Err(error) = alone {
            assert_eq!(error.reason, ReasonCode::MalformedPacket);
        } else {
            assert_eq!(alone, Ok(None));
        }
    }
    assert_eq!(decode_fixed_header(&[]), Ok(None));
}

#[test]
fn auth_is_no_packet_before_5() {
    let header = decode_fixed_header(&[0xF0, 0]).unwrap().unwrap();
    let FixedHeader { packet_type, .. } = header;
    assert_eq!(packet_type, PacketType::Auth);
    assert_eq!(header.check_version(ProtocolVersion::V5), Ok(()));
    assert!(header.check_version(ProtocolVersion::V311).is_err());
    assert!(header.check_version(ProtocolVersion::V31).is_err());
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let text = format!("{}é", "a".repeat(65_534));
    let mut out = Vec::new();
    primitive::put_string(&mut out, &text);
    assert_eq!(
        primitive::Reader::new(&out).string().map(str::len),
        Ok(65_534)
    );
    out.clear();
    primitive::put_binary(&mut out, &[7; 70_000]);
    assert_eq!(out.len(), 2 + 65_535);
}

#[test]
fn a_publish_that_no_remaining_length_can_tell_is_not_written() {
    let topic = "t".repeat(65_536);
    let outgoing = OutgoingPublish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: topic.as_bytes(),
        packet_id: PacketId::new(1),
        topic_alias: None,
        message_expiry_secs: None,
        subscription_ids: &[],
        forwarded: &[],
        payload: b"",
    };
    let mut out = Vec::new();
    assert_eq!(outgoing.encode(ProtocolVersion::V5, &mut out), None);
    assert!(out.is_empty());
}

#[test]
fn an_older_client_is_answered_in_its_own_codes() {
    let mut out = Vec::new();
    // [MQTT-3.2.2-6]: Session Present is 0 with an error.
    ConnAck::new(true, ReasonCode::ServerBusy).encode(ProtocolVersion::V311, &mut out);
    ConnAck::new(true, ReasonCode::Success).encode(ProtocolVersion::V311, &mut out);
    ConnAck::new(true, ReasonCode::Success).encode(ProtocolVersion::V31, &mut out);
    assert_eq!(out, [0x20, 2, 0, 3, 0x20, 2, 1, 0, 0x20, 2, 0, 0]);
    out.clear();
    SubAck::new(PacketId::MIN, &[1, 0x87, 0x8F]).encode(ProtocolVersion::V311, &mut out);
    assert_eq!(out, [0x90, 5, 0, 1, 1, 0x80, 0x80]);
    out.clear();
    encode_pingreq(&mut out);
    encode_pingresp(&mut out);
    assert_eq!(out, [0xC0, 0, 0xD0, 0]);
}

#[test]
fn user_properties_are_wrapped_only_when_they_are_sound() {
    assert!(UserProperties::from_encoded(&[]).unwrap().is_empty());
    assert!(UserProperties::from_encoded(&[0x1F, 0, 0]).is_err());
    assert!(UserProperties::from_encoded(&[0x26, 0, 1, b'k', 0]).is_err());
    assert!(UserProperties::from_encoded(&[0x26, 0, 1, 0xFF, 0, 0]).is_err());
    let one = UserProperties::from_encoded(&[0x26, 0, 1, b'k', 0, 0]).unwrap();
    assert_eq!((one.count(), one.iter().next()), (1, Some(("k", ""))));
}

#[test]
fn an_error_names_code_fault_and_statement() {
    let error = DecodeError::malformed("Packet Identifier 0", "MQTT-2.2.1-3");
    assert_eq!(
        error.to_string(),
        "Malformed Packet (0x81): Packet Identifier 0 [MQTT-2.2.1-3]"
    );
    let error = DecodeError::protocol("Receive Maximum 0", "");
    assert_eq!(
        error.to_string(),
        "Protocol Error (0x82): Receive Maximum 0"
    );
}
