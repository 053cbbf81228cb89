//! Tests of deliveries to a part and their settlement.

use martlet_broker::{
    Authenticated, Delivery, DropReason, Identity, ListenerPolicy, PartCall, PartEvent, PartId,
    PartOutcome, PartRefusal, PartSpec, Settings,
};
use martlet_codec::ReasonCode;
use martlet_script::{Harness, Link, Wiring};

use crate::node::{
    NAME, PART, attach, call, deliveries, node, payloads, publish, settle, spec, wirings,
};
use crate::raw::{CLEAN, connect, packet, text};

#[test]
fn a_part_is_told_what_came_from_whom_and_when() {
    for wiring in wirings() {
        let mut node = node(wiring);
        assert!(!attach(&mut node, spec(&["a/#"])));
        let wall_ms = node.now().wall_ms;
        for qos in 0..=2 {
            let name = format!("device-{qos}");
            let device = connect(&mut node, &name, CLEAN);
            publish(&mut node, device, "a/b", qos, "21.5");
            let found = deliveries(&mut node);
            let [delivery] = found.as_slice() else {
                panic!("{wiring:?}, QoS {qos}: {found:?}");
            };
            let message = &delivery.message;
            assert_eq!((message.topic(), message.payload()), ("a/b", &b"21.5"[..]));
            assert_eq!(message.qos() as u8, qos);
            assert!(message.received_wall_ms() >= wall_ms);
            assert!(!delivery.retained && !delivery.dup);
            let publisher = delivery.publisher().expect("its publisher is known");
            assert_eq!(&*publisher.client_id, name);
            assert_eq!(publisher.listener.name, "field");
            settle(&mut node, &found, PartOutcome::Done);
        }
        let counters = node.counters();
        assert_eq!((counters.delivered, counters.matched), (3, 3), "{wiring:?}");
    }
}

#[test]
fn a_part_is_told_whether_the_publisher_is_a_device() {
    for is_device in [true, false] {
        let listener = ListenerPolicy {
            authenticate: true,
            ..ListenerPolicy::default()
        };
        let mut node = Harness::new(Settings::default(), listener, Wiring::default());
        attach(&mut node, spec(&["a"]));
        let link = node.open();
        let head = [b"\0\x04MQTT\x04".as_slice(), &[CLEAN | 0x80, 0, 60]].concat();
        let names = [text("sensor"), text("device-1")].concat();
        node.send(link, &packet(0x10, &[head, names].concat()));
        for (shard, asked) in node.take_authentications() {
            let identity = Identity {
                user_name: asked.user_name.clone(),
                is_device,
                ..Identity::anyone()
            };
            let answer = Authenticated::Accepted {
                identity,
                last_revocation: 0,
                data: None,
            };
            node.authenticated(shard, asked.connection, answer);
        }
        publish(&mut node, link, "a", 1, "x");
        let found = deliveries(&mut node);
        let publisher = found[0].publisher().expect("it is known");
        assert_eq!(publisher.flags.is_device(), is_device);
        assert!(publisher.flags.user_is_proved());
        assert_eq!(publisher.user_name.as_deref(), Some("device-1"));
    }
}

#[test]
fn a_part_gets_as_much_as_it_has_credit_for_in_order() {
    for wiring in wirings() {
        let mut node = node(wiring);
        let credit = 2;
        attach(
            &mut node,
            PartSpec {
                credit,
                ..spec(&["a"])
            },
        );
        let device = connect(&mut node, "device", CLEAN);
        for number in 0..6 {
            publish(&mut node, device, "a", number % 2, &number.to_string());
        }
        let first = deliveries(&mut node);
        assert_eq!(payloads(&first), ["0", "1"], "{wiring:?}");
        settle(&mut node, &first[..1], PartOutcome::Done);
        let second = deliveries(&mut node);
        assert_eq!(payloads(&second), ["2"]);
        call(&mut node, PartCall::Credit(PART, 4));
        let third = deliveries(&mut node);
        assert_eq!(payloads(&third), ["3", "4"]);
        let outstanding = [&first[1..], &second, &third].concat();
        settle(&mut node, &outstanding, PartOutcome::Done);
        assert_eq!(payloads(&deliveries(&mut node)), ["5"]);
    }
}

#[test]
fn without_credit_qos_0_is_dropped_and_counted_unless_it_is_kept() {
    let mut node = node(Wiring::default());
    attach(
        &mut node,
        PartSpec {
            credit: 1,
            keeps_qos0: false,
            ..spec(&["a"])
        },
    );
    let device = connect(&mut node, "device", CLEAN);
    for payload in ["0", "1"] {
        publish(&mut node, device, "a", 0, payload);
    }
    publish(&mut node, device, "a", 1, "2");
    let first = deliveries(&mut node);
    assert_eq!(payloads(&first), ["0"]);
    let dropped = node.counters().dropped[DropReason::PartBusy as usize];
    assert_eq!(dropped, 1);
    settle(&mut node, &first, PartOutcome::Done);
    assert_eq!(payloads(&deliveries(&mut node)), ["2"]);
}

#[test]
fn what_is_put_off_comes_again_and_nothing_waits_for_it() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach(
            &mut node,
            PartSpec {
                credit: 1,
                ..spec(&["a"])
            },
        );
        let device = connect(&mut node, "device", CLEAN);
        for payload in ["0", "1"] {
            publish(&mut node, device, "a", 1, payload);
        }
        let first = deliveries(&mut node);
        assert_eq!(payloads(&first), ["0"]);
        settle(&mut node, &first, PartOutcome::Later(1_000));
        let second = deliveries(&mut node);
        assert_eq!(payloads(&second), ["1"], "{wiring:?}");
        settle(&mut node, &second, PartOutcome::Done);
        node.elapse(900);
        assert!(deliveries(&mut node).is_empty());
        node.elapse(200);
        let again = deliveries(&mut node);
        assert_eq!(payloads(&again), ["0"]);
        assert!(again[0].dup);
        settle(&mut node, &again, PartOutcome::Done);
        assert_eq!(node.counters().delivered, 2);
    }
}

/// A node whose store answers late, with this part attached.
fn late_node(spec: PartSpec) -> (Harness, Link) {
    let mut node = node(Wiring {
        durable_delay_ms: 100,
        ..Wiring::default()
    });
    node.part_call(NAME, PartCall::Attach(Box::new(spec)));
    node.elapse(300);
    let told = node.take_told();
    assert!(matches!(&told[..], [(PART, PartEvent::Attached { .. })]));
    let device = connect(&mut node, "device", CLEAN);
    (node, device)
}

#[test]
fn a_message_is_delivered_once_it_is_durable_unless_it_is_of_qos_0() {
    for qos in 0..=2 {
        let (mut node, device) = late_node(spec(&["a"]));
        let id: &[u8] = if qos > 0 { &[0, 9] } else { &[] };
        let body = [&text("a"), id, b"1"].concat();
        node.send(device, &packet(0x30 | qos << 1, &body));
        node.elapse(50);
        assert_eq!(deliveries(&mut node).len(), usize::from(qos == 0), "{qos}");
        node.elapse(100);
        assert_eq!(deliveries(&mut node).len(), usize::from(qos > 0), "{qos}");
    }
}

#[test]
fn what_is_durable_in_the_queue_is_delivered_without_waiting_for_the_store() {
    let one_at_a_time = PartSpec {
        credit: 1,
        ..spec(&["a"])
    };
    let (mut node, device) = late_node(one_at_a_time);
    for payload in ["0", "1", "2"] {
        publish(&mut node, device, "a", 1, payload);
    }
    node.elapse(300);
    for payload in ["0", "1", "2"] {
        let found = deliveries(&mut node);
        assert_eq!(payloads(&found), [payload]);
        settle(&mut node, &found, PartOutcome::Done);
    }
    // A message that has just entered waits.
    publish(&mut node, device, "a", 1, "3");
    publish(&mut node, device, "a", 1, "4");
    assert_eq!(payloads(&deliveries(&mut node)), [""; 0]);
    node.elapse(300);
    assert_eq!(payloads(&deliveries(&mut node)), ["3"]);
}

#[test]
fn what_is_refused_is_dropped_and_counted() {
    let mut node = node(Wiring::default());
    attach(&mut node, spec(&["a"]));
    let device = connect(&mut node, "device", CLEAN);
    publish(&mut node, device, "a", 0, "poison");
    let found = deliveries(&mut node);
    settle(
        &mut node,
        &found,
        PartOutcome::Refused(PartRefusal::Rejected),
    );
    let counters = node.counters();
    let refused = counters.dropped[DropReason::RefusedByReceiver as usize];
    assert_eq!((refused, counters.delivered), (1, 0));
}

#[test]
fn a_part_that_comes_back_gets_what_it_has_not_settled_and_what_came_meanwhile() {
    for wiring in wirings() {
        let mut node = node(wiring);
        attach(&mut node, spec(&["a", "b"]));
        let device = connect(&mut node, "device", CLEAN);
        publish(&mut node, device, "a", 1, "0");
        assert_eq!(payloads(&deliveries(&mut node)), ["0"]);
        call(&mut node, PartCall::Detach(PART));
        let told = node.take_told();
        let is_ended = matches!(told[..], [(PART, PartEvent::Ended { .. })]);
        assert!(is_ended, "{told:?}");
        publish(&mut node, device, "a", 0, "1");
        publish(&mut node, device, "b", 1, "2");
        let after = PartCall::Attach(Box::new(spec(&["a"])));
        call(&mut node, after);
        let mut told = node.take_told();
        let attached = told.remove(0).1;
        assert!(matches!(
            attached,
            PartEvent::Attached {
                session_present: true,
                ..
            }
        ));
        let found: Vec<Delivery> = told
            .into_iter()
            .map(|(_, event)| match event {
                PartEvent::Delivery(delivery) => delivery,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(payloads(&found), ["0", "1", "2"], "{wiring:?}");
        assert_eq!(
            found.iter().map(|found| found.dup).collect::<Vec<_>>(),
            [true, false, false]
        );
        // It is no longer subscribed to `b`.
        publish(&mut node, device, "b", 1, "3");
        assert!(deliveries(&mut node).is_empty());
        settle(&mut node, &found, PartOutcome::Done);
        call(&mut node, PartCall::End(PART));
        node.take_told();
        assert_eq!(node.counters().sessions, 1, "the device's alone");
    }
}

#[test]
fn a_part_gets_what_is_retained_whatever_its_qos() {
    for keeps_qos0 in [true, false] {
        let mut node = node(Wiring::default());
        let device = connect(&mut node, "device", CLEAN);
        for (topic, first) in [("a/0", 0x31), ("a/1", 0x33)] {
            let id: &[u8] = if first == 0x33 { &[0, 9] } else { &[] };
            let body = [&text(topic), id, b"kept"].concat();
            node.send(device, &packet(first, &body));
        }
        let spec = PartSpec {
            keeps_qos0,
            ..spec(&["a/+"])
        };
        call(&mut node, PartCall::Attach(Box::new(spec)));
        let told = node.take_told();
        let found: Vec<&Delivery> = told
            .iter()
            .filter_map(|(_, event)| match event {
                PartEvent::Delivery(delivery) => Some(delivery),
                _ => None,
            })
            .collect();
        assert_eq!(found.len(), 2, "{told:?}");
        for delivery in found {
            assert!(delivery.retained);
            let publisher = delivery.publisher().expect("it is known");
            assert_eq!(&*publisher.client_id, "device");
        }
    }
}

#[test]
fn a_part_is_ended_by_another_of_its_name() {
    let mut node = node(Wiring::default());
    attach(&mut node, spec(&["a"]));
    let other = PartId(8);
    call(
        &mut node,
        PartCall::Attach(Box::new(PartSpec {
            id: other,
            ..spec(&["a"])
        })),
    );
    let told = node.take_told();
    let [
        (PART, PartEvent::Ended { reason, .. }),
        (attached, PartEvent::Attached { .. }),
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!((*reason, *attached), (ReasonCode::SessionTakenOver, other));
    // Settlements by the first attachment are ignored now.
    call(&mut node, PartCall::Settle(PART, Vec::new()));
    assert!(node.take_told().is_empty());
}

#[test]
fn a_part_that_asks_for_nonsense_is_told() {
    let mut node = node(Wiring::default());
    let nonsense = PartSpec {
        client_id: "part".into(),
        ..spec(&["a"])
    };
    node.part_call("part", PartCall::Attach(Box::new(nonsense)));
    let told = node.take_told();
    assert!(
        matches!(
            told[..],
            [(
                PART,
                PartEvent::Ended {
                    reason: ReasonCode::ClientIdentifierNotValid,
                    ..
                }
            )]
        ),
        "{told:?}"
    );
    call(
        &mut node,
        PartCall::Attach(Box::new(spec(&["a/#/b", "$share/g/a", "ok"]))),
    );
    let told = node.take_told();
    let [(PART, PartEvent::Attached { granted, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    let expected = [
        ReasonCode::TopicFilterInvalid,
        ReasonCode::SharedSubscriptionsNotSupported,
        ReasonCode::GrantedQoS1,
    ];
    assert_eq!(granted[..], expected);
}
