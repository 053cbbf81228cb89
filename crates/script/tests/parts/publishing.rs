//! Tests of messages published by a part.

use std::sync::Arc;

use martlet_broker::{
    Actions, Delivery, HOPS_MAX, Identity, NewMessage, OnFull, PartCall, PartEvent, PartId,
    PartOutcome, PartPublish, PartQueueLimits, PartSpec, Realm, Rule, Rules,
};
use martlet_codec::{QoS, ReasonCode};
use martlet_script::{Harness, Wiring};

use crate::node::{NAME, PART, attach, attach_bounded, call, node, settle, spec, wirings};
use crate::raw;
use crate::raw::connect;

/// A message published by a part, caused by one that was forwarded `hops - 1` times.
fn part_message(topic: &str, payload: &str, hops: u8) -> PartPublish {
    PartPublish {
        number: 5,
        message: NewMessage {
            topic: topic.into(),
            payload: payload.as_bytes().into(),
            qos: QoS::AtLeastOnce,
            hops,
            ..NewMessage::default()
        },
        receipts: false,
    }
}

/// The reason code for a message published by a part, and the deliveries.
fn published(node: &mut Harness, publish: PartPublish) -> (ReasonCode, Vec<Delivery>) {
    call(node, PartCall::Publish(PART, Box::new(publish)));
    let mut reason = None;
    let mut deliveries = Vec::new();
    for (id, event) in node.take_told() {
        match event {
            PartEvent::Published { number: 5, outcome } if id == PART => {
                reason = Some(outcome.reason);
            }
            PartEvent::Delivery(delivery) => {
                assert_ne!(id, PART, "its own message came back to it");
                deliveries.push(delivery);
            }
            other => panic!("{other:?}"),
        }
    }
    (reason.expect("it is answered"), deliveries)
}

#[test]
fn what_a_part_publishes_reaches_others_and_not_itself_and_counts_its_hops() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach(&mut node, spec(&["a/#"]));
        let other = PartSpec {
            id: PartId(8),
            client_id: "$test/other".into(),
            ..spec(&["a/#"])
        };
        node.part_call("$test/other", PartCall::Attach(Box::new(other)));
        node.elapse(20);
        node.take_told();
        let (reason, found) = published(&mut node, part_message("a/b", "on", 3));
        assert_eq!(reason, ReasonCode::Success);
        let [delivery] = &found[..] else {
            panic!("{wiring:?}: {found:?}");
        };
        assert_eq!(delivery.message.hops(), 3);
        let publisher = delivery.publisher().expect("it is known");
        assert_eq!(&*publisher.client_id, NAME);
        let (reason, found) = published(&mut node, part_message("a/b", "on", HOPS_MAX + 1));
        assert_eq!(reason, ReasonCode::ImplementationSpecificError);
        assert!(found.is_empty());
    }
}

#[test]
fn a_part_publishes_by_the_rules_of_its_principal() {
    let mut node = node(Wiring::default());
    let rule = |actions, filter: &str| Rule {
        actions,
        allows: true,
        filter: filter.into(),
        source: "test".into(),
    };
    let rules = vec![
        rule(Actions::PUBLISH, "in/#"),
        rule(Actions::SUBSCRIBE, "out/#"),
    ];
    let rules = Rules::compile(rules, Actions::NONE).expect("the filters are valid");
    let identity = Identity {
        user_name: Some("nats".into()),
        rules: Arc::new(rules),
        realm: Realm::OWN_RULES,
        ..Identity::anyone()
    };
    let spec = PartSpec {
        identity: Some(identity.into()),
        ..spec(&["out/#"])
    };
    call(&mut node, PartCall::Attach(Box::new(spec)));
    node.take_told();
    for (topic, reason) in [
        ("in/a", ReasonCode::NoMatchingSubscribers),
        ("elsewhere", ReasonCode::NotAuthorized),
        ("$SYS/broker", ReasonCode::NotAuthorized),
    ] {
        let (found, _) = published(&mut node, part_message(topic, "x", 0));
        assert_eq!(found, reason, "{topic}");
    }
}

#[test]
fn what_a_part_publishes_is_answered_when_it_is_durable() {
    let slow = Wiring {
        durable_delay_ms: 50,
        ..Wiring::default()
    };
    let mut node = node(slow);
    let kept = connect(&mut node, "kept", 0);
    node.elapse(60);
    raw::subscribe(&mut node, kept, "b", 1);
    node.part_call(NAME, PartCall::Attach(Box::new(spec(&["a"]))));
    node.elapse(200);
    node.take_told();
    let publish = part_message("b", "x", 0);
    node.part_call(NAME, PartCall::Publish(PART, Box::new(publish)));
    node.elapse(20);
    assert!(node.take_told().is_empty());
    node.elapse(40);
    let told = node.take_told();
    assert!(
        matches!(told[..], [(PART, PartEvent::Published { number: 5, outcome })]
            if outcome.recorded && outcome.reason == ReasonCode::Success),
        "{told:?}"
    );
}

#[test]
fn what_follows_from_messages_of_a_part_does_not_wait_for_it_up_to_a_bound() {
    const BY: (&str, PartId) = ("$test/by", PartId(8));
    const MESSAGES: usize = 40;
    let payload = "x".repeat(64 * 1024);
    for (wiring, on_full) in wirings()
        .into_iter()
        .flat_map(|wiring| [OnFull::Hold, OnFull::HoldFromOutside].map(|one| (wiring, one)))
    {
        let mut node = node(wiring);
        let queue = PartQueueLimits {
            bytes_max: 10,
            on_full,
            ..PartQueueLimits::default()
        };
        attach_bounded(&mut node, queue);
        let by = PartSpec {
            id: BY.1,
            client_id: BY.0.into(),
            ..spec(&[])
        };
        node.part_call(BY.0, PartCall::Attach(Box::new(by)));
        node.elapse(20);
        let mut waiting = Vec::new();
        let mut publish = |node: &mut Harness, hops| {
            let publish = part_message("a/b", &payload, hops);
            node.part_call(BY.0, PartCall::Publish(BY.1, Box::new(publish)));
            node.elapse(20);
            let mut is_held = false;
            for (_, event) in node.take_told() {
                match event {
                    PartEvent::Published { outcome, .. } => is_held = outcome.is_held,
                    PartEvent::Delivery(delivery) => waiting.push(delivery),
                    _ => {}
                }
            }
            is_held
        };
        // One is delivered, one is in the queue.
        assert!(!publish(&mut node, 0) && !publish(&mut node, 0));
        assert!(publish(&mut node, 0), "{wiring:?} {on_full:?}");
        let is_held = (0..MESSAGES).filter(|_| publish(&mut node, 1)).count();
        let waits = on_full == OnFull::Hold;
        assert_eq!(is_held, if waits { MESSAGES } else { 0 }, "{wiring:?}");
        let mut taken = 0;
        while !waiting.is_empty() {
            taken += waiting.len();
            settle(&mut node, &waiting, PartOutcome::Done);
            let told = node.take_told().into_iter();
            let deliveries = told.filter_map(|(_, event)| match event {
                PartEvent::Delivery(delivery) => Some(delivery),
                _ => None,
            });
            waiting = deliveries.collect();
        }
        let follow = taken - 2;
        let dropped = node.counters().dropped_total() as usize;
        match waits {
            true => assert_eq!((follow, dropped), (0, 0), "{wiring:?}"),
            // 1 MiB of them.
            false => assert!((13..18).contains(&follow), "{wiring:?}: {follow}"),
        }
        assert_eq!(
            follow + dropped,
            if waits { 0 } else { MESSAGES },
            "{wiring:?}"
        );
    }
}
