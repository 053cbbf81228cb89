//! A part of the node that is durable gets what came while it was not attached, over restarts, and
//! what it has not settled once more; QoS 0 messages too, if it keeps them. It is told who
//! published each.

use martlet_broker::{
    Delivery, PartCall, PartEvent, PartId, PartOutcome, PartQueueLimits, PartReach, PartSpec,
    PartSubscription, Settlement, TenantId,
};
use martlet_codec::RetainHandling;

use crate::node::{End, StoredNode};

const NAME: &str = "$test/part";
const PART: PartId = PartId(1);

/// Attaches the part; whether its session was there, and what it gets at once.
fn attach(node: &mut StoredNode) -> (bool, Vec<Delivery>) {
    node.part_call(NAME, PartCall::Attach(Box::new(spec())));
    let mut told = node.take_told().into_iter();
    let Some(PartEvent::Attached {
        session_present, ..
    }) = told.next()
    else {
        panic!("it is not attached");
    };
    let deliveries = told.map(|event| match event {
        PartEvent::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    });
    (session_present, deliveries.collect())
}

fn spec() -> PartSpec {
    PartSpec {
        id: PART,
        tenant: TenantId(0),
        client_id: NAME.into(),
        subscriptions: vec![PartSubscription {
            filter: "t/#".into(),
            identifier: 7,
            retain_handling: RetainHandling::DoNotSend,
        }],
        credit: 100,
        session_expiry_secs: u32::MAX,
        keeps_qos0: true,
        queue: PartQueueLimits::default(),
        identity: None,
        reach: PartReach::Node,
    }
}

fn texts(deliveries: &[Delivery]) -> Vec<(&str, bool)> {
    let texts = deliveries.iter().map(|found| {
        assert_eq!(found.subscription_ids[..], [7]);
        let publisher = found.publisher().unwrap();
        assert_eq!(&*publisher.client_id, "p");
        assert_eq!(publisher.listener.name, "default");
        let text = core::str::from_utf8(found.message.payload()).unwrap();
        (text, found.dup)
    });
    texts.collect()
}

#[test]
fn a_durable_part_gets_all_that_it_has_not_settled_after_each_restart() {
    for (shards_before, shards_after) in [(1, 1), (3, 3), (2, 5)] {
        for end in [End::Stop, End::Kill, End::PowerCut(1), End::PowerCut(2)] {
            println!("{shards_before} shards, then {shards_after}, {end:?}");
            let mut node = StoredNode::new(shards_before);
            assert!(!attach(&mut node).0);
            node.part_call(NAME, PartCall::Detach(PART));
            node.take_told();
            node.play(
                "P: CONNECT
                 P: PUBLISH t/1 payload=zero
                 P: PUBLISH t/2 qos=1 payload=one
                 P: PUBLISH t/3 qos=2 payload=two",
            );
            let mut node = node.restart(end, shards_after, 10);
            let (is_known, found) = attach(&mut node);
            assert!(is_known);
            let all = [("zero", false), ("one", false), ("two", false)];
            assert_eq!(texts(&found), all);
            let settled = found[..2].iter().map(|found| Settlement {
                token: found.token,
                outcome: PartOutcome::Done,
            });
            node.part_call(NAME, PartCall::Settle(PART, settled.collect()));
            let mut node = node.restart(end, shards_before, 10);
            let (_, found) = attach(&mut node);
            assert_eq!(texts(&found), [("two", true)]);
            // It still keeps them.
            node.play("P: CONNECT; PUBLISH t/4 payload=last");
            let [PartEvent::Delivery(last)] = &node.take_told()[..] else {
                panic!("one is delivered");
            };
            assert_eq!(last.message.payload(), b"last");
            assert_eq!(node.report.damaged, 0, "{:?}", node.report);
        }
    }
}

#[test]
fn a_part_that_was_attached_at_a_crash_is_told_that_what_waited_may_be_repeated() {
    for (end, second_is_dup) in [
        (End::Kill, true),
        (End::PowerCut(1), true),
        (End::Stop, false),
    ] {
        println!("{end:?}");
        let mut node = StoredNode::new(2);
        attach(&mut node);
        node.part_call(NAME, PartCall::Credit(PART, 1));
        node.play(
            "P: CONNECT
             P: PUBLISH t/1 qos=1 payload=one
             P: PUBLISH t/2 qos=1 payload=two",
        );
        assert!(matches!(&node.take_told()[..], [PartEvent::Delivery(_)]));
        // Its credit is used up. Whether the second one was delivered is not known after a crash.
        let mut node = node.restart(end, 2, 10);
        let (_, found) = attach(&mut node);
        assert_eq!(texts(&found), [("one", true), ("two", second_is_dup)]);
        // A message of this run is new.
        node.play("P: CONNECT; PUBLISH t/3 qos=1 payload=three");
        let [PartEvent::Delivery(last)] = &node.take_told()[..] else {
            panic!("one is delivered");
        };
        assert!(!last.dup);
    }
}

#[test]
fn lanes_keep_all_messages_and_their_order_over_restarts_with_other_numbers_of_shards() {
    for (before, after) in [(1, 1), (3, 3), (3, 1), (1, 4), (4, 2)] {
        for end in [End::Stop, End::Kill, End::PowerCut(1), End::PowerCut(2)] {
            println!("{before} shards, then {after}, {end:?}");
            crate::lanes::keep_order(before, after, end);
        }
    }
}
