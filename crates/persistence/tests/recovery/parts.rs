//! A durable part gets messages that arrived while it was not attached, over restarts, and
//! unsettled messages once more; also QoS 0 messages, if it keeps them. Each has its publisher.

use martlet_broker::{
    Delivery, DropReason, OnFull, PartCall, PartEvent, PartId, PartOutcome, PartQueueLimits,
    PartReach, PartSpec, PartSubscription, Settlement, TenantId,
};
use martlet_codec::RetainHandling;

use crate::node::{End, StoredNode};

const NAME: &str = "$test/part";
const PART: PartId = PartId(1);

/// Attaches the part; returns whether its session existed, and the first deliveries.
fn attach(node: &mut StoredNode) -> (bool, Vec<Delivery>) {
    node.part_call(NAME, PartCall::Attach(Box::new(spec())));
    let mut events = node.take_part_events().into_iter();
    let Some(PartEvent::Attached {
        session_present, ..
    }) = events.next()
    else {
        panic!("it is not attached");
    };
    let deliveries = events.map(|event| match event {
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
            node.take_part_events();
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
            let [PartEvent::Delivery(last)] = &node.take_part_events()[..] else {
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
        assert!(matches!(
            &node.take_part_events()[..],
            [PartEvent::Delivery(_)]
        ));
        // Its credit is used up. After a crash it is unknown whether the second one was delivered.
        let mut node = node.restart(end, 2, 10);
        let (_, found) = attach(&mut node);
        assert_eq!(texts(&found), [("one", true), ("two", second_is_dup)]);
        // A message of this run is new.
        node.play("P: CONNECT; PUBLISH t/3 qos=1 payload=three");
        let [PartEvent::Delivery(last)] = &node.take_part_events()[..] else {
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

#[test]
fn lanes_of_new_shards_are_there_before_they_are_attached() {
    for (before, after) in [(1, 4), (2, 3), (3, 3), (4, 2)] {
        for end in [End::Stop, End::Kill, End::PowerCut(1)] {
            println!("{before} shards, then {after}, {end:?}");
            crate::lanes::new_shards_have_lanes(before, after, end);
        }
    }
}

#[test]
fn lanes_that_were_left_over_take_messages_again_before_they_are_attached() {
    for end in [End::Stop, End::Kill, End::PowerCut(1)] {
        println!("{end:?}");
        crate::lanes::left_over_lanes_take_again(end);
    }
}

#[test]
fn a_lane_that_comes_back_gets_topics_that_were_routed_again_before_it() {
    crate::lanes::gets_what_was_routed_before_it();
}

#[test]
fn a_lane_gets_what_is_routed_again_and_came_in_on_its_shard() {
    crate::lanes::gets_what_is_routed_again();
}

#[test]
fn a_lane_does_not_get_after_a_restart_what_it_has_given_up() {
    crate::lanes::forgets_what_it_has_given_up();
}

#[test]
fn a_lane_is_told_that_all_of_an_earlier_run_has_expired() {
    crate::lanes::tells_its_run_when_all_has_expired();
}

fn bounded(bytes_max: u64, age_max_secs: u32, on_full: OnFull) -> PartSpec {
    PartSpec {
        queue: PartQueueLimits {
            bytes_max,
            age_max_secs,
            on_full,
        },
        ..spec()
    }
}

/// Attaches the part and detaches it.
fn leave_session(node: &mut StoredNode, spec: PartSpec) {
    node.part_call(NAME, PartCall::Attach(Box::new(spec)));
    node.part_call(NAME, PartCall::Detach(PART));
    node.take_part_events();
}

/// Messages waiting for the part; attaches it.
fn waiting(node: &mut StoredNode, spec: PartSpec) -> Vec<String> {
    node.part_call(NAME, PartCall::Attach(Box::new(spec)));
    let events = node.take_part_events().into_iter();
    let texts = events.filter_map(|event| match event {
        PartEvent::Delivery(delivery) => {
            Some(String::from_utf8_lossy(delivery.message.payload()).into_owned())
        }
        _ => None,
    });
    texts.collect()
}

/// Bytes that a message to `t/1` with a payload of one byte counts for.
const MESSAGE_BYTES: u64 = martlet_broker::MESSAGE_OVERHEAD as u64 + 4;

#[test]
fn the_bounds_of_a_part_are_in_force_before_it_is_attached_again() {
    let spec = || bounded(3 * MESSAGE_BYTES, 0, OnFull::DropOldest);
    let mut node = StoredNode::new(1);
    leave_session(&mut node, spec());
    let mut node = node.restart(End::Kill, 1, 10);
    node.play(
        "P: CONNECT
         P: PUBLISH t/1 qos=1 payload=1; PUBLISH t/1 qos=1 payload=2; PUBLISH t/1 qos=1 payload=3
         P: PUBLISH t/1 qos=1 payload=4; PUBLISH t/1 qos=1 payload=5",
    );
    let dropped = node.counters().dropped[DropReason::QueueFull as usize];
    assert_eq!(dropped, 2);
    assert_eq!(waiting(&mut node, spec()), ["3", "4", "5"]);
}

#[test]
pub(crate) fn a_part_that_is_not_attached_in_time_after_a_start_holds_nobody() {
    let spec = || bounded(2 * MESSAGE_BYTES, 0, OnFull::Hold);
    for is_attached in [false, true] {
        let mut node = StoredNode::new(2);
        leave_session(&mut node, spec());
        node.play(
            "P: CONNECT
             P: PUBLISH t/1 qos=1 payload=1
             P: PUBLISH t/1 qos=1 payload=2
             P: PUBLISH t/1 qos=1 payload=3",
        );
        let mut node = node.restart(End::Kill, 2, 10);
        if is_attached {
            let mut held_up = spec();
            held_up.credit = 1;
            assert_eq!(waiting(&mut node, held_up), ["1"]);
        }
        node.play("P: CONNECT id=other; PUBLISH t/1 qos=1 payload=5");
        // The queue holds publishers after this one.
        node.play("P: CONNECT id=another; PUBLISH t/1 payload=6");
        let received = node.counters().publishes_received;
        node.elapse(58_000);
        assert_eq!(node.counters().publishes_received, received);
        assert_eq!(node.counters().dropped_total(), 0);
        node.elapse(4_000);
        let goes_on = node.counters().publishes_received > received;
        assert_eq!(goes_on, !is_attached);
        let dropped = node.counters().dropped[DropReason::QueueFull as usize];
        assert_eq!(dropped > 0, !is_attached, "the oldest make room");
    }
}

#[test]
fn the_age_of_messages_goes_on_over_restarts_whatever_the_wall_clock_says() {
    const HOUR_MS: u64 = 3_600_000;
    let spec = || bounded(1 << 30, 60, OnFull::DropOldest);
    type Step = fn(&mut StoredNode);
    let back: Step = |node| node.set_wall_clock_back(HOUR_MS);
    let forward: Step = |node| node.set_wall_clock_forward(HOUR_MS);
    for step in [back, forward] {
        let mut node = StoredNode::new(1);
        leave_session(&mut node, spec());
        node.play("P: CONNECT; PUBLISH t/1 qos=1 payload=1");
        step(&mut node);
        node.play("P: CONNECT; PUBLISH t/1 qos=1 payload=2");
        node.elapse(20_000);
        node.record_clock();
        let mut node = node.restart(End::Stop, 1, 10_000);
        node.elapse(28_000);
        let too_old = DropReason::TooOld as usize;
        assert_eq!(node.counters().dropped[too_old], 0);
        node.play("P: CONNECT; PUBLISH t/1 qos=1 payload=3");
        node.elapse(4_000);
        assert_eq!(node.counters().dropped[too_old], 2);
        assert_eq!(waiting(&mut node, spec()), ["3"]);
    }
}

#[test]
fn publishers_of_one_session_are_told_apart() {
    let mut node = StoredNode::new(1);
    leave_session(&mut node, spec());
    for user in ["one", "two", "one"] {
        node.play(&format!(
            "P: CONNECT id=p clean=0 session_expiry=100 user={user}
             P> CONNACK 0 ..
             P: PUBLISH t/1 qos=1 payload=x; DISCONNECT"
        ));
    }
    let mut node = node.restart(End::Kill, 1, 10);
    let (_, found) = attach(&mut node);
    let users = found.iter().map(|found| {
        let publisher = found.publisher().unwrap();
        publisher.user_name.clone().unwrap().to_string()
    });
    assert_eq!(users.collect::<Vec<_>>(), ["one", "two", "one"]);
}
