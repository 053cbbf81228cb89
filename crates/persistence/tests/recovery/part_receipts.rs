//! Receipts requested by a part are sent after restarts too, to the part after it is attached
//! again: for messages in queues, in flight, and in share groups.

use martlet_broker::{
    DropReason, NewMessage, PartCall, PartEvent, PartId, PartPublish, PartQueueLimits, PartReach,
    PartSpec, ReceiptOutcome, TenantId,
};
use martlet_codec::QoS;

use crate::node::{End, StoredNode};

const NAME: &str = "$test/part";
const PART: PartId = PartId(1);

fn attach(node: &mut StoredNode, session_expiry_secs: u32) {
    let spec = PartSpec {
        id: PART,
        tenant: TenantId(0),
        client_id: NAME.into(),
        subscriptions: Vec::new(),
        credit: 100,
        session_expiry_secs,
        keeps_qos0: false,
        queue: PartQueueLimits::default(),
        identity: None,
        reach: PartReach::Node,
    };
    node.part_call(NAME, PartCall::Attach(Box::new(spec)));
    let events = node.take_part_events();
    assert!(
        matches!(events[..], [PartEvent::Attached { .. }]),
        "{events:?}"
    );
}

/// Publishes a message of the part; returns the number of receivers.
fn publish(node: &mut StoredNode, receipts: bool) -> Option<u64> {
    let publish = PartPublish {
        number: 1,
        message: NewMessage {
            topic: "t".into(),
            payload: b"x".as_slice().into(),
            qos: QoS::ExactlyOnce,
            ..NewMessage::default()
        },
        receipts,
    };
    node.part_call(NAME, PartCall::Publish(PART, Box::new(publish)));
    let events = node.take_part_events().into_iter();
    let mut count = events.filter_map(|event| match event {
        PartEvent::Receivers { receivers, .. } => Some(receivers),
        PartEvent::Published { .. } => None,
        other => panic!("{other:?}"),
    });
    count.next()
}

/// Receipts since the last call, sorted by receiver.
fn receipts(node: &mut StoredNode) -> Vec<(String, ReceiptOutcome)> {
    let events = node.take_part_events().into_iter();
    let receipts = events.map(|event| match event {
        PartEvent::Receipt(receipt) => (receipt.receiver.to_string(), receipt.outcome),
        other => panic!("{other:?}"),
    });
    let mut receipts: Vec<_> = receipts.collect();
    receipts.sort_by(|(a, _), (b, _)| a.cmp(b));
    receipts
}

fn all(receivers: &[&str], outcome: ReceiptOutcome) -> Vec<(String, ReceiptOutcome)> {
    let receivers = receivers.iter();
    receivers
        .map(|receiver| ((*receiver).to_owned(), outcome))
        .collect()
}

const SUBSCRIBERS: &str = "
    A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=1
    A: DISCONNECT
    B: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=2
    C: CONNECT clean=0 session_expiry=1000; SUBSCRIBE t qos=1
    C: DISCONNECT
    G: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=1
    G: DISCONNECT";

#[test]
fn receipts_follow_after_restarts() {
    for (shards_before, shards_after) in [(1, 1), (3, 3), (1, 3), (3, 1), (2, 5)] {
        for end in [End::Stop, End::Kill, End::PowerCut(1), End::PowerCut(2)] {
            println!("{shards_before} shards, then {shards_after}, {end:?}");
            let mut node = StoredNode::new(shards_before);
            attach(&mut node, u32::MAX);
            node.play(SUBSCRIBERS);
            assert_eq!(publish(&mut node, true), Some(4));
            assert_eq!(publish(&mut node, false), None);
            assert_eq!(publish(&mut node, true), Some(4));
            assert_eq!(receipts(&mut node), []);
            let mut node = node.restart(end, shards_after, 10);
            attach(&mut node, u32::MAX);
            node.play(
                "A: CONNECT clean=0 session_expiry=1000
                 A> CONNACK 0 session_present=1
                 A> PUBLISH t qos=1 payload=x id=1
                 A> PUBLISH t qos=1 payload=x id=2
                 A> PUBLISH t qos=1 payload=x id=3
                 A: PUBACK 1
                 B: CONNECT clean=0 session_expiry=1000
                 B> CONNACK 0 session_present=1
                 B> PUBLISH t qos=2 payload=x id=1 dup
                 B> PUBLISH t qos=2 payload=x id=2 dup
                 B> PUBLISH t qos=2 payload=x id=3 dup
                 B: PUBREC 1
                 B> PUBREL 1
                 B: PUBREC 2
                 B> PUBREL 2
                 G: CONNECT clean=0 session_expiry=1000
                 G> CONNACK 0 session_present=1
                 G> PUBLISH t qos=1 payload=x id=1
                 G> PUBLISH t qos=1 payload=x id=2
                 G> PUBLISH t qos=1 payload=x id=3
                 G: PUBACK 1",
            );
            let acknowledged = ReceiptOutcome::Acknowledged;
            assert_eq!(receipts(&mut node), all(&["a", "b", "g"], acknowledged));
            // And once more: answered messages cause no receipts.
            let mut node = node.restart(end, shards_before, 10);
            attach(&mut node, u32::MAX);
            node.play(
                "A: CONNECT clean=0 session_expiry=1000
                 A> CONNACK 0 session_present=1
                 A> PUBLISH t qos=1 payload=x id=2 dup
                 A> PUBLISH t qos=1 payload=x id=3 dup
                 A: PUBACK 2 & PUBACK 3
                 B: CONNECT clean=0 session_expiry=1000
                 B> CONNACK 0 session_present=1
                 B> PUBREL 1
                 B> PUBREL 2
                 B> PUBLISH t qos=2 payload=x id=3 dup
                 B: PUBCOMP 1 & PUBCOMP 2 & PUBREC 3
                 B> PUBREL 3
                 B: PUBCOMP 3
                 G: CONNECT clean=0 session_expiry=1000
                 G> CONNACK 0 session_present=1
                 G> PUBLISH t qos=1 payload=x id=2 dup
                 G> PUBLISH t qos=1 payload=x id=3 dup
                 G: PUBACK 2 & PUBACK 3",
            );
            assert_eq!(receipts(&mut node), all(&["a", "b", "g"], acknowledged));
            node.play("C: CONNECT clean=1");
            let ended = ReceiptOutcome::Dropped(DropReason::SessionEnded);
            assert_eq!(receipts(&mut node), all(&["c", "c"], ended));
            assert_eq!(node.report.damaged, 0, "{:?}", node.report);
        }
    }
}

#[test]
fn a_part_without_a_durable_session_is_told_nothing_after_a_restart() {
    for end in [End::Stop, End::Kill] {
        let mut node = StoredNode::new(2);
        attach(&mut node, 0);
        node.play(SUBSCRIBERS);
        assert_eq!(publish(&mut node, true), Some(4));
        let mut node = node.restart(end, 2, 10);
        attach(&mut node, 0);
        node.play(
            "A: CONNECT clean=0 session_expiry=1000
             A> CONNACK 0 session_present=1
             A> PUBLISH t qos=1 payload=x id=1
             A: PUBACK 1",
        );
        assert_eq!(receipts(&mut node), []);
    }
}

#[test]
fn a_message_that_a_share_group_recorded_late_leads_to_its_receipt_after_a_restart() {
    for (shards_before, shards_after) in [(1, 1), (3, 3), (3, 2)] {
        let mut node = StoredNode::new(shards_before);
        attach(&mut node, u32::MAX);
        // No member has a durable session when the message arrives.
        node.play("A: CONNECT; SUBSCRIBE $share/g/t qos=1");
        assert_eq!(publish(&mut node, true), Some(1));
        node.play(
            "B: CONNECT clean=0 session_expiry=1000; SUBSCRIBE $share/g/t qos=1
             A: CONNECT
             B> PUBLISH t qos=1 payload=x id=1",
        );
        let mut node = node.restart(End::Kill, shards_after, 10);
        attach(&mut node, u32::MAX);
        node.play(
            "B: CONNECT clean=0 session_expiry=1000
             B> CONNACK 0 session_present=1
             B> PUBLISH t qos=1 payload=x id=1 dup
             B: PUBACK 1",
        );
        let acknowledged = ReceiptOutcome::Acknowledged;
        assert_eq!(receipts(&mut node), all(&["b"], acknowledged));
    }
}

#[test]
fn a_part_that_began_anew_is_told_nothing_of_what_its_earlier_session_published() {
    for shards in [1, 3] {
        let mut node = StoredNode::new(shards);
        attach(&mut node, u32::MAX);
        node.play("A: CONNECT id=a clean=0 session_expiry=1000; SUBSCRIBE t qos=1; DISCONNECT");
        assert_eq!(publish(&mut node, true), Some(1));
        node.part_call(NAME, PartCall::End(PART));
        node.take_part_events();
        attach(&mut node, u32::MAX);
        let mut node = node.restart(End::Kill, shards, 10);
        attach(&mut node, u32::MAX);
        node.play(
            "A: CONNECT id=a clean=0 session_expiry=1000
             A> CONNACK 0 session_present=1
             A> PUBLISH t qos=1 payload=x id=1
             A: PUBACK 1",
        );
        assert_eq!(receipts(&mut node), []);
    }
}
