//! Tests of the limits of a part's queue, and of messages beyond them.

use martlet_broker::{
    Delivery, DropReason, OnFull, PartCall, PartEvent, PartOutcome, PartQueueLimits, PartQueueState,
};
use martlet_script::{Harness, Link, Wiring};

use crate::node::{PART, attach_bounded, call, node, payloads, publish, settle, wirings};
use crate::raw::{CLEAN, connect, packet};

/// The part's deliveries, and the last state of its queue.
fn told(node: &mut Harness) -> (Vec<Delivery>, Option<PartQueueState>) {
    let (mut deliveries, mut state) = (Vec::new(), None);
    for (_, event) in node.take_told() {
        match event {
            PartEvent::Delivery(delivery) => deliveries.push(delivery),
            PartEvent::Queue(queue) => state = Some(queue),
            other => panic!("{other:?}"),
        }
    }
    (deliveries, state)
}

/// Settles deliveries until no more arrive.
fn take_all(node: &mut Harness, first: Vec<Delivery>) -> Vec<String> {
    let mut texts = Vec::new();
    let mut found = first;
    while !found.is_empty() {
        texts.extend(payloads(&found).into_iter().map(str::to_owned));
        settle(node, &found, PartOutcome::Done);
        (found, _) = told(node);
    }
    texts
}

/// Counted size of one message of these tests in bytes.
const MESSAGE_BYTES: u64 = martlet_broker::MESSAGE_OVERHEAD as u64 + 5;

#[test]
fn the_oldest_messages_make_room_in_the_queue_of_a_part() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach_bounded(
            &mut node,
            PartQueueLimits {
                bytes_max: 3 * MESSAGE_BYTES,
                ..PartQueueLimits::default()
            },
        );
        let device = connect(&mut node, "device", CLEAN);
        for payload in ["00", "01", "02", "03", "04", "05", "06"] {
            publish(&mut node, device, "a/b", 1, payload);
        }
        node.elapse(1_100);
        let (found, state) = told(&mut node);
        let state = state.expect("it has changed");
        assert_eq!((state.messages, state.dropped), (3, 3), "{state:?}");
        assert_eq!(state.bytes_max, 3 * MESSAGE_BYTES);
        assert!(state.oldest_wall_ms.is_some() && !state.holds);
        assert_eq!(node.counters().dropped[DropReason::QueueFull as usize], 3);
        assert_eq!(take_all(&mut node, found), ["00", "04", "05", "06"]);
    }
}

#[test]
fn the_bound_of_a_queue_may_change_and_the_part_is_told_at_once_that_it_is_near() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach_bounded(
            &mut node,
            PartQueueLimits {
                bytes_max: 4 * MESSAGE_BYTES,
                ..PartQueueLimits::default()
            },
        );
        let device = connect(&mut node, "device", CLEAN);
        let mut deliveries = Vec::new();
        let mut publish_all = |node: &mut Harness, payloads: &[&str]| {
            for payload in payloads {
                publish(node, device, "a/b", 1, payload);
            }
            let (found, state) = told(node);
            deliveries.extend(found);
            state.map(|state| (state.messages, state.bytes_max / MESSAGE_BYTES))
        };
        // One message is in flight. The fourth finds three quarters in use.
        assert_eq!(publish_all(&mut node, &["00", "01", "02", "03"]), None);
        assert_eq!(publish_all(&mut node, &["04"]), Some((3, 4)));
        call(&mut node, PartCall::QueueBytes(PART, 8 * MESSAGE_BYTES));
        assert_eq!(publish_all(&mut node, &["05", "06"]), None);
        assert_eq!(publish_all(&mut node, &["07"]), Some((6, 8)));
        assert_eq!(node.counters().dropped[DropReason::QueueFull as usize], 0);
        call(&mut node, PartCall::QueueBytes(PART, 2 * MESSAGE_BYTES));
        publish_all(&mut node, &["08"]);
        assert_eq!(node.counters().dropped[DropReason::QueueFull as usize], 6);
        assert_eq!(take_all(&mut node, deliveries), ["00", "07", "08"]);
    }
}

#[test]
fn messages_that_a_part_takes_too_late_are_dropped_whether_it_is_attached_or_not() {
    for is_attached in [true, false] {
        let mut node = node(Wiring::default());
        let queue = PartQueueLimits {
            age_max_secs: 5,
            ..PartQueueLimits::default()
        };
        attach_bounded(&mut node, queue);
        let device = connect(&mut node, "device", CLEAN);
        publish(&mut node, device, "a/b", 1, "in flight");
        let (first, _) = told(&mut node);
        if !is_attached {
            call(&mut node, PartCall::Detach(PART));
            node.take_told();
        }
        publish(&mut node, device, "a/b", 1, "old");
        publish(&mut node, device, "a/b", 0, "old too");
        node.elapse(4_000);
        publish(&mut node, device, "a/b", 1, "new");
        node.elapse(3_000);
        assert_eq!(node.counters().dropped[DropReason::TooOld as usize], 2);
        let texts = if is_attached {
            take_all(&mut node, first)
        } else {
            attach_bounded(&mut node, queue);
            settle(&mut node, &first, PartOutcome::Done);
            let (next, _) = told(&mut node);
            let mut texts = vec!["in flight".to_owned()];
            texts.extend(take_all(&mut node, next));
            texts
        };
        assert_eq!(texts, ["in flight", "new"]);
    }
}

#[test]
fn a_message_that_a_part_has_in_hand_for_too_long_is_given_back_as_too_old() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach_bounded(&mut node, PartQueueLimits::default());
        let device = connect(&mut node, "device", CLEAN);
        for payload in ["00", "01"] {
            publish(&mut node, device, "a/b", 1, payload);
        }
        node.elapse(7_000);
        let (first, _) = told(&mut node);
        settle(&mut node, &first, PartOutcome::TooOld);
        assert_eq!(node.counters().dropped[DropReason::TooOld as usize], 1);
        // Its place is free again, and the next message has an age.
        let (next, _) = told(&mut node);
        assert_eq!(payloads(&next), ["01"]);
        assert!((7_000..7_200).contains(&next[0].age_ms), "{next:?}");
        assert!(first[0].age_ms < 100, "{first:?}");
    }
}

#[test]
fn a_queue_whose_bound_is_lowered_shrinks_though_nothing_comes() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach_bounded(
            &mut node,
            PartQueueLimits {
                bytes_max: 4_000 * MESSAGE_BYTES,
                ..PartQueueLimits::default()
            },
        );
        let device = connect(&mut node, "device", CLEAN);
        for _ in 0..3_000 {
            publish(&mut node, device, "a/b", 1, "xx");
        }
        let (first, _) = told(&mut node);
        call(&mut node, PartCall::QueueBytes(PART, 2 * MESSAGE_BYTES));
        node.elapse(1_200);
        assert_eq!(
            node.counters().dropped[DropReason::QueueFull as usize],
            2_997
        );
        let (_, state) = told(&mut node);
        let state = state.expect("it has changed");
        assert_eq!((state.messages, state.dropped), (2, 2_997), "{state:?}");
        assert_eq!(take_all(&mut node, first).len(), 3, "{wiring:?}");
    }
}

#[test]
fn publishers_wait_for_a_part_that_holds_them_and_for_nothing_else() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach_bounded(
            &mut node,
            PartQueueLimits {
                bytes_max: 4 * MESSAGE_BYTES,
                on_full: OnFull::Hold,
                ..PartQueueLimits::default()
            },
        );
        let devices: Vec<Link> = (0..4)
            .map(|number| connect(&mut node, &format!("device-{number}"), CLEAN))
            .collect();
        for link in &devices {
            node.take(*link);
        }
        let texts: Vec<String> = (0..16).map(|number| format!("{number:02}")).collect();
        for (number, payload) in texts.iter().enumerate() {
            let device = devices[number % 4];
            publish(&mut node, device, "a/b", 1, payload);
            // No part takes this message.
            publish(&mut node, device, "b", 0, "x");
            node.send(device, &packet(0xC0, &[]));
        }
        node.elapse(5_000);
        let (found, state) = told(&mut node);
        let state = state.expect("it has changed");
        assert!(state.holds && state.dropped == 0, "{wiring:?}: {state:?}");
        assert!(state.messages < 8, "{wiring:?}: {state:?}");
        let answered = node.counters().publishes_received;
        // Its PINGREQ is answered although its PUBLISH waits.
        assert!(node.take(devices[3]).ends_with(&[0xD0, 0]), "{wiring:?}");
        // Clients that publish to other topics do not wait.
        let other = connect(&mut node, "other", CLEAN);
        publish(&mut node, other, "b", 1, "y");
        assert_eq!(node.counters().publishes_received, answered + 1);
        let mut all = take_all(&mut node, found);
        all.sort_unstable();
        assert_eq!(all, texts, "{wiring:?}");
        publish(&mut node, devices[0], "a/b", 1, "16");
        let (found, _) = told(&mut node);
        assert_eq!(payloads(&found), ["16"], "{wiring:?}");
        assert_eq!(node.counters().dropped_total(), 0);
    }
}

#[test]
fn publishers_go_on_when_the_part_that_held_them_is_gone() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach_bounded(
            &mut node,
            PartQueueLimits {
                bytes_max: MESSAGE_BYTES,
                on_full: OnFull::Hold,
                ..PartQueueLimits::default()
            },
        );
        let device = connect(&mut node, "device", CLEAN);
        for payload in ["00", "01", "02", "03", "04", "05"] {
            publish(&mut node, device, "a/b", 1, payload);
        }
        let received = node.counters().publishes_received;
        assert!(received < 6, "{wiring:?}: {received}");
        call(&mut node, PartCall::End(PART));
        node.elapse(20);
        assert_eq!(node.counters().publishes_received, 6, "{wiring:?}");
    }
}
