//! Parts of the node take messages as a client's session does, with their publisher, and settle
//! each of them.

use std::sync::Arc;

use martlet_broker::{
    Actions, Authenticated, Delivery, DropReason, HOPS_MAX, Identity, ListenerPolicy, NewMessage,
    OnFull, PartCall, PartEvent, PartId, PartOutcome, PartPublish, PartQueueLimits, PartQueueState,
    PartReach, PartRefusal, PartSpec, PartSubscription, Realm, Rule, Rules, Settings, Settlement,
    TenantId,
};
use martlet_codec::{QoS, ReasonCode, RetainHandling};
use martlet_script::{Harness, Link, Wiring};

#[allow(dead_code)]
mod raw;

use raw::{CLEAN, connect, packet, text};

const NAME: &str = "$test/part";
const PART: PartId = PartId(7);
const FOR_EVER: u32 = u32::MAX;

fn node(wiring: Wiring) -> Harness {
    let listener = ListenerPolicy {
        name: "field".to_owned(),
        ..ListenerPolicy::default()
    };
    Harness::new(Settings::default(), listener, wiring)
}

/// All wirings that matter to where the publisher is and when records are durable.
fn wirings() -> [Wiring; 3] {
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

fn spec(filters: &[&str]) -> PartSpec {
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

fn call(node: &mut Harness, call: PartCall) {
    node.part_call(NAME, call);
    node.elapse(20);
}

/// Attaches, and answers whether the session was there already.
fn attach(node: &mut Harness, spec: PartSpec) -> bool {
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

fn deliveries(node: &mut Harness) -> Vec<Delivery> {
    let told = node.take_told().into_iter();
    let all = told.map(|(id, event)| match (id, event) {
        (PART, PartEvent::Delivery(delivery)) => delivery,
        other => panic!("{other:?}"),
    });
    all.collect()
}

fn payloads(deliveries: &[Delivery]) -> Vec<&str> {
    let texts = deliveries.iter().map(|found| {
        let bytes = found.message.payload();
        core::str::from_utf8(bytes).expect("the tests send text")
    });
    texts.collect()
}

fn settle(node: &mut Harness, deliveries: &[Delivery], outcome: PartOutcome) {
    let settlements = deliveries.iter().map(|found| Settlement {
        token: found.token,
        outcome,
    });
    call(node, PartCall::Settle(PART, settlements.collect()));
}

fn publish(node: &mut Harness, link: Link, (topic, qos, payload): (&str, u8, &str)) {
    let id: &[u8] = if qos > 0 { &[0, 9] } else { &[] };
    let body = [&text(topic), id, payload.as_bytes()].concat();
    node.send(link, &packet(0x30 | qos << 1, &body));
    node.elapse(20);
    if qos == 2 {
        node.send(link, &packet(0x62, id));
        node.elapse(20);
    }
}

#[test]
fn a_part_is_told_what_came_from_whom_and_when() {
    for wiring in wirings() {
        let mut node = node(wiring);
        assert!(!attach(&mut node, spec(&["a/#"])));
        let wall_ms = node.now().wall_ms;
        for qos in 0..=2 {
            let name = format!("device-{qos}");
            let device = connect(&mut node, &name, CLEAN);
            publish(&mut node, device, ("a/b", qos, "21.5"));
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
                known: 0,
                data: None,
            };
            node.authenticated(shard, asked.connection, answer);
        }
        publish(&mut node, link, ("a", 1, "x"));
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
            publish(&mut node, device, ("a", number % 2, &number.to_string()));
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
        publish(&mut node, device, ("a", 0, payload));
    }
    publish(&mut node, device, ("a", 1, "2"));
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
            publish(&mut node, device, ("a", 1, payload));
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
        publish(&mut node, device, ("a", 1, payload));
    }
    node.elapse(300);
    for payload in ["0", "1", "2"] {
        let found = deliveries(&mut node);
        assert_eq!(payloads(&found), [payload]);
        settle(&mut node, &found, PartOutcome::Done);
    }
    // One that has entered just now waits.
    publish(&mut node, device, ("a", 1, "3"));
    publish(&mut node, device, ("a", 1, "4"));
    assert_eq!(payloads(&deliveries(&mut node)), [""; 0]);
    node.elapse(300);
    assert_eq!(payloads(&deliveries(&mut node)), ["3"]);
}

#[test]
fn what_is_refused_is_dropped_and_counted() {
    let mut node = node(Wiring::default());
    attach(&mut node, spec(&["a"]));
    let device = connect(&mut node, "device", CLEAN);
    publish(&mut node, device, ("a", 0, "poison"));
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
        publish(&mut node, device, ("a", 1, "0"));
        assert_eq!(payloads(&deliveries(&mut node)), ["0"]);
        call(&mut node, PartCall::Detach(PART));
        let told = node.take_told();
        let is_ended = matches!(told[..], [(PART, PartEvent::Ended { .. })]);
        assert!(is_ended, "{told:?}");
        publish(&mut node, device, ("a", 0, "1"));
        publish(&mut node, device, ("b", 1, "2"));
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
        // It does not ask for `b` any more.
        publish(&mut node, device, ("b", 1, "3"));
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
    // The first has nothing to say any more.
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

/// Attaches with bounds of the queue and credit for one delivery.
fn attach_bounded(node: &mut Harness, queue: PartQueueLimits) {
    let spec = PartSpec {
        credit: 1,
        queue,
        ..spec(&["a/#"])
    };
    call(node, PartCall::Attach(Box::new(spec)));
    let told = node.take_told();
    assert!(matches!(told[0].1, PartEvent::Attached { .. }), "{told:?}");
}

/// What the part has been told: deliveries, and how its queue was at last.
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

/// Settles what there is until nothing comes any more.
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

/// Bytes that one message of these tests counts for.
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
            publish(&mut node, device, ("a/b", 1, payload));
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
                publish(node, device, ("a/b", 1, payload));
            }
            let (found, state) = told(node);
            deliveries.extend(found);
            state.map(|state| (state.messages, state.bytes_max / MESSAGE_BYTES))
        };
        // One is in flight. The fourth finds three quarters in use.
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
        publish(&mut node, device, ("a/b", 1, "in flight"));
        let (first, _) = told(&mut node);
        if !is_attached {
            call(&mut node, PartCall::Detach(PART));
            node.take_told();
        }
        publish(&mut node, device, ("a/b", 1, "old"));
        publish(&mut node, device, ("a/b", 0, "old too"));
        node.elapse(4_000);
        publish(&mut node, device, ("a/b", 1, "new"));
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
            publish(&mut node, device, ("a/b", 1, payload));
        }
        node.elapse(7_000);
        let (first, _) = told(&mut node);
        settle(&mut node, &first, PartOutcome::TooOld);
        assert_eq!(node.counters().dropped[DropReason::TooOld as usize], 1);
        // Its place is free again, and the next says how old it is.
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
            publish(&mut node, device, ("a/b", 1, "xx"));
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
            publish(&mut node, device, ("a/b", 1, payload));
            // No part takes this.
            publish(&mut node, device, ("b", 0, "x"));
            node.send(device, &packet(0xC0, &[]));
        }
        node.elapse(5_000);
        let (found, state) = told(&mut node);
        let state = state.expect("it has changed");
        assert!(state.holds && state.dropped == 0, "{wiring:?}: {state:?}");
        assert!(state.messages < 8, "{wiring:?}: {state:?}");
        let answered = node.counters().publishes_received;
        // Its ping is answered though its PUBLISH waits.
        assert!(node.take(devices[3]).ends_with(&[0xD0, 0]), "{wiring:?}");
        // Who publishes something else does not wait.
        let other = connect(&mut node, "other", CLEAN);
        publish(&mut node, other, ("b", 1, "y"));
        assert_eq!(node.counters().publishes_received, answered + 1);
        let mut all = take_all(&mut node, found);
        all.sort_unstable();
        assert_eq!(all, texts, "{wiring:?}");
        publish(&mut node, devices[0], ("a/b", 1, "16"));
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
            publish(&mut node, device, ("a/b", 1, payload));
        }
        let received = node.counters().publishes_received;
        assert!(received < 6, "{wiring:?}: {received}");
        call(&mut node, PartCall::End(PART));
        node.elapse(20);
        assert_eq!(node.counters().publishes_received, 6, "{wiring:?}");
    }
}

/// A message that a part publishes, as the consequence of one that was passed on `hops - 1` times.
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

/// Why a message that a part has published was refused, or that it was not.
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
