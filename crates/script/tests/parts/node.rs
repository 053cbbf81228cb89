//! A node with a part.

use std::sync::Arc;

use martlet_broker::{
    Delivery, ListenerPolicy, PartCall, PartEvent, PartId, PartOutcome, PartQueueLimits, PartReach,
    PartSpec, PartSubscription, Settings, Settlement, TenantId,
};
use martlet_codec::{ReasonCode, RetainHandling};
use martlet_script::{Harness, Link, Wiring};

use crate::raw::{packet, text};

pub(crate) const NAME: &str = "$test/part";

pub(crate) const PART: PartId = PartId(7);

const FOR_EVER: u32 = u32::MAX;

pub(crate) fn node(wiring: Wiring) -> Harness {
    let listener = ListenerPolicy {
        name: "field".to_owned(),
        ..ListenerPolicy::default()
    };
    Harness::new(Settings::default(), listener, wiring)
}

/// All wirings that differ in where the publisher is and when records are durable.
pub(crate) fn wirings() -> [Wiring; 3] {
    let slow = Wiring {
        shards: 3,
        durable_delay_ms: 3,
        ..Wiring::default()
    };
    let short = Wiring {
        shards: 2,
        short_turns: true,
        ..Wiring::default()
    };
    [Wiring::default(), slow, short]
}

pub(crate) fn spec(filters: &[&str]) -> PartSpec {
    let subscriptions = filters.iter().map(|filter| PartSubscription {
        filter: (*filter).into(),
        identifier: 0,
        retain_handling: RetainHandling::SendAtSubscribe,
    });
    PartSpec {
        id: PART,
        tenant: TenantId(0),
        client_id: Arc::from(NAME),
        subscriptions: subscriptions.collect(),
        credit: 10,
        session_expiry_secs: FOR_EVER,
        keeps_qos0: true,
        queue: PartQueueLimits::default(),
        identity: None,
        reach: PartReach::Node,
    }
}

pub(crate) fn call(node: &mut Harness, call: PartCall) {
    node.part_call(NAME, call);
    node.elapse(20);
}

/// Attaches a part. Returns whether the session existed already.
pub(crate) fn attach(node: &mut Harness, spec: PartSpec) -> bool {
    let filters = spec.subscriptions.len();
    call(node, PartCall::Attach(Box::new(spec)));
    let told = node.take_told();
    let [
        (
            PART,
            PartEvent::Attached {
                session_present,
                granted,
            },
        ),
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(*granted, vec![ReasonCode::GrantedQoS1; filters]);
    *session_present
}

pub(crate) fn deliveries(node: &mut Harness) -> Vec<Delivery> {
    let told = node.take_told().into_iter();
    let all = told.map(|(id, event)| match (id, event) {
        (PART, PartEvent::Delivery(delivery)) => delivery,
        other => panic!("{other:?}"),
    });
    all.collect()
}

pub(crate) fn payloads(deliveries: &[Delivery]) -> Vec<&str> {
    let texts = deliveries.iter().map(|found| {
        let bytes = found.message.payload();
        core::str::from_utf8(bytes).expect("the tests send text")
    });
    texts.collect()
}

pub(crate) fn settle(node: &mut Harness, deliveries: &[Delivery], outcome: PartOutcome) {
    let settlements = deliveries.iter().map(|found| Settlement {
        token: found.token,
        outcome,
    });
    call(node, PartCall::Settle(PART, settlements.collect()));
}

pub(crate) fn publish(node: &mut Harness, link: Link, topic: &str, qos: u8, payload: &str) {
    let id: &[u8] = if qos > 0 { &[0, 9] } else { &[] };
    let body = [&text(topic), id, payload.as_bytes()].concat();
    node.send(link, &packet(0x30 | qos << 1, &body));
    node.elapse(20);
    if qos == 2 {
        node.send(link, &packet(0x62, id));
        node.elapse(20);
    }
}

/// Attaches a part with limits of the queue and credit for one delivery.
pub(crate) fn attach_bounded(node: &mut Harness, queue: PartQueueLimits) {
    let spec = PartSpec {
        credit: 1,
        queue,
        ..spec(&["a/#"])
    };
    call(node, PartCall::Attach(Box::new(spec)));
    let told = node.take_told();
    assert!(matches!(told[0].1, PartEvent::Attached { .. }), "{told:?}");
}
