//! Tests of what waits for the store and what does not, with a store that answers 5 ms late.

use martlet_broker::{ListenerPolicy, Settings};
use martlet_script::{Harness, Link, Wiring};

const CONNECT_A: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01a";
const CONNECT_P: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p";
const SUBSCRIBE_QOS_2: &[u8] = b"\x82\x06\x00\x01\x00\x01t\x02";
const PUBLISH_QOS_1: &[u8] = b"\x32\x06\x00\x01t\x00\x01x";
const PUBLISH_QOS_2: &[u8] = b"\x34\x06\x00\x01t\x00\x01x";

/// A subscriber with a persistent session, and a publisher.
fn clients() -> (Harness, Link, Link) {
    let wiring = Wiring {
        durable_delay_ms: 5,
        ..Wiring::default()
    };
    let mut node = Harness::new(Settings::default(), ListenerPolicy::default(), wiring);
    let (subscriber, publisher) = (node.open(), node.open());
    for (link, bytes) in [
        (subscriber, CONNECT_A),
        (subscriber, SUBSCRIBE_QOS_2),
        (publisher, CONNECT_P),
    ] {
        node.send(link, bytes);
        node.elapse(5);
        node.take(link);
    }
    (node, subscriber, publisher)
}

#[test]
fn qos_1_is_passed_on_at_once_and_acknowledged_when_it_is_stored() {
    let (mut node, subscriber, publisher) = clients();
    node.send(publisher, PUBLISH_QOS_1);
    assert_eq!(node.take(subscriber), PUBLISH_QOS_1);
    assert_eq!(node.take(publisher), b"");
    node.elapse(5);
    assert_eq!(node.take(publisher), b"\x40\x02\x00\x01");
}

/// Otherwise a crash in between would send it as a second message with another Packet Identifier.
#[test]
fn qos_2_is_passed_on_when_its_packet_identifier_is_stored() {
    let (mut node, subscriber, publisher) = clients();
    node.send(publisher, PUBLISH_QOS_2);
    assert_eq!(node.take(subscriber), b"");
    assert_eq!(node.take(publisher), b"");
    node.elapse(5);
    assert_eq!(node.take(subscriber), PUBLISH_QOS_2);
    assert_eq!(node.take(publisher), b"\x50\x02\x00\x01");
}

#[test]
fn pubrel_is_sent_when_the_pubrec_is_stored() {
    let (mut node, subscriber, publisher) = clients();
    node.send(publisher, PUBLISH_QOS_2);
    node.elapse(5);
    node.take(subscriber);
    node.send(subscriber, b"\x50\x02\x00\x01");
    assert_eq!(node.take(subscriber), b"");
    node.elapse(5);
    assert_eq!(node.take(subscriber), b"\x62\x02\x00\x01");
}

#[test]
fn pubcomp_is_sent_when_the_release_is_stored() {
    let (mut node, _, _) = clients();
    let publisher = node.open();
    node.send(publisher, b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01k");
    node.elapse(5);
    node.send(publisher, PUBLISH_QOS_2);
    node.elapse(5);
    node.take(publisher);
    let pubrel = b"\x62\x02\x00\x01";
    node.send(publisher, pubrel);
    node.send(publisher, pubrel);
    assert_eq!(node.take(publisher), b"", "nor if it comes again");
    node.elapse(5);
    assert_eq!(node.take(publisher), b"\x70\x02\x00\x01\x70\x02\x00\x01");
}
