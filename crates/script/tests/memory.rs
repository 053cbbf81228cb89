//! What clients make a node hold counts against its limits, and who holds most gives back first.

use martlet_broker::{
    DropReason, Event, EventInterest, Limit, Limits, ListenerPolicy, Settings, TransportEnd,
};
use martlet_codec::{Connect, ConnectProperties, Packet, ProtocolVersion, QoS, ReasonCode};
use martlet_script::{Harness, Link, Wiring};

mod lasting;
mod wire;

const V5: ProtocolVersion = ProtocolVersion::V5;

fn node(limits: Limits) -> Harness {
    let settings = Settings {
        limits,
        events: EventInterest {
            connections: true,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    Harness::new(settings, ListenerPolicy::default(), Wiring::default())
}

/// A client whose session outlives its connection.
fn connect(node: &mut Harness, client_id: &str, will: Option<&[u8]>) -> Link {
    let mut packet = lasting::connect(client_id, will);
    packet.properties.topic_alias_maximum = Some(65_535);
    let link = node.open();
    node.send(link, &wire::encoded(&packet));
    link
}

fn reason_of_connack(node: &mut Harness, link: Link) -> ReasonCode {
    let mut reason = None;
    packets(&node.take(link), |packet| {
        if let Packet::ConnAck(connack) = packet {
            reason = Some(connack.reason);
        }
    });
    reason.expect("a CONNACK came")
}

fn subscribe(filters: &[String], qos: QoS) -> Vec<u8> {
    wire::subscribe(V5, filters, qos)
}

/// Subscribes to these filters; how many were granted.
fn granted(node: &mut Harness, link: Link, filters: &[String]) -> usize {
    node.take(link);
    node.send(link, &subscribe(filters, QoS::AtLeastOnce));
    let mut count = 0;
    packets(&node.take(link), |packet| {
        if let Packet::SubAck(suback) = packet {
            count += suback
                .reason_codes
                .iter()
                .filter(|code| **code < 0x80)
                .count();
        }
    });
    count
}

fn publish(topic: &str, qos: QoS, payload: &[u8]) -> Vec<u8> {
    wire::publish(V5, topic, (qos, 1), false, payload)
}

fn packets(bytes: &[u8], seen: impl FnMut(Packet<'_>)) {
    wire::packets(V5, bytes, seen);
}

fn long_filters(count: usize, bytes: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{number:0bytes$}"))
        .collect()
}

#[test]
fn filters_of_one_client_have_a_limit_in_bytes() {
    let mut node = node(Limits {
        subscription_bytes: 10_000,
        ..Limits::default()
    });
    let link = connect(&mut node, "a", None);
    let filters = long_filters(20, 1000);
    assert_eq!(granted(&mut node, link, &filters), 10);
    // Those that it has may be named again.
    assert_eq!(granted(&mut node, link, &filters[..10]), 10);
    let shared: Vec<_> = filters
        .iter()
        .map(|name| format!("$share/g/{name}"))
        .collect();
    assert_eq!(
        granted(&mut node, link, &shared),
        0,
        "shared ones count too"
    );
}

#[test]
fn a_will_and_all_wills_have_a_limit_in_bytes() {
    let mut node = node(Limits {
        will_bytes: 1000,
        wills_bytes: 3000,
        ..Limits::default()
    });
    let mut outcome = |client_id: &str, bytes: usize| {
        let link = connect(&mut node, client_id, Some(&vec![b'x'; bytes]));
        reason_of_connack(&mut node, link)
    };
    assert_eq!(outcome("large", 1000), ReasonCode::QuotaExceeded);
    let reasons = ["a", "b", "c"].map(|name| outcome(name, 900));
    let quota = ReasonCode::QuotaExceeded;
    assert_eq!(reasons, [ReasonCode::Success, ReasonCode::Success, quota]);
    assert_eq!(
        outcome("d", 100),
        ReasonCode::Success,
        "there is room for a small one"
    );
}

/// The Will of a session takes the place of the one that it has: only what it takes more counts.
#[test]
fn a_client_that_returns_with_its_will_needs_no_more_room() {
    let mut node = node(Limits {
        will_bytes: 2000,
        wills_bytes: 3000,
        ..Limits::default()
    });
    let mut outcome = |client_id: &str, bytes: usize| {
        let link = connect(&mut node, client_id, Some(&vec![b'x'; bytes]));
        reason_of_connack(&mut node, link)
    };
    let (ok, quota) = (ReasonCode::Success, ReasonCode::QuotaExceeded);
    assert_eq!(["a", "b"].map(|name| outcome(name, 900)), [ok, ok]);
    assert_eq!(outcome("c", 900), quota, "there is no room for another");
    assert_eq!(outcome("b", 900), ok, "it has one of that size");
    assert_eq!(
        outcome("b", 950),
        ok,
        "there is room for what it takes more"
    );
    assert_eq!(outcome("b", 1900), quota);
}

#[test]
fn sessions_have_a_limit_and_those_that_are_there_stay() {
    let mut node = node(Limits {
        sessions: 2,
        ..Limits::default()
    });
    let mut outcome = |client_id: &str| {
        let link = connect(&mut node, client_id, None);
        reason_of_connack(&mut node, link)
    };
    let ok = ReasonCode::Success;
    assert_eq!(["a", "b"].map(&mut outcome), [ok, ok]);
    assert_eq!(outcome("c"), ReasonCode::QuotaExceeded);
    assert_eq!(outcome("a"), ok, "it has a session");
}

/// Adds something without end, in steps with a tick after each; the most that was charged.
fn most_charged(limit: u64, mut add: impl FnMut(&mut Harness, usize)) -> u64 {
    let mut node = node(Limits {
        memory_bytes: limit,
        ..Limits::default()
    });
    let mut most = 0;
    for step in 0..3000 {
        add(&mut node, step);
        node.end_tick();
        most = most.max(node.counters().memory_bytes);
    }
    most
}

#[test]
fn sessions_subscriptions_and_wills_count_against_memory_bytes() {
    let limit = 1_000_000;
    let slack = 100_000;
    let sessions = most_charged(limit, |node, step| {
        connect(node, &format!("session-{step}"), None);
    });
    assert!((limit / 2..limit + slack).contains(&sessions), "{sessions}");
    let wills = most_charged(limit, |node, step| {
        connect(node, &format!("will-{step}"), Some(&[b'x'; 20_000]));
    });
    assert!((limit / 2..limit + slack).contains(&wills), "{wills}");
    let subscriptions = most_charged(limit, |node, step| {
        let link = connect(node, &format!("subscriber-{step}"), None);
        node.send(link, &subscribe(&long_filters(20, 2000), QoS::AtMostOnce));
    });
    assert!(
        (limit / 2..limit + slack).contains(&subscriptions),
        "{subscriptions}"
    );
}

/// One message for many takes a place in each of their queues.
#[test]
fn places_in_queues_count_against_memory_bytes() {
    let mut node = node(Limits {
        memory_bytes: 1_000_000,
        ..Limits::default()
    });
    for number in 0..100 {
        let link = connect(&mut node, &format!("away-{number}"), None);
        node.send(link, &subscribe(&["t".to_owned()], QoS::AtLeastOnce));
        node.end(link, TransportEnd::EndOfStream);
    }
    let publisher = connect(&mut node, "publisher", None);
    node.take(publisher);
    let mut refused = 0;
    for _ in 0..1000 {
        node.send(publisher, &publish("t", QoS::AtLeastOnce, b"x"));
        node.end_tick();
        packets(&node.take(publisher), |packet| {
            if let Packet::PubAck(ack) = packet {
                refused += usize::from(ack.reason == ReasonCode::QuotaExceeded);
            }
        });
    }
    // 100,000 places would take some 6 MB.
    assert!(refused > 500, "{refused}");
}

/// Topics that a node remembers for a client, because it has given them a Topic Alias.
#[test]
fn topic_aliases_towards_a_client_have_a_limit_in_bytes_and_count() {
    let most = 100_000;
    let mut node = node(Limits {
        topic_alias_bytes: most,
        ..Limits::default()
    });
    let reader = connect(&mut node, "reader", None);
    node.send(reader, &subscribe(&["#".to_owned()], QoS::AtMostOnce));
    let publisher = connect(&mut node, "publisher", None);
    node.end_tick();
    let before = node.counters().memory_bytes;
    let mut aliased = 0;
    for number in 0..20 {
        let topic = format!("{number:020000}");
        node.send(publisher, &publish(&topic, QoS::AtMostOnce, b"x"));
        packets(&node.take(reader), |packet| {
            if let Packet::Publish(publish) = packet {
                aliased += usize::from(publish.properties.topic_alias.is_some());
                assert!(publish.topic.is_some(), "the others are sent in full");
            }
        });
    }
    node.end_tick();
    assert_eq!(aliased, 5);
    let grown = node.counters().memory_bytes - before;
    assert!(
        (u64::from(most)..u64::from(most) + 200_000).contains(&grown),
        "{grown}"
    );
}

/// Who does not read is made to give back what it holds; a publisher is served all the while.
#[test]
fn clients_that_do_not_read_give_way_to_those_that_do() {
    let mut node = node(Limits {
        memory_bytes: 4_000_000,
        output_bytes: 200_000,
        ..Limits::default()
    });
    let mut deaf = Vec::new();
    for number in 0..30 {
        let link = connect(&mut node, &format!("deaf-{number}"), None);
        node.send(link, &subscribe(&["load".to_owned()], QoS::AtLeastOnce));
        node.take(link);
        node.set_reading(link, false);
        deaf.push(link);
    }
    let reader = connect(&mut node, "reader", None);
    node.send(reader, &subscribe(&["quiet".to_owned()], QoS::AtMostOnce));
    node.take(reader);
    let load = connect(&mut node, "load", None);
    let quiet = connect(&mut node, "quiet", None);
    node.take(quiet);
    let (mut refused, mut arrived) = (0, 0);
    for _ in 0..400 {
        node.send(load, &publish("load", QoS::AtMostOnce, &[b'x'; 4000]));
        node.send(quiet, &publish("quiet", QoS::AtLeastOnce, b"here"));
        node.elapse(25);
        node.end_tick();
        packets(&node.take(quiet), |packet| {
            if let Packet::PubAck(ack) = packet {
                refused += usize::from(ack.reason.is_error());
            }
        });
        packets(&node.take(reader), |packet| {
            arrived += usize::from(matches!(packet, Packet::Publish(_)));
        });
    }
    assert_eq!((refused, arrived), (0, 400));
    let counters = node.counters();
    let dropped = counters.dropped[DropReason::OutputFull as usize];
    assert!(dropped > 0, "each has its share");
    assert!(!node.is_closed(load) && !node.is_closed(reader));
}

/// The same with messages of QoS 1, which are not output: the connection goes, and its client is
/// told.
#[test]
fn a_client_that_holds_most_is_closed_and_the_reason_told() {
    let mut node = node(Limits {
        memory_bytes: 2_000_000,
        in_flight: 1000,
        ..Limits::default()
    });
    for number in 0..10 {
        let link = connect(&mut node, &format!("deaf-{number}"), None);
        node.send(
            link,
            &subscribe(&[format!("load/{number}")], QoS::AtLeastOnce),
        );
        node.take(link);
        node.set_reading(link, false);
    }
    let load = connect(&mut node, "load", None);
    node.take(load);
    let mut refused = 0;
    for number in 0..1200 {
        let topic = format!("load/{}", number % 10);
        node.send(load, &publish(&topic, QoS::AtLeastOnce, &[b'x'; 4000]));
        node.elapse(25);
        node.end_tick();
        packets(&node.take(load), |packet| {
            if let Packet::PubAck(ack) = packet {
                refused += usize::from(ack.reason.is_error());
            }
        });
    }
    assert_eq!(refused, 0, "the publisher is served");
    let told = node.take_events().into_iter().any(|told| {
        matches!(&told.event, Event::Disconnected { reason: ReasonCode::QuotaExceeded, why, .. }
            if why.limit() == Some(Limit::MemoryOfClient))
    });
    assert!(told);
    assert!(node.counters().clients_relieved > 0);
}

/// The beginning of a CONNECT of 30 kB that never ends.
fn unfinished_connect() -> Vec<u8> {
    let mut bytes = b"\x10\xb0\xea\x01\x00\x04MQTT\x05\x02\x00\x00\x00\x75\x30".to_vec();
    bytes.resize(29_000, b'x');
    bytes
}

/// Connections that send the beginning of a CONNECT and no more have a part of the memory: those
/// that hold most are refused and told why, and clients that log in find room.
#[test]
fn who_has_not_logged_in_takes_no_memory_from_those_who_have() {
    let limit = 4_000_000;
    let mut node = node(Limits {
        memory_bytes: limit,
        ..Limits::default()
    });
    let small = node.open();
    node.send(small, &unfinished_connect()[..400]);
    let attackers: Vec<Link> = (0..400)
        .map(|_| {
            let link = node.open();
            node.send(link, &unfinished_connect());
            node.end_tick();
            let held = node.counters().memory_bytes;
            assert!(held < limit / 4, "{held}");
            link
        })
        .collect();
    let client = connect(&mut node, "client", None);
    assert_eq!(reason_of_connack(&mut node, client), ReasonCode::Success);
    node.send(client, &publish("t", QoS::AtLeastOnce, b"x"));
    packets(&node.take(client), |packet| {
        assert!(matches!(packet, Packet::PubAck(ack) if !ack.reason.is_error()));
    });
    let mut told = 0;
    for link in attackers {
        if node.is_closed(link) {
            assert_eq!(
                reason_of_connack(&mut node, link),
                ReasonCode::QuotaExceeded
            );
            told += 1;
        }
    }
    assert!(told > 350, "{told}");
    assert!(!node.is_closed(small), "it holds little");
    assert_eq!(node.counters().clients_relieved, told);
    let events = node.take_events().into_iter();
    let refused = events.filter(|told| {
        matches!(&told.event, Event::Refused { reason: ReasonCode::QuotaExceeded, why, .. }
            if why.limit() == Some(Limit::MemoryOfLogins))
    });
    assert!(refused.count() > 0);
}

/// The same of clients that have sent a large CONNECT and wait to be known.
#[test]
fn clients_that_wait_to_be_known_have_a_part_of_the_memory() {
    let limit = 4_000_000;
    let settings = Settings {
        limits: Limits {
            memory_bytes: limit,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let policy = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    let mut node = Harness::new(settings, policy, Wiring::default());
    for number in 0..400 {
        connect(&mut node, &format!("w{number}"), Some(&[b'x'; 30_000]));
        node.end_tick();
        let held = node.counters().memory_bytes;
        assert!(held < limit / 4, "{held}");
    }
    let waiting = node.counters().lobby_connections;
    assert!((10..30).contains(&waiting), "{waiting}");
}

/// What a shard remembers of topics counts, and has a part of the memory.
#[test]
fn routes_count_against_memory_bytes_and_have_a_part_of_it() {
    let limit = 4_000_000;
    let mut node = node(Limits {
        memory_bytes: limit,
        ..Limits::default()
    });
    let publisher = connect(&mut node, "publisher", None);
    node.end_tick();
    let before = node.counters().memory_bytes;
    for number in 0..5_000 {
        let topic = format!("{number:0200}");
        node.send(publisher, &publish(&topic, QoS::AtMostOnce, b"x"));
    }
    node.end_tick();
    let grown = node.counters().memory_bytes - before;
    assert!((limit / 32..limit / 8).contains(&grown), "{grown}");
}

/// Names of messages that are under way, in both directions, whose contents nobody keeps.
#[test]
fn packet_identifiers_under_way_count_against_memory_bytes() {
    const MESSAGES: u16 = 1000;
    let mut node = node(Limits {
        in_flight: MESSAGES,
        ..Limits::default()
    });
    let grown = |node: &mut Harness, before: u64| {
        node.end_tick();
        node.counters().memory_bytes - before
    };
    let publisher = connect(&mut node, "publisher", None);
    node.end_tick();
    let before = node.counters().memory_bytes;
    for number in 1..=MESSAGES {
        let packet = wire::publish(V5, "nobody", (QoS::ExactlyOnce, number), false, b"x");
        node.send(publisher, &packet);
    }
    let receipts = grown(&mut node, before);
    assert!(receipts > u64::from(MESSAGES) * 12, "{receipts}");
    // To a session that ends with its connection: what was sent is kept nowhere else.
    let reader = node.open();
    node.send(
        reader,
        b"\x10\x13\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x06reader",
    );
    node.send(reader, &subscribe(&["t".to_owned()], QoS::AtLeastOnce));
    node.end_tick();
    let before = node.counters().memory_bytes;
    for _ in 0..MESSAGES {
        node.send(publisher, &publish("t", QoS::AtLeastOnce, b"x"));
    }
    let sent = grown(&mut node, before);
    assert!(sent > u64::from(MESSAGES) * 40, "{sent}");
    node.end(reader, TransportEnd::EndOfStream);
    node.end_tick();
    assert!(node.counters().memory_bytes <= before, "it is given back");
}

/// Filters whose retained messages a client that does not read is still owed.
#[test]
fn what_is_owed_of_retained_messages_counts_against_memory_bytes() {
    const FILTERS: usize = 500;
    let grown = |retain: bool| {
        let mut node = node(Limits {
            output_bytes: 1000,
            ..Limits::default()
        });
        let publisher = connect(&mut node, "publisher", None);
        for number in (0..FILTERS).filter(|_| retain) {
            let topic = format!("r/{number}/x");
            let packet = wire::publish(V5, &topic, (QoS::AtMostOnce, 0), true, &[b'x'; 100]);
            node.send(publisher, &packet);
        }
        let reader = connect(&mut node, "reader", None);
        node.set_reading(reader, false);
        node.end_tick();
        let before = node.counters().memory_bytes;
        let filters: Vec<String> = (0..FILTERS).map(|number| format!("r/{number}/#")).collect();
        node.send(reader, &subscribe(&filters, QoS::AtMostOnce));
        node.end_tick();
        node.counters().memory_bytes - before
    };
    let (with, without) = (grown(true), grown(false));
    assert!(with > without + 150 * FILTERS as u64, "{with}, {without}");
}

/// A retained message takes its place in the store, however short it is.
#[test]
fn places_of_retained_messages_count_against_memory_bytes() {
    const TOPICS: u64 = 2000;
    let mut node = node(Limits {
        route_cache_entries: 1,
        ..Limits::default()
    });
    let publisher = connect(&mut node, "publisher", None);
    node.end_tick();
    let before = node.counters().memory_bytes;
    let each = |node: &mut Harness, payload: &[u8]| {
        for number in 0..TOPICS {
            let topic = format!("{number}");
            let packet = wire::publish(V5, &topic, (QoS::AtMostOnce, 0), true, payload);
            node.send(publisher, &packet);
        }
        node.end_tick();
        node.counters().memory_bytes - before
    };
    let kept = each(&mut node, b"x");
    let messages = node.counters().retained_bytes;
    // Their bytes are those of the messages, topics and the rest of their places.
    assert!(kept > TOPICS * 160 && kept > messages, "{kept}, {messages}");
    each(&mut node, b"");
    node.elapse(60_000);
    node.end_tick();
    let left = node.counters().memory_bytes - before;
    assert!(left < 1000, "{left}: it is given back");
}

/// Ends as many ticks as it takes until everything is counted.
fn count_all(node: &mut Harness) -> u64 {
    for _ in 0..80 {
        node.end_tick();
    }
    node.counters().memory_bytes
}

/// A share group is a table of members and a name, on the shard where it lives.
#[test]
fn share_groups_count_against_memory_bytes() {
    const GROUPS: usize = 128;
    let grown = |prefix: &str| {
        let mut node = node(Limits::default());
        let link = connect(&mut node, "a", None);
        let before = count_all(&mut node);
        let filters: Vec<String> = (0..GROUPS)
            .map(|group| format!("{prefix}{group}/t"))
            .collect();
        assert_eq!(granted(&mut node, link, &filters), GROUPS);
        count_all(&mut node) - before
    };
    let (shared, own) = (grown("$share/"), grown("aaaaaa/"));
    assert!(shared > own + 300 * GROUPS as u64, "{shared}, {own}");
}

/// Each member of one group takes a place in it.
#[test]
fn members_of_a_share_group_count_against_memory_bytes() {
    const MEMBERS: usize = 300;
    let grown = |filter: &str| {
        let mut node = node(Limits::default());
        for number in 0..MEMBERS {
            let link = connect(&mut node, &format!("member-{number}"), None);
            assert_eq!(granted(&mut node, link, &[filter.to_owned()]), 1);
        }
        count_all(&mut node)
    };
    let (shared, own) = (grown("$share/g/t"), grown("aaaaaa/g/t"));
    assert!(shared > own + 80 * MEMBERS as u64, "{shared}, {own}");
}

/// Memory that this many clients take more with one CONNECT than with another.
fn grown_by(one: &Connect<'_>, other: &Connect<'_>, clients: usize) -> u64 {
    let held = |packet: &Connect<'_>| {
        let mut node = node(Limits {
            connect_packet_bytes: 100_000,
            client_id_bytes: 60_000,
            ..Limits::default()
        });
        let before = count_all(&mut node);
        let mut links = Vec::new();
        for number in 0..clients {
            let client_id = format!("{number:03}{}", packet.client_id);
            let link = node.open();
            let packet = Connect {
                client_id: &client_id,
                ..*packet
            };
            node.send(link, &wire::encoded(&packet));
            assert_eq!(reason_of_connack(&mut node, link), ReasonCode::Success);
            links.push(link);
        }
        let held = count_all(&mut node) - before;
        for link in links {
            node.end(link, TransportEnd::EndOfStream);
        }
        // Events share what they say of a client.
        node.take_events();
        let left = count_all(&mut node);
        assert!(left < before + 10_000, "{left}, {before}: it is given back");
        held
    };
    held(one) - held(other)
}

/// A client may say that it is of a user of a long name, and nobody asks.
#[test]
fn user_names_count_against_memory_bytes() {
    const CLIENTS: usize = 100;
    let name = "u".repeat(30_000);
    let plain = Connect::new(V5, "");
    let named = Connect {
        user_name: Some(&name),
        ..plain
    };
    let grown = grown_by(&named, &plain, CLIENTS);
    assert!(grown >= (CLIENTS * name.len()) as u64, "{grown}");
}

#[test]
fn client_identifiers_count_against_memory_bytes() {
    const CLIENTS: usize = 100;
    let name = "c".repeat(30_000);
    let (long, short) = (Connect::new(V5, &name), Connect::new(V5, ""));
    let grown = grown_by(&long, &short, CLIENTS);
    assert!(grown >= (CLIENTS * name.len()) as u64, "{grown}");
}

/// Messages that another shard has not answered for yet.
#[test]
fn messages_under_way_to_other_shards_count_against_memory_bytes() {
    const MESSAGES: usize = 2000;
    let wiring = Wiring {
        shards: 2,
        ..Wiring::default()
    };
    let mut node = Harness::new(Settings::default(), ListenerPolicy::default(), wiring);
    for number in 0..8 {
        let link = connect(&mut node, &format!("away-{number}"), None);
        node.send(link, &subscribe(&["t".to_owned()], QoS::AtLeastOnce));
        node.end(link, TransportEnd::EndOfStream);
    }
    let publisher = connect(&mut node, "publisher", None);
    count_all(&mut node);
    let before = node.table_bytes();
    // Nothing reaches the other shard before all is published.
    node.hold_mail(true);
    for _ in 0..MESSAGES {
        node.send(publisher, &publish("t", QoS::AtLeastOnce, b""));
    }
    count_all(&mut node);
    let under_way = node.table_bytes() - before;
    node.hold_mail(false);
    assert!(under_way > 10 * MESSAGES as u64, "{under_way}");
    // The sessions end, with all that waits for them.
    node.elapse(4_000_000);
    count_all(&mut node);
    let left = node.table_bytes();
    assert!(left < before + 10_000, "{left}, {before}");
}

/// Each timer, such as that of a session that ends some day.
#[test]
fn timers_count_against_memory_bytes() {
    const SESSIONS: usize = 1000;
    let held = |expiry_secs: u32| {
        let mut node = node(Limits {
            session_expiry_max_secs: u32::MAX,
            ..Limits::default()
        });
        for number in 0..SESSIONS {
            let link = node.open();
            let name = format!("away-{number}");
            let packet = Connect {
                clean_start: false,
                properties: ConnectProperties {
                    session_expiry_secs: Some(expiry_secs),
                    ..ConnectProperties::default()
                },
                ..Connect::new(V5, &name)
            };
            node.send(link, &wire::encoded(&packet));
            node.end(link, TransportEnd::EndOfStream);
        }
        count_all(&mut node)
    };
    let (with, without) = (held(3600), held(u32::MAX));
    assert!(with > without + 30 * SESSIONS as u64, "{with}, {without}");
}

/// What is known of how fast each client publishes.
#[test]
fn rates_of_clients_count_against_memory_bytes() {
    const CLIENTS: usize = 1000;
    let held = |publish_rate: u32| {
        let mut node = node(Limits {
            publish_rate,
            ..Limits::default()
        });
        for number in 0..CLIENTS {
            let link = connect(&mut node, &format!("client-{number}"), None);
            node.send(link, &publish("t", QoS::AtMostOnce, b""));
        }
        count_all(&mut node)
    };
    let (with, without) = (held(1000), held(0));
    assert!(with > without + 40 * CLIENTS as u64, "{with}, {without}");
}

/// Filters that are refused, one byte each in the answer.
fn refused_filters(count: usize) -> Vec<String> {
    (0..count).map(|_| "#/x".to_owned()).collect()
}

/// The answer to a SUBSCRIBE that waits for a share group of another shard.
#[test]
fn answers_that_wait_for_share_groups_count_against_memory_bytes() {
    const FILTERS: usize = 5_000;
    let settings = Settings {
        limits: Limits {
            subscriptions_per_client: 100_000,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let wiring = Wiring {
        shards: 2,
        ..Wiring::default()
    };
    let mut node = Harness::new(settings, ListenerPolicy::default(), wiring);
    let link = connect(&mut node, "a", None);
    // Some of them live on the other shard.
    let mut filters: Vec<String> = (0..8).map(|group| format!("$share/{group}/t")).collect();
    assert_eq!(granted(&mut node, link, &filters), 8);
    let before = count_all(&mut node);
    filters.extend(refused_filters(FILTERS));
    node.hold_mail(true);
    node.send(link, &subscribe(&filters, QoS::AtMostOnce));
    let held = count_all(&mut node) - before;
    node.hold_mail(false);
    assert!(held >= FILTERS as u64, "{held}");
    let after = count_all(&mut node);
    assert!(after < before + 10_000, "{after}, {before}");
}

/// A client whose answers wait for the store, and who holds most by that, gives way.
#[test]
fn who_holds_most_by_answers_that_wait_gives_back_first() {
    let settings = Settings {
        limits: Limits {
            memory_bytes: 1_000_000,
            subscriptions_per_client: 10,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let wiring = Wiring {
        durable_delay_ms: 3_600_000,
        ..Wiring::default()
    };
    let mut node = Harness::new(settings, ListenerPolicy::default(), wiring);
    let mut client = |client_id: &str| {
        let link = node.open();
        node.send(link, &wire::encoded(&Connect::new(V5, client_id)));
        link
    };
    let others: Vec<Link> = (0..20)
        .map(|number| client(&format!("other-{number}")))
        .collect();
    let greedy = client("greedy");
    // It waits for its record, and what is answered later waits behind it.
    let retained = wire::publish(V5, "t", (QoS::AtLeastOnce, 1), true, b"x");
    node.send(greedy, &retained);
    let packet = subscribe(&refused_filters(3000), QoS::AtMostOnce);
    for _ in 0..600 {
        node.send(greedy, &packet);
        node.elapse(1);
        node.end_tick();
        if node.is_closed(greedy) {
            break;
        }
    }
    assert!(node.is_closed(greedy));
    assert_eq!(node.counters().clients_relieved, 1);
    assert!(others.iter().all(|link| !node.is_closed(*link)));
}
