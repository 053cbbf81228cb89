//! Tests of the objects that hold most of the memory: long queues in the store, share groups with
//! many members, and many connections from one address.

use martlet_broker::{
    Answer, Command, DropReason, Limits, ListenerPolicy, Settings, TenantId, TransportEnd,
    WorkLimits,
};
use martlet_codec::{Connect, ProtocolVersion, QoS, ReasonCode};
use martlet_script::{Harness, Link, Wiring};

mod answers;
mod lasting;
mod wire;

use answers::{answer, turn};

const V5: ProtocolVersion = ProtocolVersion::V5;
const OK: ReasonCode = ReasonCode::Success;

fn node(memory_bytes: u64, work: WorkLimits) -> Harness {
    let settings = Settings {
        limits: Limits {
            memory_bytes,
            ..Limits::default()
        },
        work,
        ..Settings::default()
    };
    let mut node = Harness::new(settings, ListenerPolicy::default(), Wiring::default());
    // There are very many clients.
    node.trust_accounts();
    node
}

/// A client whose session outlives its connection.
fn connect(node: &mut Harness, client_id: &str) -> Link {
    let link = node.open();
    node.send(link, &wire::encoded(&lasting::connect(client_id, None)));
    link
}

/// Subscribes at QoS 1.
fn subscribe(node: &mut Harness, link: Link, filters: &[String]) {
    node.send(link, &wire::subscribe(V5, filters, QoS::AtLeastOnce));
}

/// Publishes at QoS 1.
fn publish(node: &mut Harness, link: Link, topic: &str, payload: &[u8]) -> ReasonCode {
    node.take(link);
    let publish = wire::publish(V5, topic, QoS::AtLeastOnce, 1, false, payload);
    node.send(link, &publish);
    answer(node, link)
}

/// A node whose queues keep their messages in a store.
fn node_with_store(memory_bytes: u64) -> Harness {
    let mut node = node(memory_bytes, WorkLimits::default());
    node.keep_queues_in_store();
    node
}

/// Number of messages queued for a client.
fn queued(node: &mut Harness, client_id: &str) -> usize {
    let command = Command::ClientDetail {
        request: 1,
        tenant: TenantId(0),
        client_id: client_id.into(),
        limit: 1,
    };
    node.command(0, command);
    let mut reports = node.take_reports();
    while reports.is_empty() {
        node.end_tick();
        reports = node.take_reports();
    }
    match reports.remove(0).answer {
        Answer::ClientDetail(Some(detail)) => detail.info.queued,
        other => panic!("{other:?}"),
    }
}

/// A long queue whose messages are in the store still takes memory for its entries. Its session
/// gives back, whether its client is connected or not, and other clients are served.
#[test]
fn sessions_with_long_queues_in_the_store_give_back_before_those_with_short_ones() {
    const LONG: usize = 40;
    for is_there in [false, true] {
        let mut node = node_with_store(4_000_000);
        let mut greedy = Vec::new();
        for number in 0..LONG {
            let link = connect(&mut node, &format!("long-{number}"));
            subscribe(&mut node, link, &["load".to_owned()]);
            match is_there {
                true => node.set_reading(link, false),
                false => node.end(link, TransportEnd::EndOfStream),
            }
            greedy.push(link);
        }
        let publisher = connect(&mut node, "publisher");
        for number in 0..20 {
            let link = connect(&mut node, &format!("short-{number}"));
            subscribe(&mut node, link, &["few".to_owned()]);
            node.end(link, TransportEnd::EndOfStream);
        }
        for _ in 0..100 {
            assert_eq!(publish(&mut node, publisher, "few", b"kept"), OK);
        }
        let mut refused = 0;
        for _ in 0..6000 {
            refused += usize::from(publish(&mut node, publisher, "load", b"x").is_error());
            node.elapse(5);
            node.end_tick();
        }
        assert_eq!(refused, 0, "{is_there}");
        assert!(node.counters().dropped[DropReason::MemoryFull as usize] > 0);
        assert_eq!(node.counters().clients_relieved, 0);
        for number in 0..20 {
            assert_eq!(queued(&mut node, &format!("short-{number}")), 100);
        }
        assert!(!is_there || closed(&node, &greedy) == 0);
    }
}

/// Long queue of a share group, likewise.
#[test]
fn share_groups_with_long_queues_in_the_store_lose_their_oldest_messages() {
    const GROUPS: usize = 12;
    let mut node = node_with_store(2_000_000);
    let member = connect(&mut node, "member");
    let filters: Vec<_> = (0..GROUPS)
        .map(|group| format!("$share/{group}/load"))
        .collect();
    subscribe(&mut node, member, &filters);
    node.end(member, TransportEnd::EndOfStream);
    let publisher = connect(&mut node, "publisher");
    let mut refused = 0;
    for _ in 0..12_000 {
        refused += usize::from(publish(&mut node, publisher, "load", b"x").is_error());
        node.elapse(5);
        node.end_tick();
    }
    assert_eq!(refused, 0);
    assert!(node.counters().dropped[DropReason::MemoryFull as usize] > 0);
}

/// Connects clients with these Client Identifiers, each from the address for its number. Each has
/// sent a part of a packet.
fn with_unfinished_packets(
    node: &mut Harness,
    name: &str,
    count: usize,
    part: usize,
    address: impl Fn(usize) -> [u8; 4],
) -> Vec<Link> {
    let whole = wire::publish(V5, "t", QoS::AtLeastOnce, 1, false, &[b'x'; 120_000]);
    (0..count)
        .map(|number| {
            let link = node.open_from(address(number).into());
            let name = format!("{name}-{number}");
            node.send(link, &wire::encoded(&Connect::new(V5, &name)));
            assert_eq!(answer(node, link), OK, "{name}");
            node.send(link, &whole[..part]);
            turn(node);
            link
        })
        .collect()
}

fn closed(node: &Harness, links: &[Link]) -> usize {
    links.iter().filter(|link| node.is_closed(**link)).count()
}

/// Clients that spread their memory over many connections give back before others with one
/// connection, even if those hold somewhat more per connection and are newer.
#[test]
fn many_connections_of_one_address_give_back_before_single_ones_of_others() {
    let mut node = node(50_000_000, WorkLimits::default());
    let gateway = with_unfinished_packets(&mut node, "gateway", 1_000, 2_000, |_| [10, 0, 0, 1]);
    let attacker = |_| [10, 0, 0, 2];
    let attackers = with_unfinished_packets(&mut node, "attacker", 2_000, 12_000, attacker);
    let address = |number| [10, 1, 0, number as u8];
    let innocents = with_unfinished_packets(&mut node, "innocent", 50, 30_000, address);
    assert_eq!(closed(&node, &attackers), 0);
    // The first connections fill the memory.
    for link in &attackers {
        node.send(*link, &[b'x'; 8_000]);
        turn(&mut node);
    }
    for _ in 0..200 {
        turn(&mut node);
    }
    assert!(closed(&node, &attackers) > 100);
    assert_eq!(closed(&node, &innocents), 0);
    assert_eq!(closed(&node, &gateway), 0);
}

/// A gateway whose clients hold a little more than usual does not count as more than one client
/// that holds much.
#[test]
fn one_client_that_holds_much_gives_back_before_a_gateway_of_many() {
    let mut node = node(20_000_000, WorkLimits::default());
    let gateway = with_unfinished_packets(&mut node, "gateway", 600, 9_000, |_| [10, 0, 0, 1]);
    let filler = connect(&mut node, "filler");
    let mut greedy = Vec::new();
    for number in 0..8 {
        let link = node.open_from([10, 1, 0, number].into());
        let name = format!("greedy-{number}");
        node.send(link, &wire::encoded(&lasting::connect(&name, None)));
        subscribe(&mut node, link, &[format!("greedy/{number}")]);
        node.set_reading(link, false);
        greedy.push(link);
    }
    for number in 0..1000 {
        let topic = format!("greedy/{}", number % greedy.len());
        let reason = publish(&mut node, filler, &topic, &[b'x'; 20_000]);
        assert!(!reason.is_error(), "{reason:?}");
        turn(&mut node);
    }
    assert!(closed(&node, &greedy) > 0);
    assert_eq!(closed(&node, &gateway), 0);
}

/// When memory is short, the members of a large share group are scanned in steps, however many
/// there are.
#[test]
fn members_of_a_share_group_that_holds_much_are_looked_at_in_steps() {
    const MEMBERS: usize = 10_000;
    const TURN: u64 = 2048;
    let work = WorkLimits {
        turn: TURN,
        share: TURN / 4,
        matches: 1024,
    };
    let mut node = node(24_000_000, work);
    for number in 0..MEMBERS {
        let link = connect(&mut node, &format!("member-{number}"));
        subscribe(&mut node, link, &["$share/g/t/0".to_owned()]);
        node.end(link, TransportEnd::EndOfStream);
    }
    // One group has at most an eighth of the memory.
    let other = connect(&mut node, "other");
    let filters: Vec<_> = (1..6).map(|group| format!("$share/g/t/{group}")).collect();
    subscribe(&mut node, other, &filters);
    node.end(other, TransportEnd::EndOfStream);
    let publisher = connect(&mut node, "publisher");
    let mut most = 0;
    for number in 0..1_200 {
        let topic = format!("t/{}", number % 6);
        publish(&mut node, publisher, &topic, &[b'x'; 20_000]);
        node.elapse(5);
        node.take_most_work();
        // Only the search is left to do.
        node.end_tick();
        most = most.max(node.take_most_work());
    }
    let dropped = node.counters().dropped[DropReason::MemoryFull as usize];
    assert!(dropped > 0, "groups give back");
    assert!(most <= TURN / 2, "{most} units in one call");
}
