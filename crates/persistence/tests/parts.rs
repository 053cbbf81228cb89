//! A part of the node that is durable gets what came while it was not attached, over restarts, and
//! what it has not settled once more; QoS 0 messages too, if it keeps them. It is told who
//! published each.

#![allow(clippy::unwrap_used)]

mod node;

use martlet_broker::{
    Delivery, LaneOrder, PartCall, PartEvent, PartId, PartOutcome, PartQueueLimits, PartReach,
    PartSpec, PartSubscription, Settlement, TenantId, lane_name, start_of,
};
use martlet_codec::RetainHandling;
use node::{End, StoredNode};

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

/// Attaches a lane; what it is told.
fn attach_lane(node: &mut StoredNode, lane: u16) -> Vec<PartEvent> {
    let name = lane_name(NAME, lane);
    let spec = PartSpec {
        id: PartId(u64::from(lane)),
        client_id: name.as_str().into(),
        reach: PartReach::Lane,
        ..spec()
    };
    node.part_call(&name, PartCall::Attach(Box::new(spec)));
    node.take_told()
}

/// Publishers on several shards, each with messages in order.
const PLAY: &str = "P: CONNECT
     P: PUBLISH t/p qos=1 payload=first
     Q: CONNECT
     Q: PUBLISH t/q qos=1 payload=first
     R: CONNECT
     R: PUBLISH t/r qos=1 payload=first
     P: PUBLISH t/p qos=1 payload=second
     Q: PUBLISH t/q qos=1 payload=second
     R: PUBLISH t/r qos=1 payload=second
     P: PUBLISH t/p payload=third
     Q: PUBLISH t/q payload=third
     R: PUBLISH t/r payload=third";

#[test]
fn lanes_keep_all_messages_and_their_order_over_restarts_with_other_numbers_of_shards() {
    for (before, after) in [(1, 1), (3, 3), (3, 1), (1, 4), (4, 2)] {
        for end in [End::Stop, End::Kill, End::PowerCut(1), End::PowerCut(2)] {
            println!("{before} shards, then {after}, {end:?}");
            let mut node = StoredNode::new(before);
            for lane in 0..before {
                let told = attach_lane(&mut node, lane);
                assert!(matches!(
                    told[..],
                    [
                        PartEvent::Attached { .. },
                        PartEvent::Run {
                            is_present: true,
                            ..
                        }
                    ]
                ));
                let name = lane_name(NAME, lane);
                node.part_call(&name, PartCall::Detach(PartId(u64::from(lane))));
                node.take_told();
            }
            node.play(PLAY);
            let mut node = node.restart(end, after, 10);
            // All lanes there have been, which are more than shards perhaps.
            let mut order = LaneOrder::new(usize::from(before.max(after)));
            let mut taken: Vec<(u16, Delivery)> = Vec::new();
            for lane in 0..before.max(after) {
                for event in attach_lane(&mut node, lane) {
                    take(&mut order, lane, event);
                }
            }
            node.play(PLAY);
            for (lane, event) in told_of(&mut node) {
                take(&mut order, lane, event);
            }
            while let Some((lane, delivery)) = order.pop() {
                let settled = Settlement {
                    token: delivery.token,
                    outcome: PartOutcome::Done,
                };
                let lane = lane as u16;
                taken.push((lane, delivery));
                let name = lane_name(NAME, lane);
                let id = PartId(u64::from(lane));
                node.part_call(&name, PartCall::Settle(id, vec![settled]));
                for (lane, event) in told_of(&mut node) {
                    take(&mut order, lane, event);
                }
            }
            for topic in ["t/p", "t/q", "t/r"] {
                let of_topic = taken
                    .iter()
                    .filter(|(_, found)| found.message.topic() == topic);
                let texts: Vec<&str> = of_topic
                    .map(|(_, found)| core::str::from_utf8(found.message.payload()).unwrap())
                    .collect();
                let all = ["first", "second", "third"];
                assert_eq!(texts, [all, all].concat(), "{topic}");
            }
        }
    }
}

fn take(order: &mut LaneOrder<Delivery>, lane: u16, event: PartEvent) {
    let lane = usize::from(lane);
    match event {
        PartEvent::Delivery(delivery) => {
            let run = start_of(delivery.message.id().0);
            order.push(lane, run, delivery);
        }
        PartEvent::Run { oldest, .. } => order.set_oldest_run(lane, oldest),
        _ => {}
    }
}

fn told_of(node: &mut StoredNode) -> Vec<(u16, PartEvent)> {
    let told = node.take_told_by_part().into_iter();
    told.map(|(id, event)| (id.0 as u16, event)).collect()
}
