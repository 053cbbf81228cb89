//! Tests of the limits of clients and sessions.

use martlet_broker::Limits;
use martlet_codec::{Packet, QoS, ReasonCode};

use crate::node::{
    connect, granted, long_filters, node, packets, publish, reason_of_connack, subscribe,
};

#[test]
fn filters_of_one_client_have_a_limit_in_bytes() {
    let mut node = node(Limits {
        subscription_bytes: 10_000,
        ..Limits::default()
    });
    let link = connect(&mut node, "a", None);
    let filters = long_filters(20, 1000);
    assert_eq!(granted(&mut node, link, &filters), 10);
    // Existing subscriptions may be repeated.
    assert_eq!(granted(&mut node, link, &filters[..10]), 10);
    let shared: Vec<_> = filters
        .iter()
        .map(|name| format!("$share/g/{name}"))
        .collect();
    assert_eq!(
        granted(&mut node, link, &shared),
        0,
        "shared ones count too"
    );
}

#[test]
fn a_will_and_all_wills_have_a_limit_in_bytes() {
    let mut node = node(Limits {
        will_bytes: 1000,
        wills_bytes: 3000,
        ..Limits::default()
    });
    let mut outcome = |client_id: &str, bytes: usize| {
        let link = connect(&mut node, client_id, Some(&vec![b'x'; bytes]));
        reason_of_connack(&mut node, link)
    };
    assert_eq!(outcome("large", 1000), ReasonCode::QuotaExceeded);
    let reasons = ["a", "b", "c"].map(|name| outcome(name, 900));
    let quota = ReasonCode::QuotaExceeded;
    assert_eq!(reasons, [ReasonCode::Success, ReasonCode::Success, quota]);
    assert_eq!(
        outcome("d", 100),
        ReasonCode::Success,
        "there is room for a small one"
    );
}

/// The new Will of a session replaces the existing one: only the difference counts.
#[test]
fn a_client_that_returns_with_its_will_needs_no_more_room() {
    let mut node = node(Limits {
        will_bytes: 2000,
        wills_bytes: 3000,
        ..Limits::default()
    });
    let mut outcome = |client_id: &str, bytes: usize| {
        let link = connect(&mut node, client_id, Some(&vec![b'x'; bytes]));
        reason_of_connack(&mut node, link)
    };
    let (ok, quota) = (ReasonCode::Success, ReasonCode::QuotaExceeded);
    assert_eq!(["a", "b"].map(|name| outcome(name, 900)), [ok, ok]);
    assert_eq!(outcome("c", 900), quota, "there is no room for another");
    assert_eq!(outcome("b", 900), ok, "it has one of that size");
    assert_eq!(
        outcome("b", 950),
        ok,
        "there is room for what it takes more"
    );
    assert_eq!(outcome("b", 1900), quota);
}

#[test]
fn sessions_have_a_limit_and_those_that_are_there_stay() {
    let mut node = node(Limits {
        sessions: 2,
        ..Limits::default()
    });
    let mut outcome = |client_id: &str| {
        let link = connect(&mut node, client_id, None);
        reason_of_connack(&mut node, link)
    };
    let ok = ReasonCode::Success;
    assert_eq!(["a", "b"].map(&mut outcome), [ok, ok]);
    assert_eq!(outcome("c"), ReasonCode::QuotaExceeded);
    assert_eq!(outcome("a"), ok, "it has a session");
}

/// Topics that a node stores for a client because it has assigned Topic Aliases to them.
#[test]
fn topic_aliases_towards_a_client_have_a_limit_in_bytes_and_count() {
    let most = 100_000;
    let mut node = node(Limits {
        topic_alias_bytes: most,
        ..Limits::default()
    });
    let reader = connect(&mut node, "reader", None);
    node.send(reader, &subscribe(&["#".to_owned()], QoS::AtMostOnce));
    let publisher = connect(&mut node, "publisher", None);
    node.end_tick();
    let before = node.counters().memory_bytes;
    let mut aliased = 0;
    for number in 0..20 {
        let topic = format!("{number:020000}");
        node.send(publisher, &publish(&topic, QoS::AtMostOnce, b"x"));
        packets(&node.take(reader), |packet| {
            if let Packet::Publish(publish) = packet {
                aliased += usize::from(publish.properties.topic_alias.is_some());
                assert!(publish.topic.is_some(), "the others are sent in full");
            }
        });
    }
    node.end_tick();
    assert_eq!(aliased, 5);
    let grown = node.counters().memory_bytes - before;
    assert!(
        (u64::from(most)..u64::from(most) + 200_000).contains(&grown),
        "{grown}"
    );
}
