//! Tests of messages that are screened before routing: registrations of devices, and messages that
//! identify their device by `api_key`.

mod wire;

use std::sync::Arc;

use martlet_broker::{
    Actions, Authenticated, Discovery, Identity, ListenerPolicy, Realm, Refusal, RefusalCause,
    Rule, Rules, Screened, Screening, ScreeningKind, Settings, TransportEnd,
};
use martlet_codec::{
    Connect, Packet, ProtocolVersion, PublishProperties, QoS, ReasonCode,
    ReasonCode::NotAuthorized, Will,
};
use martlet_script::{Harness, Link, Wiring};
use wire::{packets, publish, subscribe};

const V5: ProtocolVersion = ProtocolVersion::V5;
const REGISTER: &str = "x/discovery/register/s1";
const RESPONSE: &str = "x/discovery/response/s1";

/// A node whose listener has all kinds of screening.
fn node(shards: u16) -> Harness {
    let discovery = Discovery {
        key_in_payload: true,
        topics: ["x/discovery/register/".into()].into(),
        connections_max: 2,
        lasts_secs: 60,
    };
    let listener = ListenerPolicy {
        authenticate: true,
        discovery: Some(Arc::new(discovery)),
        payload_api_key: true,
        ..ListenerPolicy::default()
    };
    let wiring = Wiring {
        shards,
        ..Wiring::default()
    };
    Harness::new(Settings::default(), listener, wiring)
}

fn rules(list: &[(Actions, &str)]) -> Arc<Rules> {
    let rule = |&(actions, filter): &(Actions, &str)| Rule {
        actions,
        allows: true,
        filter: filter.into(),
        source: "test".into(),
    };
    let rules = list.iter().map(rule).collect();
    Arc::new(Rules::compile(rules, Actions::NONE).expect("the filters are valid"))
}

/// A client without credentials.
fn applicant() -> Identity {
    Identity {
        user_name: Some("$discovery".into()),
        realm: Realm::OWN_RULES,
        rules: rules(&[(Actions::READ, "x/discovery/response/+")]),
        sessions_max: 2,
        is_applicant: true,
        ..Identity::anyone()
    }
}

fn device(topics: &str) -> Identity {
    Identity {
        user_name: Some("d1".into()),
        is_device: true,
        rules: rules(&[(Actions::PUBLISH, topics)]),
        ..Identity::anyone()
    }
}

fn connect(client_id: &str, session_expiry_secs: Option<u32>) -> Vec<u8> {
    let mut connect = Connect::new(V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_secs = session_expiry_secs;
    wire::encoded(&connect)
}

fn come(node: &mut Harness, client_id: &str, identity: Identity) -> Link {
    let link = node.open();
    node.send(link, &connect(client_id, Some(3600)));
    for (shard, asked) in node.take_authentications() {
        let answer = Authenticated::Accepted {
            identity: identity.clone(),
            last_revocation: 0,
            data: None,
        };
        node.authenticated(shard, asked.connection, answer);
    }
    let accepted = node.take(link);
    packets(V5, &accepted, |packet| match packet {
        Packet::ConnAck(connack) => assert_eq!(connack.reason, ReasonCode::Success),
        other => panic!("{other:?}"),
    });
    link
}

/// The only message to be screened.
fn asked(node: &mut Harness) -> (u16, Screening) {
    let mut all = node.take_screenings();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Takes what a client received: topics with payloads, and Reason Codes of PUBACK and PUBREC.
fn taken(node: &mut Harness, link: Link) -> Vec<String> {
    let mut seen = Vec::new();
    let bytes = node.take(link);
    packets(V5, &bytes, |packet| {
        seen.push(match packet {
            Packet::Publish(publish) => format!(
                "{} {} {}",
                publish.topic.map_or("", |topic| topic.as_str()),
                publish.qos as u8,
                String::from_utf8_lossy(publish.payload)
            ),
            Packet::PubAck(ack) | Packet::PubRec(ack) => format!("{:#04x}", ack.reason.code()),
            Packet::SubAck(_) => "suback".to_owned(),
            other => format!("{other:?}"),
        });
    });
    seen
}

/// A client with this payload in its Will. Returns whether it is accepted.
fn come_with_will(node: &mut Harness, payload: &[u8]) -> (Link, bool) {
    let link = node.open();
    let mut connect = Connect::new(V5, "dying");
    connect.will = Some(Will {
        topic: "w",
        payload,
        qos: QoS::AtMostOnce,
        retain: false,
        delay_secs: None,
        properties: PublishProperties::default(),
    });
    node.send(link, &wire::encoded(&connect));
    for (shard, asked) in node.take_authentications() {
        let identity = Identity {
            user_name: Some("ada".into()),
            rules: rules(&[(Actions::PUBLISH, "w")]),
            ..Identity::anyone()
        };
        let answer = Authenticated::Accepted {
            identity,
            last_revocation: 0,
            data: None,
        };
        node.authenticated(shard, asked.connection, answer);
    }
    let mut is_accepted = false;
    let answer = node.take(link);
    packets(V5, &answer, |packet| {
        is_accepted |= matches!(packet, Packet::ConnAck(ack) if ack.reason == ReasonCode::Success);
    });
    (link, is_accepted)
}

#[test]
fn a_will_is_sent_by_the_rules_of_its_client_and_shows_no_key() {
    let mut node = node(1);
    let reader = come(&mut node, "reader", Identity::anyone());
    node.send(reader, &subscribe(V5, &["w"], QoS::AtMostOnce));
    taken(&mut node, reader);
    let (link, is_accepted) = come_with_will(&mut node, b"gone");
    assert!(is_accepted);
    node.end(link, TransportEnd::Error);
    assert_eq!(taken(&mut node, reader), ["w 0 gone"]);
    let (_, is_accepted) = come_with_will(&mut node, br#"{"api_key": "secret"}"#);
    assert!(!is_accepted);
}

fn of_device(payload: &str) -> Screened {
    Screened::OfDevice {
        identity: Box::new(device("x/%c/#")),
        last_revocation: 0,
        payload: payload.as_bytes().into(),
    }
}

fn refused() -> Screened {
    Screened::Refused {
        reason: NotAuthorized,
        why: Refusal::operators_only(RefusalCause::WrongSecret, "wrong"),
    }
}

#[test]
fn a_registration_is_answered_to_its_client_alone() {
    for shards in [1, 3] {
        let mut node = node(shards);
        let spy = come(&mut node, "spy", Identity::anyone());
        node.send(spy, &subscribe(V5, &["#"], QoS::ExactlyOnce));
        let link = come(&mut node, "s1", applicant());
        node.send(link, &subscribe(V5, &[RESPONSE], QoS::AtLeastOnce));
        taken(&mut node, link);
        let body = b"the provisioning key";
        node.send(
            link,
            &publish(V5, REGISTER, QoS::AtLeastOnce, 7, true, body),
        );
        let (shard, screening) = asked(&mut node);
        assert_eq!(screening.kind, ScreeningKind::Registration);
        assert!(screening.is_applicant && &*screening.payload == body);
        assert!(!format!("{screening:?}").contains("provisioning key"));
        assert!(taken(&mut node, link).is_empty(), "not before the answer");
        let answer = Screened::Answered {
            topic: RESPONSE.into(),
            payload: b"secret".as_slice().into(),
            refused: None,
        };
        node.screened(shard, screening.connection, answer);
        assert_eq!(
            taken(&mut node, link),
            [format!("{RESPONSE} 1 secret"), "0x00".to_owned()]
        );
        let seen = taken(&mut node, spy);
        assert_eq!(seen, ["suback"], "nobody else sees anything");
        node.end(link, TransportEnd::EndOfStream);
        node.end(spy, TransportEnd::EndOfStream);
    }
}

#[test]
fn an_applicant_may_do_nothing_else_and_leaves_nothing() {
    let mut node = node(1);
    let link = come(&mut node, "s1", applicant());
    for topic in ["x/d1/1", RESPONSE, "x/discovery/register/s1/more"] {
        node.send(link, &publish(V5, topic, QoS::AtLeastOnce, 1, false, b"1"));
        assert_eq!(taken(&mut node, link), ["0x87"], "{topic}");
    }
    for filter in [
        "#",
        "x/discovery/response/+",
        &format!("$share/g/{RESPONSE}"),
    ] {
        node.send(link, &subscribe(V5, &[filter], QoS::AtMostOnce));
        let bytes = node.take(link);
        assert_eq!(bytes.last(), Some(&0x87), "{filter}");
    }
    // There is room for two clients.
    let other = come(&mut node, "s2", applicant());
    let third = node.open();
    node.send(third, &connect("s3", None));
    for (shard, asked) in node.take_authentications() {
        let answer = Authenticated::Accepted {
            identity: applicant(),
            last_revocation: 0,
            data: None,
        };
        node.authenticated(shard, asked.connection, answer);
    }
    let bytes = node.take(third);
    packets(V5, &bytes, |packet| match packet {
        Packet::ConnAck(connack) => assert_eq!(connack.reason, ReasonCode::QuotaExceeded),
        other => panic!("{other:?}"),
    });
    for link in [link, other] {
        node.end(link, TransportEnd::EndOfStream);
    }
    node.end(third, TransportEnd::Finished);
    node.end_tick();
    let left = node.leftovers();
    assert!(left.is_empty(), "its session ends with it: {left:?}");
}

#[test]
fn messages_keep_their_order_while_one_is_looked_at() {
    let mut node = node(1);
    let spy = come(&mut node, "spy", Identity::anyone());
    node.send(spy, &subscribe(V5, &["x/d1/#"], QoS::AtMostOnce));
    taken(&mut node, spy);
    let link = come(&mut node, "old", Identity::anyone());
    let keyed = br#"{"api_key":"k"}"#;
    let all = [
        publish(V5, "x/d1/1", QoS::AtMostOnce, 0, false, b"1"),
        publish(V5, "x/d1/2", QoS::AtLeastOnce, 2, true, keyed),
        publish(V5, "x/d1/3", QoS::AtMostOnce, 0, false, b"3"),
        publish(V5, "x/d1/4", QoS::ExactlyOnce, 4, false, keyed),
        publish(V5, "x/d1/5", QoS::AtMostOnce, 0, false, keyed),
        publish(V5, "y", QoS::AtLeastOnce, 6, false, keyed),
        publish(V5, "x/d1/7", QoS::AtMostOnce, 0, false, b"7"),
    ];
    node.send(link, &all.concat());
    assert_eq!(taken(&mut node, spy), ["x/d1/1 0 1"]);
    let steps: [(Screened, &[&str], &[&str]); 4] = [
        (of_device("2"), &["x/d1/2 0 2", "x/d1/3 0 3"], &["0x00"]),
        (of_device("4"), &["x/d1/4 0 4"], &["0x00"]),
        (refused(), &[], &[]),
        // The device may not publish there, whatever rights its client has.
        (of_device("6"), &["x/d1/7 0 7"], &["0x87"]),
    ];
    for (answer, seen, acked) in steps {
        let (shard, screening) = asked(&mut node);
        assert_eq!(screening.kind, ScreeningKind::PayloadKey);
        node.screened(shard, screening.connection, answer);
        assert_eq!(taken(&mut node, spy), seen);
        assert_eq!(taken(&mut node, link), acked);
    }
    assert!(node.take_screenings().is_empty());
    // The retained message does not contain the key.
    let late = come(&mut node, "late", Identity::anyone());
    node.send(late, &subscribe(V5, &["x/d1/2"], QoS::AtMostOnce));
    assert!(taken(&mut node, late).contains(&"x/d1/2 0 2".to_owned()));
}

#[test]
fn a_repetition_of_qos_2_is_not_looked_at_again() {
    let mut node = node(1);
    let link = come(&mut node, "old", Identity::anyone());
    let mut message = publish(
        V5,
        "x/d1/1",
        QoS::ExactlyOnce,
        1,
        false,
        br#"{"api_key":"k"}"#,
    );
    node.send(link, &message);
    let (shard, screening) = asked(&mut node);
    node.screened(shard, screening.connection, of_device("1"));
    assert_eq!(taken(&mut node, link).len(), 1);
    message[0] |= 0b1000;
    node.send(link, &message);
    assert_eq!(taken(&mut node, link).len(), 1);
    assert!(node.take_screenings().is_empty());
}

#[test]
fn what_a_client_sent_before_it_left_is_looked_at_all_the_same() {
    let mut node = node(1);
    let spy = come(&mut node, "spy", Identity::anyone());
    node.send(spy, &subscribe(V5, &["x/d1/#"], QoS::AtMostOnce));
    taken(&mut node, spy);
    let link = come(&mut node, "old", Identity::anyone());
    let keyed = |topic| publish(V5, topic, QoS::AtMostOnce, 0, false, br#"{"api_key":"k"}"#);
    node.send(
        link,
        &[keyed("x/d1/1"), keyed("x/d1/2"), vec![0xE0, 0]].concat(),
    );
    node.end(link, TransportEnd::EndOfStream);
    for number in ["1", "2"] {
        let (shard, screening) = asked(&mut node);
        node.screened(shard, screening.connection, of_device(number));
        assert_eq!(taken(&mut node, spy), [format!("x/d1/{number} 0 {number}")]);
    }
    // A new connection does not wait for messages that its client sent before.
    let link = come(&mut node, "back", Identity::anyone());
    node.send(link, &keyed("x/d1/3"));
    node.end(link, TransportEnd::EndOfStream);
    asked(&mut node);
    let back = come(&mut node, "back", Identity::anyone());
    node.end(back, TransportEnd::EndOfStream);
    // For a client that has left permanently nothing is requested, and a late answer is ignored.
    let link = come(&mut node, "gone", Identity::anyone());
    node.send(link, &keyed("x/d1/3"));
    let (shard, screening) = asked(&mut node);
    let again = come(&mut node, "gone", Identity::anyone());
    node.screened(shard, screening.connection, of_device("3"));
    assert!(taken(&mut node, spy).len() <= 1);
    for link in [again, spy] {
        node.end(link, TransportEnd::EndOfStream);
    }
}

#[test]
fn a_message_that_names_no_device_is_its_clients_own() {
    let mut node = node(1);
    let own = Identity {
        rules: rules(&[(Actions::PUBLISH, "x/d1/#")]),
        realm: Realm::OWN_RULES,
        ..Identity::anyone()
    };
    let link = come(&mut node, "own", own);
    for (topic, code) in [("x/d1/1", "0x10"), ("y", "0x87")] {
        let payload = br#"{"a":"\u0041"}"#;
        node.send(
            link,
            &publish(V5, topic, QoS::AtLeastOnce, 1, false, payload),
        );
        let (shard, screening) = asked(&mut node);
        node.screened(shard, screening.connection, Screened::OfClient);
        assert_eq!(taken(&mut node, link), [code], "{topic}");
    }
}
