//! Tests of the events about clients: their order, for all clients or for the few that are traced.

use std::sync::Arc;

use martlet_broker::{
    Authenticated, Command, Event, EventInterest, EventNotice, Identity, ListenerPolicy, Proof,
    RefusalCause, Settings, TenantId, Traced, TransportEnd,
};
use martlet_script::{Harness, Link, Wiring};

mod raw;

use raw::{CLEAN, connect, packet, subscribe, text};

fn node(shards: u16, events: EventInterest) -> Harness {
    node_of(shards, events, ListenerPolicy::default())
}

fn node_of(shards: u16, events: EventInterest, listener: ListenerPolicy) -> Harness {
    let settings = Settings {
        events,
        ..Settings::default()
    };
    let wiring = Wiring {
        shards,
        durable_delay_ms: 2,
        seed: 7,
        ..Wiring::default()
    };
    Harness::new(settings, listener, wiring)
}

fn everything() -> EventInterest {
    EventInterest {
        connections: true,
        drops: true,
        subscriptions: true,
        published: true,
        delivered: true,
        packets: true,
        payload_bytes_max: 4,
        traced: Traced::default(),
    }
}

fn publish(node: &mut Harness, link: Link, topic: &str, qos: u8, payload: &str) {
    let id: &[u8] = if qos > 0 { &[0, 7] } else { &[] };
    let body = [text(topic), id.to_vec(), payload.as_bytes().to_vec()].concat();
    node.send(link, &packet(0x30 | qos << 1, &body));
    node.elapse(5);
}

/// The events about a client, in one or two words each.
fn told(events: &[EventNotice], of: &str) -> Vec<String> {
    let of_client = events.iter().filter(|told| *told.head.client_id == *of);
    of_client.map(in_words).collect()
}

fn in_words(told: &EventNotice) -> String {
    match &told.event {
        Event::Authenticated { proof, .. } => {
            let user = told.head.proved().unwrap_or("nobody");
            format!("{user} by {}", proof.name())
        }
        Event::Connected(_) => "connected".into(),
        Event::Refused { .. } => "refused".into(),
        Event::TakenOver { .. } => "taken over".into(),
        Event::Disconnected { .. } => "disconnected".into(),
        Event::SessionEnded { cause } => format!("ended: {}", cause.text()),
        Event::Subscribed { filter, .. } => format!("subscribed {filter}"),
        Event::Unsubscribed { filter } => format!("unsubscribed {filter}"),
        Event::Published(message) => {
            let payload = String::from_utf8_lossy(&message.payload);
            format!("published {} {payload}", message.topic)
        }
        Event::Delivered(message) => format!("delivered {}", message.topic),
        Event::Dropped { topic, .. } => format!("dropped {topic}"),
        Event::Packet {
            is_out,
            packet_type,
            packet_id,
            ..
        } => {
            let way = if *is_out { "out" } else { "in" };
            let id = packet_id.map_or_else(String::new, |id| format!(" {id}"));
            format!("{way} {packet_type:?}{id}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_events_of_a_client_are_one_stream_in_order_whichever_lobby_it_came_by() {
    for shards in [1, 3] {
        let mut node = node(shards, everything());
        let link = connect(&mut node, "device", CLEAN);
        subscribe(&mut node, link, "t", 0);
        publish(&mut node, link, "t", 1, "payload");
        node.end(link, TransportEnd::EndOfStream);
        let events = node.take_events();
        assert_eq!(
            told(&events, "device"),
            [
                "in Connect",
                "connected",
                "out ConnAck",
                "in Subscribe 1",
                "subscribed t",
                "out SubAck 1",
                "in Publish 7",
                "published t payl",
                "out Publish",
                "out PubAck 7",
                "delivered t",
                "disconnected",
                "ended: it ends with its connection",
            ],
            "{shards} shards"
        );
    }
}

#[test]
fn a_message_is_delivered_when_its_receiver_has_acknowledged_it() {
    let interest = EventInterest {
        delivered: true,
        drops: true,
        ..EventInterest::default()
    };
    let mut node = node(2, interest);
    let link = connect(&mut node, "receiver", 0);
    subscribe(&mut node, link, "t/#", 2);
    let publisher = connect(&mut node, "publisher", CLEAN);
    publish(&mut node, publisher, "t/1", 1, "one");
    publish(&mut node, publisher, "t/2", 2, "two");
    node.elapse(100);
    assert_eq!(node.take_events(), []);
    node.send(link, &[0x40, 2, 0, 1]);
    node.send(link, &[0x50, 2, 0, 2]);
    let events = node.take_events();
    assert_eq!(
        told(&events, "receiver"),
        ["delivered t/1", "delivered t/2"]
    );
    let Event::Delivered(first) = &events[0].event else {
        panic!("{events:?}");
    };
    assert!(first.latency_ms.is_some_and(|ms| ms >= 100), "{first:?}");
    node.end(link, TransportEnd::Error);
    publish(&mut node, publisher, "t/3", 0, "lost");
    assert_eq!(told(&node.take_events(), "receiver"), ["dropped t/3"]);
}

#[test]
fn who_takes_over_is_told_before_the_end_of_the_old_connection() {
    let interest = EventInterest {
        connections: true,
        ..EventInterest::default()
    };
    let mut node = node(3, interest);
    connect(&mut node, "device", 0);
    connect(&mut node, "device", 0);
    connect(&mut node, "device", CLEAN);
    let events = node.take_events();
    assert_eq!(
        told(&events, "device"),
        [
            "connected",
            "taken over",
            "disconnected",
            "connected",
            "taken over",
            "disconnected",
            "ended: Clean Start",
            "connected",
        ]
    );
    let Event::TakenOver { by } = &events[1].event else {
        panic!("{events:?}");
    };
    assert!(by.is_some());
}

#[test]
fn a_traced_client_is_told_of_from_the_moment_it_is_asked_for() {
    let mut node = node(2, EventInterest::default());
    let traced = connect(&mut node, "traced", CLEAN);
    let other = connect(&mut node, "other", CLEAN);
    for link in [traced, other] {
        subscribe(&mut node, link, "t", 0);
    }
    assert_eq!(node.take_events(), []);
    let interest = Arc::new(EventInterest {
        traced: Traced {
            clients: vec![
                (TenantId(0), "traced".into()),
                (TenantId(0), "later".into()),
            ],
            ..Traced::default()
        },
        ..EventInterest::default()
    });
    for shard in 0..2 {
        node.command(shard, Command::SetEvents(Arc::clone(&interest)));
    }
    publish(&mut node, other, "t", 0, "x");
    let later = connect(&mut node, "later", CLEAN);
    node.send(later, &[0xC0, 0]);
    let events = node.take_events();
    assert_eq!(told(&events, "other"), [""; 0]);
    assert_eq!(told(&events, "traced"), ["out Publish", "delivered t"]);
    assert_eq!(
        told(&events, "later"),
        [
            "in Connect",
            "connected",
            "out ConnAck",
            "in PingReq",
            "out PingResp"
        ]
    );
    for shard in 0..2 {
        node.command(shard, Command::SetEvents(Arc::default()));
    }
    publish(&mut node, traced, "t", 0, "x");
    node.end(later, TransportEnd::Error);
    assert_eq!(node.take_events(), []);
}

#[test]
fn a_traced_topic_is_told_of_whoever_has_to_do_with_it() {
    let interest = EventInterest {
        traced: Traced {
            topics: vec!["t/+".into()],
            ..Traced::default()
        },
        ..EventInterest::default()
    };
    let mut node = node(1, interest);
    let receiver = connect(&mut node, "receiver", CLEAN);
    subscribe(&mut node, receiver, "#", 1);
    let sender = connect(&mut node, "sender", CLEAN);
    publish(&mut node, sender, "t/1", 1, "x");
    publish(&mut node, sender, "u/1", 1, "x");
    node.send(receiver, &[0x40, 2, 0, 1]);
    node.send(receiver, &[0x40, 2, 0, 2]);
    let events = node.take_events();
    assert_eq!(told(&events, "sender"), ["published t/1 "]);
    assert_eq!(told(&events, "receiver"), ["delivered t/1"]);
}

#[test]
fn what_is_written_in_parts_is_told_when_it_is_out() {
    let interest = EventInterest {
        delivered: true,
        ..EventInterest::default()
    };
    let mut node = node(1, interest);
    let receiver = connect(&mut node, "receiver", CLEAN);
    subscribe(&mut node, receiver, "t/#", 0);
    node.set_reading(receiver, false);
    let sender = connect(&mut node, "sender", CLEAN);
    publish(&mut node, sender, "t/1", 0, "x");
    publish(&mut node, sender, "t/2", 0, "x");
    assert_eq!(node.take_events(), []);
    node.set_reading(receiver, true);
    let events = node.take_events();
    assert_eq!(
        told(&events, "receiver"),
        ["delivered t/1", "delivered t/2"]
    );
}

/// A client logs in with a user name. `is_good` means that a device token has proved it.
fn prove(node: &mut Harness, client_id: &str, user: &str, is_good: bool) -> Link {
    let link = node.open();
    let head = [b"\0\x04MQTT\x04".as_slice(), &[CLEAN | 0x80, 0, 60]].concat();
    let body = [head, text(client_id), text(user)].concat();
    node.send(link, &packet(0x10, &body));
    for (shard, asked) in node.take_authentications() {
        let identity = Identity {
            user_name: asked.user_name.clone(),
            proof: Proof::DeviceToken,
            bound: true,
            ..Identity::anyone()
        };
        let answer = match is_good {
            true => Authenticated::Accepted {
                identity,
                last_revocation: 0,
                data: None,
            },
            false => Authenticated::refused(RefusalCause::BadToken.into()),
        };
        node.authenticated(shard, asked.connection, answer);
    }
    node.elapse(5);
    link
}

#[test]
fn who_has_proved_a_name_is_told_of_before_what_becomes_of_it() {
    let interest = EventInterest {
        connections: true,
        ..EventInterest::default()
    };
    for shards in [1, 3] {
        let listener = ListenerPolicy {
            authenticate: true,
            ..ListenerPolicy::default()
        };
        let mut node = node_of(shards, interest.clone(), listener);
        prove(&mut node, "wrong", "eve", false);
        prove(&mut node, "device", "alice", true);
        prove(&mut node, "device", "alice", true);
        // The session belongs to another user.
        prove(&mut node, "device", "bob", true);
        let events = node.take_events();
        assert_eq!(told(&events, "wrong"), ["refused"], "{shards} shards");
        assert_eq!(
            told(&events, "device"),
            [
                "alice by device_token",
                "connected",
                "taken over",
                "disconnected",
                "ended: it ends with its connection",
                "alice by device_token",
                "connected",
                "bob by device_token",
                "refused",
            ],
            "{shards} shards"
        );
    }
}
