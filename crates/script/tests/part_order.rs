//! A durable part that takes the messages of all shards has them in the order in which they are
//! acknowledged, whichever shard receives them.

use std::collections::BTreeSet;

use martlet_broker::{
    DropReason, ListenerPolicy, OnFull, PartCall, PartEvent, PartId, PartOutcome, PartQueueLimits,
    PartReach, PartSpec, PartSubscription, Settings, Settlement, TenantId,
};
use martlet_codec::RetainHandling;
use martlet_script::{Harness, Link, Wiring};

#[allow(dead_code)]
mod raw;

use raw::{CLEAN, connect, packet, subscribe, text};

const NAME: &str = "$test/part";
const PART: PartId = PartId(1);
const SHARDS: u16 = 3;

/// A node with the part, attached.
fn node(wiring: Wiring) -> Harness {
    node_with(wiring, PartQueueLimits::default())
}

/// As [`node`], with bounds of the queue.
fn node_with(wiring: Wiring, queue: PartQueueLimits) -> Harness {
    let wiring = Wiring {
        shards: SHARDS,
        ..wiring
    };
    let mut node = Harness::new(Settings::default(), ListenerPolicy::default(), wiring);
    let spec = PartSpec {
        id: PART,
        tenant: TenantId(0),
        client_id: NAME.into(),
        subscriptions: vec![PartSubscription {
            filter: "t/#".into(),
            identifier: 0,
            retain_handling: RetainHandling::DoNotSend,
        }],
        credit: 10,
        session_expiry_secs: u32::MAX,
        keeps_qos0: false,
        queue,
        identity: None,
        reach: PartReach::NodeAfterLanes,
    };
    node.part_call(NAME, PartCall::Attach(Box::new(spec)));
    node.elapse(20);
    let told = node.take_told();
    assert!(
        matches!(
            told[..],
            [
                (PART, PartEvent::Attached { .. }),
                (
                    PART,
                    PartEvent::Run {
                        is_present: true,
                        ..
                    }
                ),
                ..
            ]
        ),
        "{told:?}"
    );
    node
}

/// Publishers, some on each shard.
fn publishers(node: &mut Harness) -> Vec<Link> {
    let all: Vec<Link> = (0..12)
        .map(|number| connect(node, &format!("p{number}"), CLEAN))
        .collect();
    for shard in 0..SHARDS {
        assert!(all.iter().any(|link| node.shard_of(*link) == Some(shard)));
    }
    for link in &all {
        node.take(*link);
    }
    all
}

fn send(node: &mut Harness, link: Link, topic: &str, payload: u8) {
    let body = [&text(topic)[..], &[0, 9, payload]].concat();
    node.send(link, &packet(0x32, &body));
}

fn is_acknowledged(node: &mut Harness, link: Link) -> bool {
    node.take(link)
        .windows(4)
        .any(|bytes| bytes == [0x40, 2, 0, 9])
}

/// The payloads that the part gets; it settles them.
fn taken(node: &mut Harness) -> Vec<u8> {
    let mut payloads = Vec::new();
    let mut settled = Vec::new();
    for (_, event) in node.take_told() {
        if let PartEvent::Delivery(delivery) = event {
            payloads.push(delivery.message.payload()[0]);
            settled.push(Settlement {
                token: delivery.token,
                outcome: PartOutcome::Done,
            });
        }
    }
    if !settled.is_empty() {
        node.part_call(NAME, PartCall::Settle(PART, settled));
        node.elapse(20);
        payloads.extend(taken(node));
    }
    payloads
}

#[test]
fn a_message_of_another_shard_is_acknowledged_once_it_is_in_the_queue_of_the_part() {
    let mut node = node(Wiring::default());
    let all = publishers(&mut node);
    node.hold_mail(true);
    let mut waiting = Vec::new();
    for (number, link) in (0..).zip(&all) {
        send(&mut node, *link, "t/a", number);
        node.elapse(100);
        if !is_acknowledged(&mut node, *link) {
            waiting.push(*link);
        }
    }
    // Those of the shard that has the part are the only ones in its queue.
    assert_eq!(taken(&mut node).len(), all.len() - waiting.len());
    let shards = waiting.iter().filter_map(|link| node.shard_of(*link));
    let shards: BTreeSet<u16> = shards.collect();
    assert_eq!(shards.len(), usize::from(SHARDS) - 1);
    node.hold_mail(false);
    node.elapse(100);
    for link in &waiting {
        assert!(is_acknowledged(&mut node, *link));
    }
    assert_eq!(taken(&mut node).len(), waiting.len());
}

/// Several clients publish in turn, each when the one before has its acknowledgement. Now and then
/// the mail between shards is held back until somebody waits for it.
fn in_turn(wiring: Wiring) {
    let mut node = node(wiring);
    let all = publishers(&mut node);
    // Other subscribers: with short turns each message is fanned out, over several turns.
    for number in 0..8 {
        let reader = connect(&mut node, &format!("r{number}"), CLEAN);
        subscribe(&mut node, reader, "t/b/#", 1);
        subscribe(&mut node, reader, "t/+/c", 0);
    }
    let mut got = Vec::new();
    for number in 0..120_u8 {
        let link = all[usize::from(number) * 7 % all.len()];
        let topic = ["t/a", "t/b", "t/b/c"][usize::from(number) % 3];
        if number % 5 == 0 {
            node.hold_mail(true);
        }
        send(&mut node, link, topic, number);
        let mut waits = 0;
        while !is_acknowledged(&mut node, link) {
            node.hold_mail(false);
            node.elapse(5);
            waits += 1;
            assert!(waits < 1_000, "no acknowledgement of {number}");
        }
        got.extend(taken(&mut node));
    }
    node.hold_mail(false);
    node.elapse(1_000);
    got.extend(taken(&mut node));
    assert_eq!(got, Vec::from_iter(0..120));
}

#[test]
fn what_is_published_after_an_acknowledgement_comes_behind_it() {
    in_turn(Wiring::default());
    in_turn(Wiring {
        durable_delay_ms: 3,
        ..Wiring::default()
    });
    in_turn(Wiring {
        short_turns: true,
        ..Wiring::default()
    });
}

/// Publishers of all shards fill a short queue at the same time: messages that are on their way
/// when its publishers begin to wait enter it too, however many they are.
#[test]
fn a_queue_that_holds_drops_nothing_that_comes_from_other_shards() {
    const PAYLOAD_BYTES: usize = 64 * 1024;
    let queue = PartQueueLimits {
        bytes_max: 2 * PAYLOAD_BYTES as u64,
        on_full: OnFull::Hold,
        ..PartQueueLimits::default()
    };
    let mut node = node_with(Wiring::default(), queue);
    let all = publishers(&mut node);
    let send_long = |node: &mut Harness, link: Link, number: u8| {
        let payload = vec![number; PAYLOAD_BYTES];
        let body = [&text("t/a")[..], &[0, 9], &payload].concat();
        node.send(link, &packet(0x32, &body));
    };
    node.hold_mail(true);
    for (number, link) in (0..).zip(all.iter().cycle()).take(60) {
        send_long(&mut node, *link, number);
        node.elapse(10);
    }
    node.hold_mail(false);
    node.elapse(100);
    // The publishers of all shards wait now. Others do not.
    for link in &all {
        node.take(*link);
        send(&mut node, *link, "t/a", 100);
    }
    let other = connect(&mut node, "other", CLEAN);
    node.take(other);
    send(&mut node, other, "u/a", 0);
    node.elapse(100);
    assert!(is_acknowledged(&mut node, other));
    for link in &all {
        assert!(!is_acknowledged(&mut node, *link));
    }
    let got = taken(&mut node);
    for link in &all {
        assert!(is_acknowledged(&mut node, *link));
    }
    assert_eq!(node.counters().dropped[DropReason::QueueFull as usize], 0);
    assert_eq!(
        got.iter().filter(|number| **number == 100).count(),
        all.len()
    );
    for publisher in 0..all.len() {
        let of_one = (0..60).filter(|number| number % all.len() == publisher);
        let found = got.iter().map(|number| usize::from(*number));
        let found = found.filter(|number| *number < 60 && number % all.len() == publisher);
        assert_eq!(found.collect::<Vec<_>>(), of_one.collect::<Vec<_>>());
    }
}
