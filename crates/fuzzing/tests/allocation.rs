//! Memory that shards allocate, counted with the allocator itself: little for whatever a client
//! sends, nothing that stays once it is gone, and nothing per message in steady state.
//! `MARTLET_FUZZ_RUNS` is how many times as often each packet is sent.
#![allow(unsafe_code)] // A global allocator cannot be written without it; it only counts.

#[path = "../../codec/tests/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use martlet_broker::{ListenerPolicy, Settings, TransportEnd};
use martlet_codec::{
    Ack, AckKind, Connect, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode,
    Subscribe, SubscribeFilter, SubscriptionOptions, TopicName, UserProperties,
};
use martlet_fuzzing::{Client, Link, Node};

struct Counting;

/// Of one thread, so that other tests' threads do not count.
#[derive(Clone, Copy)]
struct Counts {
    allocations: usize,
    allocated_bytes: usize,
    live_bytes: isize,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts {
        allocations: 0,
        allocated_bytes: 0,
        live_bytes: 0,
    }) };
}

fn count(allocated: usize, freed: usize) {
    COUNTS.with(|counts| {
        let mut now = counts.get();
        now.allocations += usize::from(allocated > 0);
        now.allocated_bytes += allocated;
        now.live_bytes += allocated as isize - freed as isize;
        counts.set(now);
    });
}

// SAFETY: each call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps `alloc`'s contract, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the pointer came from `alloc` above, and so from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn node() -> Node {
    Node::new(Settings::default(), ListenerPolicy::default(), 1)
}

fn connect(node: &mut Node, client_id: &str, version: ProtocolVersion) -> Link {
    let mut bytes = Vec::new();
    Connect::new(version, client_id).encode(&mut bytes);
    let link = node.open(0, Client::silent());
    node.send(link, &bytes);
    node.run();
    link
}

/// Time after which nothing of a connection that has ended is left, and no route that was
/// remembered for it, in milliseconds.
const REMEMBERED_MS: u64 = 60_000;

/// Opens a connection, sends a packet on it and ends it; answers how many bytes were allocated
/// while the packet was worked off.
fn visit(node: &mut Node, case: &support::Case, connected: bool) -> usize {
    let link = match connected {
        true => connect(node, "hostile", case.version),
        false => node.open(0, Client::silent()),
    };
    node.run();
    let before = COUNTS.get().allocated_bytes;
    node.send(link, &case.bytes);
    node.run();
    let allocated = COUNTS.get().allocated_bytes - before;
    node.end(link, TransportEnd::EndOfStream);
    node.elapse(REMEMBERED_MS, 1);
    allocated
}

fn times() -> usize {
    let times = std::env::var("MARTLET_FUZZ_RUNS").ok();
    times.and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn no_packet_makes_a_shard_allocate_much() {
    for connected in [true, false] {
        let mut node = node();
        // Places for connections and sessions are made by the dozen, when the first one comes.
        let first = connect(&mut node, "first", ProtocolVersion::V311);
        node.end(first, TransportEnd::EndOfStream);
        node.elapse(REMEMBERED_MS, 1);
        for case in support::table() {
            let allocated = visit(&mut node, &case, connected);
            let allowed = 4 * case.bytes.len() + 8 * 1024;
            let name = &case.name;
            assert!(
                allocated <= allowed,
                "{name}: {allocated} bytes, allowed are {allowed}"
            );
        }
    }
}

#[test]
fn nothing_of_a_connection_stays_whatever_it_sent() {
    const WARM: usize = 10;
    const ROUNDS: usize = 10;
    for connected in [true, false] {
        for case in support::table() {
            // Large packets take their time, and a leak shows with few as well.
            let rounds = (ROUNDS * times()).min(10_000) / (1 + case.bytes.len() / 4096);
            let mut node = node();
            for _ in 0..WARM {
                visit(&mut node, &case, connected);
            }
            let before = COUNTS.get().live_bytes;
            for _ in 0..rounds.max(10) {
                visit(&mut node, &case, connected);
            }
            let stayed = COUNTS.get().live_bytes - before;
            assert_eq!(stayed, 0, "{}: bytes that stayed", case.name);
        }
    }
}

/// Bytes that stay for each of `count` calls.
fn bytes_each(count: usize, mut call: impl FnMut(usize)) -> isize {
    // Tables grow by doubling: what is measured begins and ends a little behind that.
    (0..count).for_each(&mut call);
    let before = COUNTS.get().live_bytes;
    (count..2 * count).for_each(&mut call);
    (COUNTS.get().live_bytes - before) / count as isize
}

#[test]
fn a_subscription_takes_at_most_150_bytes_beyond_its_filter() {
    let mut node = node();
    let clients: Vec<_> = (0..100)
        .map(|number| {
            connect(
                &mut node,
                &format!("client {number}"),
                ProtocolVersion::V311,
            )
        })
        .collect();
    let version = ProtocolVersion::V311;
    let none = UserProperties::default();
    let mut text = 0;
    let mut bytes = Vec::new();
    let taken = bytes_each(18_000, |number| {
        let filter = match number % 5 {
            0 => format!("plant/site/exact/{number}/state"),
            1 => format!("plant/site/last/{number}/+"),
            2 => format!("plant/site/rest/{number}/#"),
            3 => format!("plant/site/middle/+/{number}/state"),
            _ => format!("+/site/first/{number}/state"),
        };
        text += filter.len();
        let filters = [SubscribeFilter {
            filter: &filter,
            options: SubscriptionOptions::default(),
        }];
        bytes.clear();
        Subscribe::encode_parts(version, PacketId::MIN, None, none, &filters, &mut bytes);
        node.send(clients[number % 100], &bytes);
        node.run();
    });
    let beyond = taken - (text / 36_000) as isize;
    assert!(beyond <= 150, "{taken} bytes, {beyond} beyond the filter");
}

const SUBSCRIBERS: usize = 10;
const MESSAGES: u16 = 20_000;

fn subscribers(node: &mut Node, qos: QoS) -> Vec<Link> {
    let one = |index: usize| {
        let link = connect(node, &format!("subscriber {index}"), ProtocolVersion::V5);
        let filter = SubscribeFilter {
            filter: "a/+",
            options: SubscriptionOptions {
                qos,
                ..SubscriptionOptions::default()
            },
        };
        let (version, id) = (ProtocolVersion::V5, PacketId::MIN);
        let mut bytes = Vec::new();
        Subscribe::encode_parts(
            version,
            id,
            None,
            UserProperties::default(),
            &[filter],
            &mut bytes,
        );
        node.send(link, &bytes);
        node.run();
        link
    };
    (0..SUBSCRIBERS).map(one).collect()
}

fn publish(qos: QoS, packet_id: Option<PacketId>, out: &mut Vec<u8>) {
    out.clear();
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: TopicName::new("a/b").ok(),
        packet_id,
        properties: PublishProperties::default(),
        payload: b"twenty-one bytes here",
    }
    .encode(ProtocolVersion::V5, out);
}

#[test]
fn qos_0_messages_allocate_nothing_in_steady_state() {
    let mut node = node();
    let _subscribers = subscribers(&mut node, QoS::AtMostOnce);
    let publisher = connect(&mut node, "publisher", ProtocolVersion::V5);
    let mut bytes = Vec::new();
    publish(QoS::AtMostOnce, None, &mut bytes);
    for _ in 0..1000 {
        node.send(publisher, &bytes);
        node.run();
    }
    let before = COUNTS.get();
    for _ in 0..MESSAGES {
        node.send(publisher, &bytes);
        node.run();
    }
    assert_eq!(COUNTS.get().allocations - before.allocations, 0);
    let delivered = node.counters().delivered;
    assert_eq!(delivered, (1000 + u64::from(MESSAGES)) * SUBSCRIBERS as u64);
}

/// Sends messages, each acknowledged by all its receivers; answers how many allocations that took.
fn acknowledged_messages(node: &mut Node, qos: QoS, subscribers: &[Link]) -> usize {
    const WARM: u16 = 1000;
    let publisher = connect(node, "publisher", ProtocolVersion::V5);
    let delivered_before = node.counters().delivered;
    let answers: &[_] = match qos {
        QoS::ExactlyOnce => &[AckKind::PubRec, AckKind::PubComp],
        _ => &[AckKind::PubAck],
    };
    let mut bytes = Vec::new();
    let mut before = COUNTS.get();
    for number in 1..=WARM + MESSAGES {
        if number == WARM + 1 {
            before = COUNTS.get();
        }
        let id = PacketId::new(number);
        publish(qos, id, &mut bytes);
        node.send(publisher, &bytes);
        node.run();
        // A subscriber's Packet Identifiers are given in order.
        let ack = Ack::new(id.unwrap_or(PacketId::MIN), ReasonCode::Success);
        if qos == QoS::ExactlyOnce {
            bytes.clear();
            ack.encode(AckKind::PubRel, ProtocolVersion::V5, &mut bytes);
            node.send(publisher, &bytes);
        }
        for kind in answers {
            bytes.clear();
            ack.encode(*kind, ProtocolVersion::V5, &mut bytes);
            for link in subscribers {
                node.send(*link, &bytes);
            }
            node.run();
        }
    }
    let delivered = node.counters().delivered - delivered_before;
    assert_eq!(delivered, u64::from(WARM + MESSAGES) * SUBSCRIBERS as u64);
    COUNTS.get().allocations - before.allocations
}

#[test]
fn acknowledged_messages_to_sessions_that_end_with_their_connection_allocate_nothing() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut node = node();
        let subscribers = subscribers(&mut node, qos);
        assert_eq!(acknowledged_messages(&mut node, qos, &subscribers), 0);
    }
}
