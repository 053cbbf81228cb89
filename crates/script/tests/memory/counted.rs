//! Tests of the data that counts against `memory_bytes`.

use martlet_broker::{Limits, ListenerPolicy, Settings, TransportEnd};
use martlet_codec::{Connect, ConnectProperties, Packet, QoS, ReasonCode};
use martlet_script::{Harness, Wiring};

use crate::node::{
    V5, connect, granted, long_filters, most_charged, node, packets, publish, reason_of_connack,
    subscribe,
};
use crate::wire;

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

/// One message for many receivers takes an entry in each of their queues.
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
    // 100,000 entries would take some 6 MB.
    assert!(refused > 500, "{refused}");
}

/// The routes cached by a shard count, and have a limited part of the memory.
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

/// Packet Identifiers in flight in both directions, for messages whose contents are no longer kept.
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
        let packet = wire::publish(V5, "nobody", QoS::ExactlyOnce, number, false, b"x");
        node.send(publisher, &packet);
    }
    let receipts = grown(&mut node, before);
    assert!(receipts > u64::from(MESSAGES) * 12, "{receipts}");
    // For a session that ends with its connection, sent messages are kept nowhere else.
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

/// Filters whose retained messages still have to be sent to a client that does not read.
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
            let packet = wire::publish(V5, &topic, QoS::AtMostOnce, 0, true, &[b'x'; 100]);
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

/// A retained message takes an entry in the store, however short it is.
#[test]
fn places_of_retained_messages_count_against_memory_bytes() {
    const TOPICS: u64 = 2000;
    let mut node = node(Limits {
        route_cache_entries: 1,
        ..Limits::default()
    });
    let publisher = connect(&mut node, "publisher", None);
    node.end_tick();
    let each = |node: &mut Harness, payload: &[u8]| {
        for number in 0..TOPICS {
            let topic = format!("{number}");
            let packet = wire::publish(V5, &topic, QoS::AtMostOnce, 0, true, payload);
            node.send(publisher, &packet);
        }
        node.end_tick();
        node.counters().memory_bytes
    };
    // The last deleted topics are remembered: a limited number, which is already reached.
    each(&mut node, b"x");
    each(&mut node, b"");
    node.elapse(60_000);
    node.end_tick();
    let before = node.counters().memory_bytes;
    let kept = each(&mut node, b"x") - before;
    let messages = node.counters().retained_bytes;
    // The bytes are those of the messages, the topics and the rest of the entries.
    assert!(kept > TOPICS * 160 && kept > messages, "{kept}, {messages}");
    each(&mut node, b"");
    node.elapse(60_000);
    node.end_tick();
    let left = node.counters().memory_bytes.saturating_sub(before);
    assert!(left < 1000, "{left}: it is given back");
}

/// Ends as many ticks as needed until everything is counted. Returns the counted bytes.
pub(crate) fn count_all(node: &mut Harness) -> u64 {
    for _ in 0..80 {
        node.end_tick();
    }
    node.counters().memory_bytes
}

/// A share group has a name and a table of members on its shard.
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

/// Each member of one group takes an entry in it.
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

/// Difference in memory between this number of clients with one CONNECT and with another.
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
        // Events share the data of a client.
        node.take_events();
        let left = count_all(&mut node);
        assert!(left < before + 10_000, "{left}, {before}: it is given back");
        held
    };
    held(one) - held(other)
}

/// A client may send a long user name that is not checked.
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

/// Messages that another shard has not yet acknowledged.
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
    // Nothing reaches the other shard before all messages are published.
    node.hold_mail(true);
    for _ in 0..MESSAGES {
        node.send(publisher, &publish("t", QoS::AtLeastOnce, b""));
    }
    count_all(&mut node);
    let under_way = node.table_bytes() - before;
    node.hold_mail(false);
    assert!(under_way > 10 * MESSAGES as u64, "{under_way}");
    // The sessions end with their queues.
    node.elapse(4_000_000);
    count_all(&mut node);
    let left = node.table_bytes();
    assert!(left < before + 10_000, "{left}, {before}");
}

/// Each timer, such as that of a session's expiry.
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

/// Rate measurements of each client.
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
