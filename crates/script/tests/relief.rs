//! Tests of short memory whose cause is not held by clients that must give back: operations that
//! use more memory are refused, and clients that hold little are served.

use martlet_broker::{
    Answer, Command, DeleteOutcome, DropReason, Event, EventInterest, Limit, Limits,
    ListenerPolicy, Settings, TenantId,
};
use martlet_codec::{Packet, ProtocolVersion, QoS, ReasonCode};
use martlet_script::{Harness, Link, Wiring};

mod answers;
mod lasting;
mod wire;

use answers::{answer, turn};

const V5: ProtocolVersion = ProtocolVersion::V5;
const LIMIT: u64 = 20_000_000;
/// Use from which memory is short.
const SHORT: u64 = LIMIT / 8 * 7;
/// A client that holds more than this must give back.
const WAITING_BYTES: usize = 150_000;

/// A node, a client with 150 kB of unreceived messages, and a publisher.
struct Site {
    node: Harness,
    slow: Link,
    publisher: Link,
}

fn site(shards: u16) -> Site {
    let settings = Settings {
        limits: Limits {
            memory_bytes: LIMIT,
            ..Limits::default()
        },
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
    let mut node = Harness::new(settings, ListenerPolicy::default(), wiring);
    let slow = connect(&mut node, "slow", None);
    let publisher = connect(&mut node, "publisher", None);
    subscribe(&mut node, slow, &["slow".to_owned()]);
    node.set_reading(slow, false);
    for _ in 0..10 {
        let payload = vec![b'x'; WAITING_BYTES / 10];
        assert_eq!(publish(&mut node, publisher, "slow", &payload), OK);
    }
    Site {
        node,
        slow,
        publisher,
    }
}

impl Site {
    /// Asserts that clients that hold little are served, and none was disconnected.
    fn is_served(&mut self) {
        for _ in 0..20 {
            turn(&mut self.node);
            let reason = publish(&mut self.node, self.publisher, "quiet", b"here");
            assert!(!reason.is_error(), "{reason:?}");
        }
        for told in self.node.take_events() {
            if matches!(told.event, Event::Disconnected { .. }) {
                eprintln!("{told:?}");
            }
        }
        assert!(!self.node.is_closed(self.slow));
        assert_eq!(self.node.counters().clients_relieved, 0);
        self.node.set_reading(self.slow, true);
        let mut arrived = 0;
        wire::packets(V5, &self.node.take(self.slow), |packet| {
            arrived += usize::from(matches!(packet, Packet::Publish(_)));
        });
        assert_eq!(arrived, 10, "what waits for the slow client is there");
    }
}

const OK: ReasonCode = ReasonCode::Success;
const QUOTA: ReasonCode = ReasonCode::QuotaExceeded;

fn connect(node: &mut Harness, client_id: &str, will: Option<&[u8]>) -> Link {
    let packet = lasting::connect(client_id, will);
    let link = node.open();
    node.send(link, &wire::encoded(&packet));
    link
}

/// Subscribes at QoS 1. Returns the number of granted filters.
fn subscribe(node: &mut Harness, link: Link, filters: &[String]) -> usize {
    node.take(link);
    node.send(link, &wire::subscribe(V5, filters, QoS::AtLeastOnce));
    let mut granted = 0;
    wire::packets(V5, &node.take(link), |packet| {
        if let Packet::SubAck(suback) = packet {
            let codes = suback.reason_codes.iter();
            granted += codes.filter(|code| **code < 0x80).count();
        }
    });
    granted
}

fn publish_as(
    node: &mut Harness,
    link: Link,
    topic: &str,
    payload: &[u8],
    retain: bool,
) -> ReasonCode {
    node.take(link);
    node.send(
        link,
        &wire::publish(V5, topic, QoS::AtLeastOnce, 1, retain, payload),
    );
    answer(node, link)
}

fn publish(node: &mut Harness, link: Link, topic: &str, payload: &[u8]) -> ReasonCode {
    publish_as(node, link, topic, payload, false)
}

fn retain(node: &mut Harness, link: Link, topic: &str, payload: &[u8]) -> ReasonCode {
    publish_as(node, link, topic, payload, true)
}

/// Retains messages of 20 kB until they are refused. Returns the number of accepted messages.
fn fill_with_retained(node: &mut Harness, link: Link) -> usize {
    for number in 0..1000 {
        let reason = retain(node, link, &format!("r/{number}"), &[b'x'; 20_000]);
        turn(node);
        if reason.is_error() {
            assert_eq!(reason, QUOTA);
            return number;
        }
    }
    panic!("all were taken");
}

#[test]
fn retained_messages_fill_the_memory_and_they_alone_are_refused() {
    for shards in [1, 3] {
        let mut site = site(shards);
        let filler = connect(&mut site.node, "filler", None);
        let count = fill_with_retained(&mut site.node, filler);
        let used = site.node.counters().memory_bytes;
        assert!((LIMIT / 2..SHORT).contains(&used), "{used}");
        let told = site.node.take_events().into_iter().any(|told| {
            matches!(&told.event, Event::PublishRefused { why, .. }
                if why.limit() == Some(Limit::MemoryKept))
        });
        assert!(told);
        // A message that does not grow is accepted, and new clients need only memory for a session.
        assert!(!retain(&mut site.node, filler, "r/0", &[b'y'; 20_000]).is_error());
        let newcomer = connect(&mut site.node, "newcomer", None);
        assert_eq!(answer(&mut site.node, newcomer), OK);
        site.is_served();
        // Deleted messages make room again.
        for number in 0..count / 2 {
            retain(&mut site.node, filler, &format!("r/{number}"), b"");
        }
        site.node.elapse(60_000);
        turn(&mut site.node);
        assert!(!retain(&mut site.node, filler, "new", &[b'x'; 20_000]).is_error());
    }
}

#[test]
fn wills_fill_the_memory_and_they_alone_are_refused() {
    let mut site = site(1);
    let refused = (0..1000).find(|number| {
        let link = connect(&mut site.node, &format!("c{number}"), Some(&[b'x'; 30_000]));
        turn(&mut site.node);
        let reason = answer(&mut site.node, link);
        assert!([OK, QUOTA].contains(&reason), "{reason:?}");
        reason == QUOTA
    });
    assert!(refused.is_some());
    let used = site.node.counters().memory_bytes;
    assert!(used < SHORT, "{used}");
    let newcomer = connect(&mut site.node, "newcomer", None);
    assert_eq!(answer(&mut site.node, newcomer), OK);
    let returning = connect(&mut site.node, "c0", Some(&[b'y'; 30_000]));
    let reason = answer(&mut site.node, returning);
    assert_eq!(
        reason, OK,
        "its Will takes the place of the one that it has"
    );
    site.is_served();
}

/// Data kept by idle shards counts too.
#[test]
fn wills_of_one_shard_leave_less_room_for_retained_messages_of_another() {
    let mut site = site(2);
    let filler = connect(&mut site.node, "filler", None);
    let shard = site.node.shard_of(filler).expect("it is connected");
    let mut others = 0;
    for number in 0.. {
        let link = connect(&mut site.node, &format!("c{number}"), Some(&[b'x'; 30_000]));
        match site.node.shard_of(link) == Some(shard) {
            true => site
                .node
                .end(link, martlet_broker::TransportEnd::EndOfStream),
            false => others += 1,
        }
        if others * 30_000 > LIMIT as usize / 2 {
            break;
        }
    }
    (0..8).for_each(|_| turn(&mut site.node));
    // From now on the other shard is idle: it gets no messages and no calls.
    let mut count = 0;
    while !retain(
        &mut site.node,
        filler,
        &format!("r/{count}"),
        &[b'x'; 20_000],
    )
    .is_error()
    {
        site.node.end_tick_of(shard);
        count += 1;
    }
    assert!(count * 20_000 < LIMIT as usize / 8 * 3, "{count}");
}

/// Clients subscribe until one of them is refused. Returns false if none is.
fn fill_with_subscriptions(node: &mut Harness) -> bool {
    (0..1000).any(|number| {
        let link = connect(node, &format!("s{number}"), None);
        let filters: Vec<_> = (0..20)
            .map(|filter| format!("{number}/{filter}/{}", "x".repeat(2000)))
            .collect();
        let granted = subscribe(node, link, &filters);
        turn(node);
        granted < 20
    })
}

#[test]
fn subscriptions_fill_the_memory_and_they_alone_are_refused() {
    let mut site = site(1);
    assert!(fill_with_subscriptions(&mut site.node));
    let used = site.node.counters().memory_bytes;
    assert!(used < LIMIT / 16 * 15, "{used}");
    site.is_served();
}

/// However the kinds of kept data are mixed, a part of the memory remains for messages, and for
/// clients with sessions.
#[test]
fn kept_data_of_all_kinds_together_never_fills_the_memory() {
    let mut site = site(1);
    let device = connect(&mut site.node, "device", None);
    site.node
        .end(device, martlet_broker::TransportEnd::EndOfStream);
    fill_with_subscriptions(&mut site.node);
    let filler = connect(&mut site.node, "filler", None);
    assert!(fill_with_retained(&mut site.node, filler) > 0);
    let mut fill = |name: &str, will: Option<&[u8]>| {
        let refused = (0..10_000).find(|number| {
            let link = connect(&mut site.node, &format!("{name}{number}"), will);
            turn(&mut site.node);
            let reason = answer(&mut site.node, link);
            if will.is_none() {
                site.node
                    .end(link, martlet_broker::TransportEnd::EndOfStream);
            }
            reason.is_error()
        });
        assert!(refused.is_some(), "{name}");
    };
    fill("w", Some(&[b'x'; 30_000]));
    fill("c", None);
    for _ in 0..10 {
        turn(&mut site.node);
        let used = site.node.counters().memory_bytes;
        assert!(used < LIMIT / 32 * 31, "{used}");
        let device = connect(&mut site.node, "device", Some(b"gone"));
        assert_eq!(answer(&mut site.node, device), OK);
        let payload = [b'x'; 30_000];
        let reason = publish(&mut site.node, filler, "quiet", &payload);
        assert!(!reason.is_error(), "{reason:?}");
    }
    site.is_served();
}

/// Uses up all memory. Returns the number of retained messages.
fn use_up(node: &mut Harness, filler: Link) -> usize {
    let count = fill_with_retained(node, filler);
    // Each of them holds too little to have to give back.
    let is_refused = (0..2000).any(|number| {
        let away = connect(node, &format!("away-{number}"), None);
        let topic = format!("away/{number}");
        subscribe(node, away, std::slice::from_ref(&topic));
        node.end(away, martlet_broker::TransportEnd::EndOfStream);
        publish(node, filler, &topic, &[b'x'; 3_500]).is_error()
    });
    assert!(is_refused);
    count
}

/// A client with few queued messages gets QoS 0 messages while others hold all memory.
#[test]
fn a_few_qos_0_messages_wait_for_a_client_while_the_memory_is_used_up() {
    let mut site = site(1);
    let node = &mut site.node;
    let (filler, quiet) = (connect(node, "filler", None), connect(node, "quiet", None));
    subscribe(node, quiet, &["quiet".to_owned()]);
    use_up(node, filler);
    node.take(quiet);
    node.set_reading(quiet, false);
    let packet = wire::publish(V5, "quiet", QoS::AtMostOnce, 0, false, &[b'x'; 100]);
    let sent = 200_u64;
    for _ in 0..sent {
        node.send(site.publisher, &packet);
    }
    node.set_reading(quiet, true);
    let mut arrived = 0;
    wire::packets(V5, &node.take(quiet), |packet| {
        arrived += u64::from(matches!(packet, Packet::Publish(_)));
    });
    assert!((5..20).contains(&arrived), "{arrived}");
    let dropped = node.counters().dropped[DropReason::MemoryFull as usize];
    assert_eq!(dropped + arrived, sent);
}

/// Operations that free memory work however little is left.
#[test]
fn retained_messages_can_be_taken_away_while_the_memory_is_used_up() {
    let mut site = site(1);
    let filler = connect(&mut site.node, "filler", None);
    let count = use_up(&mut site.node, filler);
    assert!(!retain(&mut site.node, filler, "r/0", b"").is_error());
    let (request, filter) = (1, "r/#".into());
    let tenant = TenantId(0);
    let command = Command::DeleteRetained {
        request,
        tenant,
        filter,
    };
    site.node.command(0, command);
    let answer = site.node.take_reports().pop().map(|report| report.answer);
    let Some(Answer::DeleteRetained { deleted, outcome }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(outcome, DeleteOutcome::Deleted);
    assert_eq!(deleted, count as u64 - 1);
}

/// Queued messages of share groups belong to the groups: they lose their oldest messages.
#[test]
fn share_groups_that_hold_most_lose_their_oldest_messages() {
    let mut site = site(1);
    let member = connect(&mut site.node, "member", None);
    let filters: Vec<_> = (0..12).map(|group| format!("$share/g/{group}")).collect();
    assert_eq!(subscribe(&mut site.node, member, &filters), 12);
    site.node
        .end(member, martlet_broker::TransportEnd::EndOfStream);
    let filler = connect(&mut site.node, "filler", None);
    for number in 0..1500 {
        let topic = (number % 12).to_string();
        let reason = publish(&mut site.node, filler, &topic, &[b'x'; 20_000]);
        assert!(!reason.is_error(), "{reason:?}");
        turn(&mut site.node);
    }
    let dropped = site.node.counters().dropped[DropReason::MemoryFull as usize];
    assert!(dropped > 0);
    site.is_served();
}

/// Connects a client that does not read and whose session ends with its connection.
fn connect_deaf(node: &mut Harness, client_id: &str) -> Link {
    let mut packet = martlet_codec::Connect::new(V5, client_id);
    packet.properties.receive_maximum = std::num::NonZeroU16::new(1);
    let link = node.open();
    node.send(link, &wire::encoded(&packet));
    link
}

/// Clients that hold 100 kB each, in total a sixteenth of the memory.
fn innocents(node: &mut Harness, publisher: Link) -> Vec<Link> {
    (0..15)
        .map(|number| {
            let link = connect_deaf(node, &format!("innocent-{number}"));
            let topic = format!("i/{number}");
            subscribe(node, link, std::slice::from_ref(&topic));
            node.set_reading(link, false);
            for _ in 0..10 {
                assert_eq!(publish(node, publisher, &topic, &[b'x'; 10_000]), OK);
            }
            link
        })
        .collect()
}

/// A client that holds much through many share groups, each with little, counts as holding much.
#[test]
fn who_holds_much_by_many_share_groups_gives_back_before_those_who_hold_little() {
    for shards in [1, 2] {
        let mut site = site(shards);
        let (node, publisher) = (&mut site.node, site.publisher);
        let innocents = innocents(node, publisher);
        let filler = connect(node, "filler", None);
        let mut refused = 0;
        for number in 0..8 {
            let link = connect_deaf(node, &format!("attacker-{number}"));
            let filters: Vec<_> = (0..60)
                .map(|group| format!("$share/g/q/{number}/{group}"))
                .collect();
            assert_eq!(subscribe(node, link, &filters), 60);
            for round in 0..5 {
                for group in 0..60 {
                    let payload = vec![b'x'; if round == 0 { 0 } else { 15_000 }];
                    let topic = format!("q/{number}/{group}");
                    refused += usize::from(publish(node, filler, &topic, &payload).is_error());
                    node.elapse(5);
                    node.end_tick();
                }
            }
        }
        assert_eq!(refused, 0);
        let lost = innocents.iter().filter(|link| node.is_closed(**link));
        assert_eq!(lost.count(), 0, "the innocent keep what waits for them");
        assert!(node.counters().dropped[DropReason::MemoryFull as usize] > 0);
        site.is_served();
    }
}

/// Many connections that each hold little fill the memory: the newest are closed with a reason
/// code.
#[test]
fn many_unfinished_packets_give_way_to_those_who_are_served() {
    for with_innocents in [true, false] {
        fill_with_unfinished_packets(with_innocents);
    }
}

fn fill_with_unfinished_packets(with_innocents: bool) {
    let mut site = site(1);
    site.node.set_reading(site.slow, true);
    site.node.take(site.slow);
    let (node, publisher) = (&mut site.node, site.publisher);
    let innocents = match with_innocents {
        true => innocents(node, publisher),
        false => Vec::new(),
    };
    let whole = wire::publish(V5, "t", QoS::AtLeastOnce, 1, false, &[b'x'; 120_000]);
    let mut attackers = Vec::new();
    for number in 0..800 {
        let link = connect_deaf(node, &format!("attacker-{number}"));
        assert_eq!(answer(node, link), OK, "{number}");
        node.send(link, &whole[..60_000]);
        turn(node);
        attackers.push(link);
        assert!(!publish(node, publisher, "quiet", &[b'x'; 1000]).is_error());
    }
    let closed = attackers.iter().filter(|link| node.is_closed(**link));
    assert!(closed.count() > 300);
    let lost = innocents.iter().filter(|link| node.is_closed(**link));
    assert_eq!(lost.count(), 0);
    assert!(!node.is_closed(site.slow));
    let mut told = node.take_events().into_iter().filter(|told| {
        matches!(&told.event, Event::Disconnected { why, .. }
            if why.limit() == Some(Limit::MemoryOfClient))
    });
    assert!(told.next().is_some());
}

/// One group has no more memory than a client may have.
#[test]
fn one_share_group_has_a_share_of_the_memory() {
    let mut site = site(1);
    let member = connect(&mut site.node, "member", None);
    subscribe(&mut site.node, member, &["$share/g/t".to_owned()]);
    site.node
        .end(member, martlet_broker::TransportEnd::EndOfStream);
    let filler = connect(&mut site.node, "filler", None);
    for _ in 0..400 {
        let reason = publish(&mut site.node, filler, "t", &[b'x'; 20_000]);
        assert!(!reason.is_error(), "{reason:?}");
        turn(&mut site.node);
    }
    let used = site.node.counters().memory_bytes;
    assert!(used < LIMIT / 4, "{used}");
    assert!(site.node.counters().dropped[DropReason::QueueFull as usize] > 0);
    site.is_served();
}

/// Clients of one shard that hold most of the memory do not affect clients of another shard.
#[test]
fn a_client_that_holds_little_is_not_ended_because_its_shard_has_no_larger_one() {
    let mut site = site(2);
    let shard = site.node.shard_of(site.slow);
    let filler = connect(&mut site.node, "filler", None);
    let mut hogs = Vec::new();
    for number in 0..40 {
        let link = connect(&mut site.node, &format!("hog-{number}"), None);
        if site.node.shard_of(link) == shard {
            continue;
        }
        subscribe(&mut site.node, link, &[format!("hog/{number}")]);
        site.node.set_reading(link, false);
        hogs.push((link, format!("hog/{number}")));
    }
    for number in 0..1000 {
        let (_, topic) = &hogs[number % 8];
        let reason = publish(&mut site.node, filler, topic, &[b'x'; 20_000]);
        assert!(!reason.is_error(), "{reason:?}");
        turn(&mut site.node);
    }
    assert!(site.node.counters().clients_relieved > 0);
    assert!(hogs.iter().any(|(link, _)| site.node.is_closed(*link)));
    assert!(!site.node.is_closed(site.slow));
}

/// Sessions of offline clients hold most on an idle shard; another shard wakes it.
#[test]
fn a_shard_that_is_asleep_is_woken_when_memory_is_short() {
    let mut site = site(2);
    let filler = connect(&mut site.node, "filler", None);
    let shard = site.node.shard_of(filler).expect("it is connected");
    let mut topics = Vec::new();
    for number in 0..60 {
        let link = connect(&mut site.node, &format!("away-{number}"), None);
        if site.node.shard_of(link) != Some(shard) {
            let topic = format!("away/{number}");
            subscribe(&mut site.node, link, std::slice::from_ref(&topic));
            topics.push(topic);
        }
        site.node
            .end(link, martlet_broker::TransportEnd::EndOfStream);
    }
    let mut refused = 0;
    for number in 0..3000 {
        let topic = &topics[number % topics.len()];
        let reason = publish(&mut site.node, filler, topic, &[b'x'; 20_000]);
        refused += usize::from(reason.is_error());
        site.node.elapse(5);
        site.node.end_tick_of(shard);
    }
    assert!(refused < 100, "{refused}");
}
