//! The paths whose cost is counted, each with its traffic.
//!
//! Responsible for setting up, for warming up, and for the messages that are measured. It does not
//! know how they are counted. Everything is the same in each run.

use std::hint::black_box;
use std::sync::Arc;

use martlet_access::{AclFile, Subscribing};
use martlet_broker::Rules;
use martlet_codec::{
    Ack, AckKind, OutgoingPublish, Packet, PacketId, ProtocolVersion, QoS, ReasonCode,
    decode_fixed_header,
};

use crate::counting::allocations;
use crate::node::{ClientIndex, Node, measured_call};

/// Messages that come in one tick, where it can be said: a busy connection.
const BATCH: u16 = 20;

/// Ticks before it is measured, and while it is.
const WARM_UP_ROUNDS: u32 = 100;
const ROUNDS: u32 = 200;

const TOPIC: &str = "site/7/device/42/state/on";
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// Counts of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Messages that figures are divided by: delivered ones, or what else the path says.
    pub(crate) messages: u64,
    /// Allocations in all.
    pub(crate) allocations: u64,
}

/// A path.
pub(crate) struct Path {
    /// Name in the file of figures.
    pub(crate) name: &'static str,
    /// Description of what is counted.
    pub(crate) what: &'static str,
    /// Whether it must not allocate.
    pub(crate) is_without_allocations: bool,
    /// Sends the messages.
    pub(crate) run: fn() -> Measured,
}

/// All paths.
pub(crate) const PATHS: &[Path] = &[
    path("decode", "a PUBLISH decoded, QoS 1", decode).none(),
    path("encode", "a PUBLISH encoded, QoS 1", encode).none(),
    path("qos0", "1 to 1, QoS 0, 20 in a tick", || {
        pipe(QoS::AtMostOnce, BATCH, false)
    })
    .none(),
    path("qos0-one", "1 to 1, QoS 0, 1 in a tick", || {
        pipe(QoS::AtMostOnce, 1, false)
    })
    .none(),
    path("qos1", "1 to 1, QoS 1, 20 in a tick", || {
        pipe(QoS::AtLeastOnce, BATCH, false)
    })
    .none(),
    path("qos1-one", "1 to 1, QoS 1, 1 in a tick", || {
        pipe(QoS::AtLeastOnce, 1, false)
    })
    .none(),
    path("qos2", "1 to 1, QoS 2, 20 in a tick", || {
        pipe(QoS::ExactlyOnce, BATCH, false)
    })
    .none(),
    path(
        "qos1-lasting",
        "1 to 1, QoS 1, lasting sessions, records",
        || pipe(QoS::AtLeastOnce, BATCH, true),
    )
    .none(),
    path(
        "qos2-lasting",
        "1 to 1, QoS 2, lasting sessions, records",
        || pipe(QoS::ExactlyOnce, BATCH, true),
    )
    .none(),
    path("qos0-self", "1 to itself, QoS 0, 20 in a tick", || {
        itself(false)
    })
    .none(),
    path("qos0-acl", "the same, an ACL file of 1,000 lines", || {
        itself(true)
    })
    .none(),
    path("topics", "1 to 1, QoS 0, 100 topics in turn", || {
        topics(false)
    }),
    path("topics-acl", "the same, an ACL file of 1,000 lines", || {
        topics(true)
    }),
    path("fan-out", "1 to 100, QoS 0, a delivery", fan_out).none(),
    path("share", "share group of 10, QoS 1", share).none(),
    path(
        "qos0-idle-part",
        "1 to 1, QoS 0, beside an integration that takes no message",
        idle_part,
    )
    .none(),
    path(
        "part-unkept",
        "a part takes it and does not keep it, QoS 0",
        || part(QoS::AtMostOnce, false),
    ),
    path("part-qos0", "a part takes it and keeps it, QoS 0", || {
        part(QoS::AtMostOnce, true)
    }),
    path("part-qos1", "a part takes it, QoS 1", || {
        part(QoS::AtLeastOnce, true)
    }),
    path("pubrels", "16,000 PUBREL packets at once, one", pubrels),
    path("wildcards", "1,000 filters with +, 10,000 topics", || {
        filters(&|number| format!("site/{}/+", number % 1000), 1000)
    }),
    path("filters", "10,000 filters of all kinds, one match", || {
        filters(&mixed_filter, 10_000)
    }),
    path(
        "new-topics",
        "10,000 filters of all kinds, topics never seen, no match",
        new_topics,
    ),
    path("retained", "a retained message stored, QoS 1", retained),
];

const fn path(name: &'static str, what: &'static str, run: fn() -> Measured) -> Path {
    Path {
        name,
        what,
        is_without_allocations: false,
        run,
    }
}

impl Path {
    const fn none(mut self) -> Self {
        self.is_without_allocations = true;
        self
    }
}

fn publish<'a>(topic: &'a str, qos: QoS, packet_id: u16) -> OutgoingPublish<'a> {
    OutgoingPublish {
        dup: false,
        qos,
        retain: false,
        topic: topic.as_bytes(),
        packet_id: PacketId::new(packet_id).filter(|_| qos != QoS::AtMostOnce),
        topic_alias: None,
        message_expiry_secs: None,
        subscription_ids: &[],
        forwarded: &[],
        payload: &PAYLOAD,
    }
}

/// Runs rounds, the last ones measured. Each begins with Packet Identifiers from 1 on.
fn rounds(mut node: Node, mut round: impl FnMut(&mut Node, u32)) -> Measured {
    for number in 0..WARM_UP_ROUNDS {
        round(&mut node, number);
    }
    node.measure();
    for number in 0..ROUNDS {
        round(&mut node, WARM_UP_ROUNDS + number);
    }
    Measured {
        messages: node.delivered,
        allocations: node.allocations(),
    }
}

fn decode() -> Measured {
    let mut bytes = Vec::new();
    publish(TOPIC, QoS::AtLeastOnce, 1).encode(ProtocolVersion::V311, &mut bytes);
    repeat(|| {
        let header = decode_fixed_header(black_box(&bytes));
        let header = header.ok().flatten().expect("it is a packet");
        let body = &bytes[usize::from(header.header_len)..];
        let packet = Packet::decode(header, body, ProtocolVersion::V311);
        black_box(&packet);
    })
}

fn encode() -> Measured {
    let mut bytes = Vec::with_capacity(256);
    repeat(move || {
        bytes.clear();
        black_box(publish(TOPIC, QoS::AtLeastOnce, 1)).encode(ProtocolVersion::V311, &mut bytes);
        black_box(&bytes);
    })
}

fn repeat(mut once: impl FnMut()) -> Measured {
    once();
    let before = allocations();
    (0..1000).for_each(|_| measured_call(&mut once));
    Measured {
        messages: 1000,
        allocations: allocations() - before,
    }
}

fn pipe(qos: QoS, batch: u16, lasting: bool) -> Measured {
    let mut node = Node::new();
    let publisher = node.connect("publisher", lasting);
    let subscriber = node.connect("subscriber", lasting);
    node.subscribe(subscriber, TOPIC, qos);
    rounds(node, |node, _| send(node, publisher, TOPIC, qos, batch))
}

fn send(node: &mut Node, publisher: ClientIndex, topic: &str, qos: QoS, batch: u16) {
    let output = node.sending(publisher);
    for packet_id in 1..=batch {
        publish(topic, qos, packet_id).encode(ProtocolVersion::V311, output);
    }
    node.run();
}

/// As `qos0`, beside a part that takes none of the messages.
fn idle_part() -> Measured {
    let mut node = Node::new();
    let publisher = node.connect("publisher", false);
    let subscriber = node.connect("subscriber", false);
    node.subscribe(subscriber, TOPIC, QoS::AtMostOnce);
    node.attach_part("never/published", true);
    let qos = QoS::AtMostOnce;
    rounds(node, |node, _| send(node, publisher, TOPIC, qos, BATCH))
}

/// A part takes all messages; nobody else does.
fn part(qos: QoS, keeps_qos0: bool) -> Measured {
    let mut node = Node::new();
    let publisher = node.connect("publisher", false);
    node.attach_part("#", keeps_qos0);
    rounds(node, |node, _| send(node, publisher, TOPIC, qos, BATCH))
}

/// A node, with or without an ACL file of 1,000 lines, and a client that is both sides.
fn permitted(with_acl: bool) -> (Node, ClientIndex) {
    let mut node = match with_acl {
        true => Node::with_rules(acl_rules()),
        false => Node::new(),
    };
    let client = node.connect("publisher", false);
    (node, client)
}

fn itself(with_acl: bool) -> Measured {
    let (mut node, client) = permitted(with_acl);
    node.subscribe(client, TOPIC, QoS::AtMostOnce);
    rounds(node, |node, _| {
        send(node, client, TOPIC, QoS::AtMostOnce, BATCH)
    })
}

/// 500 lines of the user's own and 500 patterns; one of each kind is about the topics here.
fn acl_rules() -> Arc<Rules> {
    let mut file = "user publisher\n".to_owned();
    for number in 0..499 {
        file += &format!("topic write plant/{number}/line/+/#\npattern read app/{number}/%u/%c\n");
    }
    file += "topic write site/7/device/+/state/#\npattern read site/#\n";
    let file = AclFile::parse("acl", &file, Subscribing::AtDelivery).expect("it is an ACL file");
    file.rules_for(Some("publisher"))
}

/// Each message to the next of 100 topics: more than a session remembers the verdicts of.
fn topics(with_acl: bool) -> Measured {
    let (mut node, client) = permitted(with_acl);
    node.subscribe(client, "site/7/#", QoS::AtMostOnce);
    rounds(node, |node, round| {
        send_each(node, client, round, |number| {
            format!("site/7/device/{}/state/on", number % 100)
        });
    })
}

fn fan_out() -> Measured {
    let mut node = Node::new();
    let publisher = node.connect("publisher", false);
    for number in 0..100 {
        let subscriber = node.connect(&format!("subscriber{number}"), false);
        node.subscribe(subscriber, TOPIC, QoS::AtMostOnce);
    }
    rounds(node, |node, _| {
        send(node, publisher, TOPIC, QoS::AtMostOnce, BATCH)
    })
}

fn share() -> Measured {
    let mut node = Node::new();
    let publisher = node.connect("publisher", false);
    for number in 0..10 {
        let member = node.connect(&format!("member{number}"), false);
        node.subscribe(
            member,
            "$share/group/site/+/device/+/state/on",
            QoS::AtLeastOnce,
        );
    }
    rounds(node, |node, _| {
        send(node, publisher, TOPIC, QoS::AtLeastOnce, BATCH)
    })
}

/// Filters spread over 100 subscribers, and 10,000 topics in no order, each seen before.
fn filters(filter: &dyn Fn(u32) -> String, count: u32) -> Measured {
    let (mut node, publisher) = subscribed(filter, count);
    let topic = |number: u32| match count {
        1000 => format!("site/{}/{}", number % 1000, number / 1000),
        _ => mixed_topic(number),
    };
    for number in 0..10_000 {
        send(&mut node, publisher, &topic(number), QoS::AtMostOnce, 1);
    }
    rounds(node, |node, round| {
        send_each(node, publisher, round, |number| {
            topic(scattered(number) % 10_000)
        });
    })
}

fn new_topics() -> Measured {
    let (node, publisher) = subscribed(&mixed_filter, 10_000);
    let measured = rounds(node, |node, round| {
        send_each(node, publisher, round, |number| {
            format!("plant/none{}/{number}/state", number % 5)
        });
    });
    assert_eq!(measured.messages, 0, "nobody wants them");
    Measured {
        messages: u64::from(ROUNDS) * u64::from(BATCH),
        ..measured
    }
}

/// Sends a batch, each message to a topic of its own.
fn send_each(node: &mut Node, publisher: ClientIndex, round: u32, topic: impl Fn(u32) -> String) {
    let output = node.sending(publisher);
    for place in 0..u32::from(BATCH) {
        let topic = topic(round * u32::from(BATCH) + place);
        publish(&topic, QoS::AtMostOnce, 0).encode(ProtocolVersion::V311, output);
    }
    node.run();
}

fn retained() -> Measured {
    let mut node = Node::new();
    let publisher = node.connect("publisher", false);
    let measured = rounds(node, |node, round| {
        let output = node.sending(publisher);
        for packet_id in 1..=BATCH {
            let number = round * u32::from(BATCH) + u32::from(packet_id);
            let topic = format!("site/{}/device/{number}", number % 7);
            let mut packet = publish(&topic, QoS::AtLeastOnce, packet_id);
            packet.retain = true;
            packet.encode(ProtocolVersion::V311, output);
        }
        node.run();
    });
    Measured {
        messages: u64::from(ROUNDS) * u64::from(BATCH),
        ..measured
    }
}

/// Bytes that a shard holds for each connected client that does nothing, with a number of them.
pub(crate) fn bytes_of_idle(count: u32) -> f64 {
    let mut node = Node::new();
    // What a shard has anyway is there before.
    node.connect("first", false);
    let before = node.held_bytes();
    for number in 0..count {
        node.connect(&format!("device-{number:012}"), false);
    }
    (node.held_bytes() - before) as f64 / f64::from(count)
}

/// More packets than a client's share of a turn: those that wait must not cost more than others.
fn pubrels() -> Measured {
    const ROUNDS: u32 = 10;
    const PUBRELS: u16 = 16_000;
    let mut node = Node::new();
    let client = node.connect("publisher", false);
    let round = |node: &mut Node| {
        let output = node.sending(client);
        for packet_id in (1..=PUBRELS).filter_map(PacketId::new) {
            let ack = Ack::new(packet_id, ReasonCode::Success);
            ack.encode(AckKind::PubRel, ProtocolVersion::V311, output);
        }
        node.run();
    };
    round(&mut node);
    node.measure();
    (0..ROUNDS).for_each(|_| round(&mut node));
    Measured {
        messages: u64::from(ROUNDS) * u64::from(PUBRELS),
        allocations: node.allocations(),
    }
}

fn subscribed(filter: &dyn Fn(u32) -> String, count: u32) -> (Node, ClientIndex) {
    let mut node = Node::new();
    let publisher = node.connect("publisher", false);
    let subscribers: Vec<_> = (0..100)
        .map(|number| node.connect(&format!("subscriber{number}"), false))
        .collect();
    for number in 0..count {
        let subscriber = subscribers[number as usize % 100];
        node.subscribe(subscriber, &filter(number), QoS::AtMostOnce);
    }
    (node, publisher)
}

fn mixed_topic(number: u32) -> String {
    match number % 5 {
        2 => format!("site/{}/{number}/pump/state", number % 5),
        _ => format!("site/{}/{number}/state", number % 5),
    }
}

fn mixed_filter(number: u32) -> String {
    let kind = number % 5;
    match kind {
        0 => format!("site/{kind}/{number}/state"),
        1 => format!("site/{kind}/{number}/+"),
        2 => format!("site/{kind}/{number}/#"),
        3 => format!("site/+/{number}/state"),
        _ => format!("+/{kind}/{number}/state"),
    }
}

/// Numbers that look random, the same in each run.
fn scattered(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761).rotate_right(13)
}
