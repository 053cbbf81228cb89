//! Whose turn it is: what many clients do at the same time takes turns by the work that it is, and
//! nobody else waits for all of it.
//!
//! In virtual time on the harness. Turns are short here, so that few clients are enough to fill
//! many of them.

use std::sync::Arc;

use martlet_broker::{
    Authenticated, Command, Identity, Limits, ListenerPolicy, Realm, Revocation, Rules, Settings,
    TransportEnd, Whose, WorkLimits,
};
use martlet_codec::{
    Connect, OutgoingPublish, Packet, ProtocolVersion, PublishProperties, QoS, Will,
};
use martlet_script::{Harness, Link, Wiring};

mod wire;

const V311: ProtocolVersion = ProtocolVersion::V311;

/// Units of work in a turn.
const TURN: u64 = 2048;

/// Units that the end of a connection takes at once, at most: all but its Will and its session.
const END: u64 = 250;

fn settings(limits: Limits) -> Settings {
    Settings {
        limits,
        work: WorkLimits {
            turn: TURN,
            share: TURN / 4,
            matches: 1024,
        },
        ..Settings::default()
    }
}

fn node(limits: Limits) -> Harness {
    Harness::new(
        settings(limits),
        ListenerPolicy::default(),
        Wiring::default(),
    )
}

fn connect(client_id: &str, clean_start: bool, will: Option<&str>) -> Vec<u8> {
    let will = will.map(|topic| Will {
        topic,
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        delay_secs: None,
        properties: PublishProperties::default(),
    });
    wire::encoded(&Connect {
        clean_start,
        keep_alive_secs: 10,
        user_name: Some("user"),
        will,
        ..wire::connect(V311, client_id)
    })
}

fn client(node: &mut Harness, client_id: &str, will: Option<&str>) -> Link {
    let link = node.open();
    node.send(link, &connect(client_id, true, will));
    link
}

fn clients(node: &mut Harness, name: &str, count: usize, will: Option<&str>) -> Vec<Link> {
    let numbers = 0..count;
    let clients = numbers.map(|number| client(node, &format!("{name}-{number}"), will));
    clients.collect()
}

fn subscribers(node: &mut Harness, name: &str, count: usize, filter: &str) -> Vec<Link> {
    let links = clients(node, name, count, None);
    for link in &links {
        node.send(*link, &wire::subscribe(V311, &[filter], QoS::AtMostOnce));
        node.take(*link);
    }
    links
}

fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    wire::publish(V311, topic, (QoS::AtMostOnce, 0), false, payload)
}

fn publishes(node: &mut Harness, link: Link) -> usize {
    let mut count = 0;
    wire::packets(V311, &node.take(link), |packet| {
        count += usize::from(matches!(packet, Packet::Publish(_)));
    });
    count
}

const WATCHERS: usize = 200;
const CLIENTS: usize = 60;

/// Ends of connections that each have a Will for many take turns, however they come about, and
/// each Will is sent once [MQTT-3.1.2-8].
fn wills_take_turns(end: impl FnOnce(&mut Harness, &[Link])) {
    let mut node = node(Limits::default());
    let watchers = subscribers(&mut node, "watcher", WATCHERS, "wills");
    let links = clients(&mut node, "client", CLIENTS, Some("wills"));
    node.take_most_work();
    let work = node.at_once(|node| end(node, &links));
    let bound = 2 * TURN + CLIENTS as u64 * END;
    assert!(work <= bound, "{work} units, of {bound} at most");
    let most = node.take_most_work();
    assert!(most <= 2 * TURN, "{most} units in one call");
    for link in watchers {
        assert_eq!(publishes(&mut node, link), CLIENTS);
    }
    let known = node.counters().sessions;
    assert!(known <= (WATCHERS + 1 + CLIENTS) as u64, "{known}");
}

#[test]
fn wills_of_connections_that_are_cut_take_turns() {
    wills_take_turns(|node, links| {
        for link in links {
            node.end(*link, TransportEnd::Error);
        }
    });
}

#[test]
fn wills_of_clients_that_break_the_protocol_take_turns() {
    wills_take_turns(|node, links| {
        for link in links {
            node.send(*link, &[0xF0, 0]);
        }
    });
}

#[test]
fn wills_of_clients_that_are_taken_over_take_turns() {
    wills_take_turns(|node, links| {
        for number in 0..links.len() {
            client(node, &format!("client-{number}"), None);
        }
    });
}

#[test]
fn wills_of_clients_that_operators_disconnect_take_turns() {
    wills_take_turns(|node, links| {
        for number in 0..links.len() {
            let disconnect = Command::Disconnect {
                request: number as u64,
                tenant: martlet_broker::TenantId::default(),
                client_id: format!("client-{number}"),
                reason: martlet_codec::ReasonCode::AdministrativeAction,
            };
            node.command(0, disconnect);
        }
    });
}

/// A client is back before its Will had its turn: the Will is sent all the same, since its delay
/// was over, and its session goes on.
#[test]
fn a_will_that_waits_for_its_turn_is_sent_though_its_client_comes_back() {
    let mut node = node(Limits::default());
    let watchers = subscribers(&mut node, "watcher", WATCHERS, "wills");
    let links: Vec<Link> = (0..CLIENTS)
        .map(|number| {
            let link = node.open();
            node.send(
                link,
                &connect(&format!("client-{number}"), false, Some("wills")),
            );
            link
        })
        .collect();
    let mut back = Vec::new();
    node.at_once(|node| {
        for link in links {
            node.end(link, TransportEnd::Error);
        }
        for number in 0..CLIENTS {
            let link = node.open();
            node.send(link, &connect(&format!("client-{number}"), false, None));
            back.push(link);
        }
    });
    for link in watchers {
        assert_eq!(publishes(&mut node, link), CLIENTS);
    }
    for link in back {
        let present = [0x20, 2, 1, 0];
        assert_eq!(node.take(link), present);
    }
}

fn known(node: &mut Harness) {
    for (shard, asked) in node.take_authentications() {
        let identity = Identity {
            user_name: asked.user_name.clone(),
            rules: Arc::new(Rules::open()),
            ..Identity::anyone()
        };
        let answer = Authenticated::Accepted {
            identity,
            known: 0,
            data: None,
        };
        node.authenticated(shard, asked.connection, answer);
    }
}

/// Many who are revoked at once end in turns, and no packet of theirs is obeyed meanwhile.
#[test]
fn many_who_are_revoked_end_in_turns_and_are_not_obeyed_meanwhile() {
    let listener = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    let mut node = Harness::new(settings(Limits::default()), listener, Wiring::default());
    let mut links = Vec::new();
    for number in 0..CLIENTS {
        let link = node.open();
        node.send(
            link,
            &connect(&format!("client-{number}"), true, Some("wills")),
        );
        known(&mut node);
        assert_eq!(node.take(link), [0x20, 2, 0, 0]);
        node.send(link, &wire::subscribe(V311, &["told"], QoS::AtMostOnce));
        node.take(link);
        links.push(link);
    }
    let observer = node.open();
    let mut hello = connect("observer", true, None);
    // Another client.
    let place = hello.len() - 4;
    hello[place..].copy_from_slice(b"boss");
    node.send(observer, &hello);
    known(&mut node);
    let filters = ["obeyed", "wills"];
    node.send(observer, &wire::subscribe(V311, &filters, QoS::AtMostOnce));
    node.take(observer);
    let revocation = Revocation {
        realm: Realm::COMMON,
        whose: Whose::User("user".into()),
        number: 5,
    };
    let mut revoking = 0;
    node.take_most_work();
    node.at_once(|node| {
        node.command(0, Command::Revoke([revocation].into()));
        revoking = node.take_most_work();
        for link in &links {
            node.send(*link, &publish("obeyed", b""));
        }
        node.send(observer, &publish("told", b""));
    });
    assert!(revoking <= 2 * TURN, "{revoking} units in one call");
    let most = node.take_most_work();
    assert!(most <= 2 * TURN, "{most} units in one call");
    for link in &links {
        assert!(node.is_closed(*link));
        assert_eq!(publishes(&mut node, *link), 0, "it is told nothing more");
    }
    let mut topics = Vec::new();
    wire::packets(V311, &node.take(observer), |packet| {
        if let Packet::Publish(publish) = packet {
            topics.extend(publish.topic.map(|topic| topic.as_str().to_owned()));
        }
    });
    assert_eq!(topics, vec!["wills"; CLIENTS]);
    assert_eq!(node.counters().sessions, 1);
}

/// Clients send `packets` at the same time, and behind them another client publishes to `one`.
/// Answers the most turns that one of the receivers has waited for that message.
fn turns_behind(node: &mut Harness, expensive: &[Link], packets: &[u8], receivers: &[Link]) -> u64 {
    let cheap = client(node, "cheap", None);
    let mut began = 0;
    node.at_once(|node| {
        for link in expensive {
            node.send(*link, packets);
        }
        node.send(cheap, &publish("one", b"now"));
        began = node.turns();
    });
    let received = receivers.iter().map(|link| node.received_in(*link));
    let last = received.map(|turn| turn.expect("it came")).max();
    last.expect("there is a receiver") - began
}

/// Who publishes little waits a few turns, however many publish to many receivers at the same time.
#[test]
fn a_cheap_publisher_waits_a_few_turns_however_many_are_expensive() {
    const EXPENSIVE: usize = 120;
    let mut node = node(Limits::default());
    let receivers = subscribers(&mut node, "receiver", WATCHERS, "many");
    let innocent = subscribers(&mut node, "innocent", 1, "one")[0];
    let expensive = clients(&mut node, "expensive", EXPENSIVE, None);
    let packets = publish("many", b"x").repeat(2);
    let waited = turns_behind(&mut node, &expensive, &packets, &[innocent]);
    assert!(waited <= 10, "it waited {waited} turns");
    for link in receivers {
        assert_eq!(publishes(&mut node, link), 2 * EXPENSIVE, "none starves");
    }
}

/// The same where what is expensive is not a message for many, but a long packet.
#[test]
fn a_cheap_publisher_does_not_wait_for_many_long_subscribes() {
    const EXPENSIVE: usize = 100;
    let mut node = node(Limits::default());
    let innocent = subscribers(&mut node, "innocent", 1, "one")[0];
    let expensive = clients(&mut node, "expensive", EXPENSIVE, None);
    let filters: Vec<String> = (0..50).map(|number| format!("f/{number}")).collect();
    let packet = wire::subscribe(V311, &filters, QoS::AtMostOnce);
    let waited = turns_behind(&mut node, &expensive, &packet, &[innocent]);
    assert!(waited <= 10, "it waited {waited} turns");
    assert_eq!(node.counters().subscriptions, 50 * EXPENSIVE as u64 + 1);
}

/// The same where the messages come from another shard.
#[test]
fn a_cheap_message_of_another_shard_does_not_wait_for_expensive_ones() {
    const EXPENSIVE: usize = 120;
    let wiring = Wiring {
        shards: 2,
        ..Wiring::default()
    };
    let mut node = Harness::new(
        settings(Limits::default()),
        ListenerPolicy::default(),
        wiring,
    );
    let receivers = subscribers(&mut node, "receiver", 2 * WATCHERS, "many");
    let innocents = subscribers(&mut node, "innocent", 8, "one");
    let expensive = clients(&mut node, "expensive", EXPENSIVE, None);
    let packets = publish("many", b"x").repeat(2);
    let waited = turns_behind(&mut node, &expensive, &packets, &innocents);
    assert!(waited <= 30, "it waited {waited} turns");
    for link in receivers {
        assert_eq!(publishes(&mut node, link), 2 * EXPENSIVE, "none starves");
    }
}

/// A client that leaves much behind and comes again does not hold up everybody else.
#[test]
fn what_a_client_left_behind_takes_a_bounded_part_of_a_turn_when_it_comes_back() {
    const MESSAGES: usize = 400;
    let mut node = node(Limits::default());
    let receivers = subscribers(&mut node, "receiver", WATCHERS, "many");
    let first = client(&mut node, "client", None);
    node.take_most_work();
    node.at_once(|node| {
        node.send(first, &publish("many", b"x").repeat(MESSAGES));
        node.end(first, TransportEnd::EndOfStream);
        client(node, "client", None);
    });
    let most = node.take_most_work();
    let bound = 4 * TURN + MESSAGES as u64 * 10;
    assert!(most <= bound, "{most} units in one call");
    for link in receivers {
        assert_eq!(publishes(&mut node, link), MESSAGES);
    }
}

/// Long queues whose messages expire together are looked through in turns, and nobody counts a
/// message twice.
#[test]
fn long_queues_expire_in_turns() {
    const MESSAGES: u64 = 2_000;
    const QUEUES: u64 = 4;
    let mut node = node(Limits::default());
    for number in 0..QUEUES {
        let away = node.open();
        node.send(away, &connect(&format!("away-{number}"), false, None));
        node.send(away, &wire::subscribe(V311, &["t"], QoS::AtLeastOnce));
        node.end(away, TransportEnd::EndOfStream);
    }
    let publisher = node.open();
    // MQTT 5, without Keep Alive.
    node.send(publisher, b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01p");
    let mut flood = Vec::new();
    for number in 1..=MESSAGES {
        let packet = OutgoingPublish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: b"t",
            packet_id: Some(wire::packet_id(number as u16)),
            topic_alias: None,
            // Every third stays.
            message_expiry_secs: (number % 3 > 0).then_some(60),
            subscription_ids: &[],
            forwarded: &[],
            payload: b"",
        };
        packet.encode(ProtocolVersion::V5, &mut flood);
    }
    node.send(publisher, &flood);
    assert_eq!(node.counters().held, QUEUES * MESSAGES);
    node.take_most_work();
    node.elapse(61_000);
    let most = node.take_most_work();
    assert!(most <= 3 * TURN, "{most} units in one call");
    let counters = node.counters();
    let expired = QUEUES * (MESSAGES - MESSAGES / 3);
    assert_eq!(counters.expired, expired);
    assert_eq!(counters.held, QUEUES * MESSAGES - expired);
}

/// Members of a share group that are away cost a message nothing, however many they are.
#[test]
fn members_of_a_share_group_that_are_away_are_not_looked_at() {
    const AWAY: usize = 600;
    const MESSAGES: u16 = 40;
    let limits = Limits {
        share_credit: 16,
        ..Limits::default()
    };
    let mut node = node(limits);
    let mut join = |client_id: &str| {
        let link = node.open();
        node.send(link, &connect(client_id, false, None));
        node.send(
            link,
            &wire::subscribe(V311, &["$share/g/t"], QoS::AtLeastOnce),
        );
        node.take(link);
        link
    };
    let away: Vec<Link> = (0..AWAY)
        .map(|number| join(&format!("away-{number}")))
        .collect();
    let there = join("there");
    for link in away {
        node.end(link, TransportEnd::EndOfStream);
    }
    let publisher = client(&mut node, "publisher", None);
    let mut most = 0;
    for number in 1..=MESSAGES {
        node.take_most_work();
        let packet = wire::publish(V311, "t", (QoS::AtLeastOnce, number), false, b"");
        node.send(publisher, &packet);
        most = most.max(node.take_most_work());
    }
    // It acknowledges nothing: what it has no credit for waits, and no member takes it.
    let came = publishes(&mut node, there);
    assert!(came > 0 && came < usize::from(MESSAGES), "{came}");
    assert!(most <= 100, "{most} units for one message");
    assert_eq!(node.counters().held, MESSAGES.into());
}

/// Sessions that end with their connections take turns as well: each may have many subscriptions.
#[test]
fn sessions_of_clients_that_say_goodbye_at_once_end_in_turns() {
    let mut node = node(Limits::default());
    let links = clients(&mut node, "client", CLIENTS, None);
    let filters: Vec<String> = (0..64).map(|number| format!("f/{number}")).collect();
    for link in &links {
        node.send(*link, &wire::subscribe(V311, &filters, QoS::AtMostOnce));
    }
    node.take_most_work();
    let work = node.at_once(|node| {
        for link in &links {
            node.send(*link, &[0xE0, 0]);
        }
    });
    let bound = 2 * TURN + CLIENTS as u64 * END;
    assert!(work <= bound, "{work} units, of {bound} at most");
    let most = node.take_most_work();
    assert!(most <= 2 * TURN, "{most} units in one call");
    let counters = node.counters();
    assert_eq!((counters.sessions, counters.subscriptions), (0, 0));
}

/// What clients had sent before they were cut off is obeyed, in turns.
#[test]
fn what_clients_sent_before_they_were_cut_off_takes_turns() {
    let mut node = node(Limits::default());
    let watchers = subscribers(&mut node, "watcher", WATCHERS, "last words");
    let links = clients(&mut node, "client", CLIENTS, None);
    let work = node.at_once(|node| {
        for link in &links {
            node.send(*link, &publish("last words", b"x").repeat(3));
        }
        for link in &links {
            node.end(*link, TransportEnd::Error);
        }
    });
    let bound = 2 * TURN + CLIENTS as u64 * END;
    assert!(work <= bound, "{work} units, of {bound} at most");
    for link in watchers {
        assert_eq!(publishes(&mut node, link), 3 * CLIENTS);
    }
}
