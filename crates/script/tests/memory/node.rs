//! A node with limits, and clients that make it hold much memory.

use martlet_broker::{EventInterest, Limits, ListenerPolicy, Settings};
use martlet_codec::{Packet, ProtocolVersion, QoS, ReasonCode};
use martlet_script::{Harness, Link, Wiring};

use crate::{lasting, wire};

pub(crate) const V5: ProtocolVersion = ProtocolVersion::V5;

pub(crate) fn node(limits: Limits) -> Harness {
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
pub(crate) fn connect(node: &mut Harness, client_id: &str, will: Option<&[u8]>) -> Link {
    let mut packet = lasting::connect(client_id, will);
    packet.properties.topic_alias_maximum = Some(65_535);
    let link = node.open();
    node.send(link, &wire::encoded(&packet));
    link
}

pub(crate) fn reason_of_connack(node: &mut Harness, link: Link) -> ReasonCode {
    let mut reason = None;
    packets(&node.take(link), |packet| {
        if let Packet::ConnAck(connack) = packet {
            reason = Some(connack.reason);
        }
    });
    reason.expect("a CONNACK came")
}

pub(crate) fn subscribe(filters: &[String], qos: QoS) -> Vec<u8> {
    wire::subscribe(V5, filters, qos)
}

/// Subscribes to these filters. Returns the number of granted ones.
pub(crate) fn granted(node: &mut Harness, link: Link, filters: &[String]) -> usize {
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

pub(crate) fn publish(topic: &str, qos: QoS, payload: &[u8]) -> Vec<u8> {
    wire::publish(V5, topic, qos, 1, false, payload)
}

pub(crate) fn packets(bytes: &[u8], seen: impl FnMut(Packet<'_>)) {
    wire::packets(V5, bytes, seen);
}

pub(crate) fn long_filters(count: usize, bytes: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{number:0bytes$}"))
        .collect()
}

/// Adds items without end, in steps with a tick after each. Returns the most bytes that were
/// counted.
pub(crate) fn most_charged(limit: u64, mut add: impl FnMut(&mut Harness, usize)) -> u64 {
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
