//! Packets of MQTT 3.1.1 as bytes.

use martlet_script::{Harness, Link};

/// Clean Session 1: the session ends with its connection.
pub(crate) const CLEAN: u8 = 0x02;

/// A UTF-8 string with its length.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u16).to_be_bytes();
    [&length, text.as_bytes()].concat()
}

/// A packet: its first byte, its length, and its body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.len();
    while left > 127 {
        packet.push(left as u8 | 0x80);
        left >>= 7;
    }
    packet.push(left as u8);
    [&packet, body].concat()
}

/// Connects a client with these Connect Flags.
pub(crate) fn connect(node: &mut Harness, client_id: &str, flags: u8) -> Link {
    let link = node.open();
    let head = [b"\0\x04MQTT\x04".as_slice(), &[flags, 0, 60]].concat();
    node.send(link, &packet(0x10, &[head, text(client_id)].concat()));
    node.elapse(5);
    link
}

/// Subscribes the client.
pub(crate) fn subscribe(node: &mut Harness, link: Link, filter: &str, qos: u8) {
    let body = [vec![0, 1], text(filter), vec![qos]].concat();
    node.send(link, &packet(0x82, &body));
    node.elapse(5);
}
