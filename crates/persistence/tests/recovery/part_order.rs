//! A durable part that takes the messages of all shards has them in the order in which they were
//! acknowledged, over restarts.

use std::time::Duration;

use martlet_broker::{
    PartCall, PartEvent, PartId, PartQueueLimits, PartReach, PartSpec, PartSubscription, TenantId,
};
use martlet_codec::RetainHandling;
use martlet_script::{Incoming, Stage};

use crate::node::{End, StoredNode};

const NAME: &str = "$test/part";
const PART: PartId = PartId(1);
/// Clients that publish in turn, on all shards.
const CLIENTS: usize = 12;

fn attach(node: &mut StoredNode) -> Vec<PartEvent> {
    let spec = PartSpec {
        id: PART,
        tenant: TenantId(0),
        client_id: NAME.into(),
        subscriptions: vec![PartSubscription {
            filter: "t/#".into(),
            identifier: 0,
            retain_handling: RetainHandling::DoNotSend,
        }],
        credit: 1_000,
        session_expiry_secs: u32::MAX,
        keeps_qos0: false,
        queue: PartQueueLimits::default(),
        identity: None,
        reach: PartReach::NodeAfterLanes,
    };
    node.part_call(NAME, PartCall::Attach(Box::new(spec)));
    node.take_part_events()
}

fn connect(node: &mut StoredNode, number: usize) -> usize {
    let link = Stage::open(node).unwrap();
    let name = format!("p{number:02}");
    let head = b"\x10\x0f\0\x04MQTT\x04\x02\0\0\0\x03".as_slice();
    node.send(link, &[head, name.as_bytes()].concat()).unwrap();
    assert!(received(node, link), "CONNACK");
    link
}

/// Publishes with QoS 1; returns whether there is a PUBACK.
fn publish(node: &mut StoredNode, link: usize, payload: u8) -> bool {
    let packet = b"\x32\x08\0\x03t/a\0\x09".as_slice();
    node.send(link, &[packet, &[payload]].concat()).unwrap();
    received(node, link)
}

fn received(node: &mut StoredNode, link: usize) -> bool {
    let read = node.read(link, Duration::from_millis(50));
    matches!(read, Incoming::Bytes(bytes) if !bytes.is_empty())
}

/// In each run, clients of all shards publish in turn, each when the one before has its
/// acknowledgement, until the mail between shards stands still and somebody has none. Then the node
/// ends.
pub(crate) fn is_that_of_acknowledgements(end: End) {
    let mut node = StoredNode::new(3);
    attach(&mut node);
    node.part_call(NAME, PartCall::Detach(PART));
    node.take_part_events();
    let mut number = 0;
    for (run, shards) in [3, 5, 2, 4].into_iter().enumerate() {
        let links: Vec<usize> = (0..CLIENTS)
            .map(|client| connect(&mut node, client))
            .collect();
        for turn in 0..CLIENTS {
            assert!(publish(&mut node, links[turn * 7 % CLIENTS], number));
            number += 1;
        }
        node.hold_mail();
        for turn in 0..CLIENTS {
            let is_acknowledged = publish(&mut node, links[(turn * 5 + run) % CLIENTS], number);
            number += 1;
            if !is_acknowledged {
                break;
            }
        }
        node = node.restart(end, shards, 10);
    }
    let found = attach(&mut node)
        .into_iter()
        .filter_map(|event| match event {
            PartEvent::Delivery(delivery) => Some(delivery.message.payload()[0]),
            _ => None,
        });
    assert_eq!(found.collect::<Vec<u8>>(), Vec::from_iter(0..number));
}

#[test]
fn the_order_of_a_part_over_restarts_is_that_of_the_acknowledgements() {
    for end in [End::Kill, End::PowerCut(1), End::PowerCut(2)] {
        is_that_of_acknowledgements(end);
    }
}
