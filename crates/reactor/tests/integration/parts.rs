//! Parts of a running node take messages on separate threads, whichever shard their sessions are
//! on.

use std::sync::mpsc::{Receiver, channel};

use crate::common::*;
use martlet_broker::{
    Delivery, PartEvent, PartId, PartLine, PartOutcome, PartQueueLimits, PartReach, PartSpec,
    PartSubscription, Settlement, TenantId,
};

fn attach(node: &Node, name: &str, filter: &str) -> (Box<dyn PartLine>, Receiver<PartEvent>) {
    let spec = PartSpec {
        id: PartId::default(),
        tenant: TenantId(0),
        client_id: name.into(),
        subscriptions: vec![PartSubscription {
            filter: filter.into(),
            identifier: 0,
            retain_handling: martlet_codec::RetainHandling::DoNotSend,
        }],
        credit: 2,
        session_expiry_secs: u32::MAX,
        keeps_qos0: true,
        queue: PartQueueLimits::default(),
        identity: None,
        reach: PartReach::Node,
    };
    let (told, events) = channel();
    let outlet = move |event| {
        let _ = told.send(event);
    };
    let line = node.running.attach(spec, Box::new(outlet));
    let attached = events.recv_timeout(PATIENCE).unwrap();
    assert!(
        matches!(attached, PartEvent::Attached { .. }),
        "{attached:?}"
    );
    (line, events)
}

fn delivery(events: &Receiver<PartEvent>) -> Delivery {
    match events.recv_timeout(PATIENCE).unwrap() {
        PartEvent::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

#[test]
fn parts_on_all_shards_get_and_settle_what_clients_publish() {
    let node = node(3);
    // Their sessions are on several shards.
    let parts = [0, 1, 2, 3, 4].map(|number| attach(&node, &format!("$part/{number}"), "in/#"));
    let mut device = node.tcp().connect("device");
    for number in 0..20_u8 {
        device.send(&publish("in/it", &[number]));
    }
    for (line, events) in &parts {
        for number in 0..20 {
            let found = delivery(events);
            assert_eq!(found.message.payload(), [number]);
            assert_eq!(&*found.publisher().unwrap().client_id, "device");
            let (token, outcome) = (found.token, PartOutcome::Done);
            line.settle(vec![Settlement { token, outcome }]);
        }
    }
}

#[test]
fn a_part_that_is_dropped_is_detached_and_its_session_kept() {
    let node = node(2);
    let (line, events) = attach(&node, "$part", "in/#");
    drop(line);
    let ended = events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(ended, PartEvent::Ended { .. }), "{ended:?}");
    assert!(events.recv_timeout(PATIENCE).is_err(), "its outlet is gone");
    let mut device = node.tcp().connect("device");
    device.send(&publish("in/it", b"kept"));
    // Everything sent before has been processed.
    device.send(&[0xC0, 0]);
    device.expect(&[0xD0, 0]);
    let (line, events) = attach(&node, "$part", "in/#");
    assert_eq!(delivery(&events).message.payload(), b"kept");
    line.end();
    let ended = events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(ended, PartEvent::Ended { .. }), "{ended:?}");
}
