//! Tests that the clients that hold most give back first.

use martlet_broker::{DropReason, Event, Limit, Limits, ListenerPolicy, Settings};
use martlet_codec::{Connect, Packet, QoS, ReasonCode};
use martlet_script::{Harness, Link, Wiring};

use crate::counted::count_all;
use crate::node::{V5, connect, granted, node, packets, publish, reason_of_connack, subscribe};
use crate::wire;

/// A client that does not read must give back; a publisher is served meanwhile.
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

/// A client that does not read holds at most its part of a quarter of the memory, although
/// `output_bytes` is as large as the memory and most of that is free.
#[test]
fn one_client_has_a_share_of_the_memory() {
    let memory_bytes = 8_000_000;
    let mut node = node(Limits {
        memory_bytes,
        output_bytes: 8_000_000,
        ..Limits::default()
    });
    let deaf = connect(&mut node, "deaf", None);
    node.send(deaf, &subscribe(&["load".to_owned()], QoS::AtMostOnce));
    node.take(deaf);
    node.set_reading(deaf, false);
    let load = connect(&mut node, "load", None);
    for _ in 0..500 {
        node.send(load, &publish("load", QoS::AtMostOnce, &[b'x'; 4000]));
        node.elapse(25);
        node.end_tick();
    }
    let dropped = node.counters().dropped[DropReason::OutputFull as usize];
    assert!(!node.is_closed(deaf));
    node.set_reading(deaf, true);
    node.elapse(25);
    node.end_tick();
    let share = memory_bytes as usize / 4 / 2;
    let held = node.take(deaf).len();
    assert!((share / 2..share + 8_000).contains(&held), "{held}");
    assert!(dropped > 0);
}

/// Client that does not read, likewise, with messages of QoS 1, which are not output: the
/// connection is closed with a reason code.
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

/// The beginning of a CONNECT of 30 kB that is never completed.
fn unfinished_connect() -> Vec<u8> {
    let mut bytes = b"\x10\xb0\xea\x01\x00\x04MQTT\x05\x02\x00\x00\x00\x75\x30".to_vec();
    bytes.resize(29_000, b'x');
    bytes
}

/// Connections that send only the beginning of a CONNECT have a part of the memory. Those that hold
/// most are refused with a reason code, and clients that log in find room.
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

/// Clients, likewise, that have sent a large CONNECT and wait to be authenticated.
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

/// Invalid filters, which take one byte each in the answer.
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
    // Some of them are on the other shard.
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

/// A client whose answers wait for the store, and that therefore holds most, is closed.
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
    // It waits for its record, and later answers wait behind it.
    let retained = wire::publish(V5, "t", QoS::AtLeastOnce, 1, true, b"x");
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
