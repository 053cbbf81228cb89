//! Tests of the counters for operators: packets and payload bytes, in and out.

use martlet_broker::{ListenerPolicy, Settings};
use martlet_script::{Harness, Wiring};

#[test]
fn each_publish_and_its_payload_is_counted_once_in_and_once_for_each_receiver() {
    let wiring = Wiring {
        shards: 3,
        ..Wiring::default()
    };
    let mut node = Harness::new(Settings::default(), ListenerPolicy::default(), wiring);
    for client_id in *b"ab" {
        let link = node.open();
        let mut connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01".to_vec();
        connect.push(client_id);
        node.send(link, &connect);
        node.send(link, b"\x82\x06\x00\x01\x00\x01t\x01");
    }
    let publisher = node.open();
    node.send(publisher, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p");
    node.send(publisher, b"\x32\x08\x00\x01t\x00\x01one");
    node.send(publisher, b"\x30\x08\x00\x01tthree");
    node.send(publisher, b"\x30\x0a\x00\x06nobodyno");
    let counters = node.counters();
    assert_eq!(
        (counters.publishes_received, counters.publish_bytes_received),
        (3, 10)
    );
    assert_eq!(
        (counters.publishes_sent, counters.publish_bytes_sent),
        (4, 16)
    );
    assert_eq!(counters.messages_unmatched, 1);
}
