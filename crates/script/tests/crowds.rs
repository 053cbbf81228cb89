//! Searches among very many objects: connections, sessions, subscriptions, messages. They run in
//! steps, and other clients are served in between.
//!
//! In virtual time on the harness, with short turns.

use std::sync::Arc;

use martlet_broker::{
    Answer, Command, DropReason, Event, EventInterest, Limits, ListenerPolicy, NewSubscription,
    Settings, SubscriptionPage, SubscriptionQuery, TenantId, Traced, TransportEnd, WorkLimits,
};
use martlet_codec::{Connect, Packet, ProtocolVersion, QoS};
use martlet_script::{Harness, Link, Wiring};

mod wire;

const V311: ProtocolVersion = ProtocolVersion::V311;

/// Units of work in a turn.
const TURN: u64 = 2048;

/// Most units that one call may take: its turn, and the last item in it.
const CALL: u64 = 2 * TURN;

/// Number of clients or sessions on a node with very many.
const MANY: usize = 10_000;

fn node_at(limits: Limits, listener: ListenerPolicy) -> Harness {
    let settings = Settings {
        limits,
        work: WorkLimits {
            turn: TURN,
            share: TURN / 4,
            matches: 1024,
        },
        ..Settings::default()
    };
    let mut node = Harness::new(settings, listener, Wiring::default());
    node.trust_accounts();
    node
}

fn node(limits: Limits) -> Harness {
    node_at(limits, ListenerPolicy::default())
}

fn client(node: &mut Harness, client_id: &str, clean_start: bool) -> Link {
    let link = node.open();
    let connect = Connect {
        clean_start,
        user_name: Some(client_id),
        ..Connect::new(V311, client_id)
    };
    node.send(link, &wire::encoded(&connect));
    node.accept_waiting(0);
    wire::packets(V311, &node.take(link), |packet| {
        let Packet::ConnAck(connack) = packet else {
            panic!("{packet:?}");
        };
        assert!(!connack.reason.is_error(), "{connack:?}");
    });
    link
}

fn crowd(node: &mut Harness) -> Vec<Link> {
    let numbers = 0..MANY;
    let crowd = numbers.map(|number| client(node, &format!("c-{number}"), true));
    crowd.collect()
}

fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    wire::publish(V311, topic, QoS::AtLeastOnce, id, false, payload)
}

/// The answers to one command.
fn answers(node: &mut Harness, command: Command) -> Vec<Answer> {
    node.command(0, command);
    let reports = node.take_reports().into_iter();
    reports.map(|report| report.answer).collect()
}

/// Memory is short on a node with very many clients: the clients that hold most are found in turns,
/// and give back.
#[test]
fn who_holds_most_of_very_many_is_found_in_turns() {
    const GREEDY: usize = 10;
    let mut node = node(Limits {
        memory_bytes: 40_000_000,
        ..Limits::default()
    });
    let others = crowd(&mut node);
    let greedy = (0..GREEDY).map(|number| {
        let link = client(&mut node, &format!("greedy-{number}"), false);
        let filter = format!("t/{number}");
        node.send(link, &wire::subscribe(V311, &[filter], QoS::AtLeastOnce));
        node.set_reading(link, false);
        link
    });
    let greedy: Vec<Link> = greedy.collect();
    let publisher = client(&mut node, "publisher", true);
    let mut turns = 0;
    for id in 1..=400 {
        let topic = format!("t/{}", usize::from(id) % GREEDY);
        node.take_most_work();
        let began = node.turns();
        node.send(publisher, &publish(&topic, id, &[b'x'; 100_000]));
        node.end_tick();
        node.elapse(1);
        let most = node.take_most_work();
        assert!(most <= CALL, "{most} units in one call");
        turns = node.turns() - began;
        if node.counters().clients_relieved > 0 {
            break;
        }
    }
    assert!(greedy.iter().any(|link| node.is_closed(*link)));
    // A search visits at most as many places per turn as an eighth of its units.
    let least = MANY as u64 / (TURN / 8);
    assert!(turns >= least, "{turns} turns, {least} at least");
    assert!(others.iter().all(|link| !node.is_closed(*link)));
}

/// The oldest messages of a long queue are dropped in turns when memory is short.
#[test]
fn a_long_queue_in_memory_is_cut_in_turns() {
    const QUEUES: usize = 8;
    let mut node = node(Limits {
        memory_bytes: 8_000_000,
        ..Limits::default()
    });
    for number in 0..QUEUES {
        let away = client(&mut node, &format!("away-{number}"), false);
        let filter = format!("t/{number}");
        node.send(away, &wire::subscribe(V311, &[filter], QoS::AtLeastOnce));
        node.end(away, TransportEnd::EndOfStream);
    }
    let publisher = client(&mut node, "publisher", true);
    let dropped = |node: &mut Harness| node.counters().dropped[DropReason::MemoryFull as usize];
    node.take_most_work();
    for round in 0..3_000 {
        let topic = format!("t/{}", round % QUEUES);
        for _ in 0..20 {
            node.send(publisher, &publish(&topic, 1, &[b'x'; 100]));
        }
        node.end_tick();
        node.elapse(1);
        if dropped(&mut node) > 0 {
            break;
        }
    }
    let (dropped, held) = (dropped(&mut node), node.counters().held);
    assert!(dropped > 1_000, "{dropped}");
    assert!(held > 4 * dropped, "{held} are left, {dropped} dropped");
    let most = node.take_most_work();
    assert!(most <= CALL, "{most} units in one call");
}

/// The clients and their topics are searched in turns.
#[test]
fn topics_in_use_are_looked_for_in_turns() {
    let listener = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    let mut node = node_at(Limits::default(), listener);
    let links = crowd(&mut node);
    let receiver = client(&mut node, "receiver", true);
    node.send(receiver, &wire::subscribe(V311, &["t/#"], QoS::AtMostOnce));
    for (number, link) in links.iter().enumerate() {
        node.send(*link, &publish(&format!("t/{number}"), 1, b""));
    }
    let began = node.turns();
    let limit = MANY;
    let answers = answers(&mut node, Command::Traffic { request: 7, limit });
    let [Answer::Traffic(uses)] = answers.as_slice() else {
        panic!("{} answers", answers.len());
    };
    assert_eq!(uses.len(), limit);
    assert!(uses.iter().all(|found| found.topic.starts_with("t/")));
    let received = uses.iter().filter(|found| found.client_id == "receiver");
    assert!(received.count() > 0);
    // A turn has two steps.
    let turns = node.turns() - began;
    let least = (MANY / 1024 + MANY / 256) as u64 / 2;
    assert!(turns >= least, "{turns} turns, {least} at least");
}

fn tracing(addresses: bool) -> Command {
    let address = [127, 0, 0, 1].into();
    Command::SetEvents(Arc::new(EventInterest {
        traced: Traced {
            addresses: if addresses { vec![address] } else { Vec::new() },
            clients: vec![(TenantId(0), "c-7".into())],
            ..Traced::default()
        },
        ..EventInterest::default()
    }))
}

/// Tracing of all clients with one address, for example of a proxy, begins in turns and misses
/// none.
#[test]
fn very_many_clients_of_one_address_are_traced_in_turns() {
    let mut node = node(Limits::default());
    let links = crowd(&mut node);
    let told = |node: &mut Harness| {
        for link in &links {
            node.send(*link, &[0xC0, 0]);
            node.take(*link);
        }
        let events = node.take_events().into_iter();
        let pings = events.filter(|told| {
            matches!(&told.event, Event::Packet { packet_type, .. }
                if *packet_type == martlet_codec::PacketType::PingReq)
        });
        pings.count()
    };
    let began = node.turns();
    node.command(0, tracing(true));
    let tracing_turns = node.turns() - began;
    assert_eq!(told(&mut node), MANY);
    let began = node.turns();
    node.command(0, tracing(false));
    let ending_turns = node.turns() - began;
    assert_eq!(told(&mut node), 1, "one is traced by its name");
    // A turn has two steps.
    let least = MANY as u64 / 1024;
    for turns in [tracing_turns, ending_turns] {
        assert!(turns >= least, "{turns} turns, {least} at least");
    }
}

fn subscriptions(answers: Vec<Answer>) -> SubscriptionPage {
    match answers.into_iter().next() {
        Some(Answer::Subscriptions(page)) => page,
        other => panic!("{other:?}"),
    }
}

/// One session with very many subscriptions is scanned in turns. Each subscription is found once,
/// whatever is added or removed meanwhile.
#[test]
fn the_subscriptions_of_one_session_are_looked_through_in_turns() {
    const FILTERS: usize = 8_000;
    const SHARED: usize = 100;
    let mut node = node(Limits {
        subscriptions_per_client: 100_000,
        ..Limits::default()
    });
    let link = client(&mut node, "many", true);
    let filters: Vec<String> = (0..FILTERS).map(|number| format!("f/{number}")).collect();
    let shared: Vec<String> = (0..SHARED)
        .map(|number| format!("$share/g/s/{number}"))
        .collect();
    for some in filters.chunks(500).chain([shared.as_slice()]) {
        node.send(link, &wire::subscribe(V311, some, QoS::AtMostOnce));
    }
    node.take(link);
    let others = ["before", "behind"].map(|client_id| {
        let link = client(&mut node, client_id, true);
        node.send(link, &wire::subscribe(V311, &["f/1"], QoS::AtMostOnce));
        link
    });
    assert!(others.iter().all(|link| !node.is_closed(*link)));
    let all = || Command::Subscriptions {
        request: 1,
        query: Box::new(SubscriptionQuery {
            limit: usize::MAX,
            ..SubscriptionQuery::default()
        }),
    };
    let began = node.turns();
    let page = subscriptions(answers(&mut node, all()));
    let turns = node.turns() - began;
    assert_eq!(page.total, FILTERS + SHARED + 2);
    assert_eq!(page.subscriptions.len(), page.total);
    let least = FILTERS as u64 / 256 / 2;
    assert!(turns >= least, "{turns} turns, {least} at least");
    // During the scan, every other subscription is removed and others are added.
    node.at_once(|node| {
        node.command(0, all());
        let (gone, new): (Vec<&String>, Vec<String>) = filters
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 2 == 0)
            .map(|(number, filter)| (filter, format!("new/{number}")))
            .unzip();
        let gone: Vec<Box<str>> = gone.into_iter().map(|filter| (**filter).into()).collect();
        let new: Vec<NewSubscription> = new
            .iter()
            .map(|filter| NewSubscription::new(filter, QoS::AtMostOnce))
            .collect();
        let (tenant, client_id) = (TenantId(0), Box::from("many"));
        node.command(
            0,
            Command::Unsubscribe {
                request: 2,
                tenant,
                client_id,
                filters: gone,
            },
        );
        node.command(
            0,
            Command::Subscribe {
                request: 3,
                tenant,
                client_id: "many".into(),
                subscriptions: new,
            },
        );
    });
    let reports = node.take_reports().into_iter().map(|report| report.answer);
    let page = reports.filter(|answer| matches!(answer, Answer::Subscriptions(_)));
    let page = subscriptions(page.collect());
    let mut found: Vec<&str> = page
        .subscriptions
        .iter()
        .map(|info| &*info.filter)
        .collect();
    found.retain(|filter| *filter != "f/1");
    let count = found.len();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), count, "none is found twice");
    for (number, filter) in filters.iter().enumerate().skip(2) {
        let stayed = number % 2 == 1;
        assert!(
            !stayed || found.binary_search(&&**filter).is_ok(),
            "{filter}"
        );
    }
    for filter in &shared {
        assert!(found.binary_search(&&**filter).is_ok(), "{filter}");
    }
}

/// Clients that wait for other output are written to before the receivers of a message for many,
/// even if that message is routed at once.
#[test]
fn receivers_of_a_message_for_many_are_written_to_after_others() {
    for (receivers, first) in [(8, 8), (9, 0), (1_000, 0)] {
        let mut node = node(Limits::default());
        let numbers = 0..receivers;
        let links: Vec<Link> = numbers
            .map(|number| {
                let link = client(&mut node, &format!("r-{number}"), true);
                node.send(link, &wire::subscribe(V311, &["t"], QoS::AtMostOnce));
                node.take(link);
                link
            })
            .collect();
        let publisher = client(&mut node, "publisher", true);
        node.take_most_writes();
        let packet = wire::publish(V311, "t", QoS::AtMostOnce, 0, false, b"x");
        node.send(publisher, &packet);
        assert_eq!(node.take_most_writes(), first, "of {receivers}");
        assert!(links.iter().all(|link| node.take(*link) == packet));
        // Its own answer does not wait.
        node.at_once(|node| {
            node.send(publisher, &packet);
            node.send(publisher, &[0xC0, 0]);
        });
        assert!(node.take_most_writes() > 0);
    }
}
