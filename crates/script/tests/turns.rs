//! Tests of turns: simultaneous work of many clients is divided into turns by its cost, and no
//! other client waits for all of it.
//!
//! In virtual time on the harness. Turns are short here, so that few clients fill many of them.

use std::sync::Arc;

use martlet_broker::{
    Command, Limits, ListenerPolicy, Realm, Revocation, RevocationReason, RevokedClients, RuleBook,
    Rules, Settings, StoreState, TransportEnd, WorkLimits,
};
use martlet_codec::{
    Connect, OutgoingPublish, Packet, ProtocolVersion, PublishProperties, QoS, Will,
};
use martlet_script::{Harness, Link, Wiring};

mod wire;

const V311: ProtocolVersion = ProtocolVersion::V311;

/// Units of work in a turn.
const TURN: u64 = 2048;

/// Most units of work that ending a connection takes at once, together with the CONNECT that has
/// ended it. Its Will and its session are not included.
const END: u64 = 400;

fn settings(limits: Limits) -> Settings {
    Settings {
        limits,
        work: WorkLimits {
            turn: TURN,
            share: TURN / 4,
            matches: 1024,
        },
        ..Settings::default()
    }
}

fn node(limits: Limits) -> Harness {
    Harness::new(
        settings(limits),
        ListenerPolicy::default(),
        Wiring::default(),
    )
}

fn connect(client_id: &str, clean_start: bool, will: Option<&str>) -> Vec<u8> {
    let will = will.map(|topic| Will {
        topic,
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        delay_secs: None,
        properties: PublishProperties::default(),
    });
    wire::encoded(&Connect {
        clean_start,
        keep_alive_secs: 10,
        user_name: Some("user"),
        will,
        ..Connect::new(V311, client_id)
    })
}

fn client(node: &mut Harness, client_id: &str, will: Option<&str>) -> Link {
    let link = node.open();
    node.send(link, &connect(client_id, true, will));
    link
}

fn clients(node: &mut Harness, name: &str, count: usize, will: Option<&str>) -> Vec<Link> {
    let numbers = 0..count;
    let clients = numbers.map(|number| client(node, &format!("{name}-{number}"), will));
    clients.collect()
}

fn subscribers(node: &mut Harness, name: &str, count: usize, filter: &str) -> Vec<Link> {
    let links = clients(node, name, count, None);
    for link in &links {
        node.send(*link, &wire::subscribe(V311, &[filter], QoS::AtMostOnce));
        node.take(*link);
    }
    links
}

fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    wire::publish(V311, topic, QoS::AtMostOnce, 0, false, payload)
}

fn publishes(node: &mut Harness, link: Link) -> usize {
    let mut count = 0;
    wire::packets(V311, &node.take(link), |packet| {
        count += usize::from(matches!(packet, Packet::Publish(_)));
    });
    count
}

const WATCHERS: usize = 200;
const CLIENTS: usize = 60;

/// Ends of connections with a Will for many receivers take turns, whatever ended them, and each
/// Will is sent once [MQTT-3.1.2-8].
fn wills_take_turns(end: impl FnOnce(&mut Harness, &[Link])) {
    let mut node = node(Limits::default());
    let watchers = subscribers(&mut node, "watcher", WATCHERS, "wills");
    let links = clients(&mut node, "client", CLIENTS, Some("wills"));
    node.take_most_work();
    let work = node.at_once(|node| end(node, &links));
    let bound = 2 * TURN + CLIENTS as u64 * END;
    assert!(work <= bound, "{work} units, of {bound} at most");
    let most = node.take_most_work();
    assert!(most <= 2 * TURN, "{most} units in one call");
    for link in watchers {
        assert_eq!(publishes(&mut node, link), CLIENTS);
    }
    let known = node.counters().sessions;
    assert!(known <= (WATCHERS + 1 + CLIENTS) as u64, "{known}");
}

#[test]
fn wills_of_connections_that_are_cut_take_turns() {
    wills_take_turns(|node, links| {
        for link in links {
            node.end(*link, TransportEnd::Error);
        }
    });
}

#[test]
fn wills_of_clients_that_break_the_protocol_take_turns() {
    wills_take_turns(|node, links| {
        for link in links {
            node.send(*link, &[0xF0, 0]);
        }
    });
}

#[test]
fn wills_of_clients_that_are_taken_over_take_turns() {
    wills_take_turns(|node, links| {
        for number in 0..links.len() {
            client(node, &format!("client-{number}"), None);
        }
    });
}

#[test]
fn wills_of_clients_that_operators_disconnect_take_turns() {
    wills_take_turns(|node, links| {
        for number in 0..links.len() {
            let disconnect = Command::Disconnect {
                request: number as u64,
                tenant: martlet_broker::TenantId::default(),
                client_id: format!("client-{number}"),
                reason: martlet_codec::ReasonCode::AdministrativeAction,
            };
            node.command(0, disconnect);
        }
    });
}

/// A client returns before its Will had its turn. The Will is still sent, since its delay had
/// expired, and the session continues.
#[test]
fn a_will_that_waits_for_its_turn_is_sent_though_its_client_comes_back() {
    let mut node = node(Limits::default());
    let watchers = subscribers(&mut node, "watcher", WATCHERS, "wills");
    let links: Vec<Link> = (0..CLIENTS)
        .map(|number| {
            let link = node.open();
            node.send(
                link,
                &connect(&format!("client-{number}"), false, Some("wills")),
            );
            link
        })
        .collect();
    let mut back = Vec::new();
    node.at_once(|node| {
        for link in links {
            node.end(link, TransportEnd::Error);
        }
        for number in 0..CLIENTS {
            let link = node.open();
            node.send(link, &connect(&format!("client-{number}"), false, None));
            back.push(link);
        }
    });
    for link in watchers {
        assert_eq!(publishes(&mut node, link), CLIENTS);
    }
    for link in back {
        let present = [0x20, 2, 1, 0];
        assert_eq!(node.take(link), present);
    }
}

/// The revocation after a change of the password of `user`.
fn revocation_of(user: &str, number: u64) -> Revocation {
    Revocation {
        realm: Realm::COMMON,
        whose: RevokedClients::User(user.into()),
        number,
        reason: RevocationReason::Credentials,
    }
}

/// Many clients that are revoked at once end in turns, and their packets are not processed
/// meanwhile.
#[test]
fn many_who_are_revoked_end_in_turns_and_are_not_obeyed_meanwhile() {
    let listener = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    let mut node = Harness::new(settings(Limits::default()), listener, Wiring::default());
    let mut links = Vec::new();
    for number in 0..CLIENTS {
        let link = node.open();
        node.send(
            link,
            &connect(&format!("client-{number}"), true, Some("wills")),
        );
        node.accept_waiting(0);
        assert_eq!(node.take(link), [0x20, 2, 0, 0]);
        node.send(link, &wire::subscribe(V311, &["told"], QoS::AtMostOnce));
        node.take(link);
        links.push(link);
    }
    let observer = node.open();
    let mut hello = connect("observer", true, None);
    // Another Client Identifier.
    let place = hello.len() - 4;
    hello[place..].copy_from_slice(b"boss");
    node.send(observer, &hello);
    node.accept_waiting(0);
    let filters = ["obeyed", "wills"];
    node.send(observer, &wire::subscribe(V311, &filters, QoS::AtMostOnce));
    node.take(observer);
    let revocation = revocation_of("user", 5);
    let mut revoking = 0;
    node.take_most_work();
    node.at_once(|node| {
        node.command(0, Command::Revoke([revocation].into()));
        revoking = node.take_most_work();
        for link in &links {
            node.send(*link, &publish("obeyed", b""));
        }
        node.send(observer, &publish("told", b""));
    });
    assert!(revoking <= 2 * TURN, "{revoking} units in one call");
    let most = node.take_most_work();
    assert!(most <= 2 * TURN, "{most} units in one call");
    for link in &links {
        assert!(node.is_closed(*link));
        assert_eq!(publishes(&mut node, *link), 0, "it is told nothing more");
    }
    let mut topics = Vec::new();
    wire::packets(V311, &node.take(observer), |packet| {
        if let Packet::Publish(publish) = packet {
            topics.extend(publish.topic.map(|topic| topic.as_str().to_owned()));
        }
    });
    assert_eq!(topics, vec!["wills"; CLIENTS]);
    assert_eq!(node.counters().sessions, 1);
}

/// Clients send `packets` at the same time, and then another client publishes to `one`. Returns the
/// most turns that a receiver has waited for that message.
fn turns_behind(node: &mut Harness, expensive: &[Link], packets: &[u8], receivers: &[Link]) -> u64 {
    let cheap = client(node, "cheap", None);
    let mut began = 0;
    node.at_once(|node| {
        for link in expensive {
            node.send(*link, packets);
        }
        node.send(cheap, &publish("one", b"now"));
        began = node.turns();
    });
    let received = receivers.iter().map(|link| node.received_in(*link));
    let last = received.map(|turn| turn.expect("it came")).max();
    last.expect("there is a receiver") - began
}

/// A client that publishes little waits only a few turns, however many others publish to many
/// receivers at the same time.
#[test]
fn a_cheap_publisher_waits_a_few_turns_however_many_are_expensive() {
    const EXPENSIVE: usize = 120;
    let mut node = node(Limits::default());
    let receivers = subscribers(&mut node, "receiver", WATCHERS, "many");
    let innocent = subscribers(&mut node, "innocent", 1, "one")[0];
    let expensive = clients(&mut node, "expensive", EXPENSIVE, None);
    let packets = publish("many", b"x").repeat(2);
    let waited = turns_behind(&mut node, &expensive, &packets, &[innocent]);
    assert!(waited <= 10, "it waited {waited} turns");
    for link in receivers {
        assert_eq!(publishes(&mut node, link), 2 * EXPENSIVE, "none starves");
    }
}

/// Client that publishes little, likewise, with long packets in place of messages for many.
#[test]
fn a_cheap_publisher_does_not_wait_for_many_long_subscribes() {
    const EXPENSIVE: usize = 100;
    let mut node = node(Limits::default());
    let innocent = subscribers(&mut node, "innocent", 1, "one")[0];
    let expensive = clients(&mut node, "expensive", EXPENSIVE, None);
    let filters: Vec<String> = (0..50).map(|number| format!("f/{number}")).collect();
    let packet = wire::subscribe(V311, &filters, QoS::AtMostOnce);
    let waited = turns_behind(&mut node, &expensive, &packet, &[innocent]);
    assert!(waited <= 10, "it waited {waited} turns");
    assert_eq!(node.counters().subscriptions, 50 * EXPENSIVE as u64 + 1);
}

/// Client that publishes little, likewise, with messages from another shard.
#[test]
fn a_cheap_message_of_another_shard_does_not_wait_for_expensive_ones() {
    const EXPENSIVE: usize = 120;
    let wiring = Wiring {
        shards: 2,
        ..Wiring::default()
    };
    let mut node = Harness::new(
        settings(Limits::default()),
        ListenerPolicy::default(),
        wiring,
    );
    let receivers = subscribers(&mut node, "receiver", 2 * WATCHERS, "many");
    let innocents = subscribers(&mut node, "innocent", 8, "one");
    let expensive = clients(&mut node, "expensive", EXPENSIVE, None);
    let packets = publish("many", b"x").repeat(2);
    let waited = turns_behind(&mut node, &expensive, &packets, &innocents);
    assert!(waited <= 30, "it waited {waited} turns");
    for link in receivers {
        assert_eq!(publishes(&mut node, link), 2 * EXPENSIVE, "none starves");
    }
}

/// A client that has left much behind and reconnects does not delay other clients.
#[test]
fn what_a_client_left_behind_takes_a_bounded_part_of_a_turn_when_it_comes_back() {
    const MESSAGES: usize = 400;
    let mut node = node(Limits::default());
    let receivers = subscribers(&mut node, "receiver", WATCHERS, "many");
    let first = client(&mut node, "client", None);
    node.take_most_work();
    node.at_once(|node| {
        node.send(first, &publish("many", b"x").repeat(MESSAGES));
        node.end(first, TransportEnd::EndOfStream);
        client(node, "client", None);
    });
    let most = node.take_most_work();
    let bound = 4 * TURN + MESSAGES as u64 * 10;
    assert!(most <= bound, "{most} units in one call");
    for link in receivers {
        assert_eq!(publishes(&mut node, link), MESSAGES);
    }
}

/// Long queues whose messages expire together are scanned in turns, and no message is counted
/// twice.
#[test]
fn long_queues_expire_in_turns() {
    const MESSAGES: u64 = 2_000;
    const QUEUES: u64 = 4;
    let mut node = node(Limits::default());
    for number in 0..QUEUES {
        let away = node.open();
        node.send(away, &connect(&format!("away-{number}"), false, None));
        node.send(away, &wire::subscribe(V311, &["t"], QoS::AtLeastOnce));
        node.end(away, TransportEnd::EndOfStream);
    }
    let publisher = node.open();
    // A CONNECT of MQTT 5 without Keep Alive.
    node.send(publisher, b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01p");
    let mut flood = Vec::new();
    for number in 1..=MESSAGES {
        let packet = OutgoingPublish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: b"t",
            packet_id: Some(wire::packet_id(number as u16)),
            topic_alias: None,
            // Every third message does not expire.
            message_expiry_secs: (number % 3 > 0).then_some(60),
            subscription_ids: &[],
            forwarded: &[],
            payload: b"",
        };
        packet.encode(ProtocolVersion::V5, &mut flood);
    }
    node.send(publisher, &flood);
    assert_eq!(node.counters().held, QUEUES * MESSAGES);
    node.take_most_work();
    node.elapse(61_000);
    let most = node.take_most_work();
    assert!(most <= 3 * TURN, "{most} units in one call");
    let counters = node.counters();
    let expired = QUEUES * (MESSAGES - MESSAGES / 3);
    assert_eq!(counters.expired, expired);
    assert_eq!(counters.held, QUEUES * MESSAGES - expired);
}

/// Offline members of a share group do not add to the cost of a message, however many they are.
#[test]
fn members_of_a_share_group_that_are_away_are_not_looked_at() {
    const AWAY: usize = 600;
    const MESSAGES: u16 = 40;
    let limits = Limits {
        share_credit: 16,
        ..Limits::default()
    };
    let mut node = node(limits);
    let mut join = |client_id: &str| {
        let link = node.open();
        node.send(link, &connect(client_id, false, None));
        node.send(
            link,
            &wire::subscribe(V311, &["$share/g/t"], QoS::AtLeastOnce),
        );
        node.take(link);
        link
    };
    let away: Vec<Link> = (0..AWAY)
        .map(|number| join(&format!("away-{number}")))
        .collect();
    let there = join("there");
    for link in away {
        node.end(link, TransportEnd::EndOfStream);
    }
    let publisher = client(&mut node, "publisher", None);
    let mut most = 0;
    for number in 1..=MESSAGES {
        node.take_most_work();
        let packet = wire::publish(V311, "t", QoS::AtLeastOnce, number, false, b"");
        node.send(publisher, &packet);
        most = most.max(node.take_most_work());
    }
    // It acknowledges nothing: messages without credit wait, and no member takes them.
    let came = publishes(&mut node, there);
    assert!(came > 0 && came < usize::from(MESSAGES), "{came}");
    assert!(most <= 150, "{most} units for one message");
    assert_eq!(node.counters().held, MESSAGES.into());
}

/// Sessions that end with their connections take turns as well, since each may have many
/// subscriptions.
#[test]
fn sessions_of_clients_that_say_goodbye_at_once_end_in_turns() {
    let mut node = node(Limits::default());
    let links = clients(&mut node, "client", CLIENTS, None);
    let filters: Vec<String> = (0..64).map(|number| format!("f/{number}")).collect();
    for link in &links {
        node.send(*link, &wire::subscribe(V311, &filters, QoS::AtMostOnce));
    }
    node.take_most_work();
    let work = node.at_once(|node| {
        for link in &links {
            node.send(*link, &[0xE0, 0]);
        }
    });
    let bound = 2 * TURN + CLIENTS as u64 * END;
    assert!(work <= bound, "{work} units, of {bound} at most");
    let most = node.take_most_work();
    assert!(most <= 2 * TURN, "{most} units in one call");
    let counters = node.counters();
    assert_eq!((counters.sessions, counters.subscriptions), (0, 0));
}

/// Packets that clients sent before they were disconnected are processed in turns.
#[test]
fn what_clients_sent_before_they_were_cut_off_takes_turns() {
    let mut node = node(Limits::default());
    let watchers = subscribers(&mut node, "watcher", WATCHERS, "last words");
    let links = clients(&mut node, "client", CLIENTS, None);
    let work = node.at_once(|node| {
        for link in &links {
            node.send(*link, &publish("last words", b"x").repeat(3));
        }
        for link in &links {
            node.end(*link, TransportEnd::Error);
        }
    });
    let bound = 2 * TURN + CLIENTS as u64 * END;
    assert!(work <= bound, "{work} units, of {bound} at most");
    for link in watchers {
        assert_eq!(publishes(&mut node, link), 3 * CLIENTS);
    }
}

/// Number of sessions of offline clients on a node with very many.
const SESSIONS: usize = 100_000;

/// Most units that one call on such a node may take: its turn, and the last item in it.
const CALL: u64 = 2 * TURN;

/// Fewest turns that a scan of these sessions takes.
const TURNS: u64 = SESSIONS as u64 / TURN;

/// A node whose clients must authenticate.
fn asking_node() -> Harness {
    let listener = ListenerPolicy {
        authenticate: true,
        ..ListenerPolicy::default()
    };
    Harness::new(settings(Limits::default()), listener, Wiring::default())
}

/// A client that is authenticated with this user name and has all rights.
fn user(node: &mut Harness, client_id: &str, user_name: &str, clean_start: bool) -> Link {
    let link = node.open();
    let packet = wire::encoded(&Connect {
        clean_start,
        user_name: Some(user_name),
        will: None,
        ..Connect::new(V311, client_id)
    });
    node.send(link, &packet);
    node.accept_waiting(0);
    link
}

/// Very many sessions with separate users, whose clients are offline.
fn crowded_node() -> Harness {
    let mut node = asking_node();
    node.trust_accounts();
    for number in 0..SESSIONS {
        let name = format!("away-{number}");
        let link = user(&mut node, &name, &name, false);
        node.end(link, TransportEnd::EndOfStream);
    }
    node
}

/// Gives all users the same rights, except one, which has none.
#[derive(Debug)]
struct AllBut(&'static str);

impl RuleBook for AllBut {
    fn rules_of(&self, _: Realm, user_name: Option<&str>) -> Arc<Rules> {
        match user_name == Some(self.0) {
            true => Arc::new(Rules::closed()),
            false => Arc::new(Rules::open()),
        }
    }
}

/// Packets of a revoked client are rejected from that moment, and it receives nothing, however many
/// sessions there are. The scan of the sessions takes turns.
#[test]
fn revoking_takes_turns_however_many_sessions_there_are_and_is_in_force_at_once() {
    let mut node = crowded_node();
    let revoked = user(&mut node, "revoked", "revoked", true);
    let other = user(&mut node, "other", "other", true);
    for link in [revoked, other] {
        node.send(
            link,
            &wire::subscribe(V311, &["told", "obeyed"], QoS::AtLeastOnce),
        );
        node.send(link, &publish("told", b"before"));
    }
    for link in [revoked, other] {
        node.take(link);
    }
    let revocation = revocation_of("revoked", 7);
    node.take_most_work();
    let began = node.turns();
    node.at_once(|node| {
        node.command(0, Command::Revoke([revocation].into()));
        node.send(revoked, &publish("obeyed", b""));
        node.send(
            other,
            &wire::publish(V311, "told", QoS::AtLeastOnce, 1, false, b""),
        );
    });
    let most = node.take_most_work();
    assert!(most <= CALL, "{most} units in one call");
    let turns = node.turns() - began;
    assert!(turns > TURNS, "{turns} turns");
    assert!(node.is_closed(revoked));
    assert!(node.take(revoked).is_empty(), "it is told nothing more");
    assert_eq!(
        publishes(&mut node, other),
        1,
        "what it published is not obeyed"
    );
    // The other clients continue.
    node.send(other, &publish("told", b""));
    assert_eq!(publishes(&mut node, other), 1);
}

/// A revocation reaches each session, whatever happens during the scan, and wherever the scan of
/// the previous change ended.
#[test]
fn a_revocation_reaches_each_session_though_clients_connect_meanwhile() {
    let mut node = asking_node();
    let connect_all = |node: &mut Harness, name: &str, user_name: &str| {
        let mut links = Vec::new();
        for number in 0..CLIENTS {
            let link = node.open();
            let client_id = format!("{name}-{number}");
            let packet = wire::encoded(&Connect {
                user_name: Some(user_name),
                ..Connect::new(V311, &client_id)
            });
            node.send(link, &packet);
            links.push(link);
        }
        links
    };
    let revoked = connect_all(&mut node, "early", "revoked");
    node.accept_waiting(0);
    node.command(0, Command::SetRules(Arc::new(AllBut("nobody"))));
    let others = connect_all(&mut node, "late", "other");
    node.accept_waiting(0);
    connect_all(&mut node, "last", "other");
    let revocation = revocation_of("revoked", 7);
    node.at_once(|node| {
        node.command(0, Command::Revoke([revocation].into()));
        node.accept_waiting(7);
    });
    let still_there = |node: &Harness, links: &[Link]| {
        let links = links.iter().filter(|link| !node.is_closed(**link));
        links.count()
    };
    assert_eq!(still_there(&node, &revoked), 0);
    assert_eq!(still_there(&node, &others), CLIENTS);
}

/// A message that was queued for a client before its revocation stays in its session. It is not
/// lost while all sessions are scanned.
#[test]
fn a_message_for_a_revoked_client_waits_in_its_session() {
    let mut node = asking_node();
    let revoked = user(&mut node, "revoked", "revoked", false);
    node.send(revoked, &wire::subscribe(V311, &["told"], QoS::AtLeastOnce));
    node.take(revoked);
    let other = user(&mut node, "other", "other", true);
    let revocation = revocation_of("revoked", 7);
    node.at_once(|node| {
        node.command(0, Command::Revoke([revocation].into()));
        node.send(
            other,
            &wire::publish(V311, "told", QoS::AtLeastOnce, 1, false, b"kept"),
        );
    });
    assert!(node.is_closed(revoked));
    assert_eq!(publishes(&mut node, revoked), 0);
    let back = node.open();
    node.send(
        back,
        &wire::encoded(&Connect {
            clean_start: false,
            user_name: Some("revoked"),
            ..Connect::new(V311, "revoked")
        }),
    );
    node.accept_waiting(8);
    assert_eq!(publishes(&mut node, back), 1);
}

/// New rules apply at once for publishers and receivers, and are looked up in turns.
#[test]
fn new_rules_take_turns_however_many_sessions_there_are_and_are_in_force_at_once() {
    let mut node = crowded_node();
    let limited = user(&mut node, "limited", "limited", true);
    let other = user(&mut node, "other", "other", true);
    for link in [limited, other] {
        node.send(link, &wire::subscribe(V311, &["told"], QoS::AtMostOnce));
        node.send(link, &publish("told", b"before"));
    }
    for link in [limited, other] {
        node.take(link);
    }
    for only in [false, true] {
        let book = Arc::new(AllBut("limited"));
        let command = match only {
            true => Command::SetRulesOf {
                book,
                users: ["limited".into()].into(),
            },
            false => Command::SetRules(book),
        };
        node.take_most_work();
        let began = node.turns();
        node.at_once(|node| {
            node.command(0, command);
            node.send(other, &publish("told", b""));
            node.send(limited, &publish("told", b""));
        });
        let most = node.take_most_work();
        assert!(most <= CALL, "{most} units in one call");
        let turns = node.turns() - began;
        assert!(turns > TURNS, "{turns} turns");
        assert_eq!(publishes(&mut node, limited), 0);
        assert_eq!(publishes(&mut node, other), 1);
        node.send(limited, &publish("told", b""));
        assert_eq!(
            publishes(&mut node, other),
            0,
            "it stays so when all is done"
        );
        // The user has all rights again.
        let command = Command::SetRules(Arc::new(AllBut("nobody")));
        node.at_once(|node| {
            node.command(0, command);
            node.send(limited, &publish("told", b""));
        });
        assert_eq!(publishes(&mut node, limited), 1);
        assert_eq!(publishes(&mut node, other), 1);
    }
}

/// Publishers that were held back by the store continue in turns, and no other clients are
/// examined.
#[test]
fn those_that_were_held_back_go_on_in_turns() {
    const HELD: usize = 6_000;
    let mut node = node(Limits::default());
    node.trust_accounts();
    clients(&mut node, "idle", HELD, None);
    let held = clients(&mut node, "held", HELD, None);
    let receiver = subscribers(&mut node, "receiver", 1, "t")[0];
    node.set_store_state(StoreState::Behind);
    for link in &held {
        let packet = wire::publish(V311, "t", QoS::AtLeastOnce, 1, false, b"");
        node.send(*link, &packet);
    }
    assert_eq!(publishes(&mut node, receiver), 0);
    node.take_most_work();
    let work = node.at_once(|node| node.set_store_state(StoreState::KeepsUp));
    // A tick has two turns.
    assert!(work <= 2 * CALL, "{work} units to let them go on");
    let most = node.take_most_work();
    assert!(most <= CALL, "{most} units in one call");
    assert_eq!(publishes(&mut node, receiver), HELD);
}

/// Packets for thousands of clients that waited for the store are sent in turns.
#[test]
fn answers_that_waited_for_the_store_go_out_in_turns() {
    const WAITING: usize = 4_000;
    let wiring = Wiring {
        durable_delay_ms: 100,
        ..Wiring::default()
    };
    let mut node = Harness::new(
        settings(Limits::default()),
        ListenerPolicy::default(),
        wiring,
    );
    node.trust_accounts();
    let link = node.open();
    node.send(link, &connect("away", false, None));
    node.send(link, &wire::subscribe(V311, &["t"], QoS::AtLeastOnce));
    node.elapse(200);
    node.end(link, TransportEnd::EndOfStream);
    let links = clients(&mut node, "client", WAITING, None);
    for link in &links {
        node.take(*link);
        let packet = wire::publish(V311, "t", QoS::AtLeastOnce, 1, false, b"");
        node.send(*link, &packet);
    }
    assert!(links.iter().all(|link| node.take(*link).is_empty()));
    node.take_most_work();
    node.elapse(200);
    let most = node.take_most_work();
    assert!(most > 0 && most <= CALL, "{most} units in one call");
    let acknowledged = [0x40, 2, 0, 1];
    assert!(links.iter().all(|link| node.take(*link) == acknowledged));
}

/// A CONNECT counts as work, which limits a flood of them.
#[test]
fn new_connections_count_as_work() {
    const NEW: usize = 100;
    let mut node = node(Limits::default());
    let before = node.work_done();
    let work = node.at_once(|node| {
        clients(node, "client", NEW, None);
    });
    // A tick has two turns.
    assert!(work <= 2 * CALL, "{work} units in one tick");
    let all = node.work_done() - before;
    assert!(all >= 100 * NEW as u64, "{all} units");
}
