//! Operators get an event about each client that lost messages: at once, then with counts.

use martlet_broker::{DropReason, Event, EventInterest, ListenerPolicy, Settings, TransportEnd};
use martlet_script::{Harness, Link, Wiring};

mod raw;

use raw::{CLEAN, connect, packet, subscribe, text};

/// Creates a node with only the journal's events, without events for single drops.
fn node(change: impl FnOnce(&mut Settings)) -> Harness {
    let mut settings = Settings {
        events: EventInterest {
            connections: true,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    change(&mut settings);
    let wiring = Wiring {
        shards: 2,
        durable_delay_ms: 2,
        seed: 7,
        ..Wiring::default()
    };
    Harness::new(settings, ListenerPolicy::default(), wiring)
}

/// Connects with MQTT 5 and this Maximum Packet Size.
fn connect_with_maximum(node: &mut Harness, client_id: &str, maximum: u32) -> Link {
    let link = node.open();
    let properties = [&[5, 0x27], maximum.to_be_bytes().as_slice()].concat();
    let head = [b"\0\x04MQTT\x05".as_slice(), &[CLEAN, 0, 60], &properties].concat();
    node.send(link, &packet(0x10, &[head, text(client_id)].concat()));
    node.elapse(5);
    link
}

fn subscribe_v5(node: &mut Harness, link: Link, filter: &str) {
    let body = [vec![0, 1, 0], text(filter), vec![0]].concat();
    node.send(link, &packet(0x82, &body));
    node.elapse(5);
}

fn publish(node: &mut Harness, link: Link, topic: &str, qos: u8, payload: &str) {
    let id: &[u8] = if qos > 0 { &[0, 7] } else { &[] };
    let body = [text(topic), id.to_vec(), payload.as_bytes().to_vec()].concat();
    node.send(link, &packet(0x30 | qos << 1, &body));
    node.elapse(5);
}

/// For each client with losses: the reason, the number, the topic and the option.
fn lost(node: &mut Harness) -> Vec<(String, DropReason, u64, String, Option<&'static str>)> {
    let events = node.take_events().into_iter();
    let lost = events.filter_map(|told| match told.event {
        Event::MessagesLost {
            topic,
            reason,
            count,
            limit,
            ..
        } => {
            let option = limit.map(|limit| limit.limit.option());
            let client_id = told.head.client_id.to_string();
            Some((client_id, reason, count, topic.into(), option))
        }
        Event::Dropped { .. } => panic!("nobody asked for single drops"),
        _ => None,
    });
    lost.collect()
}

#[test]
fn a_loss_is_told_at_once_and_then_every_ten_seconds_with_a_count() {
    let mut node = node(|_| ());
    let small = connect_with_maximum(&mut node, "small", 30);
    subscribe_v5(&mut node, small, "t");
    let publisher = connect(&mut node, "publisher", CLEAN);
    let long = "x".repeat(40);
    let reason = DropReason::PacketTooLarge;
    publish(&mut node, publisher, "t", 0, "short");
    assert_eq!(lost(&mut node), []);
    publish(&mut node, publisher, "t", 0, &long);
    let first = ("small".to_owned(), reason, 1, "t".to_owned(), None);
    assert_eq!(lost(&mut node), std::slice::from_ref(&first));
    for _ in 0..5 {
        publish(&mut node, publisher, "t", 0, &long);
    }
    node.elapse(9_000);
    assert_eq!(lost(&mut node), [], "one line in ten seconds");
    node.elapse(2_000);
    let more = ("small".to_owned(), reason, 5, String::new(), None);
    assert_eq!(lost(&mut node), [more], "the last of them are told, too");
    node.elapse(30_000);
    assert_eq!(lost(&mut node), []);
    publish(&mut node, publisher, "t", 0, &long);
    assert_eq!(lost(&mut node), [first], "after a pause it is told at once");
}

/// The queue of the client `away` has room for two messages, and has received six.
fn node_with_full_queue() -> Harness {
    let mut node = node(|settings| settings.limits.queued_messages = 2);
    let away = connect(&mut node, "away", 0);
    subscribe(&mut node, away, "t", 1);
    node.end(away, TransportEnd::Error);
    let publisher = connect(&mut node, "publisher", CLEAN);
    for _ in 0..6 {
        publish(&mut node, publisher, "t", 1, "x");
    }
    node
}

#[test]
fn messages_beyond_a_full_queue_are_counted_after_the_queue_is_told_of() {
    let mut node = node_with_full_queue();
    let events = node.take_events();
    let full = events
        .iter()
        .filter(|told| matches!(told.event, Event::QueueFull { .. }));
    assert_eq!(full.count(), 1);
    node.elapse(11_000);
    let option = Some("limits.queued_messages");
    let expected = (
        "away".to_owned(),
        DropReason::QueueFull,
        4,
        String::new(),
        option,
    );
    assert_eq!(lost(&mut node), [expected]);
}

#[test]
fn a_queue_that_has_room_again_was_at_its_own_bound() {
    let mut node = node_with_full_queue();
    connect(&mut node, "away", 0);
    node.elapse(11_000);
    let told = lost(&mut node);
    let options: Vec<_> = told
        .iter()
        .map(|(.., count, _, option)| (count, *option))
        .collect();
    assert_eq!(options, [(&4, Some("limits.queued_messages"))]);
}

#[test]
fn of_a_client_that_is_away_it_is_told_once_until_it_is_back() {
    let mut node = node(|_| ());
    let away = connect(&mut node, "away", 0);
    subscribe(&mut node, away, "t", 0);
    node.end(away, TransportEnd::Error);
    let publisher = connect(&mut node, "publisher", CLEAN);
    publish(&mut node, publisher, "t", 0, "x");
    let of = |count, topic: &str| {
        vec![(
            "away".to_owned(),
            DropReason::ClientAway,
            count,
            topic.to_owned(),
            None,
        )]
    };
    assert_eq!(lost(&mut node), of(1, "t"));
    for _ in 0..7 {
        publish(&mut node, publisher, "t", 0, "x");
    }
    node.elapse(60_000);
    assert_eq!(lost(&mut node), []);
    connect(&mut node, "away", 0);
    assert_eq!(lost(&mut node), of(7, ""));
}

#[test]
fn what_ends_with_a_session_is_one_line() {
    let mut node = node(|_| ());
    let away = connect(&mut node, "away", 0);
    subscribe(&mut node, away, "t", 1);
    node.end(away, TransportEnd::Error);
    let publisher = connect(&mut node, "publisher", CLEAN);
    for _ in 0..5 {
        publish(&mut node, publisher, "t", 1, "x");
    }
    assert_eq!(lost(&mut node), []);
    connect(&mut node, "away", CLEAN);
    let expected = (
        "away".to_owned(),
        DropReason::SessionEnded,
        5,
        String::new(),
        None,
    );
    assert_eq!(lost(&mut node), [expected]);
}

#[test]
fn what_a_share_group_loses_is_told_by_its_filter_and_can_be_asked_for() {
    let mut node = node(|settings| settings.limits.queued_messages = 2);
    let member = connect(&mut node, "member", 0);
    subscribe(&mut node, member, "$share/g/t", 1);
    node.end(member, TransportEnd::Error);
    let publisher = connect(&mut node, "publisher", CLEAN);
    for _ in 0..6 {
        publish(&mut node, publisher, "t", 1, "x");
    }
    node.elapse(11_000);
    let all = lost(&mut node);
    let of_group = all.iter().filter(|(of, ..)| of == "$share/g/t");
    let count: u64 = of_group.map(|(_, _, count, ..)| count).sum();
    assert_eq!(count, 4, "{all:?}");
    for shard in 0..2 {
        let command = martlet_broker::Command::GroupDetails {
            request: 1,
            tenant: martlet_broker::TenantId(0),
            filters: ["$share/g/t".into(), "$share/g/other".into()].into(),
        };
        node.command(shard, command);
    }
    let reports = node.take_reports().into_iter();
    let groups: Vec<_> = reports
        .flat_map(|report| match report.answer {
            martlet_broker::Answer::GroupDetails(groups) => groups,
            other => panic!("{other:?}"),
        })
        .collect();
    let [group] = &*groups else {
        panic!("{groups:?}");
    };
    assert_eq!(&*group.filter, "$share/g/t");
    let [(DropReason::QueueFull, 4, at)] = &*group.drops else {
        panic!("{group:?}");
    };
    assert!(at.first_ms > 0 && at.last_ms >= at.first_ms);
}
