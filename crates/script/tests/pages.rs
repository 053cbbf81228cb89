//! Operators' lists are returned in pages limited in bytes, and gathered in steps limited in bytes:
//! however long texts are, other clients have their turn.

use martlet_broker::Answer;
use martlet_broker::{
    ClientQuery, Command, ListenerPolicy, PAGE_BYTES, Report, RetainedQuery, Search, Settings,
    SubscriptionQuery, TenantId,
};
use martlet_codec::{Connect, OutgoingPublish, ProtocolVersion, QoS};
use martlet_script::{Harness, Link, Wiring};

#[expect(dead_code, reason = "this file needs few of them")]
mod wire;

const V5: ProtocolVersion = ProtocolVersion::V5;
/// Approximate number of bytes that one step copies.
const STEP: usize = 64 * 1024;

fn node() -> Harness {
    Harness::new(
        Settings::default(),
        ListenerPolicy::default(),
        Wiring::default(),
    )
}

fn connect(node: &mut Harness, client_id: &str, user_name: Option<&str>) -> Link {
    let packet = Connect {
        user_name,
        ..Connect::new(V5, client_id)
    };
    let link = node.open();
    node.send(link, &wire::encoded(&packet));
    node.take(link);
    link
}

/// The answer to a command, and the number of turns it took.
fn ask(node: &mut Harness, command: Command) -> (Answer, u64) {
    let before = node.turns();
    node.command(0, command);
    let mut reports = node.take_reports();
    while reports.is_empty() {
        node.end_tick();
        reports = node.take_reports();
    }
    let Report { answer, .. } = reports.remove(0);
    (answer, node.turns() - before)
}

#[test]
fn retained_messages_with_long_properties_come_in_pages_of_bytes() {
    const MESSAGES: usize = 24;
    const PROPERTIES: usize = 3;
    const VALUE: usize = 60_000;
    let mut node = node();
    let link = connect(&mut node, "publisher", None);
    let mut property = b"\x26\x00\x01k".to_vec();
    property.extend_from_slice(&(VALUE as u16).to_be_bytes());
    property.extend_from_slice(&[b'v'; VALUE]);
    let forwarded = property.repeat(PROPERTIES);
    for number in 0..MESSAGES {
        let topic = format!("r/{number:02}");
        let packet = OutgoingPublish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: topic.as_bytes(),
            packet_id: None,
            topic_alias: None,
            message_expiry_secs: None,
            subscription_ids: &[],
            forwarded: &forwarded,
            payload: b"x",
        };
        let mut bytes = Vec::new();
        packet.encode(V5, &mut bytes);
        node.send(link, &bytes);
    }
    let mut topics = Vec::new();
    let mut after = None;
    loop {
        let query = RetainedQuery {
            filter: "#".into(),
            limit: 1000,
            after: after.take(),
            count: true,
            ..RetainedQuery::default()
        };
        let (answer, turns) = ask(
            &mut node,
            Command::Retained {
                request: 1,
                query: Box::new(query),
            },
        );
        let Answer::Retained(page) = answer else {
            panic!("it was asked for retained messages");
        };
        let bytes = page.messages.len() * PROPERTIES * VALUE;
        assert!((VALUE..=PAGE_BYTES).contains(&bytes), "{bytes}");
        assert!(turns as usize >= bytes / STEP / 4, "{turns} turns, {bytes}");
        assert_eq!(page.total, Some(MESSAGES as u64));
        topics.extend(page.messages.iter().map(|found| found.topic.clone()));
        if !page.more {
            break;
        }
        after = topics.last().cloned();
    }
    let expected: Vec<Box<str>> = (0..MESSAGES)
        .map(|number| format!("r/{number:02}").into())
        .collect();
    assert_eq!(topics, expected);
}

#[test]
fn long_filters_come_in_pages_of_bytes() {
    const FILTERS: usize = 30;
    let mut node = node();
    // The order of the index differs from that of the list.
    let mut expected = Vec::new();
    for client in ["b", "a"] {
        let link = connect(&mut node, client, None);
        for number in (0..FILTERS).rev() {
            let filter = format!("{number:02}/{}", "x".repeat(60_000));
            node.send(link, &wire::subscribe(V5, &[&filter], QoS::AtMostOnce));
            expected.push((client.to_owned(), filter));
        }
    }
    expected.sort();
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let query = SubscriptionQuery {
            limit: 1000,
            after: after.take(),
            ..SubscriptionQuery::default()
        };
        let (answer, turns) = ask(
            &mut node,
            Command::Subscriptions {
                request: 1,
                query: Box::new(query),
            },
        );
        let Answer::Subscriptions(page) = answer else {
            panic!("it was asked for subscriptions");
        };
        assert_eq!(page.total, 2 * FILTERS);
        // All are visited for each page.
        let all = 2 * FILTERS * 60_000;
        assert!(turns as usize >= all / STEP / 4, "{turns}");
        let bytes: usize = page.subscriptions.iter().map(|one| one.filter.len()).sum();
        assert!((60_000..=PAGE_BYTES).contains(&bytes), "{bytes}");
        let last = page.subscriptions.last();
        let last = last.map(|one| ((*one.client_id).into(), one.tenant, one.filter.clone()));
        let items = page.subscriptions.into_iter();
        found.extend(items.map(|one| ((*one.client_id).to_owned(), one.filter.into_string())));
        if !page.more {
            break;
        }
        after = last;
    }
    assert_eq!(found, expected);
}

#[test]
fn clients_with_long_names_come_in_pages_of_bytes() {
    const CLIENTS: usize = 60;
    let mut node = node();
    let name = "u".repeat(30_000);
    for number in 0..CLIENTS {
        connect(&mut node, &format!("c{number:02}"), Some(&name));
    }
    let mut found = 0;
    let mut after = None;
    loop {
        let query = ClientQuery {
            search: Some(Search {
                text: "u".into(),
                anywhere: true,
            }),
            limit: 1000,
            after: after.take(),
            ..ClientQuery::default()
        };
        let (answer, turns) = ask(
            &mut node,
            Command::Clients {
                request: 1,
                query: Box::new(query),
            },
        );
        // All names are visited for each page.
        assert!(turns as usize >= CLIENTS * name.len() / STEP / 4, "{turns}");
        let Answer::Clients(page) = answer else {
            panic!("it was asked for clients");
        };
        assert_eq!(page.total, CLIENTS);
        let bytes = page.clients.len() * name.len();
        assert!((name.len()..=PAGE_BYTES).contains(&bytes), "{bytes}");
        for one in &page.clients {
            assert_eq!(one.client_id, format!("c{found:02}"));
            found += 1;
        }
        if page.end.is_none() {
            break;
        }
        after = page.end;
    }
    assert_eq!(found, CLIENTS);
}

/// Each message counts as work, and so does each topic that is skipped.
#[test]
fn retained_messages_are_deleted_over_turns() {
    const TOPICS: u64 = 6_000;
    let mut node = node();
    let link = connect(&mut node, "publisher", None);
    for number in 0..TOPICS {
        let topic = format!("a/{number}/b");
        let packet = wire::publish(V5, &topic, QoS::AtMostOnce, 0, true, b"x");
        node.send(link, &packet);
    }
    for (filter, expected, turns_min) in [
        ("a/+/c", 0, TOPICS / 6_000),
        ("a/#", TOPICS, TOPICS / 1_000),
    ] {
        let (answer, turns) = ask(
            &mut node,
            Command::DeleteRetained {
                request: 1,
                tenant: TenantId(0),
                filter: filter.into(),
            },
        );
        let Answer::DeleteRetained { deleted, .. } = answer else {
            panic!("it was asked to delete retained messages");
        };
        assert_eq!(deleted, expected);
        assert!(turns >= turns_min, "{turns} turns for {filter}");
    }
}
