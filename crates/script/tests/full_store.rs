//! Tests of a store that cannot take more: operations that make it grow wait or are refused,
//! operations that make room continue, and waiting operations do not exceed their memory limit.

use martlet_broker::{Limits, ListenerPolicy, Settings, StoreState, TenantId, TransportEnd};
use martlet_script::{Harness, Link, Wiring};

const PING: [u8; 2] = [0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];
const SUBSCRIBE: &[u8] = b"\x82\x06\0\x05\0\x01t\x01";
const SUBACK: &[u8] = b"\x90\x03\0\x05\x01";
const UNSUBSCRIBE: &[u8] = b"\xa2\x05\0\x06\0\x01t";
const UNSUBACK: &[u8] = b"\xb0\x02\0\x06";
const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const SERVER_UNAVAILABLE: &[u8] = b"\x20\x02\0\x03";

fn node(limits: Limits, wiring: Wiring) -> Harness {
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    Harness::new(settings, ListenerPolicy::default(), wiring)
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let more = left > 127;
        bytes.push((left % 128) as u8 | u8::from(more) << 7);
        left /= 128;
        if !more {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A CONNECT of MQTT 3.1.1, with a Will of `will_bytes` bytes if the flags contain it.
fn connect(client_id: &str, flags: u8, will_bytes: usize) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.extend([flags, 0, 0]);
    body.extend(text(client_id));
    if flags & WILL != 0 {
        body.extend(text("w"));
        body.extend(text(&"x".repeat(will_bytes)));
    }
    packet(0x10, &body)
}

fn client(node: &mut Harness, client_id: &str, flags: u8) -> Link {
    let link = node.open();
    node.send(link, &connect(client_id, flags, 0));
    node.take(link);
    link
}

/// The answer to a CONNECT.
fn answer(node: &mut Harness, client_id: &str, flags: u8, will_bytes: usize) -> Vec<u8> {
    let link = node.open();
    node.send(link, &connect(client_id, flags, will_bytes));
    let answer = node.take(link);
    node.end(link, TransportEnd::EndOfStream);
    answer
}

#[test]
fn subscriptions_of_a_session_that_is_recorded_wait_for_the_store_and_pings_pass() {
    for state in [StoreState::Behind, StoreState::Full, StoreState::Stuck] {
        let mut node = node(Limits::default(), Wiring::default());
        let lasting = client(&mut node, "lasting", 0);
        let passing = client(&mut node, "passing", CLEAN);
        node.set_store_state(state);
        node.send(lasting, &[SUBSCRIBE, &PING, UNSUBSCRIBE].concat());
        assert_eq!(node.take(lasting), PONG, "{state:?}");
        // Nothing of this client is stored.
        node.send(passing, &[SUBSCRIBE, UNSUBSCRIBE].concat());
        assert_eq!(node.take(passing), [SUBACK, UNSUBACK].concat());
        node.set_store_state(StoreState::KeepsUp);
        assert_eq!(node.take(lasting), [SUBACK, UNSUBACK].concat());
    }
}

#[test]
fn a_subscription_that_stands_already_does_not_wait_for_the_store_and_makes_no_record() {
    let mut node = node(Limits::default(), Wiring::default());
    let lasting = client(&mut node, "lasting", 0);
    let subscribe = |filter: &str, qos: u8| {
        let body = [b"\0\x05".to_vec(), text(filter), vec![qos]].concat();
        packet(0x82, &body)
    };
    for filter in ["t", "retained/+"] {
        node.send(lasting, &subscribe(filter, 1));
        assert_eq!(node.take(lasting), SUBACK);
    }
    let publisher = client(&mut node, "publisher", CLEAN);
    node.send(publisher, b"\x31\x0d\0\x0aretained/1x");
    node.take(lasting);
    let records = node.counters().records_appended;
    for state in [StoreState::KeepsUp, StoreState::Behind, StoreState::Full] {
        node.set_store_state(state);
        node.send(lasting, &subscribe("t", 1));
        assert_eq!(node.take(lasting), SUBACK, "{state:?}");
    }
    assert_eq!(node.counters().records_appended, records);
    // These are different, or add something.
    let more = [
        subscribe("t", 0),
        subscribe("t/1", 1),
        subscribe("retained/+", 1),
        packet(
            0x82,
            &[b"\0\x05".to_vec(), text("t"), vec![1], text("u"), vec![1]].concat(),
        ),
    ];
    for packet in more {
        let known = client(&mut node, "lasting", 0);
        node.send(known, &[&packet, &PING[..]].concat());
        assert_eq!(node.take(known), PONG, "{packet:?}");
    }
}

#[test]
fn who_waits_for_the_store_too_long_is_closed() {
    let mut node = node(Limits::default(), Wiring::default());
    let lasting = client(&mut node, "lasting", 0);
    node.set_store_state(StoreState::Full);
    node.send(lasting, SUBSCRIBE);
    node.elapse(29_000);
    assert!(!node.is_closed(lasting));
    node.elapse(2000);
    assert!(node.is_closed(lasting), "limit store_stalled_secs");
}

#[test]
fn a_full_store_lets_in_who_takes_what_it_holds_and_nobody_who_brings_more() {
    let mut node = node(Limits::default(), Wiring::default());
    for known in ["known", "cleared"] {
        let link = client(&mut node, known, 0);
        node.end(link, TransportEnd::EndOfStream);
    }
    node.set_store_state(StoreState::Behind);
    assert_eq!(answer(&mut node, "early", WILL, 900), b"\x20\x02\0\0");
    node.set_store_state(StoreState::Full);
    assert_eq!(answer(&mut node, "new", 0, 0), SERVER_UNAVAILABLE);
    assert_eq!(
        answer(&mut node, "new", CLEAN | WILL, 1),
        SERVER_UNAVAILABLE
    );
    assert_eq!(answer(&mut node, "new", CLEAN, 0), b"\x20\x02\0\0");
    assert_eq!(answer(&mut node, "known", 0, 0), b"\x20\x02\x01\0");
    assert_eq!(answer(&mut node, "known", WILL, 100), b"\x20\x02\x01\0");
    assert_eq!(answer(&mut node, "known", WILL, 9000), SERVER_UNAVAILABLE);
    // It ends a queue.
    assert_eq!(answer(&mut node, "cleared", CLEAN, 0), b"\x20\x02\0\0");
    assert_eq!(answer(&mut node, "cleared", 0, 0), SERVER_UNAVAILABLE);
    node.set_store_state(StoreState::Stuck);
    assert_eq!(answer(&mut node, "known", 0, 0), SERVER_UNAVAILABLE);
    assert_eq!(answer(&mut node, "new", CLEAN, 0), b"\x20\x02\0\0");
    node.set_store_state(StoreState::KeepsUp);
    assert_eq!(answer(&mut node, "known", 0, 0), b"\x20\x02\x01\0");
    assert_eq!(answer(&mut node, "new", WILL, 9000), b"\x20\x02\0\0");
}

#[test]
fn a_connect_with_a_long_will_waits_while_the_store_is_behind() {
    let mut node = node(Limits::default(), Wiring::default());
    node.set_store_state(StoreState::Behind);
    let waiting = node.open();
    // Packets behind it wait too.
    node.send(
        waiting,
        &[&connect("waiting", WILL, 9000), &PING[..]].concat(),
    );
    let gone = node.open();
    node.send(gone, &connect("gone", WILL, 9000));
    node.end(gone, TransportEnd::EndOfStream);
    assert_eq!(node.take(waiting), b"");
    // Nothing of this client is stored.
    assert_eq!(answer(&mut node, "passing", CLEAN, 0), b"\x20\x02\0\0");
    // Longer than the time limit for a CONNECT.
    node.elapse(29_000);
    assert_eq!(node.take(waiting), b"");
    node.set_store_state(StoreState::KeepsUp);
    assert_eq!(node.take(waiting), [b"\x20\x02\0\0", &PONG[..]].concat());
    // As if it had not been sent.
    assert_eq!(answer(&mut node, "gone", 0, 0), b"\x20\x02\0\0");
}

#[test]
fn a_connect_that_waits_for_the_store_is_answered() {
    let mut node = node(Limits::default(), Wiring::default());
    node.set_store_state(StoreState::Behind);
    let late = node.open();
    node.send(late, &connect("late", WILL, 9000));
    node.elapse(31_000);
    assert_eq!(node.take(late), SERVER_UNAVAILABLE, "store_stalled_secs");
    assert!(node.is_closed(late));
    let early = node.open();
    node.send(early, &connect("early", WILL, 9000));
    node.set_store_state(StoreState::Full);
    assert_eq!(node.take(early), SERVER_UNAVAILABLE, "no room");
}

#[test]
fn those_who_go_while_they_wait_for_the_store_are_forgotten() {
    let mut node = node(Limits::default(), Wiring::default());
    node.set_store_state(StoreState::Behind);
    for number in 0..5000 {
        let link = node.open();
        node.send(link, &connect(&format!("c{number}"), WILL, 2000));
        node.end(link, TransportEnd::EndOfStream);
    }
    let memory = node.counters().memory_bytes;
    assert!(memory < 1 << 20, "{memory} bytes");
}

/// [MQTT-3.2.2-7]
#[test]
fn a_refused_client_of_mqtt_5_is_told_that_it_is_the_store() {
    for (state, said) in [
        (StoreState::Full, "the message store is full: its disk"),
        (
            StoreState::AtLimit,
            "the message store is full (limits.store_bytes)",
        ),
    ] {
        let mut node = node(Limits::default(), Wiring::default());
        node.set_store_state(state);
        let link = node.open();
        let body = b"\0\x04MQTT\x05\0\0\0\x05\x11\0\0\0\x09\0\x01a";
        node.send(link, &packet(0x10, body));
        let answer = node.take(link);
        assert_eq!(answer[3], 0x97);
        let told = String::from_utf8_lossy(&answer);
        assert!(told.contains(said), "{told}");
        assert!(node.is_closed(link));
    }
}

#[test]
fn who_has_waited_for_the_store_too_long_is_told_what_is_wrong_with_it() {
    for (state, said) in [
        (
            StoreState::AtLimit,
            "the message store is full (limits.store_bytes)",
        ),
        (StoreState::Full, "the disk of the message store is full"),
        (
            StoreState::Stuck,
            "does not answer (limits.store_stalled_secs)",
        ),
    ] {
        let mut node = node(Limits::default(), Wiring::default());
        let link = node.open();
        node.send(link, &lasting_v5(0));
        node.take(link);
        node.set_store_state(state);
        // QoS 1.
        node.send(link, b"\x32\x07\0\x01t\0\x01\0x");
        node.elapse(31_000);
        let told = node.take(link);
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(said), "{state:?}: {told}");
        assert!(node.is_closed(link));
    }
}

/// A store so slow that no record becomes durable in this test.
fn never() -> Wiring {
    Wiring {
        durable_delay_ms: 10_000_000,
        ..Wiring::default()
    }
}

/// A CONNECT of MQTT 5 with a session that outlives its connection.
fn lasting_v5(keep_alive_secs: u8) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05\0\0".to_vec();
    body.extend(*b"\0\x05\x11\0\0\0\x09\0\x02v5");
    body[9] = keep_alive_secs;
    packet(0x10, &body)
}

#[test]
fn a_connect_that_is_not_recorded_in_time_is_refused_with_a_reason() {
    let limits = Limits {
        store_stalled_secs: 5,
        ..Limits::default()
    };
    let mut node = node(limits, never());
    let (v3, v5) = (node.open(), node.open());
    node.send(v3, &connect("lasting", 0, 0));
    // A client that waits for its CONNACK need not send PINGREQ.
    node.send(v5, &lasting_v5(1));
    let will = node.open();
    node.send(will, &connect("will", CLEAN | WILL, 1));
    node.elapse(4900);
    for link in [v3, v5, will] {
        assert_eq!(node.take(link), b"");
        assert!(!node.is_closed(link));
    }
    // Nothing of these clients is stored.
    let publisher = client(&mut node, "clean", CLEAN);
    node.send(publisher, b"\x82\x06\0\x05\0\x01t\x00");
    node.send(publisher, b"\x30\x04\0\x01tx");
    assert_eq!(node.take(publisher), b"\x90\x03\0\x05\x00\x30\x04\0\x01tx");
    node.send(publisher, b"\x82\x06\0\x05\0\x01w\x00");
    assert_eq!(node.take(publisher), b"\x90\x03\0\x05\x00");
    node.elapse(200);
    assert_eq!(
        node.take(publisher),
        b"",
        "no Will of a client that was refused"
    );
    assert_eq!(node.take(v3), SERVER_UNAVAILABLE);
    assert_eq!(node.take(will), SERVER_UNAVAILABLE);
    let answer = node.take(v5);
    assert_eq!((answer[0], answer[3]), (0x20, 0x88));
    let told = String::from_utf8_lossy(&answer);
    assert!(told.contains("limits.store_stalled_secs"), "{told}");
    for link in [v3, v5, will] {
        assert!(node.is_closed(link));
    }
    assert_eq!(node.counters().connects_refused, 3);
}

#[test]
fn without_a_limit_for_the_store_a_connect_waits_as_long_as_for_its_authentication() {
    let limits = Limits {
        store_stalled_secs: 0,
        authenticate_timeout_secs: 7,
        ..Limits::default()
    };
    let mut node = node(limits, never());
    let link = node.open();
    node.send(link, &connect("lasting", 0, 0));
    node.elapse(6900);
    assert!(!node.is_closed(link));
    node.elapse(200);
    assert_eq!(node.take(link), SERVER_UNAVAILABLE);
}

#[test]
fn what_a_client_left_behind_is_not_stored_on_a_full_disk() {
    for (state, stored) in [(StoreState::Behind, true), (StoreState::Full, false)] {
        let mut node = node(Limits::default(), Wiring::default());
        let subscriber = client(&mut node, "s", 0);
        node.send(subscriber, SUBSCRIBE);
        node.take(subscriber);
        let publisher = client(&mut node, "p", CLEAN);
        node.set_store_state(state);
        node.send(publisher, b"\x32\x06\0\x01t\0\x01x");
        assert_eq!(node.take(publisher), b"", "nothing is promised");
        node.end(publisher, TransportEnd::EndOfStream);
        assert_eq!(!node.take(subscriber).is_empty(), stored, "{state:?}");
    }
}

#[test]
fn answers_that_wait_for_the_store_are_bounded_and_counted_as_memory() {
    let limits = Limits {
        receive_maximum: 10,
        in_flight: 10,
        ..Limits::default()
    };
    let wiring = Wiring {
        durable_delay_ms: 1000,
        ..Wiring::default()
    };
    let mut node = node(limits, wiring);
    let link = node.open();
    node.send(link, &connect("a", 0, 0));
    node.elapse(1000);
    node.take(link);
    let before = node.counters().memory_bytes;
    node.send(link, &SUBSCRIBE.repeat(20));
    let full = node.counters().memory_bytes;
    assert!(full >= before + 20 * 5, "{before} {full}");
    // PUBCOMP would have to wait behind the others.
    let pubrels: Vec<u8> = (1..=100_u8).flat_map(|id| [0x62, 2, 0, id]).collect();
    node.send(
        link,
        &[SUBSCRIBE.repeat(80), pubrels, PING.to_vec()].concat(),
    );
    assert_eq!(node.take(link), PONG);
    let held = node.counters().memory_bytes - full;
    assert!(held <= 4096, "what is held is as long as what came: {held}");
    // Nothing is lost: all are answered, one gate after the other.
    node.elapse(10_000);
    let mut answers = SUBACK.repeat(100);
    answers.extend((1..=100_u8).flat_map(|id| [0x70, 2, 0, id]));
    assert_eq!(node.take(link), answers);
    const SUBSCRIPTION: u64 = 256;
    assert!(node.counters().memory_bytes <= before + SUBSCRIPTION);
}

/// Clients of a tenant wait while it has its share of the store; those of others do not.
#[test]
fn clients_of_a_tenant_that_has_its_share_of_the_store_wait_alone() {
    let of_tenant = ListenerPolicy {
        own: Some(TenantId(5)),
        ..ListenerPolicy::default()
    };
    let mut node = Harness::new(Settings::default(), of_tenant, Wiring::default());
    let link = node.open();
    node.send(link, &connect("$lasting", 0, 0));
    node.take(link);
    node.set_store_state_for(StoreState::KeepsUp, &[TenantId(4), TenantId(6)]);
    node.send(link, SUBSCRIBE);
    assert_eq!(node.take(link), SUBACK);
    node.set_store_state_for(StoreState::KeepsUp, &[TenantId(5)]);
    let received = node.counters().publishes_received;
    node.send(link, b"\x32\x06\0\x01t\0\x01x");
    node.send(link, &PING);
    assert_eq!(node.take(link), PONG);
    assert_eq!(node.counters().publishes_received, received);
    assert_eq!(answer(&mut node, "$new", 0, 0), SERVER_UNAVAILABLE);
    assert_eq!(answer(&mut node, "$new", CLEAN, 0), b"\x20\x02\0\0");
    let late = node.open();
    let mut of_v5 = lasting_v5(0);
    of_v5.truncate(of_v5.len() - 2);
    of_v5.extend(*b"$5");
    node.send(late, &of_v5);
    let told = node.take(late);
    assert!(String::from_utf8_lossy(&told).contains("limits.team_percent"));
    // It may take retained messages away.
    let passing = node.open();
    node.send(passing, &connect("$passing", CLEAN, 0));
    node.take(passing);
    node.send(passing, b"\x33\x05\0\x01t\0\x09");
    assert_eq!(node.take(passing), b"\x40\x02\0\x09");
    node.end(passing, TransportEnd::EndOfStream);
    let received = node.counters().publishes_received;
    // Room again, for it alone.
    node.set_store_state_for(StoreState::KeepsUp, &[TenantId(4)]);
    assert_eq!(node.counters().publishes_received, received + 1);
    node.take(link);
    node.set_store_state_for(StoreState::KeepsUp, &[TenantId(5)]);
    node.send(link, b"\x32\x06\0\x01t\0\x02x");
    node.elapse(31_000);
    assert!(node.is_closed(link), "limit store_stalled_secs");
}
