//! Gives a node time to free memory, and checks its answers.

use martlet_codec::{Packet, ProtocolVersion, ReasonCode};
use martlet_script::{Harness, Link};

use crate::wire;

/// Lets time pass in which shards settle their memory with the node.
pub(crate) fn turn(node: &mut Harness) {
    node.elapse(25);
    node.end_tick();
}

/// The Reason Code of the first answer to the client.
pub(crate) fn answer(node: &mut Harness, link: Link) -> ReasonCode {
    let mut reason = None;
    wire::packets(ProtocolVersion::V5, &node.take(link), |packet| {
        let found = match packet {
            Packet::ConnAck(connack) => connack.reason,
            Packet::PubAck(ack) => ack.reason,
            _ => return,
        };
        reason = reason.or(Some(found));
    });
    reason.expect("an answer came")
}
