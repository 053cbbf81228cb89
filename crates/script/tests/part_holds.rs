//! Tests of the limits of a part's queue: which messages wait, how long, and which are dropped
//! instead, if the store, memory or the part itself has problems.

use std::sync::Arc;

use martlet_broker::{
    Answer, Command, Delivery, DropReason, Event, EventInterest, Limit, Limits, ListenerPolicy,
    NewMessage, OnFull, PartCall, PartEvent, PartId, PartOutcome, PartPublish, PartQueueLimits,
    PartQueueState, PartReach, PartSpec, PartSubscription, Published, QueueFull, Settings,
    Settlement, StoreState, TenantId, TransportEnd,
};
use martlet_codec::{QoS, ReasonCode, RetainHandling};
use martlet_script::{Harness, Link, Wiring};

#[allow(dead_code)]
mod raw;

use raw::{CLEAN, connect, packet, subscribe, text};

const NAME: &str = "$test/part";
const PART: PartId = PartId(7);
/// Counted size of one message of these tests: topic `a/b`, a payload of two bytes.
const MESSAGE_BYTES: u64 = martlet_broker::MESSAGE_OVERHEAD as u64 + 5;
const PING: [u8; 2] = [0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];

fn node(limits: Limits, shards: u16) -> Harness {
    node_of(limits, shards, ListenerPolicy::default())
}

fn node_of(limits: Limits, shards: u16, listener: ListenerPolicy) -> Harness {
    let settings = Settings {
        limits,
        events: EventInterest {
            connections: true,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    let wiring = Wiring {
        shards,
        ..Wiring::default()
    };
    Harness::new(settings, listener, wiring)
}

fn spec(filters: &[&str], queue: PartQueueLimits) -> PartSpec {
    let subscriptions = filters.iter().map(|filter| PartSubscription {
        filter: (*filter).into(),
        identifier: 0,
        retain_handling: RetainHandling::SendAtSubscribe,
    });
    PartSpec {
        id: PART,
        tenant: TenantId(0),
        client_id: NAME.into(),
        subscriptions: subscriptions.collect(),
        credit: 1,
        session_expiry_secs: u32::MAX,
        keeps_qos0: true,
        queue,
        identity: None,
        reach: PartReach::Node,
    }
}

/// A queue for this number of messages, beyond which publishers wait.
fn holding(messages: u64) -> PartQueueLimits {
    PartQueueLimits {
        bytes_max: messages * MESSAGE_BYTES,
        on_full: OnFull::Hold,
        ..PartQueueLimits::default()
    }
}

fn call(node: &mut Harness, call: PartCall) {
    node.part_call(NAME, call);
    node.elapse(20);
}

/// Attaches a part. Returns whether its session existed.
fn attach(node: &mut Harness, spec: PartSpec) -> bool {
    call(node, PartCall::Attach(Box::new(spec)));
    let told = node.take_told();
    match told[..] {
        [
            (
                PART,
                PartEvent::Attached {
                    session_present, ..
                },
            ),
            ..,
        ] => session_present,
        _ => panic!("{told:?}"),
    }
}

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

fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    let all = deliveries.iter().map(|found| found.message.payload());
    let texts = all.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    texts.collect()
}

fn settle(node: &mut Harness, deliveries: &[Delivery], outcome: PartOutcome) {
    let settlements = deliveries.iter().map(|found| Settlement {
        token: found.token,
        outcome,
    });
    call(node, PartCall::Settle(PART, settlements.collect()));
}

/// Settles deliveries until no more arrive.
fn take_all(node: &mut Harness, first: Vec<Delivery>) -> Vec<String> {
    let mut texts = Vec::new();
    let mut found = first;
    while !found.is_empty() {
        texts.extend(payloads(&found));
        settle(node, &found, PartOutcome::Done);
        (found, _) = told(node);
    }
    texts
}

fn publish(node: &mut Harness, link: Link, topic: &str, qos: u8, payload: &str) {
    let id: &[u8] = if qos > 0 { &[0, 9] } else { &[] };
    let body = [&text(topic), id, payload.as_bytes()].concat();
    node.send(link, &packet(0x30 | qos << 1, &body));
    node.elapse(20);
}

/// Publishes until publishers wait. Returns the number of accepted messages.
fn fill(node: &mut Harness, topic: &str) -> u64 {
    let device = connect(node, "filler", CLEAN);
    let before = node.counters().publishes_received;
    for number in 0..30 {
        publish(node, device, topic, 1, &format!("{number:02}"));
    }
    let accepted = node.counters().publishes_received - before;
    assert!(accepted < 30, "nobody waits");
    accepted
}

fn dropped(node: &mut Harness, reason: DropReason) -> u64 {
    node.counters().dropped[reason as usize]
}

#[test]
pub(crate) fn qos_0_is_not_kept_while_the_store_does_not_keep_up() {
    for (state, reason) in [
        (StoreState::Behind, DropReason::StoreStalled),
        (StoreState::Full, DropReason::StoreFull),
        (StoreState::AtLimit, DropReason::StoreFull),
        (StoreState::Stuck, DropReason::StoreStalled),
    ] {
        for shards in [1, 3] {
            let mut node = node(Limits::default(), shards);
            attach(&mut node, spec(&["a/#"], PartQueueLimits::default()));
            let reader = connect(&mut node, "reader", CLEAN);
            subscribe(&mut node, reader, "a/#", 0);
            node.take(reader);
            let device = connect(&mut node, "device", CLEAN);
            publish(&mut node, device, "a/b", 0, "kept");
            publish(&mut node, device, "a/b", 0, "kept too");
            let (records, bytes) = (
                node.counters().records_appended,
                node.counters().memory_bytes,
            );
            node.set_store_state(state);
            for _ in 0..50 {
                publish(&mut node, device, "a/b", 0, "lost");
            }
            node.take(device);
            node.send(device, &PING);
            assert_eq!(node.take(device), PONG, "it does not wait");
            let count = |bytes: &[u8]| bytes.windows(3).filter(|part| part == b"a/b").count();
            assert_eq!(count(&node.take(reader)), 52, "connected clients get all");
            assert_eq!(dropped(&mut node, reason), 50, "{state:?}, {shards} shards");
            assert_eq!(node.counters().dropped_total(), 50);
            assert_eq!(node.counters().records_appended, records);
            assert!(node.counters().memory_bytes < bytes + 20_000);
            node.set_store_state(StoreState::KeepsUp);
            publish(&mut node, device, "a/b", 0, "kept again");
            let (found, _) = told(&mut node);
            let all = take_all(&mut node, found);
            assert_eq!(all, ["kept", "kept too", "kept again"]);
        }
    }
}

#[test]
fn a_part_with_credit_gets_qos_0_while_the_store_takes_nothing() {
    let mut node = node(Limits::default(), 1);
    attach(&mut node, spec(&["a/#"], PartQueueLimits::default()));
    node.set_store_state(StoreState::Stuck);
    let device = connect(&mut node, "device", CLEAN);
    publish(&mut node, device, "a/b", 0, "live");
    assert_eq!(payloads(&told(&mut node).0), ["live"]);
    assert_eq!(node.counters().dropped_total(), 0);
    assert_eq!(
        node.counters().records_appended,
        2,
        "session and subscription"
    );
}

fn message(topic: &str) -> NewMessage {
    NewMessage {
        topic: topic.into(),
        payload: b"x".as_slice().into(),
        qos: QoS::AtLeastOnce,
        ..NewMessage::default()
    }
}

fn operate(node: &mut Harness, request: u64, publisher: &str, topics: &[&str]) {
    let messages: Vec<NewMessage> = topics.iter().map(|topic| message(topic)).collect();
    node.command(
        0,
        Command::Publish {
            request,
            tenant: TenantId(0),
            publisher: publisher.into(),
            messages: messages.into(),
        },
    );
    node.elapse(20);
}

/// Answers since the last call, by request.
fn answers(node: &mut Harness) -> Vec<(u64, Vec<Published>)> {
    node.end_tick();
    let all = node.take_reports().into_iter();
    let all = all.map(|report| match report.answer {
        Answer::Publish(outcomes) => (report.request, outcomes),
        other => panic!("{other:?}"),
    });
    all.collect()
}

#[test]
pub(crate) fn what_operators_publish_waits_aside_for_a_part_and_others_go_on() {
    for store_stalled_secs in [0, 30] {
        let limits = Limits {
            store_stalled_secs,
            ..Limits::default()
        };
        let mut node = node(limits, 1);
        attach(&mut node, spec(&["a/#"], holding(2)));
        fill(&mut node, "a/b");
        operate(&mut node, 1, "one", &["b", "a/b", "c"]);
        assert_eq!(answers(&mut node), [], "its second message waits");
        operate(&mut node, 2, "two", &["b"]);
        // From the same caller, on a topic that comes first.
        operate(&mut node, 3, "one", &["c"]);
        operate(&mut node, 4, "one", &["d"]);
        let done: Vec<u64> = answers(&mut node)
            .iter()
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(done, [2, 4]);
        node.elapse(29_000);
        assert_eq!(answers(&mut node), []);
        node.elapse(1_100);
        let mut refused = answers(&mut node);
        refused.sort_by_key(|(number, _)| *number);
        let is_held = |outcomes: &[Published]| -> Vec<bool> {
            outcomes.iter().map(|outcome| outcome.is_held).collect()
        };
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert_eq!(is_held(&refused[0].1), [false, true, true]);
        assert_eq!(refused[0].1[1].reason, ReasonCode::QuotaExceeded);
        assert_eq!(is_held(&refused[1].1), [true]);
        // Another caller has its turn when there is room.
        operate(&mut node, 5, "one", &["a/b"]);
        assert_eq!(answers(&mut node), []);
        let (found, _) = told(&mut node);
        take_all(&mut node, found);
        let done = answers(&mut node);
        assert!(
            matches!(&done[..], [(5, outcomes)] if !outcomes[0].reason.is_error()),
            "{done:?}"
        );
    }
}

#[test]
fn what_operators_publish_and_parts_hold_has_a_bound() {
    let mut node = node(Limits::default(), 1);
    attach(&mut node, spec(&["a/#"], holding(2)));
    fill(&mut node, "a/b");
    for number in 0..1024 {
        operate(&mut node, number, &number.to_string(), &["a/b"]);
    }
    assert_eq!(answers(&mut node), []);
    operate(&mut node, 2000, "one more", &["a/b"]);
    let refused = answers(&mut node);
    assert!(matches!(&refused[..], [(2000, outcomes)] if outcomes[0].is_held));
    operate(&mut node, 2001, "other", &["b"]);
    assert_eq!(answers(&mut node).len(), 1);
}

#[test]
fn the_ceiling_of_the_session_expiry_is_for_clients_alone() {
    let limits = Limits {
        session_expiry_max_secs: 60,
        ..Limits::default()
    };
    let mut node = node(limits, 1);
    attach(&mut node, spec(&["a/#"], PartQueueLimits::default()));
    call(&mut node, PartCall::Detach(PART));
    node.take_told();
    let device = connect(&mut node, "device", CLEAN);
    publish(&mut node, device, "a/b", 1, "kept");
    node.elapse(3_600_000);
    assert!(attach(&mut node, spec(&["b"], PartQueueLimits::default())));
}

#[test]
pub(crate) fn a_queue_in_memory_holds_before_it_has_used_up_its_share_of_that() {
    for (memory_bytes, shards) in [(4_000_000, 1), (40_000_000, 2)] {
        let limits = Limits {
            memory_bytes,
            ..Limits::default()
        };
        let mut node = node(limits, shards);
        let queue = PartQueueLimits {
            bytes_max: 1 << 40,
            on_full: OnFull::Hold,
            ..PartQueueLimits::default()
        };
        attach(&mut node, spec(&["a/#"], queue));
        let payload = "x".repeat(100);
        let devices: Vec<Link> = (0..8)
            .map(|number| connect(&mut node, &format!("device-{number}"), CLEAN))
            .collect();
        for number in 0..30_000 {
            let body = [&text("a/b"), &[0, 9][..], payload.as_bytes()].concat();
            node.send(devices[number % 8], &packet(0x32, &body));
        }
        node.elapse(2_000);
        let (found, state) = told(&mut node);
        let state = state.expect("it has changed");
        assert!(state.holds, "{state:?}");
        assert!(state.bytes_max <= memory_bytes / 8, "{state:?}");
        // What was between shards has room in a client's share, too.
        assert!(state.bytes <= memory_bytes / 8, "{state:?}");
        assert!(state.bytes > state.bytes_max / 10 * 9, "{state:?}");
        assert_eq!(node.counters().dropped_total(), 0);
        let accepted = node.counters().publishes_received;
        assert!(accepted < 30_000);
        call(&mut node, PartCall::Credit(PART, 1000));
        assert_eq!(take_all(&mut node, found).len(), 30_000);
    }
}

#[test]
pub(crate) fn short_memory_holds_publishers_and_drops_nothing_of_the_queue_of_a_part() {
    let limits = Limits {
        memory_bytes: 1_000_000,
        ..Limits::default()
    };
    let mut node = node(limits, 1);
    node.keep_queues_in_store();
    let queue = PartQueueLimits {
        bytes_max: 1 << 40,
        on_full: OnFull::Hold,
        ..PartQueueLimits::default()
    };
    attach(&mut node, spec(&["a/#"], queue));
    let device = connect(&mut node, "device", CLEAN);
    let body = [&text("a/b"), &[0, 9][..], b"x"].concat();
    let mut sent = 0;
    for _ in 0..60_000 {
        node.send(device, &packet(0x32, &body));
        node.end_tick();
        sent += 1;
        if node.counters().publishes_received < sent {
            break;
        }
    }
    assert!(
        node.counters().publishes_received < sent,
        "its publishers wait"
    );
    assert!(sent > 5_000, "{sent}");
    assert_eq!(node.counters().dropped_total(), 0);
    node.elapse(2_000);
    let (_, state) = told(&mut node);
    assert!(state.is_some_and(|state| state.holds), "{state:?}");
    // Other clients are served.
    let other = connect(&mut node, "other", CLEAN);
    publish(&mut node, other, "b", 0, "y");
    assert_eq!(node.counters().publishes_received, sent);
    assert_eq!(node.counters().clients_relieved, 0);
    call(&mut node, PartCall::End(PART));
    node.elapse(20);
    assert_eq!(node.counters().publishes_received, sent + 1);
}

#[test]
fn a_wall_clock_that_is_set_changes_no_ages() {
    for step_ms in [-3_600_000_i64, 3_600_000] {
        let mut node = node(Limits::default(), 1);
        let queue = PartQueueLimits {
            age_max_secs: 5,
            ..PartQueueLimits::default()
        };
        attach(&mut node, spec(&["a/#"], queue));
        let device = connect(&mut node, "device", CLEAN);
        publish(&mut node, device, "a/b", 1, "in flight");
        publish(&mut node, device, "a/b", 1, "before");
        let wall_ms = node.now().wall_ms.saturating_add_signed(step_ms);
        node.set_wall_clock(wall_ms);
        publish(&mut node, device, "a/b", 1, "after");
        node.elapse(4_000);
        assert_eq!(dropped(&mut node, DropReason::TooOld), 0, "{step_ms}");
        node.elapse(3_000);
        assert_eq!(dropped(&mut node, DropReason::TooOld), 2, "{step_ms}");
    }
}

#[test]
pub(crate) fn a_client_that_hangs_up_does_not_get_past_a_hold() {
    for shards in [1, 3] {
        let mut node = node(Limits::default(), shards);
        attach(&mut node, spec(&["a/#"], holding(3)));
        let accepted = fill(&mut node, "a/b");
        let before = node.counters();
        for number in 0..40 {
            let device = connect(&mut node, &format!("leaver-{number}"), CLEAN);
            for qos in [0, 1, 2] {
                publish(&mut node, device, "a/b", qos, "no");
            }
            node.end(device, TransportEnd::EndOfStream);
            node.elapse(20);
            let bytes = node.take(device);
            let is_ack = |head: &u8| [0x40, 0x50].contains(head);
            assert!(!bytes[4..].first().is_some_and(is_ack), "{bytes:?}");
        }
        // QoS 0 messages are dropped and counted; the others are treated as not received.
        let after = node.counters();
        assert_eq!(after.publishes_received, before.publishes_received + 40);
        assert_eq!(after.publishes_dropped, before.publishes_dropped + 40);
        let (found, _) = told(&mut node);
        let all = take_all(&mut node, found);
        assert_eq!(
            all.len(),
            30,
            "what was accepted, and what waited after that: {accepted}"
        );
        assert!(!all.contains(&"no".to_owned()));
        assert_eq!(node.counters().dropped_total(), 0);
    }
}

/// The answer to a part's publish.
fn publish_of_part(node: &mut Harness, name: &str, id: PartId, topic: &str) -> Published {
    let publish = PartPublish {
        number: 5,
        message: message(topic),
        receipts: false,
    };
    node.part_call(name, PartCall::Publish(id, Box::new(publish)));
    node.elapse(20);
    let answer = node
        .take_told()
        .into_iter()
        .find_map(|(_, event)| match event {
            PartEvent::Published { outcome, .. } => Some(outcome),
            _ => None,
        });
    answer.expect("it is answered")
}

#[test]
fn what_a_part_publishes_does_not_wait_for_its_own_queue_and_is_told_of_others() {
    for shards in [1, 3] {
        let mut node = node(Limits::default(), shards);
        attach(&mut node, spec(&["a/#"], holding(2)));
        fill(&mut node, "a/b");
        let own = publish_of_part(&mut node, NAME, PART, "a/b");
        assert!(!own.reason.is_error() && !own.is_held, "{own:?}");
        let other = PartSpec {
            id: PartId(8),
            client_id: "$test/other".into(),
            ..spec(&["x"], PartQueueLimits::default())
        };
        node.part_call("$test/other", PartCall::Attach(Box::new(other)));
        node.elapse(20);
        let held = publish_of_part(&mut node, "$test/other", PartId(8), "a/b");
        assert!(
            held.reason == ReasonCode::QuotaExceeded && held.is_held,
            "{held:?}"
        );
        let (_, _) = told(&mut node);
        call(&mut node, PartCall::End(PART));
        let sent = publish_of_part(&mut node, "$test/other", PartId(8), "a/b");
        assert!(!sent.reason.is_error(), "{sent:?}");
    }
}

#[test]
fn publishers_go_on_when_an_eighth_of_the_queue_is_free() {
    let mut node = node(Limits::default(), 2);
    attach(&mut node, spec(&["a/#"], holding(16)));
    let accepted = fill(&mut node, "a/b");
    assert_eq!(
        accepted, 18,
        "one in flight, 16 in the queue, one under way"
    );
    let (mut found, _) = told(&mut node);
    for _ in 0..2 {
        settle(&mut node, &found, PartOutcome::Done);
        (found, _) = told(&mut node);
        assert_eq!(found.len(), 1);
        assert_eq!(node.counters().publishes_received, accepted);
    }
    settle(&mut node, &found, PartOutcome::Done);
    assert!(node.counters().publishes_received > accepted);
}

#[test]
fn only_publishers_of_the_tenant_and_of_what_is_kept_wait() {
    for keeps_qos0 in [false, true] {
        let mut node = node(Limits::default(), 2);
        let spec = PartSpec {
            keeps_qos0,
            ..spec(&["a/#"], holding(2))
        };
        attach(&mut node, spec);
        fill(&mut node, "a/b");
        for number in 0..4 {
            let device = connect(&mut node, &format!("device-{number}"), CLEAN);
            let received = node.counters().publishes_received;
            publish(&mut node, device, "a/b", 0, "zero");
            let waits = node.counters().publishes_received == received;
            assert_eq!(waits, keeps_qos0);
        }
    }
    let of_team = ListenerPolicy {
        own: Some(TenantId(5)),
        ..ListenerPolicy::default()
    };
    let mut node = node_of(Limits::default(), 1, of_team);
    let held_by = |tenant: u32, node: &mut Harness| {
        let id = PartId(u64::from(tenant));
        let name = format!("$test/{tenant}");
        let spec = PartSpec {
            id,
            tenant: TenantId(tenant),
            client_id: name.as_str().into(),
            ..spec(&["a/#"], holding(2))
        };
        node.part_call(&name, PartCall::Attach(Box::new(spec)));
        for _ in 0..20 {
            // Operators can publish in any tenant.
            let messages: Arc<[NewMessage]> = vec![message("a/b")].into();
            let publish = Command::Publish {
                request: 1,
                tenant: TenantId(tenant),
                publisher: "test".into(),
                messages,
            };
            node.command(0, publish);
        }
        node.elapse(20);
        let device = connect(node, "$device", CLEAN);
        let received = node.counters().publishes_received;
        publish(node, device, "a/b", 1, "of tenant 5");
        node.counters().publishes_received == received
    };
    assert!(!held_by(0, &mut node), "it is another tenant's part");
    assert!(held_by(5, &mut node));
}

#[test]
fn that_the_queue_of_a_part_is_full_is_told_with_its_own_bound_and_policy() {
    let settings = Settings {
        queue_full: QueueFull::DropNewest,
        events: EventInterest {
            connections: true,
            ..EventInterest::default()
        },
        ..Settings::default()
    };
    let mut node = Harness::new(settings, ListenerPolicy::default(), Wiring::default());
    let queue = PartQueueLimits {
        on_full: OnFull::DropOldest,
        ..holding(2)
    };
    attach(&mut node, spec(&["a/#"], queue));
    let device = connect(&mut node, "device", CLEAN);
    node.take_events();
    for _ in 0..5 {
        publish(&mut node, device, "a/b", 1, "xx");
    }
    let told = node
        .take_events()
        .into_iter()
        .find_map(|told| match told.event {
            Event::QueueFull { policy, limit, .. } => Some((policy, limit.limit)),
            _ => None,
        });
    assert_eq!(told, Some((QueueFull::DropOldest, Limit::PartQueue)));
}

#[test]
fn retained_messages_for_a_part_are_bounded_by_its_own_queue() {
    let limits = Limits {
        queued_messages: 1,
        ..Limits::default()
    };
    let mut node = node(limits, 1);
    let device = connect(&mut node, "device", CLEAN);
    for number in 0..20 {
        let body = [text(&format!("a/{number}")), vec![b'x']].concat();
        node.send(device, &packet(0x31, &body));
    }
    attach(&mut node, spec(&["a/#"], holding(1000)));
    node.elapse(1_100);
    let (found, state) = told(&mut node);
    let state = state.expect("it has changed");
    assert_eq!(state.messages + found.len() as u64 + 1, 20, "{state:?}");
}

#[test]
fn deliveries_that_are_put_off_together_are_little_work_each() {
    const COUNT: usize = 4_000;
    let limits = Limits {
        in_flight: u16::MAX,
        ..Limits::default()
    };
    let mut node = node(limits, 1);
    let spec = PartSpec {
        credit: u16::MAX,
        ..spec(&["a/#"], PartQueueLimits::default())
    };
    attach(&mut node, spec);
    let device = connect(&mut node, "device", CLEAN);
    for _ in 0..COUNT {
        let body = [&text("a/b"), &[0, 9][..], b"xx"].concat();
        node.send(device, &packet(0x32, &body));
    }
    let (found, _) = told(&mut node);
    assert_eq!(found.len(), COUNT);
    settle(&mut node, &found, PartOutcome::Later(1_000));
    node.elapse(900);
    node.take_most_work();
    node.elapse(200);
    assert!(node.take_most_work() as usize >= COUNT, "it counts as work");
    let (again, _) = told(&mut node);
    assert_eq!(payloads(&again), payloads(&found));
    assert!(again.iter().all(|delivery| delivery.dup));
}

#[test]
fn a_bound_that_becomes_smaller_than_what_waits_drops_nothing_of_a_part_that_holds() {
    for by_attaching in [false, true] {
        let mut node = node(Limits::default(), 2);
        let queue = |bytes_max| PartQueueLimits {
            bytes_max,
            on_full: OnFull::Hold,
            ..PartQueueLimits::default()
        };
        attach(&mut node, spec(&["a/#"], queue(8_000_000)));
        let device = connect(&mut node, "device", CLEAN);
        let other = connect(&mut node, "other", CLEAN);
        let payload = "x".repeat(100);
        let body = [&text("a/b"), &[0, 9][..], payload.as_bytes()].concat();
        for _ in 0..20_000 {
            node.send(device, &packet(0x32, &body));
        }
        node.elapse(1_100);
        let (first, state) = told(&mut node);
        assert!(
            state.is_some_and(|state| state.bytes > 3_000_000),
            "{state:?}"
        );
        match by_attaching {
            false => call(&mut node, PartCall::QueueBytes(PART, 1_000)),
            true => {
                call(&mut node, PartCall::Detach(PART));
                node.take_told();
                attach(&mut node, spec(&["a/#"], queue(1_000)));
            }
        }
        for link in [device, other, device, other] {
            node.send(link, &packet(0x32, &body));
        }
        node.elapse(1_100);
        let received = node.counters().publishes_received;
        assert!((20_000..20_003).contains(&received), "{received}");
        assert_eq!(node.counters().dropped_total(), 0);
        call(&mut node, PartCall::Credit(PART, 1_000));
        let (more, _) = told(&mut node);
        // After re-attaching, the first message belongs to that attachment.
        let first = if by_attaching { Vec::new() } else { first };
        let count = take_all(&mut node, [first, more].concat()).len();
        assert_eq!(count + usize::from(by_attaching), 20_004);
        assert_eq!(node.counters().held, u64::from(by_attaching));
    }
}

/// The queue is reported as nearly full with the message that no longer fits. A report of room
/// before it does not end a hold that it begins.
#[test]
fn a_long_message_at_the_bound_holds_publishers() {
    for shards in [1, 3] {
        let mut node = node(Limits::default(), shards);
        attach(&mut node, spec(&["a/#"], holding(20)));
        let device = connect(&mut node, "device", CLEAN);
        // One message is in flight, and three quarters of the queue are used.
        for number in 0..16 {
            publish(&mut node, device, "a/b", 1, &format!("{number:02}"));
        }
        let long = "x".repeat(6 * MESSAGE_BYTES as usize);
        let body = [&text("a/b"), [0, 9].as_slice(), long.as_bytes()].concat();
        let length = [body.len() as u8 | 0x80, (body.len() >> 7) as u8];
        node.send(device, &[[0x32].as_slice(), &length, &body].concat());
        node.elapse(20);
        let accepted = node.counters().publishes_received;
        publish(&mut node, device, "a/b", 1, "late");
        assert_eq!(node.counters().publishes_received, accepted, "{shards}");
        let (found, _) = told(&mut node);
        assert_eq!(take_all(&mut node, found).len(), 18);
        assert_eq!(node.counters().dropped_total(), 0);
    }
}

/// Messages of a disconnected client do not wait for a part. The Topic Aliases that they set remain
/// valid, so later packets are in order, including its DISCONNECT.
#[test]
fn a_client_that_says_goodbye_behind_what_a_part_holds_has_no_will() {
    for shards in [1, 3] {
        let mut node = node(Limits::default(), shards);
        attach(&mut node, spec(&["a/#"], holding(4)));
        let watcher = connect(&mut node, "watcher", CLEAN);
        subscribe(&mut node, watcher, "will", 0);
        fill(&mut node, "a/b");
        let link = node.open();
        let mut body = b"\0\x04MQTT\x05\x06\0\x3C\0".to_vec();
        for part in [text("leaver"), vec![0], text("will"), text("gone")] {
            body.extend(part);
        }
        node.send(link, &packet(0x10, &body));
        node.elapse(20);
        let before = node.counters();
        let sets = [text("a/b"), vec![0, 1, 3, 0x23, 0, 1, b'x']].concat();
        let uses = [text(""), vec![0, 2, 3, 0x23, 0, 1, b'y']].concat();
        let uses_qos0 = [text(""), vec![3, 0x23, 0, 1, b'z']].concat();
        let all = [
            packet(0x32, &sets),
            packet(0x32, &uses),
            packet(0x30, &uses_qos0),
            vec![0xE0, 0],
        ];
        node.take(watcher);
        node.send(link, &all.concat());
        node.end(link, TransportEnd::EndOfStream);
        node.elapse(1_100);
        assert!(node.take(watcher).is_empty(), "{shards}");
        let after = node.counters();
        assert_eq!(after.publishes_dropped, before.publishes_dropped + 1);
        assert_eq!(after.connections, before.connections - 1);
    }
}
